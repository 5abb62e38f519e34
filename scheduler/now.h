/*
 * now.h - both clocks, sampled once a turn by the caller: the cores read none. And the instant of a wait that
 * is read back from disk.
 */
#ifndef PAWL_SCHEDULER_NOW_H
#define PAWL_SCHEDULER_NOW_H

#include <stdint.h>
#include <string.h>

struct pawl_now {
    uint64_t boottime_ns; /* CLOCK_BOOTTIME: deadlines */
    uint64_t realtime_ns; /* CLOCK_REALTIME: records and people */
};

/**
 * pawl_now_of_boot - @written, read back from disk in the boot @ours at @boottime_ns
 *
 * Return: with boottime_ns 0 if it was written in another boot, in one that cannot be named (zeros), or by a
 * clock that is ahead of ours, as in a time namespace.
 */
static inline struct pawl_now pawl_now_of_boot(struct pawl_now written, const uint8_t boot_id[static 16],
                                               const uint8_t ours[static 16], uint64_t boottime_ns)
{
    static const uint8_t unknown[16];
    if (memcmp(boot_id, ours, 16) != 0 || memcmp(ours, unknown, 16) == 0 || written.boottime_ns > boottime_ns)
        written.boottime_ns = 0;
    return written;
}

/**
 * pawl_now_due - when a wait ends that was written down as @due_realtime_ns, @delay_ns after it was decided
 * @written: both clocks as they were then; boottime_ns is 0 if that was in another boot
 *
 * The wall clock may have been set since: in one boot only its distance from the other clock at that time
 * counts. Return: boottime, never more than the whole wait after @written; 0 in another boot, of which the
 * wall clock is all that is left (pawl_now_due_later()).
 */
static inline uint64_t pawl_now_due(struct pawl_now written, uint64_t due_realtime_ns, uint64_t delay_ns)
{
    if (written.boottime_ns == 0)
        return 0;
    if (due_realtime_ns <= written.realtime_ns) {
        uint64_t overdue_ns = written.realtime_ns - due_realtime_ns;
        return overdue_ns < written.boottime_ns ? written.boottime_ns - overdue_ns : 1;
    }
    uint64_t left_ns = due_realtime_ns - written.realtime_ns;
    if (left_ns > delay_ns)
        left_ns = delay_ns;
    return left_ns < UINT64_MAX - written.boottime_ns ? written.boottime_ns + left_ns : UINT64_MAX;
}

/** pawl_now_due_later - the same by the wall clock, @now in another boot: never more than the whole wait from
 * now. Return: boottime. */
static inline uint64_t pawl_now_due_later(struct pawl_now now, uint64_t due_realtime_ns, uint64_t delay_ns)
{
    uint64_t left_ns = due_realtime_ns > now.realtime_ns ? due_realtime_ns - now.realtime_ns : 0;
    if (left_ns > delay_ns)
        left_ns = delay_ns; /* the clock was set back */
    return left_ns < UINT64_MAX - now.boottime_ns ? now.boottime_ns + left_ns : UINT64_MAX;
}

#endif
