/*
 * supervise_helper.c - what the supervisor has to do with helper processes: tell the scheduler of them.
 *
 * Runs in: the supervisor.
 */
#include "runtime/supervisor.h"

#include <unistd.h>

void pawl_supervisor_send_handler(struct pawl_supervisor *supervisor, uint16_t type, uint32_t number,
                                  pid_t pid, int status)
{
    struct pawl_wire_process body = {.role = number ? PAWL_ROLE_HANDLER : PAWL_ROLE_METRICS,
                                     .number = number,
                                     .pid = (uint32_t)pid,
                                     .status = status,
                                     .since_ns = pawl_supervisor_clock_ns(CLOCK_REALTIME)};
    if (supervisor->wire.fd >= 0)
        (void)pawl_wire_queue_message(&supervisor->wire, type, 0, &body, sizeof body, NULL, 0, NULL, 0);
}

static void on_helper_forked(void *ctx, const struct pawl_helper *helper)
{
    pawl_supervisor_send_handler(ctx, PAWL_WIRE_HANDLER_UP, helper->number, helper->pid, 0);
}

bool pawl_supervisor_wants_helper(const struct pawl_supervisor *supervisor, uint32_t number)
{
    const struct pawl_helpers *helpers = supervisor->options->helpers;
    for (unsigned i = 0; helpers && i < helpers->count; i++)
        if (helpers->list[i].number == number && !helpers->list[i].dismissed)
            return !supervisor->stopping;
    return false;
}

bool pawl_supervisor_is_workers_number(void *ctx, uint32_t number)
{
    const struct pawl_supervisor *supervisor = ctx;
    return number < supervisor->number_end && supervisor->workers[number].pid != 0;
}

/* A new scheduler knows of none. */
void pawl_supervisor_tell_of_helpers(struct pawl_supervisor *supervisor)
{
    const struct pawl_helpers *helpers = supervisor->options->helpers;
    for (unsigned i = 0; helpers && i < helpers->count; i++)
        if (helpers->list[i].pid)
            pawl_supervisor_send_handler(supervisor, PAWL_WIRE_HANDLER_UP, helpers->list[i].number,
                                         helpers->list[i].pid, 0);
}

static void leave_for_helper(void *ctx)
{
    struct pawl_supervisor *supervisor = ctx;
    pawl_supervisor_leave(supervisor);
    if (supervisor->client_fd >= 0)
        close(supervisor->client_fd);
}

struct pawl_helpers_parent pawl_supervisor_helper_parent(struct pawl_supervisor *supervisor)
{
    return (struct pawl_helpers_parent){.leave = leave_for_helper,
                                        .number_is_used = pawl_supervisor_is_workers_number,
                                        .forked = on_helper_forked,
                                        .ctx = supervisor};
}
