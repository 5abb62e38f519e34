/*
 * clients.c - drains and fills the lanes of attached clients.
 *
 * Runs in: scheduler. What a lane holds is copied, checked, and only then given to the bus. A client's share
 * of a turn is bounded, so that it can only slow itself.
 */
#include "scheduler/clients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include "scheduler/bus/bus.h"
#include "scheduler/figures.h"
#include "shm/doorbell.h"
#include "shm/error.h"

enum {
    SETTLEMENTS_A_TURN = PAWL_SETTLE_ENTRIES,
    SUBMISSIONS_A_TURN = 4096,
    SUBMIT_BYTES_A_TURN = 4 << 20,
    CUT_BYTES = 256 << 10, /* what no act holds together is no one batch of the journal */
    COLD_AFTER_TURNS = 64,
    ACT_PARTS_MAX = PAWL_UNCONFIRMED_MAX / 2 + 1,
    REPLIES_MAX = 1 << 20,
};

#define LISTEN_FIRST_NS UINT64_C(5000000)
#define LISTEN_MOST_NS  UINT64_C(500000000)

struct pawl_client {
    struct pawl_loop *loop;
    struct pawl_connection *connection;
    struct pawl_bus_client *bus;
    uint32_t number;
    struct pawl_client_port port;
    int bell_fd;     /* the client writes it, we read it */
    int own_bell_fd; /* we write it */
    struct pawl_io_request bell_read;
    bool gone; /* freed when its read is back */
    bool hot, bad;
    bool bell_due;
    bool touched; /* something was put into its rings this turn */
    bool stalled; /* a ring was full */
    uint32_t quiet_turns;
    /* A begin rings no bell: while something is handed out, it is looked for, less and less often. */
    bool listened;
    uint64_t listen_at_ns, listen_step_ns; /* boottime */
    struct pawl_client *next_listened;
    struct pawl_client *next_hot, *previous_hot;
    struct pawl_client *next_touched;
    struct pawl_client *next_gone;
    /* replies that the ring had no room for */
    struct pawl_reply *replies;
    size_t reply_first, reply_count, reply_room;
    struct pawl_reply last; /* not put into the ring yet: it may grow. type 0: none */
    /* settle_durable follows the journal in steps of one flush */
    uint64_t told_settled, waiting_settled, waiting_lsn;
    /* the same for settlements with words: submit positions. last: behind the last one that was taken */
    uint64_t last_worded, told_worded, waiting_worded;
    /* parts of an atomic act that is not whole yet */
    unsigned char *act;
    size_t act_used, act_room;
    uint32_t act_parts;
};

struct pawl_clients {
    struct pawl_client **by_number;
    uint32_t room;
    struct pawl_client *hot, *touched, *gone, *listened;
    unsigned char *copy;
    size_t copy_bytes;
};

static struct pawl_clients *clients_of(struct pawl_loop *loop)
{
    if (!loop->clients)
        loop->clients = calloc(1, sizeof *loop->clients);
    return loop->clients;
}

struct pawl_bus_client *pawl_clients_of(const struct pawl_connection *connection)
{
    return connection->attached ? connection->attached->bus : NULL;
}

uint32_t pawl_clients_number(const struct pawl_connection *connection)
{
    return connection->attached ? connection->attached->number : 0;
}

static struct pawl_client *at(const struct pawl_loop *loop, uint32_t number)
{
    return loop->clients && number < loop->clients->room ? loop->clients->by_number[number] : NULL;
}

static void condemn(struct pawl_client *client, const char *why)
{
    if (client->bad)
        return;
    client->bad = true;
    pawl_log(PAWL_LOG_WARNING, "client %u (pid %d) is closed: %s", client->number,
             (int)client->connection->pid, why);
    pawl_counter_add(&client->loop->world->counters, PAWL_COUNTER_CLIENTS_CLOSED_BAD, 1);
    pawl_control_error(client->connection, 0, PAWL_E_BAD_MESSAGE, NULL, "your lane does not hold: %s", why);
    (void)pawl_wire_flush(&client->connection->wire);
    client->loop->condemned = true; /* it is ended when nobody walks the lists */
}

/* ---- hot and cold ---- */

static void make_hot(struct pawl_client *client)
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

