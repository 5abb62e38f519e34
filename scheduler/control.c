/*
 * control.c - accepts, listens, sorts by role, sends; knows who is there.
 *
 * Runs in: scheduler. Bounded for each connection and turn, so that nobody keeps the others waiting. A
 * connection is freed only when the kernel has given back both of its polls.
 */
#include "scheduler/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "scheduler/clients.h"
#include "scheduler/handlers.h"
#include "scheduler/lanes.h"
#include "scheduler/roster.h"
#include "shm/error.h"
#include "shm/segment.h"

#define VOUCH_NS UINT64_C(1000000000) /* a reply waits so long for the disk */

/* ---- answers ---- */

int pawl_control_exit_code(int error)
{
    switch (error) {
    case PAWL_E_NO_SPACE:
        return 1;
    case PAWL_E_NOT_FOUND:
    case PAWL_E_STATE:
    case PAWL_E_BUSY:
    case -EAGAIN:
        return 2;
    case PAWL_E_INVALID:
    case PAWL_E_LIMIT:
        return 3;
    case PAWL_E_BAD_FORMAT:
    case PAWL_E_CLOSED:
    case -EMFILE:
    case -EACCES:
        return 4;
    case PAWL_E_DAMAGED:
        return 7;
    default:
        return 70;
    }
}

/* What no message holds: in a memfd, beside its size. */
static int queue_large(struct pawl_connection *connection, uint16_t type, uint64_t tag, const void *body,
                       size_t bytes)
{
    struct pawl_segment segment;
    const struct pawl_wire_large large = {.bytes = bytes};
    int error = pawl_segment_create(PAWL_SEGMENT_PRIVATE_WRITER, "pawl-answer", bytes, true, &segment);
    if (error)
        return error;
    memcpy(segment.base, body, bytes);
    error =
        pawl_wire_queue_message(&connection->wire, type, tag, &large, sizeof large, NULL, 0, &segment.fd, 1);
    pawl_segment_close(&segment);
    return error;
}

void pawl_control_reply_any(struct pawl_connection *connection, uint16_t type, uint64_t tag, const void *body,
                            size_t bytes)
{
    if (bytes <= PAWL_WIRE_BYTES_MAX) {
        pawl_control_reply(connection, type, tag, body, bytes, NULL, 0);
        return;
    }
    int error = connection->closing ? 0 : queue_large(connection, type, tag, body, bytes);
    if (error)
        pawl_control_error(connection, tag, error, NULL, "an answer of %zu bytes: %s", bytes,
                           pawl_error_text(error));
}

void pawl_control_reply(struct pawl_connection *connection, uint16_t type, uint64_t tag, const void *body,
                        size_t bytes, const void *more, size_t more_bytes)
{
    if (connection->closing)
        return;
    int error = pawl_wire_queue_message(&connection->wire, type, tag, body, bytes, more, more_bytes, NULL, 0);
    if (error) {
        pawl_log(PAWL_LOG_ERROR, "cannot answer pid %d: %s", (int)connection->pid, pawl_error_text(error));
        pawl_control_end(connection);
    }
}

void pawl_control_error(struct pawl_connection *connection, uint64_t tag, int error, const char *hint,
                        const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int text_bytes = vsnprintf(text, 700, format, arguments);
    va_end(arguments);
    if (text_bytes > 699)
        text_bytes = 699;
    int hint_bytes = hint ? snprintf(text + text_bytes, sizeof text - (size_t)text_bytes, "%s", hint) : 0;
    if (hint_bytes > (int)sizeof text - text_bytes - 1)
        hint_bytes = (int)sizeof text - text_bytes - 1;
    struct pawl_wire_error body = {
        .error = error,
        .exit_code = pawl_control_exit_code(error),
        .text_bytes = (uint32_t)text_bytes,
        .hint_bytes = (uint32_t)hint_bytes,
    };
    pawl_control_reply(connection, PAWL_WIRE_ERROR, tag, &body, sizeof body, text,
                       (size_t)(text_bytes + hint_bytes));
}

/* ---- connections ---- */

static void on_in_poll(struct pawl_io_request *request, int32_t result)
{
    struct pawl_connection *connection = request->ctx;
    (void)result; /* errors and hang-ups show when it is read */
    connection->readable = true;
}

