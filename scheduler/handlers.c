/*
 * handlers.c - who they are, and whether they are attached and busy.
 *
 * Runs in: scheduler. Nothing is decided by it.
 */
#include "scheduler/handlers.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/bus.h"
#include "scheduler/clients.h"
#include "scheduler/control.h"
#include "scheduler/figures.h"

static struct pawl_wire_process *find(const struct pawl_loop *loop, uint32_t pid)
{
    for (uint32_t i = 0; i < loop->handler_count; i++)
        if (loop->handlers[i].pid == pid)
            return &loop->handlers[i];
    return NULL;
}

static void add(struct pawl_loop *loop, const struct pawl_wire_process *process)
{
    struct pawl_wire_process *known = find(loop, process->pid);
    if (!known) {
        size_t bytes = (loop->handler_count + (size_t)1) * sizeof *loop->handlers;
        struct pawl_wire_process *grown = realloc(loop->handlers, bytes);
        if (!grown)
            return; /* it is not listed */
        loop->handlers = grown;
        known = &grown[loop->handler_count++];
    }
    *known = *process;
}

bool pawl_handlers_message(struct pawl_loop *loop, const struct pawl_wire_message *message)
{
    const struct pawl_wire_process *process = message->body;
    bool up = message->header.type == PAWL_WIRE_HANDLER_UP;
    if (!up && message->header.type != PAWL_WIRE_HANDLER_DOWN)
        return false;
    if (message->header.bytes < sizeof *process)
        return true;
    struct pawl_wire_process *known = find(loop, process->pid);
    if (up)
        add(loop, process);
    else if (known)
        *known = loop->handlers[--loop->handler_count];
    if (!up && known && process->role == PAWL_ROLE_HANDLER && process->status != 0)
        pawl_figures_handler_lost(loop); /* the supervisor forks another */
    return true;
}

void pawl_handlers_gone(struct pawl_loop *loop)
{
    free(loop->handlers);
    loop->handlers = NULL;
    loop->handler_count = 0;
}

static uint32_t state_of(const struct pawl_connection *connection)
{
    const struct pawl_bus_client *client = pawl_clients_of(connection);
    if (!client || connection->closing)
        return PAWL_PROCESS_STARTING;
    return pawl_bus_is_handling(client) ? PAWL_PROCESS_BUSY : PAWL_PROCESS_IDLE;
}

void pawl_handlers_count(const struct pawl_loop *loop, uint64_t count[PAWL_PROCESS_LEAVING + 1])
{
    uint64_t attached = 0, handlers = 0;
    for (uint32_t i = 0; i < loop->handler_count; i++)
        handlers += loop->handlers[i].role == PAWL_ROLE_HANDLER;
    if (handlers == 0)
        return;
    for (const struct pawl_connection *connection = loop->connections; connection;
         connection = connection->next) {
        uint32_t state = state_of(connection);
        const struct pawl_wire_process *process =
            state == PAWL_PROCESS_STARTING ? NULL : find(loop, (uint32_t)connection->pid);
        if (!process || process->role != PAWL_ROLE_HANDLER)
            continue;
        count[state]++;
        attached++;
    }
    if (attached < handlers)
        count[PAWL_PROCESS_STARTING] += handlers - attached;
}

bool pawl_handlers_look(const struct pawl_loop *loop, uint32_t index, struct pawl_wire_process *process_out)
{
    if (index >= loop->handler_count)
        return false;
    *process_out = loop->handlers[index];
    process_out->state = PAWL_PROCESS_STARTING;
    if (process_out->role != PAWL_ROLE_HANDLER) { /* it is no client, and works without being told to */
        process_out->state = PAWL_PROCESS_IDLE;
        return true;
    }
    for (const struct pawl_connection *connection = loop->connections; connection;
         connection = connection->next) {
        uint32_t state = state_of(connection);
        if ((uint32_t)connection->pid == process_out->pid && state != PAWL_PROCESS_STARTING)
            process_out->state = state;
    }
    return true;
}
