/*
 * client_act.c - an atomic act of a client: parts are gathered until it is whole, then all are done, or none.
 *
 * Runs in: scheduler.
 */
#include "scheduler/client.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/bus.h"
#include "shm/error.h"

enum { ACT_PARTS_MAX = PAWL_UNCONFIRMED_MAX / 2 + 1 };

static void refuse_act(struct pawl_client *client, int error)
{
    for (size_t used = 0; used < client->act_used;) {
        const struct pawl_submit *submit = (const struct pawl_submit *)(const void *)(client->act + used);
        struct pawl_reply reply = {.error = error};
        if (submit->type == PAWL_SUBMIT_EVENT) {
            reply.type = PAWL_REPLY_REFUSE;
            reply.first = reply.last = submit->sequence;
        } else {
            const struct pawl_settle *settle = (const struct pawl_settle *)(const void *)(submit + 1);
            reply.type = PAWL_REPLY_LATE;
            reply.first = settle->first;
            reply.last = settle->last;
        }
        pawl_clients_reply(client->loop, client->number, &reply);
        used += submit->bytes;
    }
}

bool pawl_client_part_holds(const struct pawl_submit *submit)
{
    if (submit->type == PAWL_SUBMIT_EVENT)
        return submit->sequence != 0 &&
               pawl_event_check((const struct pawl_event *)(const void *)(submit + 1),
                                submit->bytes - sizeof *submit) == 0;
    const struct pawl_settle *settle = (const struct pawl_settle *)(const void *)(submit + 1);
    return submit->bytes >= sizeof *submit + sizeof *settle &&
           pawl_settle_check(settle, submit->bytes - sizeof *submit - sizeof *settle) == 0;
}

/* All parts are there: all are done, or none, and in one batch of the journal. */
static bool do_act(struct pawl_client *client)
{
    struct pawl_loop *loop = client->loop;
    int error = 0;
    (void)pawl_client_drain_settlements(client); /* said before it (C1), they may make room for it */
    if (client->bad)
        return false;
    pawl_bus_flush(loop->bus, loop->now);
    pawl_loop_cut(loop);
    pawl_bus_act_begin(loop->bus);
    for (size_t used = 0; used < client->act_used && !error;) {
        struct pawl_submit *submit = (struct pawl_submit *)(void *)(client->act + used);
        if (!pawl_client_part_holds(submit)) {
            pawl_client_condemn(client, "a part of an atomic act does not hold");
            return false;
        }
        if (submit->type == PAWL_SUBMIT_EVENT)
            error = pawl_bus_may_publish(loop->bus, submit, (const struct pawl_event *)(submit + 1));
        else
            error = pawl_bus_may_settle(loop->bus, client->bus, (const struct pawl_settle *)(submit + 1));
        used += submit->bytes;
    }
    if (error) {
        refuse_act(client, error);
        return true;
    }
    pawl_bus_act_hold(loop->bus, true);
    for (size_t used = 0; used < client->act_used && !client->bad;) {
        struct pawl_submit *submit = (struct pawl_submit *)(void *)(client->act + used);
        const struct pawl_settle *settle = (const struct pawl_settle *)(submit + 1);
        if (submit->type == PAWL_SUBMIT_EVENT)
            (void)pawl_client_take_event(client, submit);
        else
            (void)pawl_client_take_settlement(client, settle,
                                              settle->text_bytes ? (const char *)(settle + 1) : NULL);
        used += submit->bytes;
    }
    pawl_bus_flush(loop->bus, loop->now);
    pawl_bus_act_hold(loop->bus, false);
    pawl_loop_cut(loop);
    return !client->bad;
}

bool pawl_client_act_gather(struct pawl_client *client, const struct pawl_submit *submit)
{
    if (client->act_parts == ACT_PARTS_MAX || client->act_used + submit->bytes > client->port.submit_bytes) {
        pawl_client_condemn(client, "an atomic act is larger than its lane");
        return false;
    }
    if (client->act_used + submit->bytes > client->act_room) {
        size_t room = (client->act_used + submit->bytes) * 2;
        unsigned char *grown = realloc(client->act, room);
        if (!grown) {
            pawl_client_condemn(client, "there is no memory for its atomic act");
            return false;
        }
        client->act = grown;
        client->act_room = room;
    }
    memcpy(client->act + client->act_used, submit, submit->bytes);
    client->act_used += submit->bytes;
    client->act_parts++;
    if (submit->flags & PAWL_SUBMIT_MORE)
        return true;
    client->last_worded = client->port.submit_position; /* its ack is durable with the rest of it */
    bool holds = do_act(client);
    client->act_used = client->act_parts = 0;
    return holds;
}
