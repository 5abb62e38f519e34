/*
 * state.h - the state directory: found, made, checked, held open.
 *
 * Runs in: every process. A state directory belongs to one user and is nobody else's to write; one that is
 * not so is refused. Opening takes no lock: the supervisor does (supervise.h).
 */
#ifndef PAWL_RUNTIME_STATE_H
#define PAWL_RUNTIME_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PAWL_STATE_FORMAT = 1,
    PAWL_STATE_MARK_BYTES = 40, /* 36 characters of a random UUID and a NUL */
    PAWL_STATE_WHY_BYTES = 512,
};

struct pawl_state {
    int dirfd;                        /* of STATE; close-on-exec, as the others */
    int journal_dirfd;                /* STATE/journal */
    int runs_dirfd;                   /* STATE/runs */
    int spool_dirfd;                  /* STATE/spool */
    char *path;                       /* absolute; malloc'd */
    char mark[PAWL_STATE_MARK_BYTES]; /* from STATE/format: value of PAWL_MARK in the environment of its jobs
                                       */
    bool created;                     /* by this call */
};

enum pawl_state_mode {
    PAWL_STATE_CREATE = 1, /* make what is missing */
    PAWL_STATE_EXISTING,   /* -ENOENT when it is not there: verbs that only read */
};

/* --state, else $PAWL_STATE, else ".pawl". @option NULL or "": not given. Never NULL; not to be freed. */
const char *pawl_state_choose(const char *option);

/**
 * pawl_state_open - open the directory at @path, and its parts
 * @why: text of PAWL_STATE_WHY_BYTES for people on failure: what, which path, what to do
 *
 * The missing last component of @path is made (0700), with parents that must exist. Safe against another
 * process that does the same at the same time. In a directory that cannot be written (EXISTING only) missing
 * parts have descriptor -1.
 *
 * Return: 0; -ENOENT (EXISTING); -ENOSYS (no /proc); PAWL_E_BAD_FORMAT (made by a newer pawl, or not a state
 * directory); PAWL_E_INVALID (a symbolic link, another owner, writable by group or others); -errno. A command
 * exits with 4 for each.
 */
int pawl_state_open(const char *path, enum pawl_state_mode mode, struct pawl_state *state_out,
                    char why[PAWL_STATE_WHY_BYTES]);
void pawl_state_close(struct pawl_state *state);

/* Who may not use @path is told what helps by whose it is: its owner lets others in, and may have shut
 * himself out. One that cannot be looked at counts as another's. */
bool pawl_state_is_anothers(const char *path);
#define PAWL_STATE_OWN_HINT "it is yours, and its permissions keep you out: chmod u+rwX"

#endif