static void make_cold(struct pawl_client *client)
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

static void on_bell(struct pawl_io_request *request, int32_t result)
{
    struct pawl_client *client = request->ctx;
    (void)result;
    if (!client->gone)
        make_hot(client);
}

static bool arm_bell(struct pawl_client *client)
{
    return pawl_io_active(&client->bell_read) ||
           pawl_io_read8(client->loop->io, &client->bell_read, client->bell_fd) == 0;
}

/* May its next submission be taken? No: it waits for room in a queue, or for the disk. */
static bool may_submit(const struct pawl_client *client)
{
    return client->act_parts > 0 ||
           (pawl_bus_may_submit(client->bus) &&
            pawl_journal_has_room(client->loop->journal, 0, PAWL_JOURNAL_FOR_WORK) != PAWL_E_LIMIT);
}

/* Is there anything that can be taken now? What has to wait wakes nobody: that for which it waits does. */
static bool has_news(const struct pawl_client *client)
{
    return pawl_client_port_settling(&client->port) ||
           (pawl_client_port_submitting(&client->port) && may_submit(client));
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

/* ---- attach ---- */

static uint32_t ring_bytes(uint64_t payload_max)
{
    uint64_t bytes = PAWL_CLIENT_RING_BYTES_MIN;
    while (bytes < 4 * payload_max && bytes < PAWL_CLIENT_RING_BYTES_MAX)
        bytes *= 2;
    return (uint32_t)bytes;
}

static int register_client(struct pawl_clients *clients, struct pawl_client *client)
{
    uint32_t number = 1;
    while (number < clients->room && clients->by_number[number])
        number++;
    if (number >= clients->room) {
        uint32_t room = clients->room ? clients->room * 2 : 64;
        struct pawl_client **grown = realloc(clients->by_number, room * sizeof(struct pawl_client *));
        if (!grown)
            return -ENOMEM;
        memset(grown + clients->room, 0, (room - clients->room) * sizeof(struct pawl_client *));
        clients->by_number = grown;
        clients->room = room;
    }
    clients->by_number[number] = client;
    client->number = number;
    return 0;
}

static void free_client(struct pawl_client *client)
{
    if (client->port.lane)
        pawl_client_port_destroy(&client->port);
    if (client->bell_fd >= 0)
        close(client->bell_fd);
    if (client->own_bell_fd >= 0)
        close(client->own_bell_fd);
    free(client->replies);
    free(client->act);
    free(client);
}

static int need_copy(struct pawl_loop *loop)
{
    struct pawl_clients *clients = loop->clients;
    size_t bytes = loop->config.bus.event_payload_bytes + PAWL_EVENT_HEADERS_BYTES_MAX + 4096;
    if (bytes <= clients->copy_bytes)
        return 0;
    free(clients->copy);
    clients->copy = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
    clients->copy_bytes = clients->copy ? (bytes + 4095) & ~(size_t)4095 : 0;
    return clients->copy ? 0 : -ENOMEM;
}

static int make_client(struct pawl_connection *connection, const struct pawl_wire_attach *request,
                       struct pawl_wire_attached *attached_out, int *read_end_out)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_clients *clients = clients_of(loop);
    if (!clients || need_copy(loop) != 0)
        return -ENOMEM;
    struct pawl_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->loop = loop;
    client->connection = connection;
    client->bell_read = (struct pawl_io_request){.done = on_bell, .ctx = client};
    client->bell_fd = pawl_doorbell_open();
    int error = pawl_doorbell_open_pipe(&client->own_bell_fd, read_end_out);
    if (client->bell_fd < 0)
        error = client->bell_fd;
    uint32_t bytes = ring_bytes(loop->config.bus.event_payload_bytes);
    if (!error)
        error = pawl_client_port_create(bytes, bytes, &client->port);
    if (!error)
        error = register_client(clients, client);
    if (error) {
        free_client(client);
        return error;
    }
    error = pawl_bus_client_open(loop->bus, loop->now, client->number, request->publisher,
                                 &attached_out->publisher_sequence);
    if (error) {
        clients->by_number[client->number] = NULL;
        free_client(client);
        return error;
    }
    client->bus = pawl_bus_client(loop->bus, client->number);
    connection->attached = client;
    attached_out->client = client->number;
    make_hot(client);
    return 0;
}

