/*
 * doorbell.h - sleep and wake without a lost wake-up and without a system call when nobody sleeps.
 *
 * The sleeper owns a flag that the ringer can read, and an eventfd that both have. An eventfd and not a
 * futex: a worker waits for its control socket and its job's pidfd in the same poll, the scheduler reads its
 * eventfd through io_uring.
 *
 * D1  The store-buffering pattern (Dekker): the sleeper stores flag, then loads the work; the ringer stores
 * the work, then loads flag. With a seq_cst fence between the two on each side at least one of them sees the
 * other's store: either the sleeper finds the work, or the ringer finds the flag and writes the eventfd,
 * which stays readable until it is read.
 *
 *     sleeper                                  ringer
 *       flag = 1                                 work = ...            (release)
 *       fence seq_cst      <------ D1 ------>    fence seq_cst
 *       if (work) { flag = 0; go on }            if (flag) write(eventfd)
 *       sleep until eventfd is readable
 *       flag = 0; read(eventfd)
 *
 * If the ringer dies after the store and before the write, its death is told by its pidfd and the sleeper
 * drains its lane.
 */
#ifndef PAWL_SHM_DOORBELL_H
#define PAWL_SHM_DOORBELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/** pawl_doorbell_open - an eventfd, non-blocking, close-on-exec. Return: descriptor or -errno. */
int pawl_doorbell_open(void);

/**
 * pawl_doorbell_open_pipe - a bell for a sleeper that is not trusted
 *
 * An eventfd is one open file for both: its sleeper could fill it and make it blocking, and whoever rings
 * next would hang. A pipe has a file for each end: the ringer's is non-blocking whatever the sleeper does.
 * Write to *ring_fd_out with pawl_doorbell_write(); SIGPIPE is to be ignored. 0 or -errno.
 */
int pawl_doorbell_open_pipe(int *ring_fd_out, int *sleep_fd_out);

/* Sleeper: about to sleep. Look for work once more after this, before sleeping. @word: not 0; where sleepers
 * differ in what they are to be woken for, the lane says what it means. */
static inline void pawl_doorbell_prepare_for(_Atomic uint32_t *flag, uint32_t word)
{
    atomic_store_explicit(flag, word, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* D1 */
}

static inline void pawl_doorbell_prepare(_Atomic uint32_t *flag)
{
    pawl_doorbell_prepare_for(flag, 1);
}

/* Sleeper: awake again. Relaxed: a ringer that still sees 1 writes once for nothing. */
static inline void pawl_doorbell_awake(_Atomic uint32_t *flag)
{
    atomic_store_explicit(flag, 0, memory_order_relaxed);
}

/* Ringer: after the work was published. What the sleeper gave to prepare(), 0: it is awake. */
static inline uint32_t pawl_doorbell_word(const _Atomic uint32_t *flag)
{
    atomic_thread_fence(memory_order_seq_cst); /* D1 */
    return atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)flag, memory_order_relaxed);
}

/* True when the other side sleeps and must be written to. */
static inline bool pawl_doorbell_must_ring(const _Atomic uint32_t *flag)
{
    return pawl_doorbell_word(flag) != 0;
}

/** pawl_doorbell_write - wake whoever waits for this eventfd; never blocks (a full counter is readable
 * already). */
void pawl_doorbell_write(int fd);

/** pawl_doorbell_ring - must_ring, then write. Return: whether it was written. */
static inline bool pawl_doorbell_ring(const _Atomic uint32_t *flag, int fd)
{
    if (!pawl_doorbell_must_ring(flag))
        return false;
    pawl_doorbell_write(fd);
    return true;
}

/** pawl_doorbell_clear - take what was written; never blocks. */
void pawl_doorbell_clear(int fd);

#endif
