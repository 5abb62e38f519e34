/*
 * command.h - what pawl's own commands ask of the library beyond pawl.h.
 */
#ifndef PAWL_RUNTIME_LIB_COMMAND_H
#define PAWL_RUNTIME_LIB_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/patience.h"
#include "runtime/pawl.h"

/**
 * pawl_lib_connect_to_ask - pawl_connect() for requests alone, which succeeds also where all places of
 * `clients` are taken. The first delivery or publish wants one: PAWL_E_LIMIT if there is none.
 */
int pawl_lib_connect_to_ask(const struct pawl_connect_options *options, struct pawl **pawl_out);

/**
 * pawl_lib_take_until - pawl_take() that ends early, without losing anything, when @stop_fd is readable
 * @wait_ns: UINT64_MAX: for ever
 *
 * Sleeps until a delivery, the end of @wait_ns, or @stop_fd: never wakes up in between.
 *
 * Return: how many; 0: none came; -EINTR: stopped before it could ask; or as pawl_take().
 */
int pawl_lib_take_until(struct pawl *pawl, const char *queue, const char *group, size_t count,
                        uint64_t wait_ns, int stop_fd, struct pawl_taken **taken_out);

/**
 * pawl_lib_consumer_limit - @consumer is for @count deliveries: of those that settle themselves
 * (--guarantee at_most_once) no more than that are sent, where the prefetch would let some be lost
 *
 * @count is of all that are claimed ever. To be called before the first claim, whose prefetch is at most
 * @count, and again whenever there are to be more: before those are settled.
 */
void pawl_lib_consumer_limit(struct pawl_consumer *consumer, uint64_t count);

/* Somebody waits for the scheduler: for a confirm, say. */
struct pawl_lib_silence {
    struct pawl_patience patience;
    uint64_t due_ns; /* CLOCK_MONOTONIC: look again then */
    bool asks;       /* the question beside was asked */
};

/** pawl_lib_silence_begin - the wait begins, or something was heard. */
void pawl_lib_silence_begin(struct pawl *pawl, struct pawl_lib_silence *silence);

/**
 * pawl_lib_silence_look - what is waited for has not come yet
 *
 * To be called whenever @silence->due_ns has passed: each second at first, each half minute once the
 * scheduler has shown that it is there. Cheap before.
 *
 * Return: 0: wait on; -ETIMEDOUT, with words: it neither answered nor did anything for half a minute.
 */
int pawl_lib_silence_look(struct pawl *pawl, struct pawl_lib_silence *silence);

/** pawl_lib_on_notice - @notice is called within waiting calls with what the scheduler says to people
 * unasked: that the disk is full or has room again, that a queue is full or paused. @text is no string. */
void pawl_lib_on_notice(struct pawl *pawl, void (*notice)(void *ctx, const char *text, size_t bytes),
                        void *ctx);

#endif
