/*
 * front_disk.h - a pawl_io in front of a real one, as the fake disks of the tests begin: it hands everything
 * on, and can refuse requests, which are told of in the next wait. A fake disk holds it as its first member
 * and takes the operations that it has no opinion about from here.
 */
#ifndef PAWL_TESTS_FRONT_DISK_H
#define PAWL_TESTS_FRONT_DISK_H

#include "tests/unit/journal_support.h"

enum { FRONT_REFUSED_MAX = 64 };

struct front {
    struct pawl_io io;
    struct pawl_io *real;
    struct pawl_io_request *refused[FRONT_REFUSED_MAX];
    int refused_count;
};

static inline struct front *front_of(struct pawl_io *io)
{
    return (struct front *)io;
}

static inline int front_commit(struct pawl_io *io, struct pawl_io_request *request)
{
    return front_of(io)->real->ops->commit(front_of(io)->real, request);
}

static inline int front_write(struct pawl_io *io, struct pawl_io_request *request)
{
    return front_of(io)->real->ops->write(front_of(io)->real, request);
}

static inline int front_fsync(struct pawl_io *io, struct pawl_io_request *request, bool datasync)
{
    return front_of(io)->real->ops->fsync(front_of(io)->real, request, datasync);
}

/* In place of handing it on. Return: 0, as of a request that was taken. */
static inline int front_refuse(struct pawl_io *io, struct pawl_io_request *request,
                               enum pawl_io_failure failure, int32_t result)
{
    struct front *front = front_of(io);
    cr_assert(lt(int, front->refused_count, FRONT_REFUSED_MAX));
    request->failure = failure;
    request->result = result;
    front->refused[front->refused_count++] = request;
    return 0;
}

static inline int front_wait(struct pawl_io *io, uint64_t timeout_ns)
{
    struct front *front = front_of(io);
    struct pawl_io_request *refused[FRONT_REFUSED_MAX];
    int count = front->refused_count;
    memcpy(refused, front->refused, sizeof refused);
    front->refused_count = 0;
    for (int i = 0; i < count; i++) {
        refused[i]->active = false;
        refused[i]->done(refused[i], refused[i]->result);
    }
    int more = front->real->ops->wait(front->real, count > 0 ? 0 : timeout_ns);
    return more < 0 ? more : more + count;
}

#endif
