/*
 * capture.h - where a job's output goes, and how it gets from there into a result.
 *
 * Runs in a worker. Each stream is a spool file STATE/spool/w<N>.{out,err}, kept from task to task; the job
 * writes it through a descriptor of its own, so that a write descriptor that somebody still holds afterwards
 * shows (a read lease is refused) and the file is left to him. PAWL_OUTPUT names STATE/spool/w<N>.named.
 * Small outputs are copied out; large ones become files below runs/ID/out.
 */
#ifndef PAWL_WORKERS_CAPTURE_H
#define PAWL_WORKERS_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/task.h"
#include "shm/wire.h"

enum { PAWL_CAPTURE_PATH_BYTES = 4200, PAWL_CAPTURE_SPOOL_BYTES = 4160 };

struct pawl_capture_stream {
    char name[32]; /* in the spool directory */
    int fd;        /* ours: read only, for size, content and the lease test */
    int job_fd;    /* the job's: open between begin and started */
    bool used;     /* must be emptied before the next task */
};

struct pawl_capture {
    int state_dirfd; /* borrowed */
    int spool_dirfd;
    uint32_t worker;
    char synced_run[PAWL_NAME_BYTES]; /* runs/ID/out of this run stands on disk */
    struct pawl_capture_stream out, err;
    uint32_t named_serial;
    uint64_t named_device, named_inode;
    uint32_t named_mode;
    char named_name[32];
    char named_path[PAWL_CAPTURE_PATH_BYTES]; /* value of PAWL_OUTPUT; changes when named_serial does */
    char spool_path[PAWL_CAPTURE_SPOOL_BYTES];
};

/* What a job left. bytes holds stdout_bytes, stderr_bytes, named_bytes in this order. */
struct pawl_captured {
    uint8_t flags; /* PAWL_SETTLE_STDOUT_FILE, PAWL_SETTLE_STDERR_FILE */
    uint32_t stdout_bytes, stderr_bytes, named_bytes;
    bool cut;  /* a stream was longer than allowed */
    int error; /* positive errno: output could not be stored (PAWL_OUTCOME_CAPTURE); text says what, in
                  stderr's place */
    unsigned char bytes[2 * PAWL_INLINE_OUTPUT_BYTES + PAWL_NAMED_OUTPUT_BYTES];
};

/**
 * pawl_capture_open - make the spool files (STATE/spool is made when missing)
 * @state_dirfd: borrowed until close; @state_path: absolute, for PAWL_OUTPUT
 * Return: 0, -ENAMETOOLONG or -errno.
 */
int pawl_capture_open(struct pawl_capture *capture, int state_dirfd, const char *state_path, uint32_t worker);
void pawl_capture_close(struct pawl_capture *capture); /* removes the spool files */

/* Empty files for the next task: out.job_fd and err.job_fd are what the job gets. Return: 0 or -errno. */
int pawl_capture_begin(struct pawl_capture *capture);

/* The job was started, or will not be: give up our copies of its descriptors. */
void pawl_capture_started(struct pawl_capture *capture);

/* Bytes of the longer stream so far. */
uint64_t pawl_capture_bytes(const struct pawl_capture *capture);

/**
 * pawl_capture_collect - take what the ended job left
 * @run_id, @stem: large output goes to runs/RUN_ID/out/STEM.{out,err}, synced with its directories
 * @strays: processes of the job are known to live on: nothing of its files is used again
 * @bytes_max: a longer stream is cut to this (the caller says OUTPUT_LIMIT)
 *
 * Never fails as a whole: captured_out->error tells what could not be kept.
 * Return: true when somebody still holds one of the job's descriptors or @strays.
 */
bool pawl_capture_collect(struct pawl_capture *capture, const char *run_id, const char *stem, bool strays,
                          uint64_t bytes_max, struct pawl_captured *captured_out);

#endif
