/*
 * client_reply.c - gives a client its deliveries, replies, and word of what is durable.
 *
 * Runs in: scheduler. All of a turn becomes visible at its end, with one bell at most.
 */
#include "scheduler/client.h"

#include <stdlib.h>

#include "scheduler/bus/bus.h"
#include "scheduler/figures.h"
#include "shm/doorbell.h"
#include "shm/error.h"

enum { REPLIES_MAX = 1 << 20 };

void pawl_client_touch(struct pawl_client *client)
{
    if (client->touched)
        return;
    client->touched = true;
    client->next_touched = client->loop->clients->touched;
    client->loop->clients->touched = client;
}

/* One bell a turn, whatever there is to tell. */
void pawl_client_ring(struct pawl_client *client)
{
    client->bell_due = true;
    pawl_client_touch(client);
}

int pawl_clients_deliver(struct pawl_loop *loop, uint32_t number, const struct pawl_inbound_entry *entry,
                         const struct pawl_event *event)
{
    struct pawl_client *client = pawl_client_at(loop, number);
    if (!client || client->bad)
        return PAWL_E_CLOSED;
    int error = pawl_client_port_deliver(&client->port, entry, event);
    pawl_client_touch(client);
    pawl_client_listen(client);
    if (error == PAWL_E_QUEUE_FULL) {
        client->stalled = true;
        pawl_client_make_hot(client);
    } else if (error == PAWL_E_BAD_MESSAGE) {
        pawl_client_condemn(client, "its place in the inbound ring does not hold");
    } else if (error == 0) {
        pawl_figures_delivered(loop, entry, event);
    }
    return error;
}

static bool push_reply(struct pawl_client *client, const struct pawl_reply *reply)
{
    if (client->reply_count == 0) {
        int error = pawl_client_port_reply(&client->port, reply);
        if (error == 0)
            return true;
        if (error != PAWL_E_QUEUE_FULL) {
            pawl_client_condemn(client, "its place in the reply ring does not hold");
            return false;
        }
        client->stalled = true;
    }
    if (client->reply_count == client->reply_room) {
        size_t room = client->reply_room ? client->reply_room * 2 : 64;
        struct pawl_reply *grown = room <= REPLIES_MAX ? malloc(room * sizeof *grown) : NULL;
        if (!grown) {
            pawl_client_condemn(client, "it does not read its replies");
            return false;
        }
        for (size_t i = 0; i < client->reply_count; i++)
            grown[i] = client->replies[(client->reply_first + i) % client->reply_room];
        free(client->replies);
        client->replies = grown;
        client->reply_first = 0;
        client->reply_room = room;
    }
    client->replies[(client->reply_first + client->reply_count++) % client->reply_room] = *reply;
    return true;
}

/* Confirms that follow one another become one. */
static bool join(struct pawl_reply *last, const struct pawl_reply *reply)
{
    if (last->type != PAWL_REPLY_CONFIRM || reply->type != PAWL_REPLY_CONFIRM ||
        last->last + 1 != reply->first || last->durability != reply->durability ||
        last->routed != reply->routed || last->flags != reply->flags ||
        last->event_id + (last->last - last->first + 1) != reply->event_id || reply->event_id == 0)
        return false;
    last->last = reply->last;
    return true;
}

void pawl_clients_tell(const struct pawl_loop *loop, uint32_t number, const char *text)
{
    const struct pawl_client *client = pawl_client_at(loop, number);
    if (client && !client->bad)
        (void)pawl_control_tell(client->connection, text);
}

void pawl_clients_reply(struct pawl_loop *loop, uint32_t number, const struct pawl_reply *reply)
{
    struct pawl_client *client = pawl_client_at(loop, number);
    pawl_figures_confirmed(loop, reply); /* whether or not its publisher is still there */
    if (!client || client->bad)
        return;
    pawl_client_touch(client);
    if (client->last.type && join(&client->last, reply))
        return;
    if (client->last.type)
        (void)push_reply(client, &client->last);
    client->last = *reply;
}

static void retry_replies(struct pawl_client *client)
{
    while (client->reply_count > 0) {
        int error = pawl_client_port_reply(&client->port, &client->replies[client->reply_first]);
        if (error == PAWL_E_QUEUE_FULL)
            return;
        if (error) {
            pawl_client_condemn(client, "its place in the reply ring does not hold");
            return;
        }
        client->reply_first = (client->reply_first + 1) % client->reply_room;
        client->reply_count--;
    }
}

/* @news: there are replies or deliveries. */
static void ring(struct pawl_client *client, bool news)
{
    bool other = client->bell_due;
    client->bell_due = false;
    if (!news && !other)
        return;
    uint32_t sleeps = pawl_doorbell_word(&client->port.lane->sleeping); /* D1 */
    if (sleeps != 0 && (news || sleeps != PAWL_CLIENT_SLEEP_NEWS))
        pawl_doorbell_write(client->own_bell_fd);
}

bool pawl_clients_publish(struct pawl_loop *loop)
{
    bool left = false;
    struct pawl_clients *clients = loop->clients;
    if (!clients)
        return false;
    struct pawl_client *client = clients->touched, *next, *again = NULL;
    clients->touched = NULL;
    for (; client; client = next) {
        next = client->next_touched;
        client->touched = false;
        retry_replies(client);
        if (client->last.type) {
            (void)push_reply(client, &client->last);
            client->last.type = 0;
        }
        ring(client, pawl_client_port_publish(&client->port));
        if (client->reply_count > 0 && !client->bad) {
            client->touched = true;
            client->next_touched = again;
            again = client;
            left = true;
            pawl_client_make_hot(client);
        }
    }
    /* pawl_client_condemn() does not touch: the list is still ours. */
    while (again) {
        next = again->next_touched;
        again->next_touched = clients->touched;
        clients->touched = again;
        again = next;
    }
    return left;
}

static void tell_durable(struct pawl_client *client)
{
    client->waiting_lsn = 0;
    client->told_settled = client->waiting_settled;
    client->told_worded = client->waiting_worded;
    pawl_client_port_settled(&client->port, client->told_settled);
    pawl_client_port_submit_settled(&client->port, client->told_worded);
    pawl_client_ring(client); /* D1: it may sleep until then */
}

bool pawl_clients_tell_durable(struct pawl_loop *loop)
{
    bool owed = false;
    for (struct pawl_client *client = loop->clients ? loop->clients->hot : NULL; client;
         client = client->next_hot) {
        if (client->waiting_lsn && client->waiting_lsn <= loop->durable_lsn)
            tell_durable(client);
        if (!client->waiting_lsn && (client->port.settle_position != client->told_settled ||
                                     client->last_worded != client->told_worded)) {
            client->waiting_settled = client->port.settle_position;
            client->waiting_worded = client->last_worded;
            client->waiting_lsn = pawl_journal_last_lsn(loop->journal);
            if (client->waiting_lsn <= loop->durable_lsn)
                tell_durable(client);
        }
        if (client->waiting_lsn) {
            client->quiet_turns = 0; /* stays hot until it has been told */
            owed = true;
            if (pawl_doorbell_word(&client->port.lane->sleeping) == PAWL_CLIENT_SLEEP_ALL)
                loop->hurry = true; /* it does nothing until then */
        }
    }
    return owed;
}
