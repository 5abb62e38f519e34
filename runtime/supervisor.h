/*
 * supervisor.h - the supervisor as supervise*.c see it. Private to them.
 */
#ifndef PAWL_RUNTIME_SUPERVISOR_H
#define PAWL_RUNTIME_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <time.h>

#include "runtime/config.h"
#include "runtime/supervise.h"
#include "shm/wire.h"

enum { PAWL_SUPERVISOR_WORKERS_MAX = 4096, PAWL_SUPERVISOR_DEATHS_MAX = 5 };

struct pawl_child {
    pid_t pid; /* 0: no such worker */
    bool leaving;
    uint64_t since_ns;     /* CLOCK_REALTIME, for people */
    uint64_t forked_at_ns; /* CLOCK_BOOTTIME */
};

struct pawl_supervisor {
    const struct pawl_state *state;
    const struct pawl_supervise_options *options;
    int signal_fd, lock_fd;
    int client_fd; /* until the first scheduler has it */
    pid_t self;
    struct pawl_wire wire; /* to the scheduler; fd -1: none */
    struct pawl_child scheduler;
    uint64_t death_at_ns[PAWL_SUPERVISOR_DEATHS_MAX];
    unsigned death_count;
    uint64_t restart_at_ns, give_up_at_ns; /* it could not be forked; 0: it could */
    struct pawl_child *workers;            /* [PAWL_SUPERVISOR_WORKERS_MAX + 1], by number */
    uint32_t number_end;                   /* above the highest number in use */
    uint32_t wanted, alive, leaving;
    uint64_t fork_wait_ns, fork_at_ns; /* after workers that die at once */
    bool serves, reload_wanted;        /* the scheduler can hear SIGHUP; it is to be sent one */
    bool restarted;
    bool has_config; /* `pawl serve`: the last one in force, for a scheduler that is restarted */
    struct pawl_config config;
    bool reloads;   /* the scheduler was sent SIGHUP, and has not said yet what came of it */
    bool has_asked; /* meanwhile, if there is no mistake in it: what it was asked to take up */
    struct pawl_config asked;
    bool stopping;
    int exit_code;
    uint64_t stop_at_ns;
    unsigned stop_stage;
};

/* supervise.c */
uint64_t pawl_supervisor_clock_ns(clockid_t id);
/** pawl_supervisor_say - a line for the log; @text may name two numbers. */
void pawl_supervisor_say(const char *text, long long a, long long b);
/** pawl_supervisor_leave - in a forked child: only what it needs stays open. */
void pawl_supervisor_leave(struct pawl_supervisor *supervisor);
/** pawl_supervisor_leave_with_host - the same in a child that is no helper. */
void pawl_supervisor_leave_with_host(struct pawl_supervisor *supervisor);

/* supervise_scheduler.c */
/** pawl_supervisor_read_config - the configuration as it is now is `asked`, if there is no mistake in it. */
void pawl_supervisor_read_config(struct pawl_supervisor *supervisor);
/** pawl_supervisor_end_reload - `asked`, if it is there, is in force, and what a later scheduler falls back
 * to; or is given up. Return: did it come into force? */
bool pawl_supervisor_end_reload(struct pawl_supervisor *supervisor, bool taken_up);
/** pawl_supervisor_fork_scheduler - it is told of all workers and helpers. Return: 0 or -errno. */
int pawl_supervisor_fork_scheduler(struct pawl_supervisor *supervisor, bool restarted);

/* supervise_worker.c */
void pawl_supervisor_send_worker(struct pawl_supervisor *supervisor, uint16_t type, uint32_t number,
                                 const struct pawl_child *worker, int status);
/** pawl_supervisor_fill_workers - as many as are wanted; a worker that is leaving does not count. Return:
 * when to come again (boottime), as forking pauses; UINT64_MAX: it does not. */
uint64_t pawl_supervisor_fill_workers(struct pawl_supervisor *supervisor);
void pawl_supervisor_kill_workers(struct pawl_supervisor *supervisor, int number_of_signal);
/** pawl_supervisor_dismiss_unknown - those that no scheduler told to go hold nothing: SIGTERM. */
void pawl_supervisor_dismiss_unknown(struct pawl_supervisor *supervisor);
/** pawl_supervisor_worker_ended - it was reaped; what is left of its job is killed. */
void pawl_supervisor_worker_ended(struct pawl_supervisor *supervisor, uint32_t number, int status);

/* supervise_helper.c */
bool pawl_supervisor_is_workers_number(void *ctx, uint32_t number);
/** pawl_supervisor_tell_of_helpers - a new scheduler knows of none. */
void pawl_supervisor_tell_of_helpers(struct pawl_supervisor *supervisor);
/** pawl_supervisor_helper_parent - what helpers.h asks of a parent. */
struct pawl_helpers_parent pawl_supervisor_helper_parent(struct pawl_supervisor *supervisor);
void pawl_supervisor_send_handler(struct pawl_supervisor *supervisor, uint16_t type, uint32_t number,
                                  pid_t pid, int status);
/* Is the one of this number wanted still, so that its death is a loss? */
bool pawl_supervisor_wants_helper(const struct pawl_supervisor *supervisor, uint32_t number);

#endif
