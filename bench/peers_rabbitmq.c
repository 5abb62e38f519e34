/*
 * peers_rabbitmq.c - RabbitMQ: a queue of its own, publisher confirms, acks of several deliveries at once.
 *
 * Runs in: peers_bus, over librabbitmq. Modes: "classic", a transient queue with transient messages;
 * "quorum", which confirms once a message is in its synced log.
 */
#include "bench/peers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>

#include "shm/clock.h"

enum {
    AHEAD = 4096, /* published without a confirm: with 512 a classic queue is slower by 15 % */
    PREFETCH = 512,
    ACK_BATCH = 64,
    CHANNEL = 1,
    TRANSIENT = 1, /* delivery modes */
    PERSISTENT = 2,
};

static bool is_quorum(const struct run *run)
{
    return strcmp(run->peer->mode[0], "quorum") == 0;
}

static void check(int status, const char *what)
{
    if (status == AMQP_STATUS_OK)
        return;
    fprintf(stderr, "peers_bus: %s: %s\n", what, amqp_error_string2(status));
    exit(1);
}

static void check_reply(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        check(reply.library_error, what);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        peer_fail(what);
}

/* ---- the server ---- */

static void set(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void set(const char *name, const char *format, ...)
{
    char value[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof value || setenv(name, value, 1) != 0)
        peer_fail(name);
}

/* With a node name, a cookie (in HOME), and an epmd that it starts, and shares with nobody. */
static void serve(const struct run *run)
{
    static const char *const files[] = {"CONFIG_FILE",   "ADVANCED_CONFIG_FILE",
                                        "CONF_ENV_FILE", "ENABLED_PLUGINS_FILE",
                                        "MNESIA_BASE",   "LOG_BASE",
                                        "PID_FILE",      "FEATURE_FLAGS_FILE"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[64];
        snprintf(name, sizeof name, "RABBITMQ_%s", files[i]);
        set(name, "%s/%s", run->directory, files[i]);
    }
    set("RABBITMQ_NODENAME", "pawl-bench-%d@localhost", (int)getpid());
    set("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
    set("RABBITMQ_NODE_PORT", "%d", run->ports[0]);
    set("RABBITMQ_DIST_PORT", "%d", run->ports[1]);
    set("ERL_EPMD_PORT", "%d", run->ports[2]);
    set("ERL_EPMD_ADDRESS", "127.0.0.1");
    set("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    set("RABBITMQ_LOGS", "-");
    /* Then the script becomes the server, where it would stay to pass signals on. */
    set("RUNNING_UNDER_SYSTEMD", "true");
    peer_exec((const char *const[]){"rabbitmq-server", NULL}, NULL);
}

/* ---- publishing ---- */

static amqp_connection_state_t open_channel(const struct run *run)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
    if (!socket)
        peer_fail("memory");
    check(amqp_socket_open(socket, "127.0.0.1", run->ports[0]), "connect");
    check_reply(
        amqp_login(connection, "/", 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"),
        "log in");
    (void)amqp_channel_open(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "a channel");
    return connection;
}

static void close_connection(amqp_connection_state_t connection)
{
    check_reply(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "close");
    check(amqp_destroy_connection(connection), "close");
}

/* How many events are in the queue. */
static uint32_t declare(const struct run *run, amqp_connection_state_t connection, bool passive)
{
    amqp_table_entry_t type = {
        .key = amqp_cstring_bytes("x-queue-type"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(run->peer->mode[0])}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &type};
    const amqp_queue_declare_ok_t *queue = amqp_queue_declare(
        connection, CHANNEL, amqp_cstring_bytes("q"), passive, is_quorum(run), false, false, arguments);
    check_reply(amqp_get_rpc_reply(connection), "the queue");
    return queue->message_count;
}

static void prepare(const struct run *run)
{
    amqp_connection_state_t connection = open_channel(run);
    (void)declare(run, connection, false);
    close_connection(connection);
}

/* Numbers begin with 1; below @next all are confirmed, and of those that are not sure yet it is said here. */
struct confirms {
    uint64_t next;
    bool got[AHEAD];
};

/* False: none there, and not @wait. */
static bool get_confirm(amqp_connection_state_t connection, struct confirms *confirms, bool wait)
{
    const struct timeval now = {0};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(connection, &frame, wait ? NULL : &now);
    if (status == AMQP_STATUS_TIMEOUT)
        return false;
    check(status, "confirm");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
        peer_fail("confirm");
    const amqp_basic_ack_t *ack = frame.payload.method.decoded;
    for (uint64_t i = ack->multiple ? confirms->next : ack->delivery_tag; i <= ack->delivery_tag; i++)
        confirms->got[i % AHEAD] = true;
    for (; confirms->got[confirms->next % AHEAD]; confirms->next++)
        confirms->got[confirms->next % AHEAD] = false;
    amqp_maybe_release_buffers(connection);
    return true;
}

static void publish(const struct run *run)
{
    const amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                                .delivery_mode = is_quorum(run) ? PERSISTENT : TRANSIENT};
    const amqp_bytes_t data = amqp_bytes_malloc(run->payload_bytes);
    amqp_connection_state_t connection = open_channel(run);
    struct confirms confirms = {.next = 1};
    uint64_t next_ns = pawl_clock_monotonic_ns();
    if (!data.bytes)
        peer_fail("memory");
    memset(data.bytes, 0, data.len);
    (void)amqp_confirm_select(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "confirms");
    for (uint64_t number = 1; number <= run->events; number++) {
        if (run->rate > 0) {
            pawl_bench_rest_until(next_ns);
            next_ns += (uint64_t)(1e9 / run->rate);
        }
        peer_stamp(run, data.bytes);
        check(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes("q"), true, false,
                                 &properties, data),
              "publish");
        bool look = run->rate > 0 || number % PEER_PUBLISH_BATCH == 0;
        while (look && get_confirm(connection, &confirms, false))
            ;
        while (number + 1 - confirms.next >= AHEAD)
            (void)get_confirm(connection, &confirms, true);
    }
    while (confirms.next <= run->events)
        (void)get_confirm(connection, &confirms, true);
    close_connection(connection);
    amqp_bytes_free(data);
}

/* ---- consuming ---- */

static void consume(const struct run *run, struct pawl_bench_samples *samples)
{
    amqp_connection_state_t connection = open_channel(run);
    const uint64_t batch = run->rate > 0 ? 1 : ACK_BATCH;
    (void)amqp_basic_qos(connection, CHANNEL, 0, PREFETCH, false);
    check_reply(amqp_get_rpc_reply(connection), "prefetch");
    (void)amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes("q"), amqp_empty_bytes, false, false,
                             false, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "consume");
    for (uint64_t got = 1; got <= run->events; got++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        check_reply(amqp_consume_message(connection, &envelope, NULL, 0), "deliver");
        if (envelope.redelivered || envelope.message.body.len != run->payload_bytes)
            peer_fail("deliver");
        peer_note(run, samples, envelope.message.body.bytes);
        if (got % batch == 0 || got == run->events)
            check(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, true), "ack");
        amqp_destroy_envelope(&envelope);
    }
    /* Answered behind the acks. */
    if (declare(run, connection, true) != 0)
        peer_fail("the queue is not empty");
    close_connection(connection);
}

const struct server peer_rabbitmq = {.program = "rabbitmq-server",
                                     .start_seconds = 120,
                                     .serve = serve,
                                     .ready = peer_listens,
                                     .prepare = prepare,
                                     .publish = publish,
                                     .consume = consume};