void pawl_clients_attach(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_attach *request = message->body;
    struct pawl_wire_attached body = {.epoch = loop->epoch,
                                      .data_bytes_max = loop->config.bus.event_payload_bytes,
                                      .headers_bytes_max = loop->config.bus.event_headers_bytes};
    uint64_t tag = message->header.tag;
    if (message->header.bytes < sizeof *request || connection->attached) {
        pawl_control_error(connection, tag, connection->attached ? PAWL_E_STATE : PAWL_E_BAD_MESSAGE, NULL,
                           connection->attached ? "this client has its lane already" : "too short a request");
        return;
    }
    if (loop->attached_count >= loop->config.bus.clients) {
        pawl_control_error(connection, tag, PAWL_E_LIMIT, "raise the limit: clients",
                           "%u clients are attached", loop->attached_count);
        return;
    }
    int read_end = -1;
    int error = make_client(connection, request, &body, &read_end);
    if (error) {
        if (read_end >= 0)
            close(read_end);
        pawl_control_error(connection, tag, error, NULL, "a lane cannot be made: %s", pawl_error_text(error));
        return;
    }
    loop->attached_count++;
    pawl_figures_clients(loop);
    struct pawl_client *client = connection->attached;
    int fds[4] = {client->port.lane_segment.fd, client->port.inbound_segment.fd, client->bell_fd, read_end};
    error = pawl_wire_queue_message(&connection->wire, PAWL_WIRE_ATTACHED, tag, &body, sizeof body, NULL, 0,
                                    fds, 4);
    close(read_end);
    if (error)
        pawl_control_end(connection);
}

static void unlink_listened(struct pawl_client *client)
{
    if (!client->listened)
        return;
    client->listened = false;
    for (struct pawl_client **link = &client->loop->clients->listened; *link; link = &(*link)->next_listened)
        if (*link == client) {
            *link = client->next_listened;
            break;
        }
}

static void unlink_touched(struct pawl_client *client)
{
    if (!client->touched)
        return;
    for (struct pawl_client **link = &client->loop->clients->touched; *link; link = &(*link)->next_touched)
        if (*link == client) {
            *link = client->next_touched;
            break;
        }
    client->touched = false;
}

static bool drain(struct pawl_client *client);

void pawl_clients_disconnected(struct pawl_connection *connection)
{
    struct pawl_client *client = connection->attached;
    if (!client)
        return;
    struct pawl_loop *loop = client->loop;
    /* What it had published into its lane before it went is taken: it may have been its last words. The lane
     * may have outlived its socket in another process, which goes on writing: not for ever. */
    uint32_t turns = client->port.submit_bytes / (SUBMISSIONS_A_TURN * (uint32_t)sizeof(struct pawl_submit)) +
                     client->port.submit_bytes / SUBMIT_BYTES_A_TURN + 2;
    while (turns > 0 && !client->bad && drain(client))
        turns--;
    connection->attached = NULL;
    pawl_bus_client_close(loop->bus, loop->now, client->number);
    loop->clients->by_number[client->number] = NULL;
    loop->attached_count--;
    pawl_figures_clients(loop);
    make_cold(client);
    unlink_touched(client);
    unlink_listened(client);
    client->gone = true;
    if (pawl_io_active(&client->bell_read))
        (void)pawl_io_poll_cancel(loop->io, &client->bell_read);
    client->next_gone = loop->clients->gone;
    loop->clients->gone = client;
}

static void sweep_gone(struct pawl_clients *clients)
{
    struct pawl_client **link = &clients->gone;
    while (*link) {
        struct pawl_client *client = *link;
        if (pawl_io_active(&client->bell_read)) {
            link = &client->next_gone;
            continue;
        }
        *link = client->next_gone;
        free_client(client);
    }
}

void pawl_clients_destroy(struct pawl_loop *loop)
{
    struct pawl_clients *clients = loop->clients;
    if (!clients)
        return;
    sweep_gone(clients);
    free(clients->by_number);
    free(clients->copy);
    free(clients);
    loop->clients = NULL;
}

/* ---- what comes ---- */