static void on_out_poll(struct pawl_io_request *request, int32_t result)
{
    struct pawl_connection *connection = request->ctx;
    /* A peer that is not listened to may hang up: only this poll tells. */
    if (result > 0 && (result & (POLLHUP | POLLERR)))
        connection->readable = true;
}

struct pawl_connection *pawl_control_adopt_fd(struct pawl_loop *loop, int fd, uint32_t role)
{
    struct pawl_connection *connection = calloc(1, sizeof *connection);
    if (!connection || pawl_wire_init(&connection->wire, fd) != 0) {
        free(connection);
        close(fd);
        return NULL;
    }
    struct ucred peer = {0};
    socklen_t bytes = sizeof peer;
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
    connection->pid = peer.pid;
    connection->loop = loop;
    connection->role = role;
    connection->greeted = role == PAWL_ROLE_SUPERVISOR;
    connection->since_ns = loop->now.boottime_ns;
    loop->ungreeted_count += !connection->greeted;
    connection->in_poll = (struct pawl_io_request){.done = on_in_poll, .ctx = connection};
    connection->out_poll = (struct pawl_io_request){.done = on_out_poll, .ctx = connection};
    connection->parked_tail = &connection->parked;
    connection->readable = true; /* it may have spoken already */
    connection->next = loop->connections;
    if (loop->connections)
        loop->connections->previous = connection;
    loop->connections = connection;
    loop->connection_count++;
    return connection;
}

static void drop_parked(struct pawl_connection *connection)
{
    while (connection->parked) {
        struct pawl_parked *parked = connection->parked;
        connection->parked = parked->next;
        pawl_control_bus_drop(parked, connection->loop);
        free(parked->instances);
        free(parked);
    }
    connection->parked_tail = &connection->parked;
    connection->parked_count = 0;
    while (connection->held) {
        struct pawl_held *held = connection->held;
        connection->held = held->next;
        free(held);
    }
}

/* How many there are of a client's kind: those with a place among `clients`, or those that only ask. */
static uint32_t *count_of_kind(const struct pawl_connection *connection)
{
    struct pawl_loop *loop = connection->loop;
    return connection->asks ? &loop->asker_count : &loop->client_count;
}

void pawl_control_end(struct pawl_connection *connection)
{
    struct pawl_loop *loop = connection->loop;
    if (connection->closing)
        return;
    connection->closing = true;
    if (!connection->greeted)
        loop->ungreeted_count--;
    if (pawl_io_active(&connection->in_poll))
        (void)pawl_io_poll_cancel(loop->io, &connection->in_poll);
    if (pawl_io_active(&connection->out_poll))
        (void)pawl_io_poll_cancel(loop->io, &connection->out_poll);
    (void)shutdown(connection->wire.fd, SHUT_RDWR);
    drop_parked(connection);
    pawl_collect_forget(connection);
    if (connection->role == PAWL_ROLE_CLIENT) {
        (*count_of_kind(connection))--;
        pawl_clients_disconnected(connection);
        pawl_core_client_gone(loop->core, loop->now, connection->client);
    } else if (connection->role == PAWL_ROLE_WORKER) {
        pawl_lanes_disconnected(loop, connection);
    } else if (connection->role == PAWL_ROLE_SUPERVISOR) {
        loop->lanes->supervisor = NULL;
        pawl_handlers_gone(loop);
        /* It is our parent: nothing goes on without it. Where it lives, and only its connection is lost, it
         * must not take this for the end that it asked for. */
        if (!loop->leave && loop->exit_code == 0) {
            pawl_log(PAWL_LOG_ERROR, "the connection to the supervisor is lost; leaving");
            loop->exit_code = 70;
        }
        loop->leave = true;
        pawl_lanes_supervisor_gone(loop);
    }
}

static void sweep(struct pawl_loop *loop)
{
    struct pawl_connection *next;
    for (struct pawl_connection *connection = loop->connections; connection; connection = next) {
        next = connection->next;
        if (!connection->closing || pawl_io_active(&connection->in_poll) ||
            pawl_io_active(&connection->out_poll))
            continue;
        if (connection->previous)
            connection->previous->next = next;
        else
            loop->connections = next;
        if (next)
            next->previous = connection->previous;
        loop->connection_count--;
        pawl_wire_fini(&connection->wire);
        free(connection);
    }
}

