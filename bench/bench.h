/*
 * bench.h - what the benchmarks share: floors to measure against, in the same run.
 */
#ifndef PAWL_BENCH_BENCH_H
#define PAWL_BENCH_BENCH_H

/**
 * pawl_bench_spawn_floor - processes a second of a raw loop: the kernel's fork and exec, and nothing else
 * @slots: processes that spawn side by side; @tasks: /bin/true in all
 *
 * Each slot: clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD), in the child its output onto two files and
 * execve(), then waitid(). Blocks until all are done; the slots are forked, so call it while this process is
 * small. getrusage(RUSAGE_CHILDREN) before and after tells their CPU time.
 *
 * Return: tasks a second, or 0 when something failed (said on stderr).
 */
double pawl_bench_spawn_floor(unsigned slots, unsigned tasks);

#endif
