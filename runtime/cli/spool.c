/*
 * spool.c - what a step that runs now has printed so far.
 *
 * Runs in: the command. Reads spool files, writes none.
 */
#include "runtime/cli/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/copy.h"
#include "shm/error.h"

enum { READ_BYTES = 256 << 10 };

size_t pawl_spool_next(const void *at, size_t left, struct pawl_spool *spool_out)
{
    struct pawl_wire_result fixed;
    if (left < sizeof fixed)
        return 0;
    memcpy(&fixed, at, sizeof fixed);
    uint64_t text = (uint64_t)fixed.stdout_bytes + fixed.stderr_bytes + fixed.named_bytes;
    uint64_t bytes = (sizeof fixed + text + 7) & ~UINT64_C(7);
    if (bytes > left)
        return 0;
    const char *paths = (const char *)at + sizeof fixed;
    memset(spool_out, 0, sizeof *spool_out);
    spool_out->step = fixed.step;
    spool_out->attempt = fixed.attempt;
    spool_out->worker = fixed.worker;
    spool_out->instance = fixed.instance;
    spool_out->started_at_ns = fixed.started_at_ns;
    if (fixed.stdout_bytes < sizeof spool_out->out)
        memcpy(spool_out->out, paths, fixed.stdout_bytes);
    if (fixed.stderr_bytes < sizeof spool_out->err)
        memcpy(spool_out->err, paths + fixed.stdout_bytes, fixed.stderr_bytes);
    return (size_t)bytes;
}

bool pawl_spool_find(struct pawl_run_view *view, uint32_t step, uint64_t instance,
                     struct pawl_spool *spool_out)
{
    struct pawl_wire_run request;
    struct pawl_wire_message reply;
    struct pawl_error_report report;
    memcpy(request.run_id, view->summary.run_id, sizeof request.run_id);
    if (!view->session->connected ||
        pawl_session_ask(view->session, PAWL_WIRE_RUNNING, &request, sizeof request, NULL, 0,
                         PAWL_WIRE_RESULTS, sizeof(struct pawl_wire_results), &reply, &report) != 0)
        return false;
    const char *at = (const char *)reply.body + sizeof(struct pawl_wire_results);
    size_t left = reply.header.bytes - sizeof(struct pawl_wire_results), bytes;
    while ((bytes = pawl_spool_next(at, left, spool_out)) != 0) {
        if (spool_out->step == step && spool_out->instance == instance)
            return true;
        at += bytes;
        left -= bytes;
    }
    return false;
}

bool pawl_spool_is_same(struct pawl_run_view *view, const struct pawl_spool *spool)
{
    struct pawl_spool now;
    return pawl_spool_find(view, spool->step, spool->instance, &now) && now.attempt == spool->attempt &&
           now.worker == spool->worker && now.started_at_ns == spool->started_at_ns;
}

int pawl_spool_copy(struct pawl_run_view *view, const struct pawl_spool *spool, bool errors, uint64_t *offset,
                    int fd)
{
    const char *path = errors ? spool->err : spool->out;
    if (path[0] == '\0')
        return 0;
    int source = openat(view->session->state.dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (source < 0)
        return 0; /* it has just been moved away: the result will have it */
    char *buffer = malloc(READ_BYTES);
    int error = buffer == NULL ? -ENOMEM : 0;
    while (error == 0) {
        ssize_t got = pread(source, buffer, READ_BYTES, (off_t)*offset);
        if (got <= 0 || !pawl_spool_is_same(view, spool))
            break;
        error = pawl_write_all(fd, buffer, (size_t)got);
        *offset += (uint64_t)got;
    }
    free(buffer);
    close(source);
    return error;
}