/* ---- ends of all of them ---- */

void pawl_control_refuse(struct pawl_loop *loop, int error, int exit_code, const char *text, const char *hint)
{
    struct pawl_wire_error body = {.error = error,
                                   .exit_code = exit_code,
                                   .text_bytes = (uint32_t)strlen(text),
                                   .hint_bytes = (uint32_t)strlen(hint)};
    char words[1024];
    size_t bytes = body.text_bytes + body.hint_bytes;
    if (bytes >= sizeof words)
        return;
    memcpy(words, text, body.text_bytes);
    memcpy(words + body.text_bytes, hint, body.hint_bytes);
    pawl_loop_sample_clocks(loop);
    pawl_listeners_accept_all(loop);
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next) {
        if (connection->closing || connection->role == PAWL_ROLE_SUPERVISOR)
            continue;
        pawl_control_reply(connection, PAWL_WIRE_ERROR, 0, &body, sizeof body, words, bytes);
        (void)pawl_wire_flush(&connection->wire);
    }
}

void pawl_control_close(struct pawl_loop *loop)
{
    pawl_listeners_close(loop);
    while (loop->connections) {
        struct pawl_connection *connection = loop->connections;
        loop->connections = connection->next;
        drop_parked(connection);
        pawl_wire_fini(&connection->wire);
        /* Its polls come back while the journal is closed: what they point into stays until the process ends.
         */
        if (!pawl_io_active(&connection->in_poll) && !pawl_io_active(&connection->out_poll))
            free(connection);
    }
}

/* ---- messages ---- */

static void welcome(struct pawl_connection *connection, uint64_t tag)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_wire_welcome body = {
        .version = PAWL_WIRE_VERSION, .scheduler_pid = (uint32_t)getpid(), .epoch = loop->epoch};
    const char *name = pawl_io_name(loop->io);
    snprintf(body.io, sizeof body.io, "%s", strcmp(name, "uring") == 0 ? "io_uring" : name);
    pawl_control_reply(connection, PAWL_WIRE_WELCOME, tag, &body, sizeof body, NULL, 0);
}

static bool is_full(const struct pawl_connection *connection)
{
    uint64_t beside = PAWL_ASKERS_BESIDE + (connection->guest ? 0 : PAWL_ASKERS_KEPT);
    return *count_of_kind(connection) >=
           connection->loop->config.bus.clients + (connection->asks ? beside : 0);
}

static void refuse_client(struct pawl_connection *connection, uint64_t tag)
{
    pawl_control_error(connection, tag, PAWL_E_LIMIT, "the setting `clients` raises it",
                       connection->asks ? "%u commands are connected" : "%u clients are connected",
                       *count_of_kind(connection));
}

bool pawl_control_place(struct pawl_connection *connection, uint64_t tag)
{
    if (!connection->asks)
        return true;
    connection->asks = false;
    if (is_full(connection)) {
        refuse_client(connection, tag);
        connection->asks = true;
        return false;
    }
    connection->loop->asker_count--;
    connection->loop->client_count++;
    return true;
}

static void on_hello(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_hello *hello = message->body;

    if (message->header.bytes < sizeof *hello || message->header.type != PAWL_WIRE_HELLO ||
        (hello->role != PAWL_ROLE_CLIENT && hello->role != PAWL_ROLE_WORKER)) {
        pawl_control_error(connection, 0, PAWL_E_BAD_MESSAGE, NULL, "the first message was not a greeting");
        goto end;
    }
    if (hello->version != PAWL_WIRE_VERSION) {
        pawl_control_error(connection, 0, PAWL_E_BAD_FORMAT, "use the pawl that started it, or stop that one",
                           "the scheduler speaks version %d, this command version %u", PAWL_WIRE_VERSION,
                           hello->version);
        goto end;
    }
    connection->greeted = true;
    loop->ungreeted_count--;
    if (hello->role == PAWL_ROLE_WORKER && connection->guest) {
        pawl_control_error(connection, 0, -EACCES, NULL, "only the owner's own processes are workers");
        goto end;
    }
    if (hello->role == PAWL_ROLE_WORKER) {
        connection->role = PAWL_ROLE_WORKER;
        connection->worker = hello->worker_number;
        if (!pawl_lanes_connected(loop, connection, hello->worker_number)) {
            connection->role = 0;
            goto end;
        }
        return;
    }
    connection->asks = (hello->flags & PAWL_HELLO_ASKS) != 0;
    if (is_full(connection)) {
        refuse_client(connection, message->header.tag);
        goto end;
    }
    connection->role = PAWL_ROLE_CLIENT;
    connection->client = ++loop->client_number;
    (*count_of_kind(connection))++;
    if (loop->serving)
        welcome(connection, message->header.tag);
    else
        (void)pawl_control_park(connection, PAWL_WIRE_HELLO, message->header.tag, "", 0);
    return;
end:
    (void)pawl_wire_flush(&connection->wire);
    pawl_control_end(connection);
}

