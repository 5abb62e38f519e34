/*
 * client_intake.c - takes out of a client's lane what it began, settled and submitted.
 *
 * Runs in: scheduler. What a lane holds is copied, checked, and only then given to the bus. A client's share
 * of a turn is bounded, so that it can only slow itself.
 */
#include "scheduler/client.h"

#include "scheduler/bus/bus.h"
#include "shm/error.h"

enum {
    SETTLEMENTS_A_TURN = PAWL_SETTLE_ENTRIES,
    CUT_BYTES = 256 << 10, /* what no act holds together is no one batch of the journal */
};

/* May its next submission be taken? No: it waits for room in a queue, or for the disk. */
bool pawl_client_may_submit(const struct pawl_client *client)
{
    return client->act_parts > 0 ||
           (pawl_bus_may_submit(client->bus) && !pawl_journal_is_behind(client->loop->journal) &&
            pawl_journal_has_room(client->loop->journal, 0, PAWL_JOURNAL_FOR_WORK) != PAWL_E_LIMIT);
}

bool pawl_client_take_event(struct pawl_client *client, struct pawl_submit *submit)
{
    struct pawl_loop *loop = client->loop;
    struct pawl_event *event = (struct pawl_event *)(submit + 1);
    if (submit->sequence == 0 || pawl_event_check(event, submit->bytes - sizeof *submit) != 0) {
        pawl_client_condemn(client, "it published an event that does not hold");
        return false;
    }
    pawl_bus_publish(loop->bus, loop->now, client->bus, submit, event);
    return true;
}

bool pawl_client_take_settlement(struct pawl_client *client, const struct pawl_settle *settle,
                                 const char *text)
{
    struct pawl_loop *loop = client->loop;
    if (pawl_bus_settle(loop->bus, loop->now, client->bus, settle, text) == 0)
        return true;
    pawl_client_condemn(client, "it settled what it never got");
    return false;
}

static bool take_submission(struct pawl_client *client, struct pawl_submit *submit)
{
    if ((submit->flags & PAWL_SUBMIT_MORE) || client->act_parts > 0)
        return pawl_client_act_gather(client, submit);
    if (submit->type == PAWL_SUBMIT_EVENT)
        return pawl_client_take_event(client, submit);
    if (!pawl_client_part_holds(submit)) {
        pawl_client_condemn(client, "a settlement does not hold");
        return false;
    }
    const struct pawl_settle *settle = (const struct pawl_settle *)(submit + 1);
    client->last_worded = client->port.submit_position;
    return pawl_client_take_settlement(client, settle,
                                       settle->text_bytes ? (const char *)(settle + 1) : NULL);
}

static void refuse_oversized(struct pawl_client *client, const struct pawl_submit *submit)
{
    struct pawl_reply reply = {.type = PAWL_REPLY_REFUSE,
                               .error = PAWL_E_LIMIT,
                               .first = submit->sequence,
                               .last = submit->sequence};
    pawl_clients_reply(client->loop, client->number, &reply);
}

/* True: there is more than its share of a turn. */
static bool drain_submissions(struct pawl_client *client)
{
    struct pawl_loop *loop = client->loop;
    struct pawl_submit *copy = (struct pawl_submit *)(void *)loop->clients->copy;
    uint64_t until = client->port.submit_position + PAWL_SUBMIT_BYTES_A_TURN;
    uint64_t cut_at = client->port.submit_position + CUT_BYTES;
    for (int i = 0; i < PAWL_SUBMISSIONS_A_TURN && client->port.submit_position < until; i++) {
        if (!pawl_client_may_submit(client))
            return false;
        if (client->port.submit_position >= cut_at) {
            pawl_loop_cut(loop);
            cut_at = client->port.submit_position + CUT_BYTES;
        }
        int got = pawl_client_port_submission(&client->port, copy, loop->clients->copy_bytes);
        if (got == 0)
            return false;
        loop->turn_settled++;
        if (got == PAWL_E_LIMIT) {
            refuse_oversized(client, copy);
            continue;
        }
        if (got < 0) {
            pawl_client_condemn(client, "what it submitted does not hold");
            return false;
        }
        if (!take_submission(client, copy))
            return false;
    }
    return true;
}

bool pawl_client_drain_settlements(struct pawl_client *client)
{
    struct pawl_settle settle;
    for (int i = 0; i < SETTLEMENTS_A_TURN; i++) {
        if (pawl_journal_has_room(client->loop->journal, 0, PAWL_JOURNAL_FOR_RESULTS) == PAWL_E_LIMIT)
            return false; /* the disk is full, and so is what may wait for it in memory */
        int got = pawl_client_port_settlement(&client->port, &settle);
        if (got == 0)
            return false;
        client->loop->turn_settled++;
        if (got < 0) {
            pawl_client_condemn(client, "its settlements do not hold");
            return false;
        }
        if (!pawl_client_take_settlement(client, &settle, NULL))
            return false;
    }
    return true;
}

bool pawl_client_hear_begun(struct pawl_client *client)
{
    uint64_t begun;
    if (pawl_client_port_begun(&client->port, pawl_bus_begun_count(client->bus),
                               pawl_bus_delivered(client->bus), &begun) != 0) {
        pawl_client_condemn(client, "it began what it never got");
        return false;
    }
    pawl_bus_begun(client->loop->bus, client->loop->now, client->bus, begun);
    return true;
}

/* True: more than its share. */
bool pawl_client_drain(struct pawl_client *client)
{
    struct pawl_loop *loop = client->loop;
    uint64_t before = loop->turn_settled;
    if (!pawl_client_hear_begun(client))
        return false;
    bool more = pawl_client_drain_settlements(client);
    if (!client->bad)
        more |= drain_submissions(client);
    pawl_bus_claims(loop->bus, loop->now, client->bus);
    if (client->stalled && pawl_client_port_has_room(&client->port)) {
        client->stalled = false;
        pawl_bus_client_ready(loop->bus, client->bus);
    }
    if (pawl_client_port_release(&client->port))
        pawl_client_ring(client);
    if (loop->turn_settled != before)
        client->quiet_turns = 0;
    return more && !client->bad;
}
