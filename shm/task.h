/*
 * task.h - what a worker is asked to do, and what it answers.
 *
 * A task is a flat, position-independent block of bytes in task memory. It is packed by the scheduler
 * (workflow steps) or by a client (`pawl map`), and read by a worker. Whoever reads one that another process
 * packed calls pawl_task_open() first, which checks every offset, and then only uses the view. A settlement
 * is one 64-byte entry of a lane's settle ring (lane.h), written by the worker, checked by the scheduler. A
 * context is what a command handed over of its own surroundings; one for each batch, in a sealed memfd.
 */
#ifndef PAWL_SHM_TASK_H
#define PAWL_SHM_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/resource.h>

enum {
    PAWL_TASK_MAGIC = 0x6b736174, /* "task" */
    PAWL_TASK_BYTES_MAX = 64 << 20,
    PAWL_INLINE_OUTPUT_BYTES = 16 << 10, /* of each stream; more becomes a file under runs/ID/out */
    PAWL_NAMED_OUTPUT_BYTES = 16 << 10,  /* what may be written to PAWL_OUTPUT */
};

enum pawl_task_kind {
    PAWL_TASK_NOOP = 1,
    PAWL_TASK_EXEC = 2, /* `shell` steps arrive as exec of /bin/sh -c TEXT */
};

enum pawl_stdin_kind {
    PAWL_STDIN_NULL = 0, /* /dev/null */
    PAWL_STDIN_BYTES =
        1,               /* stdin_bytes, fed from a memfd or file: never a pipe that could block the worker */
    PAWL_STDIN_FILE = 2, /* a path, opened by the worker; relative: below the state directory */
};

/* What to pack. Strings are not copied until pawl_task_pack(). */
struct pawl_task_spec {
    enum pawl_task_kind kind;
    const char *run_id; /* "" for map items: the worker takes it from the queue's context */
    const char *step;   /* PAWL_STEP */
    const void *item;
    size_t item_bytes; /* PAWL_ITEM; NULL when the step has no foreach; may hold any byte */
    const char *const *argv;
    uint32_t argc; /* NUL-terminated each */
    const char *const *env;
    uint32_t envc;   /* KEY=VALUE, added to or replacing those of the context */
    const char *dir; /* NULL: the context's; relative: to the context's */
    enum pawl_stdin_kind stdin_kind;
    const void *stdin_data;
    size_t stdin_bytes;        /* bytes, or the path (NUL-terminated not needed) */
    uint64_t timeout_ns;       /* 0: none */
    uint64_t grace_ns;         /* between SIGTERM and SIGKILL */
    uint64_t output_bytes_max; /* captured bytes of one stream before the step fails with `output` */
    const struct pawl_slot_patch *patches;
    uint32_t patch_count;
};

/* `{%}` of pawl map: the worker inserts its slot number (1-based, decimal) at byte_offset of argv[arg_index].
 * In order of argument and offset; offsets are those of the argument before anything is inserted. */
struct pawl_slot_patch {
    uint32_t arg_index;
    uint32_t byte_offset;
};

/* A checked, read-only view; pointers go into the packed bytes. */
struct pawl_task {
    enum pawl_task_kind kind;
    const char *run_id, *step, *dir; /* dir NULL when not set */
    const char *item;
    uint32_t item_bytes; /* item NULL when not set */
    uint32_t argc, envc;
    const char *argv; /* argc strings, each NUL-terminated, one after the other */
    const char *env;
    enum pawl_stdin_kind stdin_kind;
    const char *stdin_data;
    uint32_t stdin_bytes;
    uint64_t timeout_ns, grace_ns, output_bytes_max;
    const struct pawl_slot_patch *patches;
    uint32_t patch_count;
};

/**
 * pawl_task_packed_bytes - size that pawl_task_pack() will need, a multiple of 8; 0 when over
 * PAWL_TASK_BYTES_MAX
 */
size_t pawl_task_packed_bytes(const struct pawl_task_spec *spec);

/**
 * pawl_task_pack - write the task to @out (at least pawl_task_packed_bytes(), 8-aligned)
 *
 * Return: bytes written, or -EINVAL (a string with no end, argc 0 for EXEC), -E2BIG.
 */
int64_t pawl_task_pack(const struct pawl_task_spec *spec, void *out, size_t out_bytes);

/**
 * pawl_task_open - check packed bytes and make a view of them
 *
 * @bytes may come from a hostile process but must not change while it is checked and used.
 * Return: 0 or PAWL_E_BAD_MESSAGE.
 */
int pawl_task_open(const void *bytes, size_t n, struct pawl_task *task_out);