static void on_client_message(struct pawl_connection *connection, struct pawl_wire_message *message)
{
    if (!connection->loop->serving) {
        pawl_control_error(connection, message->header.tag, PAWL_E_STATE, NULL, "wait for the welcome");
        return;
    }
    /* Runs execute commands as the owner: they are no business of those who were let in to the bus. */
    if (connection->guest && message->header.type < PAWL_WIRE_BUS &&
        message->header.type != PAWL_WIRE_HEALTH) {
        pawl_control_error(connection, message->header.tag, -EACCES, NULL,
                           "runs belong to the owner of the state directory");
        return;
    }
    switch (message->header.type) {
    case PAWL_WIRE_SUBMIT:
        pawl_control_submit(connection, message);
        break;
    case PAWL_WIRE_ITEMS:
        pawl_control_items(connection, message);
        break;
    case PAWL_WIRE_ITEMS_END:
        pawl_control_items_end(connection, message);
        break;
    case PAWL_WIRE_PULL:
        pawl_control_pull(connection, message);
        break;
    case PAWL_WIRE_WAIT:
        pawl_control_wait(connection, message);
        break;
    case PAWL_WIRE_CANCEL:
        pawl_control_cancel(connection, message);
        break;
    case PAWL_WIRE_DETACH:
        pawl_control_detach(connection, message);
        break;
    case PAWL_WIRE_GC:
        pawl_control_collect(connection, message);
        break;
    default:
        if (pawl_control_bus(connection, message))
            break;
        if (pawl_control_query(connection, message)) {
            /* Completions that are fetched are durable already, and health tells of no run. */
            if (message->header.type != PAWL_WIRE_FETCH && message->header.type != PAWL_WIRE_HEALTH)
                connection->vouch_lsn = pawl_journal_last_lsn(connection->loop->journal);
            break;
        }
        pawl_control_error(connection, message->header.tag, PAWL_E_BAD_MESSAGE, NULL,
                           "no request has the number %u", message->header.type);
        (void)pawl_wire_flush(&connection->wire);
        pawl_control_end(connection);
    }
}

/* A client that does not read takes neither the memory of the scheduler nor its descriptors. */
static bool has_enough_to_read(const struct pawl_connection *connection)
{
    return pawl_wire_pending(&connection->wire) > PAWL_OUTPUT_BYTES_HIGH ||
           pawl_wire_pending_fds(&connection->wire) >= PAWL_OUTPUT_FDS_HIGH;
}

static void read_connection(struct pawl_connection *connection)
{
    struct pawl_wire_message message;
    struct pawl_loop *loop = connection->loop;

    for (int i = 0; i < PAWL_MESSAGES_A_TURN; i++) {
        if (connection->role == PAWL_ROLE_CLIENT &&
            (has_enough_to_read(connection) || connection->parked_count >= PAWL_PARKED_MAX))
            return; /* stays readable: it is listened to again when there is room */
        int got = pawl_wire_receive(&connection->wire, &message);
        if (got == 0) {
            connection->readable = false;
            return;
        }
        if (got < 0) {
            if (got == PAWL_E_BAD_MESSAGE) {
                pawl_log_limited(&loop->bad_messages, loop->now.boottime_ns, PAWL_LOG_WARNING,
                                 "pid %d sent what does not hold: closed", (int)connection->pid);
                pawl_control_error(connection, 0, got, NULL, "%s", pawl_error_text(got));
                (void)pawl_wire_flush(&connection->wire);
            }
            pawl_control_end(connection);
            return;
        }
        if (!connection->greeted)
            on_hello(connection, &message);
        else if (connection->role == PAWL_ROLE_CLIENT)
            on_client_message(connection, &message);
        else if (connection->role == PAWL_ROLE_WORKER)
            pawl_lanes_message(loop, connection, &message);
        else
            pawl_lanes_supervisor_message(loop, &message);
        pawl_loop_cut(loop);
        if (connection->closing)
            return;
    }
    loop->more_to_read = true;
}

