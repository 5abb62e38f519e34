/*
 * peers_nats.c - NATS JetStream: one stream with the retention of a work queue, which removes what is
 * acknowledged; one consumer to which the server pushes.
 *
 * Runs in: peers_bus, over libnats. Modes: where the stream lies, "memory" or "file". During a run this
 * server syncs no file.
 */
#include "bench/peers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nats/nats.h>

#include "shm/clock.h"

enum {
    PATIENCE_MS = 60000,
    AHEAD = 4096,       /* published without a confirm: with 512 it is slower by 15 to 25 % */
    UNACKED_MAX = 1000, /* delivered ahead of acks: the server's own default */
};

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "peers_bus: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static void serve(const struct run *run)
{
    char port[16];
    snprintf(port, sizeof port, "%d", run->ports[0]);
    peer_exec((const char *const[]){"nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", ".", NULL},
              NULL);
}

static natsConnection *open_connection(const struct run *run)
{
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", run->ports[0]);
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), "options");
    /* Otherwise a thread of the library sends what has gathered, a millisecond later. */
    check(natsOptions_SetSendAsap(options, run->rate > 0), "options");
    check(natsConnection_Connect(&connection, options), "connect");
    natsOptions_Destroy(options);
    return connection;
}

static jsCtx *open_stream(natsConnection *connection)
{
    jsOptions options;
    jsCtx *stream = NULL;
    check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = AHEAD;
    options.PublishAsync.StallWait = PATIENCE_MS;
    check(natsConnection_JetStream(&stream, connection, &options), "JetStream");
    return stream;
}

static void prepare(const struct run *run)
{
    const char *subjects[] = {"q"};
    jsStreamConfig config;
    natsConnection *connection = open_connection(run);
    jsCtx *stream = open_stream(connection);
    check(jsStreamConfig_Init(&config), "a stream");
    config.Name = "q";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Retention = js_WorkQueuePolicy;
    config.Storage = strcmp(run->peer->mode[0], "file") == 0 ? js_FileStorage : js_MemoryStorage;
    check(js_AddStream(NULL, stream, &config, NULL, NULL), "a stream");
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
}

static void publish(const struct run *run)
{
    jsPubOptions patience;
    natsMsgList left = {0};
    natsConnection *connection = open_connection(run);
    jsCtx *stream = open_stream(connection);
    char *data = calloc(1, run->payload_bytes);
    uint64_t next_ns = pawl_clock_monotonic_ns();
    if (!data)
        peer_fail("memory");
    for (uint64_t i = 0; i < run->events; i++) {
        if (run->rate > 0) {
            pawl_bench_rest_until(next_ns);
            next_ns += (uint64_t)(1e9 / run->rate);
        }
        peer_stamp(run, data);
        check(js_PublishAsync(stream, "q", data, (int)run->payload_bytes, NULL), "publish");
    }
    check(jsPubOptions_Init(&patience), "options");
    patience.MaxWait = PATIENCE_MS;
    check(js_PublishAsyncComplete(stream, &patience), "confirms");
    /* Refused ones are kept for whoever wants to send them again. */
    if (js_PublishAsyncGetPendingList(&left, stream) != NATS_NOT_FOUND)
        peer_fail("confirms");
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
    free(data);
}

static uint64_t left_in(jsCtx *stream)
{
    jsStreamInfo *info = NULL;
    check(js_GetStreamInfo(&info, stream, "q", NULL, NULL), "the stream");
    uint64_t left = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return left;
}

static void consume(const struct run *run, struct pawl_bench_samples *samples)
{
    natsSubscription *subscription = NULL;
    jsSubOptions options;
    natsConnection *connection = open_connection(run);
    jsCtx *stream = open_stream(connection);
    check(jsSubOptions_Init(&options), "options");
    options.Config.AckPolicy = js_AckExplicit;
    options.Config.AckWait = (int64_t)PATIENCE_MS * 1000000;
    options.Config.MaxAckPending = UNACKED_MAX;
    check(js_SubscribeSync(&subscription, stream, "q", NULL, &options, NULL), "subscribe");
    for (uint64_t got = 0; got < run->events; got++) {
        natsMsg *message = NULL;
        check(natsSubscription_NextMsg(&message, subscription, PATIENCE_MS), "deliver");
        peer_note(run, samples, natsMsg_GetData(message));
        check(got + 1 < run->events ? natsMsg_Ack(message, NULL) : natsMsg_AckSync(message, NULL, NULL),
              "ack");
        natsMsg_Destroy(message);
    }
    /* An ack is answered before the event is removed. */
    for (uint64_t until_ns = pawl_clock_monotonic_ns() + PATIENCE_MS * UINT64_C(1000000);
         left_in(stream) > 0;)
        if (pawl_clock_monotonic_ns() > until_ns)
            peer_fail("removing");
    natsSubscription_Destroy(subscription);
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
}

const struct server peer_nats = {.program = "nats-server",
                                 .start_seconds = 10,
                                 .serve = serve,
                                 .ready = peer_listens,
                                 .prepare = prepare,
                                 .publish = publish,
                                 .consume = consume};
