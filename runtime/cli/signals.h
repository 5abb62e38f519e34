/*
 * signals.h - ^C and its like, while a command waits for a run.
 *
 * The handler only counts and wakes; what follows is the waiting loop's business. Blocking calls return
 * EINTR.
 */
#ifndef PAWL_RUNTIME_CLI_SIGNALS_H
#define PAWL_RUNTIME_CLI_SIGNALS_H

enum pawl_signal_level {
    PAWL_SIGNAL_NONE = 0,
    PAWL_SIGNAL_DRAIN = 1,     /* ^C once: start nothing new */
    PAWL_SIGNAL_INTERRUPT = 2, /* twice, or SIGTERM, SIGHUP: SIGTERM, grace, SIGKILL */
    PAWL_SIGNAL_KILL = 3,      /* once more: no grace */
};

/** pawl_signals_install - from now on. A SIGHUP that was ignored (nohup) stays ignored. Return: 0 or -errno.
 */
int pawl_signals_install(void);

/** pawl_signals_install_gently - the same for who is ended by its parent: SIGTERM is what ^C is. */
int pawl_signals_install_gently(void);

/** pawl_signals_fd - readable when the level may have risen; call pawl_signals_level() then. */
int pawl_signals_fd(void);

/** pawl_signals_level - what has been asked for so far; empties the descriptor. */
enum pawl_signal_level pawl_signals_level(void);

/** pawl_signals_raise - as if somebody had pressed ^C twice: standard output is gone. */
void pawl_signals_raise(enum pawl_signal_level to);

#endif
