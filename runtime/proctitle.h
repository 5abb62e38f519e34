/*
 * proctitle.h - what a process is, as ps shows it.
 *
 * Runs in: every process of pawl. Overwrites the memory of the original arguments; never allocates after
 * init.
 */
#ifndef PAWL_RUNTIME_PROCTITLE_H
#define PAWL_RUNTIME_PROCTITLE_H

/* pawl_proctitle_init - call once, first thing in main(): remembers where the kernel looks, and moves the
 * environment out of the way (its strings are copied). argv's strings must not be used after set(). */
void pawl_proctitle_init(int argc, char **argv);

/* pawl_proctitle_set - @title becomes command line and (cut to 15 bytes) comm: "pawl: worker 3". */
void pawl_proctitle_set(const char *title);

#endif