static bool take_event(struct pawl_client *client, struct pawl_submit *submit)
{
    struct pawl_loop *loop = client->loop;
    struct pawl_event *event = (struct pawl_event *)(submit + 1);
    if (submit->sequence == 0 || pawl_event_check(event, submit->bytes - sizeof *submit) != 0) {
        condemn(client, "it published an event that does not hold");
        return false;
    }
    pawl_bus_publish(loop->bus, loop->now, client->bus, submit, event);
    return true;
}

static bool take_settlement(struct pawl_client *client, const struct pawl_settle *settle, const char *text)
{
    struct pawl_loop *loop = client->loop;
    if (pawl_bus_settle(loop->bus, loop->now, client->bus, settle, text) == 0)
        return true;
    condemn(client, "it settled what it never got");
    return false;
}

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

static bool part_holds(const struct pawl_submit *submit)
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
    pawl_bus_flush(loop->bus, loop->now);
    pawl_loop_cut(loop);
    pawl_bus_act_begin(loop->bus);
    for (size_t used = 0; used < client->act_used && !error;) {
        struct pawl_submit *submit = (struct pawl_submit *)(void *)(client->act + used);
        if (!part_holds(submit)) {
            condemn(client, "a part of an atomic act does not hold");
            return false;
        }
        if (submit->type == PAWL_SUBMIT_EVENT)
            error = pawl_bus_may_publish(loop->bus, submit, (const struct pawl_event *)(submit + 1));
        else
            error = pawl_bus_may_settle(client->bus, (const struct pawl_settle *)(submit + 1));
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
            (void)take_event(client, submit);
        else
            (void)take_settlement(client, settle, settle->text_bytes ? (const char *)(settle + 1) : NULL);
        used += submit->bytes;
    }
    pawl_bus_flush(loop->bus, loop->now);
    pawl_bus_act_hold(loop->bus, false);
    pawl_loop_cut(loop);
    return !client->bad;
}

static bool gather_act(struct pawl_client *client, const struct pawl_submit *submit)
{
    if (client->act_parts == ACT_PARTS_MAX || client->act_used + submit->bytes > client->port.submit_bytes) {
        condemn(client, "an atomic act is larger than its lane");
        return false;
    }
    if (client->act_used + submit->bytes > client->act_room) {
        size_t room = (client->act_used + submit->bytes) * 2;
        unsigned char *grown = realloc(client->act, room);
        if (!grown) {
            condemn(client, "there is no memory for its atomic act");
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
    bool holds = do_act(client);
    client->act_used = client->act_parts = 0;
    return holds;
}

static bool take_submission(struct pawl_client *client, struct pawl_submit *submit)
{
    if ((submit->flags & PAWL_SUBMIT_MORE) || client->act_parts > 0)
        return gather_act(client, submit);
    if (submit->type == PAWL_SUBMIT_EVENT)
        return take_event(client, submit);
    if (!part_holds(submit)) {
        condemn(client, "a settlement does not hold");
        return false;
    }
    const struct pawl_settle *settle = (const struct pawl_settle *)(submit + 1);
    client->last_worded = client->port.submit_position;
    return take_settlement(client, settle, settle->text_bytes ? (const char *)(settle + 1) : NULL);
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
    uint64_t until = client->port.submit_position + SUBMIT_BYTES_A_TURN;
    uint64_t cut_at = client->port.submit_position + CUT_BYTES;
    for (int i = 0; i < SUBMISSIONS_A_TURN && client->port.submit_position < until; i++) {
        if (!may_submit(client))
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
            condemn(client, "what it submitted does not hold");
            return false;
        }
        if (!take_submission(client, copy))
            return false;
    }
    return true;
}

static bool drain_settlements(struct pawl_client *client)
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
            condemn(client, "its settlements do not hold");
            return false;
        }
        if (!take_settlement(client, &settle, NULL))
            return false;
    }
    return true;
}

static void touch(struct pawl_client *client)
{
    if (client->touched)
        return;
    client->touched = true;
    client->next_touched = client->loop->clients->touched;
    client->loop->clients->touched = client;
}

/* One bell a turn, whatever there is to tell. */
static void ring(struct pawl_client *client)
{
    client->bell_due = true;
    touch(client);
}

