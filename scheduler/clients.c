/*
 * clients.c - who of the attached clients is hot, and a turn through them.
 *
 * Runs in: scheduler. How a client comes and goes: client_attach.c. What is taken from it: client_intake.c.
 * What it is given: client_reply.c.
 */
#include "scheduler/clients.h"

#include "scheduler/bus/bus.h"
#include "scheduler/client.h"
#include "shm/doorbell.h"
#include "shm/error.h"

enum { COLD_AFTER_TURNS = 64 };

#define LISTEN_FIRST_NS UINT64_C(5000000)
#define LISTEN_MOST_NS  UINT64_C(500000000)

struct pawl_bus_client *pawl_clients_of(const struct pawl_connection *connection)
{
    return connection->attached ? connection->attached->bus : NULL;
}

uint32_t pawl_clients_number(const struct pawl_connection *connection)
{
    return connection->attached ? connection->attached->number : 0;
}

struct pawl_client *pawl_client_at(const struct pawl_loop *loop, uint32_t number)
{
    return loop->clients && number < loop->clients->room ? loop->clients->by_number[number] : NULL;
}

void pawl_client_condemn(struct pawl_client *client, const char *why)
{
    if (client->bad)
        return;
    client->bad = true;
    pawl_log_limited(&client->loop->bad_lanes, client->loop->now.boottime_ns, PAWL_LOG_WARNING,
                     "client %u (pid %d) is closed: %s", client->number, (int)client->connection->pid, why);
    pawl_counter_add(&client->loop->world->counters, PAWL_COUNTER_CLIENTS_CLOSED_BAD, 1);
    pawl_control_error(client->connection, 0, PAWL_E_BAD_MESSAGE, NULL, "your lane does not hold: %s", why);
    (void)pawl_wire_flush(&client->connection->wire);
    client->loop->condemned = true; /* it is ended when nobody walks the lists */
}

/* ---- hot and cold ---- */

void pawl_client_make_hot(struct pawl_client *client)
{
    struct pawl_clients *clients = client->loop->clients;
    client->quiet_turns = 0;
    if (client->hot || client->gone)
        return;
    client->hot = true;
    pawl_doorbell_awake(&client->port.inbound->sleeping);
    client->previous_hot = NULL;
    client->next_hot = clients->hot;
    if (clients->hot)
        clients->hot->previous_hot = client;
    clients->hot = client;
}

void pawl_client_make_cold(struct pawl_client *client)
{
    struct pawl_clients *clients = client->loop->clients;
    if (!client->hot)
        return;
    client->hot = false;
    if (client->previous_hot)
        client->previous_hot->next_hot = client->next_hot;
    else
        clients->hot = client->next_hot;
    if (client->next_hot)
        client->next_hot->previous_hot = client->previous_hot;
}

void pawl_client_on_bell(struct pawl_io_request *request, int32_t result)
{
    struct pawl_client *client = request->ctx;
    (void)result;
    if (!client->gone)
        pawl_client_make_hot(client);
}

static bool arm_bell(struct pawl_client *client)
{
    return pawl_io_active(&client->bell_read) ||
           pawl_io_read8(client->loop->io, &client->bell_read, client->bell_fd) == 0;
}

/* Is there anything that can be taken now? What has to wait wakes nobody: that for which it waits does. */
static bool has_news(const struct pawl_client *client)
{
    return pawl_client_port_settling(&client->port) ||
           (pawl_client_port_submitting(&client->port) && pawl_client_may_submit(client));
}

/* D1, for each lane: the flag, then the look; the client publishes, then looks at the flag. */
static bool sleep_lane(struct pawl_client *client)
{
    pawl_doorbell_prepare(&client->port.inbound->sleeping);
    return has_news(client) || pawl_client_port_has_room(&client->port);
}

bool pawl_clients_prepare(struct pawl_loop *loop)
{
    bool waiting = false;
    if (!loop->clients)
        return false;
    for (struct pawl_client *client = loop->clients->hot; client; client = client->next_hot)
        waiting |= !arm_bell(client) | sleep_lane(client);
    return waiting;
}

void pawl_clients_awake(struct pawl_loop *loop)
{
    for (struct pawl_client *client = loop->clients ? loop->clients->hot : NULL; client;
         client = client->next_hot)
        pawl_doorbell_awake(&client->port.inbound->sleeping);
}

bool pawl_clients_waiting(const struct pawl_loop *loop)
{
    for (const struct pawl_client *client = loop->clients ? loop->clients->hot : NULL; client;
         client = client->next_hot)
        if (has_news(client))
            return true;
    return false;
}

/* ---- begins ---- */

void pawl_client_listen(struct pawl_client *client)
{
    struct pawl_clients *clients = client->loop->clients;
    client->listen_step_ns = LISTEN_FIRST_NS;
    client->listen_at_ns = client->loop->now.boottime_ns + LISTEN_FIRST_NS;
    if (client->listened)
        return;
    client->listened = true;
    client->next_listened = clients->listened;
    clients->listened = client;
}

uint64_t pawl_clients_listen(struct pawl_loop *loop)
{
    uint64_t due_ns = UINT64_MAX;
    struct pawl_client **link = loop->clients ? &loop->clients->listened : NULL;
    while (link && *link) {
        struct pawl_client *client = *link;
        if (client->listen_at_ns <= loop->now.boottime_ns && !client->bad) {
            if (pawl_client_hear_begun(client))
                pawl_bus_claims(loop->bus, loop->now, client->bus);
            client->listen_step_ns *= client->listen_step_ns < LISTEN_MOST_NS ? 2 : 1;
            client->listen_at_ns = loop->now.boottime_ns + client->listen_step_ns;
        }
        if (client->bad || pawl_bus_begun_count(client->bus) == pawl_bus_delivered(client->bus)) {
            client->listened = false;
            *link = client->next_listened;
            continue;
        }
        due_ns = client->listen_at_ns < due_ns ? client->listen_at_ns : due_ns;
        link = &client->next_listened;
    }
    return due_ns;
}

void pawl_clients_hear(const struct pawl_connection *connection)
{
    if (connection->attached && !connection->attached->bad)
        (void)pawl_client_hear_begun(connection->attached);
}

/* ---- a turn ---- */

static void end_condemned(struct pawl_loop *loop)
{
    loop->condemned = false;
    for (uint32_t i = 0; i < loop->clients->room; i++)
        if (loop->clients->by_number[i] && loop->clients->by_number[i]->bad)
            pawl_control_end(loop->clients->by_number[i]->connection);
}

bool pawl_clients_drain(struct pawl_loop *loop)
{
    bool more = false;
    if (!loop->clients)
        return false;
    pawl_clients_sweep(loop->clients);
    for (struct pawl_client *client = loop->clients->hot, *next; client; client = next) {
        next = client->next_hot;
        more |= pawl_client_drain(client);
        pawl_loop_cut(loop); /* however many clients there are */
        if (++client->quiet_turns < COLD_AFTER_TURNS || client->stalled || client->reply_count > 0 ||
            pawl_client_port_submitting(&client->port))
            continue;
        if (arm_bell(client) && !sleep_lane(client))
            pawl_client_make_cold(client);
        else
            pawl_doorbell_awake(&client->port.inbound->sleeping);
    }
    if (loop->condemned)
        end_condemned(loop);
    pawl_bus_flush(loop->bus, loop->now);
    pawl_loop_cut(loop);
    return more;
}