static void answer_parked(struct pawl_connection *connection)
{
    struct pawl_parked **link = &connection->parked;
    while (*link && !connection->closing) {
        struct pawl_parked *parked = *link;
        bool done = parked->type == PAWL_WIRE_HELLO
                        ? connection->loop->serving
                        : !has_enough_to_read(connection) && pawl_control_try_parked(connection, parked);
        if (!done) {
            link = &parked->next;
            continue;
        }
        if (parked->type == PAWL_WIRE_HELLO)
            welcome(connection, parked->tag);
        if (connection->closing)
            return; /* the list is gone */
        *link = parked->next;
        if (!parked->next)
            connection->parked_tail = link;
        connection->parked_count--;
        if (connection->readable)
            connection->loop->more_to_read = true; /* it was not listened to while too much was parked */
        pawl_control_bus_drop(parked, connection->loop);
        free(parked->instances);
        free(parked);
    }
}

void pawl_control_turn(struct pawl_loop *loop)
{
    loop->more_to_read = false;
    pawl_listeners_turn(loop);
    struct pawl_connection *next;
    for (struct pawl_connection *connection = loop->connections; connection; connection = next) {
        next = connection->next;
        if (connection->readable && !connection->closing)
            read_connection(connection);
    }
}

/* What was parked is looked at once a turn, after all inputs. */
static void answer_all(struct pawl_loop *loop)
{
    if (!loop->changed)
        return;
    loop->changed = false;
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next)
        if (connection->parked && !connection->closing)
            answer_parked(connection);
}

/* Does what is queued tell of something that a crash could still take back? */
static bool must_wait_for_disk(struct pawl_connection *connection)
{
    struct pawl_loop *loop = connection->loop;
    if (connection->vouch_lsn <= loop->durable_lsn) {
        connection->vouch_lsn = connection->vouch_due_ns = 0;
        return false;
    }
    if (connection->vouch_due_ns == 0)
        connection->vouch_due_ns = loop->now.boottime_ns + VOUCH_NS;
    if (loop->now.boottime_ns >= connection->vouch_due_ns)
        return false;
    loop->hurry = true;
    if (connection->vouch_due_ns < loop->reply_due_ns)
        loop->reply_due_ns = connection->vouch_due_ns;
    return true;
}

void pawl_control_arm(struct pawl_loop *loop)
{
    loop->reply_due_ns = UINT64_MAX;
    answer_all(loop);
    for (struct pawl_connection *connection = loop->connections; connection; connection = connection->next) {
        if (connection->closing)
            continue;
        pawl_control_tell_room(connection);
        if (connection->closing)
            continue;
        bool full = has_enough_to_read(connection);
        int error = pawl_wire_pending(&connection->wire) && !pawl_io_active(&connection->out_poll) &&
                            !must_wait_for_disk(connection)
                        ? pawl_wire_flush(&connection->wire)
                        : 0;
        if (error && error != -EAGAIN) {
            pawl_control_end(connection);
            continue;
        }
        /* There is room again: what was parked for want of it, and what waits to be read. */
        if (full && !has_enough_to_read(connection))
            loop->changed = loop->more_to_read = true;
        if (error == -EAGAIN)
            error = pawl_io_poll(loop->io, &connection->out_poll, connection->wire.fd, POLLOUT);
        else
            error = 0;
        if (!error && !connection->readable && !pawl_io_active(&connection->in_poll))
            error = pawl_io_poll(loop->io, &connection->in_poll, connection->wire.fd, POLLIN);
        if (error)
            pawl_control_end(connection);
    }
    pawl_listeners_arm(loop);
    sweep(loop);
}

bool pawl_control_is_held(const struct pawl_loop *loop, const struct pawl_run *run)
{
    if (pawl_run_awaited(run))
        return true;
    for (const struct pawl_connection *connection = loop->connections; connection;
         connection = connection->next)
        for (const struct pawl_held *held = connection->held; held; held = held->next)
            if (held->run == run)
                return true;
    return false;
}