static bool hear_begun(struct pawl_client *client)
{
    uint64_t begun;
    if (pawl_client_port_begun(&client->port, pawl_bus_begun_count(client->bus),
                               pawl_bus_delivered(client->bus), &begun) != 0) {
        condemn(client, "it began what it never got");
        return false;
    }
    pawl_bus_begun(client->loop->bus, client->loop->now, client->bus, begun);
    return true;
}

static void listen_for_begin(struct pawl_client *client)
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
            if (hear_begun(client))
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
        (void)hear_begun(connection->attached);
}

/* True: more than its share. */
static bool drain(struct pawl_client *client)
{
    struct pawl_loop *loop = client->loop;
    uint64_t before = loop->turn_settled;
    if (!hear_begun(client))
        return false;
    bool more = drain_settlements(client);
    if (!client->bad)
        more |= drain_submissions(client);
    pawl_bus_claims(loop->bus, loop->now, client->bus);
    if (client->stalled && pawl_client_port_has_room(&client->port)) {
        client->stalled = false;
        pawl_bus_client_ready(loop->bus, client->bus);
    }
    if (pawl_client_port_release(&client->port))
        ring(client);
    if (loop->turn_settled != before)
        client->quiet_turns = 0;
    return more && !client->bad;
}

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
    sweep_gone(loop->clients);
    for (struct pawl_client *client = loop->clients->hot, *next; client; client = next) {
        next = client->next_hot;
        more |= drain(client);
        pawl_loop_cut(loop); /* however many clients there are */
        if (++client->quiet_turns < COLD_AFTER_TURNS || client->stalled || client->reply_count > 0 ||
            pawl_client_port_submitting(&client->port))
            continue;
        if (arm_bell(client) && !sleep_lane(client))
            make_cold(client);
        else
            pawl_doorbell_awake(&client->port.inbound->sleeping);
    }
    if (loop->condemned)
        end_condemned(loop);
    pawl_bus_flush(loop->bus, loop->now);
    pawl_loop_cut(loop);
    return more;
}

/* ---- what goes ---- */

int pawl_clients_deliver(struct pawl_loop *loop, uint32_t number, const struct pawl_inbound_entry *entry,
                         const struct pawl_event *event)
{
    struct pawl_client *client = at(loop, number);
    if (!client || client->bad)
        return PAWL_E_CLOSED;
    int error = pawl_client_port_deliver(&client->port, entry, event);
    touch(client);
    listen_for_begin(client);
    if (error == PAWL_E_QUEUE_FULL) {
        client->stalled = true;
        make_hot(client);
    } else if (error == PAWL_E_BAD_MESSAGE) {
        condemn(client, "its place in the inbound ring does not hold");
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
            condemn(client, "its place in the reply ring does not hold");
            return false;
        }
        client->stalled = true;
    }
    if (client->reply_count == client->reply_room) {
        size_t room = client->reply_room ? client->reply_room * 2 : 64;
        struct pawl_reply *grown = room <= REPLIES_MAX ? malloc(room * sizeof *grown) : NULL;
        if (!grown) {
            condemn(client, "it does not read its replies");
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

void pawl_clients_reply(struct pawl_loop *loop, uint32_t number, const struct pawl_reply *reply)
{
    struct pawl_client *client = at(loop, number);
    pawl_figures_confirmed(loop, reply); /* whether or not its publisher is still there */
    if (!client || client->bad)
        return;
    touch(client);
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
            condemn(client, "its place in the reply ring does not hold");
            return;
        }
        client->reply_first = (client->reply_first + 1) % client->reply_room;
        client->reply_count--;
    }
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
        bool told = pawl_client_port_publish(&client->port);
        if (told || client->bell_due)
            (void)pawl_doorbell_ring(&client->port.lane->sleeping, client->own_bell_fd);
        client->bell_due = false;
        if (client->reply_count > 0 && !client->bad) {
            client->touched = true;
            client->next_touched = again;
            again = client;
            left = true;
            make_hot(client);
        }
    }
    /* condemn() does not touch: the list is still ours. */
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
    ring(client); /* D1: it may sleep until then */
}

void pawl_clients_tell_durable(struct pawl_loop *loop)
{
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
        if (client->waiting_lsn)
            client->quiet_turns = 0; /* stays hot until it has been told */
    }
}
