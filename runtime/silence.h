/*
 * silence.h - a scheduler that does not answer a command: waits it, or hangs it?
 *
 * An answer may wait for the disk, for as long as that is full. So after a while another question is asked
 * beside it on the same connection, whose answer waits for nothing. One that leaves that open too, and does
 * nothing, is given up (patience.h). Of handles of pawl.h: runtime/lib/silence.c.
 */
#ifndef PAWL_RUNTIME_SILENCE_H
#define PAWL_RUNTIME_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/client.h"
#include "runtime/patience.h"
#include "shm/wire.h"

/* Of the question beside: no other message of a command has it. Its answer is to be passed over. */
#define PAWL_SILENCE_TAG (UINT64_C(3) << 62)

struct pawl_silence {
    struct pawl_patience patience;
    uint64_t due_ns;         /* monotonic: when to look */
    uint64_t received_count; /* of the connection, when something was heard last */
    bool asks;               /* beside, since then */
};

/** pawl_silence_begin - the wait begins. @pid: the scheduler's; 0: whoever listened on that socket. */
void pawl_silence_begin(struct pawl_silence *silence, const struct pawl_wire *wire, pid_t pid);

/**
 * pawl_silence_look - what is waited for has not come yet
 *
 * To be called whenever @silence->due_ns has passed: each second at first, each half minute once something
 * was heard. Any message is a sign of life. Does not wait.
 *
 * Return: 0: go on; -ETIMEDOUT: it is given up, *report_out says so; another error of the connection.
 */
int pawl_silence_look(struct pawl_silence *silence, struct pawl_wire *wire,
                      struct pawl_error_report *report_out);

#endif