/**
 * pawl_task_limit_output - the most output, in bytes of each stream, that an attempt of packed @bytes may
 * make
 *
 * For who hands on what somebody else packed. Bytes that are no task are left alone: whoever opens them says
 * so.
 */
void pawl_task_limit_output(void *bytes, size_t n, uint64_t output_bytes_max);

/* ---- settlements ---- */

enum pawl_settlement_type {
    PAWL_SETTLE_BEGUN = 1,  /* the handler is about to start: attempt, started_at_ns */
    PAWL_SETTLE_RESULT = 2, /* it ended */
    PAWL_SETTLE_DROPPED =
        3, /* claimed but not begun: the task did not hold; exit_code says why (-errno or PAWL_E_*) */
};

/* Stored in the journal: append new ones at the end. */
enum pawl_outcome {
    PAWL_OUTCOME_EXITED = 0,       /* exit_code */
    PAWL_OUTCOME_SIGNALED = 1,     /* exit_code is the signal */
    PAWL_OUTCOME_TIMED_OUT = 2,    /* exit_code is the signal that ended it, or the exit code */
    PAWL_OUTCOME_SPAWN_FAILED = 3, /* exit_code is the errno; the text is in stderr's place */
    PAWL_OUTCOME_OUTPUT_LIMIT = 4, /* more output than allowed: killed */
    PAWL_OUTCOME_KILLED = 5,       /* the scheduler asked for it (cancel, interrupt) */
    PAWL_OUTCOME_CAPTURE = 6,      /* output could not be stored: exit_code is the errno */
    PAWL_OUTCOME_WORKER_LOST = 7,  /* never sent: the scheduler's own verdict on a dead worker */
};

enum {
    PAWL_SETTLE_STDOUT_FILE = 1, /* stdout's inline part is a struct pawl_output_file */
    PAWL_SETTLE_STDERR_FILE = 2,
    PAWL_SETTLE_KEPT_DIR = 4, /* PAWL_DIR was not empty and is kept */
};

/* Large output: runs/ID/out/STEP[.INDEX].ATTEMPT.{out,err}, synced (file and directory) before RESULT is
 * pushed. */
struct pawl_output_file {
    uint64_t bytes;
    uint64_t xxh3;
};

/* Overlays struct pawl_lane_entry (lane.h): type, arena_offset and arena_bytes stand at the same places.
 * arena bytes = stdout_bytes of stdout (or a pawl_output_file), then stderr_bytes, the rest is PAWL_OUTPUT's
 * content. */
struct pawl_settlement {
    uint8_t type;
    uint8_t outcome;
    uint8_t flags;
    uint8_t reserved;
    uint32_t arena_offset;
    uint32_t arena_bytes;
    uint32_t queue;      /* queue number, as in PAWL_WIRE_QUEUE */
    uint32_t slot;       /* or PAWL_SLOT_ADOPTED */
    uint32_t generation; /* or the ticket of PAWL_WIRE_ADOPT */
    uint32_t attempt; /* may be higher than the descriptor's: an attempt directory that existed raised it */
    int32_t exit_code;
    uint64_t started_at_ns; /* CLOCK_REALTIME */
    uint64_t duration_ns;
    uint32_t stdout_bytes;
    uint32_t stderr_bytes;
    uint32_t pid; /* BEGUN: the job's pid once known, else 0 */
    uint32_t reserved2;
};

#define PAWL_SLOT_ADOPTED 0xffffffffu

_Static_assert(sizeof(struct pawl_settlement) == 64, "settle ring entry");
_Static_assert(offsetof(struct pawl_settlement, arena_offset) == 4, "settle ring entry");
_Static_assert(offsetof(struct pawl_settlement, arena_bytes) == 8, "settle ring entry");

/* ---- context ---- */

/* The surroundings of the submitting command. Packed in one block: struct, then dir, then env strings. */
struct pawl_context_spec {
    const char *run_id; /* of the first run of the batch; "" when the scheduler is to choose */
    const char *dir;
    const char *const *env; /* NULL-terminated array of KEY=VALUE */
    uint32_t umask;
    int32_t nice;
    struct rlimit limits[RLIM_NLIMITS];
};

struct pawl_context {
    const char *run_id;
    const char *dir;
    const char *env; /* env_count strings, one after the other */
    uint32_t env_count;
    uint32_t umask;
    int32_t nice;
    struct rlimit limits[RLIM_NLIMITS];
};

size_t pawl_context_packed_bytes(const struct pawl_context_spec *spec);
int64_t pawl_context_pack(const struct pawl_context_spec *spec, void *out, size_t out_bytes);
int pawl_context_open(const void *bytes, size_t n, struct pawl_context *context_out);

#endif
