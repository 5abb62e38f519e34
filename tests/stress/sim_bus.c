/*
 * sim_bus - the event bus lives through thousands of small disasters, drawn from a seed.
 *
 * Each round is a bus of its own over the backend in memory: queues of random kinds, publishers and consumers
 * that come and go, settlements good and bad, schedulers that die and lose what was not durable, snapshots,
 * disks that are full. After every step the rules of tests/sim/bus_oracle.c hold; in the end all is drained,
 * and what was confirmed has come.
 *
 * SEED=N runs that round alone and prints its steps; ROUNDS=N (60). Prints the seed of a round that fails.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"
#include "tests/sim/bus_oracle.h"

enum { STEPS = 400, CLIENTS = 6, PENDING_MAX = 4096, TAKEN_MAX = 64 };

static const char *const topics[ORACLE_TOPICS] = {"a", "a.b", "c", "a.b.c"};

/* A publish that is not answered: who has a name sends it again after a reconnect. */
struct pending {
    size_t event;
    uint64_t sequence;
    struct memory_publish publish;
};

struct publisher {
    struct memory_client *client; /* NULL: not connected */
    uint64_t id, sequence;
    struct pending pending[PENDING_MAX];
    size_t pending_count, replies_read;
};

struct taken {
    struct pawl_bus_taken taken;
    struct pawl_event *event;
    uint32_t queue, group;
};

struct sim {
    struct memory memory;
    struct oracle oracle;
    struct publisher publisher;
    struct taken taken[TAKEN_MAX];
    uint32_t taken_count;
    bool verbose, blocking;
    uint64_t random;
    uint64_t cuts[STEPS * 4]; /* the record counts at which the loop would have cut a batch */
    size_t cut_count;
};

static uint64_t chance(struct sim *sim)
{
    uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t below(struct sim *sim, uint32_t bound)
{
    return (uint32_t)(chance(sim) % bound);
}

static void say(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    if (!sim->verbose)
        return;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "  (lsn %zu, durable %" PRIu64 ", epoch %" PRIu64 ")\n", sim->memory.record_count,
            sim->memory.durable, sim->memory.epoch);
}

/* ---- the round's queues ---- */

static void declare(struct sim *sim, uint32_t index)
{
    static const char *const durabilities[] = {"fsync", "fsync", "async", "memory"};
    static const char *const policies[] = {"block", "drop_newest", "drop_oldest", "reject", "dead_letter"};
    struct oracle_queue *queue = &sim->oracle.queues[index];
    char config[1024];
    size_t used = 0;
#define PUT(...) used += (size_t)snprintf(config + used, sizeof config - used, __VA_ARGS__)
    uint32_t durability = below(sim, 4);
    snprintf(queue->name, sizeof queue->name, "q%u", index);
    queue->fsync = durability < 2;
    queue->in_memory = durability == 3;
    queue->topics = 1 + below(sim, (1u << ORACLE_TOPICS) - 1);
    PUT("'durability': '%s', 'topics': [", durabilities[durability]);
    for (uint32_t t = 0, first = 1; t < ORACLE_TOPICS; t++)
        if (queue->topics & 1u << t) {
            PUT("%s'%s'", first ? "" : ", ", topics[t]);
            first = 0;
        }
    PUT("], 'ack_wait_ns': %u000000000, 'retry': {'limit': %u, 'backoff': {'kind': 'fixed', 'initial_ns': "
        "%u}}",
        1 + below(sim, 20), below(sim, 5), below(sim, 3) * 700000000u);
    if (below(sim, 6) == 0) {
        queue->stream = true;
        queue->groups = 1 + below(sim, ORACLE_GROUPS_MAX);
        PUT(", 'stream': true");
    } else if (below(sim, 4) == 0) {
        queue->keyed = true;
        PUT(", 'ordering_key': 'k'");
    }
    if (below(sim, 5) == 0)
        PUT(", 'strict_attempts': true");
    if (below(sim, 4) == 0)
        PUT(", 'max_in_flight': %u", 1 + below(sim, 5));
    if (below(sim, 6) == 0)
        PUT(", 'rate': {'count': %u, 'per_ns': 1000000000}", 1 + below(sim, 20));
    if (below(sim, 5) == 0)
        PUT(", 'breaker': {'failures': %u, 'cooldown_ns': 2000000000, 'probes': 2}", 1 + below(sim, 3));
    if (below(sim, 3) == 0 && !queue->stream) {
        uint32_t policy = below(sim, 5);
        queue->lossy = policy != 0;
        queue->blocking = policy == 0;
        PUT(", 'max_depth': %u, 'overflow': '%s'", 1 + below(sim, 12), policies[policy]);
    }
    if (below(sim, 8) == 0) {
        queue->lossy = true;
        PUT(", 'ttl_ns': %u000000000", 1 + below(sim, 30));
    }
#undef PUT
    memory_declare(&sim->memory, queue->name, config);
    queue->number = (uint32_t)memory_number(&sim->memory, queue->name, "number");
    sim->blocking = sim->blocking || queue->blocking;
    for (uint32_t g = 1; g <= queue->groups; g++)
        json_decref(memory_request(
            &sim->memory, 0, "{'op': 'group.create', 'queue': '%s', 'group': 'g%u', 'from': 'earliest'}",
            queue->name, g));
    say(sim, "%s: %s", queue->name, config);
}

static const char *group_name(const struct oracle_queue *queue, uint32_t group)
{
    static char name[8];
    snprintf(name, sizeof name, "g%u", group);
    return queue->stream ? name : "";
}

/* ---- publishers ---- */

static void connect_publisher(struct sim *sim)
{
    struct publisher *publisher = &sim->publisher;
    publisher->client = memory_open(&sim->memory, publisher->id);
    publisher->replies_read = 0;
    say(sim, "the publisher connects: the bus knows up to %" PRIu64 ", %zu are not answered",
        publisher->client->sequence, publisher->pending_count);
    for (size_t i = 0; i < publisher->pending_count; i++) {
        struct pending *pending = &publisher->pending[i];
        struct oracle_event *event = &sim->oracle.events[pending->event];
        char data[ORACLE_DATA_MAX + 32];
        for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
            if (event->queues & 1u << q)
                event->again = event->again || sim->oracle.queues[q].lossy;
        event->again = event->again || event->durability != PAWL_DURABILITY_DEFAULT;
        oracle_data(&sim->oracle, pending->event, data);
        struct memory_publish publish = pending->publish;
        publish.data = data;
        publish.sequence = pending->sequence;
        (void)memory_publish(&sim->memory, publisher->client, &publish);
    }
}

static void answered(struct sim *sim, const struct pawl_reply *reply)
{
    struct publisher *publisher = &sim->publisher;
    size_t kept = 0;
    for (size_t i = 0; i < publisher->pending_count; i++) {
        const struct pending *pending = &publisher->pending[i];
        if (pending->sequence < reply->first || pending->sequence > reply->last) {
            publisher->pending[kept++] = *pending;
            continue;
        }
        struct oracle_event *event = &sim->oracle.events[pending->event];
        if (reply->type == PAWL_REPLY_CONFIRM && reply->durability == PAWL_DURABILITY_FSYNC &&
            event->durability == PAWL_DURABILITY_DEFAULT) {
            event->confirmed = true;
            if (event->after_lsn >= sim->memory.durable && !event->again)
                for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
                    if ((event->queues & 1u << q) && sim->oracle.queues[q].fsync &&
                        !sim->oracle.queues[q].lossy)
                        oracle_fail(&sim->oracle, "event %zu was confirmed before it was durable",
                                    pending->event);
        }
    }
    publisher->pending_count = kept;
}

static void read_replies(struct sim *sim)
{
    struct publisher *publisher = &sim->publisher;
    for (; publisher->client && publisher->replies_read < publisher->client->reply_count;
         publisher->replies_read++) {
        struct pawl_reply reply = publisher->client->replies[publisher->replies_read];
        if (reply.type == PAWL_REPLY_CONFIRM || reply.type == PAWL_REPLY_REFUSE)
            answered(sim, &reply);
    }
}

static void publish(struct sim *sim)
{
    static const char *const keys[] = {"", "x", "y", "z"};
    struct publisher *publisher = &sim->publisher;
    char data[ORACLE_DATA_MAX + 32];
    if (!publisher->client || publisher->pending_count == PENDING_MAX ||
        !pawl_bus_may_submit(pawl_bus_client(sim->memory.bus, publisher->client->number)))
        return;
    uint32_t topic = below(sim, ORACLE_TOPICS), key = below(sim, 4);
    uint8_t durability = below(sim, 8) == 0 ? (uint8_t)(1 + below(sim, 2)) : PAWL_DURABILITY_DEFAULT;
    uint32_t bytes = below(sim, 10) == 0 ? 1000 + below(sim, 2000) : 12 + below(sim, 100);
    size_t event = oracle_event(&sim->oracle, topic, bytes, durability, key);
    struct memory_publish publish = {.topic = topics[topic], .data_bytes = bytes, .durability = durability};
    if (key) {
        publish.headers[0][0] = "k";
        publish.headers[0][1] = keys[key];
    }
    if (below(sim, 8) == 0)
        publish.delay_ns = below(sim, 5) * MEMORY_SECOND_NS;
    if (below(sim, 8) == 0)
        publish.priority = (uint8_t)below(sim, 10);
    publisher->pending[publisher->pending_count++] =
        (struct pending){.event = event, .sequence = ++publisher->sequence, .publish = publish};
    oracle_data(&sim->oracle, event, data);
    publish.data = data;
    publish.sequence = publisher->sequence;
    say(sim, "publish %zu to %s, sequence %" PRIu64 ", key %u, durability %u, delay %" PRIu64 ", priority %u",
        event, topics[topic], publish.sequence, key, durability, publish.delay_ns, publish.priority);
    (void)memory_publish(&sim->memory, publisher->client, &publish);
}

/* ---- consumers ---- */

static void check(struct sim *sim)
{
    oracle_deliveries(&sim->oracle);
    read_replies(sim);
}

static void flush(struct sim *sim)
{
    memory_flush(&sim->memory);
    oracle_flushed(&sim->oracle);
    sim->cuts[sim->cut_count++] = sim->memory.record_count;
    check(sim);
    oracle_recount(&sim->oracle);
}

static struct memory_client *some_client(struct sim *sim)
{
    struct memory_client *client = &sim->memory.clients[1 + below(sim, CLIENTS)];
    return client->open && client != sim->publisher.client ? client : NULL;
}

/* What is taken back from a lane by request: no handler sees it any more. */
static void hand_no_more(struct memory_client *client, uint32_t consumer)
{
    for (uint64_t n = client->begun; n < client->delivery_count; n++)
        if (client->deliveries[n].entry.consumer == consumer)
            client->deliveries[n].begun = client->deliveries[n].over = true;
}

static void come_or_go(struct sim *sim)
{
    struct memory_client *client = some_client(sim);
    if (client && below(sim, 3) == 0) {
        say(sim, "client %u dies", client->number);
        memory_close(&sim->memory, client);
        return;
    }
    if (!client)
        client = memory_open(&sim->memory, 0);
    uint32_t q = below(sim, sim->oracle.queue_count);
    struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + below(sim, queue->groups) : 0;
    uint32_t consumer = q << 3 | group, credit = 1 + below(sim, 20);
    client->room = below(sim, 4) ? UINT32_MAX : (uint32_t)client->delivery_count + 3;
    if (below(sim, 4) == 0) {
        say(sim, "client %u consumes %s no more", client->number, queue->name);
        hand_no_more(client, consumer);
        (void)pawl_bus_consume_end(sim->memory.bus, sim->memory.now,
                                   pawl_bus_client(sim->memory.bus, client->number), consumer);
        return;
    }
    say(sim, "client %u consumes %s/%u, credit %u", client->number, queue->name, group, credit);
    (void)memory_consume(&sim->memory, client, consumer, queue->name, group_name(queue, group), credit, 0);
}

static void begin_all(struct sim *sim, struct memory_client *client)
{
    for (uint64_t n = client->begun; n < client->delivery_count; n++) {
        struct memory_delivery *delivery = &client->deliveries[n];
        if (!delivery->over && !delivery->begun)
            oracle_begun(&sim->oracle, &delivery->entry, delivery->event, oracle_group_of(&delivery->entry));
        delivery->begun = true;
        /* Of what was taken away from it meanwhile nobody hears that it began. */
        if (bus_held_at(pawl_bus_client(sim->memory.bus, client->number), n)->state != BUS_HELD_UNSETTLED)
            oracle_released(&sim->oracle, &delivery->entry, delivery->event,
                            oracle_group_of(&delivery->entry));
    }
    memory_begin(&sim->memory, client);
}

static void settle_one(struct sim *sim, struct memory_client *client, uint64_t n, enum pawl_settle_op op)
{
    struct memory_delivery *delivery = &client->deliveries[n];
    uint32_t group = oracle_group_of(&delivery->entry);
    uint64_t value = op == PAWL_SETTLE_OP_NACK
                         ? (below(sim, 2) ? PAWL_SETTLE_POLICY : below(sim, 3) * MEMORY_SECOND_NS)
                         : 0;
    size_t replies = client->reply_count;
    if (!delivery->begun)
        oracle_begun(&sim->oracle, &delivery->entry, delivery->event, group);
    delivery->begun = true;
    if (memory_settle(&sim->memory, client, op, n, n, value) != 0)
        oracle_fail(&sim->oracle, "a delivery that was given is called a lie");
    bool late =
        client->reply_count > replies && client->replies[client->reply_count - 1].type == PAWL_REPLY_LATE;
    if (!late && delivery->over && op != PAWL_SETTLE_OP_EXTEND)
        oracle_fail(&sim->oracle, "delivery %" PRIu64 " was settled twice", n);
    if (!late && op == PAWL_SETTLE_OP_ACK)
        oracle_settled(&sim->oracle, &delivery->entry, delivery->event, group);
    if (late || op == PAWL_SETTLE_OP_RELEASE)
        oracle_released(&sim->oracle, &delivery->entry, delivery->event, group);
    if (op != PAWL_SETTLE_OP_EXTEND)
        delivery->over = true;
    say(sim, "client %u: op %d of %" PRIu64 " (queue %u seq %" PRIu64 " attempt %u)%s", client->number,
        (int)op, n, delivery->entry.queue, delivery->entry.seq, delivery->entry.attempt,
        late ? ": late" : "");
}

static void settle(struct sim *sim)
{
    struct memory_client *client = some_client(sim);
    if (!client || client->delivery_count == 0)
        return;
    if (below(sim, 20) == 0) { /* a lie */
        uint64_t n = client->delivery_count + below(sim, 5);
        if (memory_ack(&sim->memory, client, n) != PAWL_E_BAD_MESSAGE)
            oracle_fail(&sim->oracle, "a delivery that was never given was settled");
        return;
    }
    if (below(sim, 4))
        begin_all(sim, client);
    for (uint32_t i = below(sim, 8); i-- > 0;) {
        static const enum pawl_settle_op ops[] = {
            PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_NACK,
            PAWL_SETTLE_OP_REJECT, PAWL_SETTLE_OP_EXTEND, PAWL_SETTLE_OP_RELEASE};
        enum pawl_settle_op op = ops[below(sim, 7)];
        if (op == PAWL_SETTLE_OP_EXTEND) /* who extends has begun */
            begin_all(sim, client);
        uint64_t recent = client->delivery_count < 30 ? client->delivery_count : 30;
        settle_one(sim, client, client->delivery_count - 1 - below(sim, (uint32_t)recent), op);
    }
}

/* ---- detached deliveries ---- */

static void forget_taken(struct sim *sim, uint32_t i)
{
    free(sim->taken[i].event);
    sim->taken[i] = sim->taken[--sim->taken_count];
}

static void take(struct sim *sim)
{
    uint32_t q = below(sim, sim->oracle.queue_count);
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + below(sim, queue->groups) : 0;
    if (sim->taken_count == TAKEN_MAX)
        forget_taken(sim, below(sim, TAKEN_MAX));
    struct taken *one = &sim->taken[sim->taken_count];
    if (memory_take(&sim->memory, queue->name, group_name(queue, group), 1, &one->taken) != 1)
        return;
    flush(sim);
    memory_sync(&sim->memory); /* it is shown when it is durable */
    const struct pawl_event *event =
        pawl_bus_event(sim->memory.bus, one->taken.entry.queue, one->taken.entry.seq);
    if (!event) {
        oracle_fail(&sim->oracle, "a taken event cannot be read");
        return;
    }
    one->event = malloc(event->bytes);
    memcpy(one->event, event, event->bytes);
    one->queue = q;
    one->group = group;
    sim->taken_count++;
    say(sim, "taken from %s/%u: seq %" PRIu64 " attempt %u", queue->name, group, one->taken.entry.seq,
        one->taken.entry.attempt);
    (void)oracle_delivery(&sim->oracle, &one->taken.entry, one->event, group);
    oracle_begun(&sim->oracle, &one->taken.entry, one->event, group);
    oracle_flushed(&sim->oracle);
}

static void settle_taken(struct sim *sim)
{
    static const enum pawl_settle_op ops[] = {PAWL_SETTLE_OP_ACK, PAWL_SETTLE_OP_NACK, PAWL_SETTLE_OP_REJECT,
                                              PAWL_SETTLE_OP_EXTEND, PAWL_SETTLE_OP_RELEASE};
    if (sim->taken_count == 0)
        return;
    uint32_t i = below(sim, sim->taken_count);
    struct taken *one = &sim->taken[i];
    const struct oracle_queue *queue = &sim->oracle.queues[one->queue];
    enum pawl_settle_op op = ops[below(sim, 5)];
    int error = memory_settle_taken(&sim->memory, queue->name, group_name(queue, one->group), &one->taken, op,
                                    op == PAWL_SETTLE_OP_NACK ? PAWL_SETTLE_POLICY : 0);
    say(sim, "taken from %s: op %d of seq %" PRIu64 " attempt %u: %s", queue->name, (int)op,
        one->taken.entry.seq, one->taken.entry.attempt, pawl_error_text(error));
    if (!error && op == PAWL_SETTLE_OP_ACK)
        oracle_settled(&sim->oracle, &one->taken.entry, one->event, one->group);
    if (op != PAWL_SETTLE_OP_EXTEND && below(sim, 4)) /* sometimes it is tried again: too late */
        forget_taken(sim, i);
}

/* ---- people ---- */

static void excuse(struct sim *sim, uint32_t q)
{
    for (uint32_t g = 0; g <= sim->oracle.queues[q].groups; g++)
        oracle_excuse(&sim->oracle, q, g);
}

static void administer(struct sim *sim)
{
    struct memory *memory = &sim->memory;
    uint32_t q = below(sim, sim->oracle.queue_count);
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + below(sim, queue->groups) : 0;
    json_t *reply = NULL;
    uint32_t what = below(sim, 9);
    memory->error = 0;
    say(sim, "administration %u of %s/%u", what, queue->name, group);
    switch (what) {
    case 0:
        reply = memory_request(memory, 0, "{'op': 'queue.pause', 'name': '%s'}", queue->name);
        break;
    case 1:
    case 2:
        reply = memory_request(memory, 0, "{'op': 'queue.resume', 'name': '%s'}", queue->name);
        break;
    case 3:
        if (below(sim, 4))
            return;
        excuse(sim, q);
        reply = memory_request(memory, 0, "{'op': 'queue.purge', 'name': '%s'}", queue->name);
        break;
    case 4:
        for (size_t i = 0; i < sim->oracle.event_count; i++)
            sim->oracle.events[i].again = true;
        reply = memory_request(memory, 0, "{'op': 'dlq.redrive', 'queue': '%s'}", queue->name);
        break;
    case 5:
        reply = memory_request(memory, 0, "{'op': 'dlq.list', 'queue': '%s'}", queue->name);
        break;
    case 6:
        if (!queue->stream)
            return;
        oracle_excuse(&sim->oracle, q, group);
        if (below(sim, 2)) {
            reply = memory_request(
                memory, 0, "{'op': 'group.commit', 'queue': '%s', 'group': 'g%u', 'offset': 'latest'}",
                queue->name, group);
        } else {
            oracle_sought(&sim->oracle, q, group);
            for (uint32_t i = 0; i < MEMORY_CLIENTS_MAX; i++)
                hand_no_more(&memory->clients[i], q << 3 | group);
            reply =
                memory_request(memory, 0, "{'op': 'group.seek', 'queue': '%s', 'group': 'g%u', 'to': '%s'}",
                               queue->name, group, below(sim, 2) ? "latest" : "earliest");
        }
        break;
    case 7:
        memory->has_room = below(sim, 3) ? 0 : PAWL_E_NO_SPACE;
        return;
    default:
        if (queue->blocking)
            reply = memory_request(memory, 0,
                                   "{'op': 'queue.declare', 'name': '%s', 'config': {'max_depth': %u}}",
                                   queue->name, 1 + below(sim, 20));
        break;
    }
    if (!reply && memory->error != 0 && memory->error != PAWL_E_NO_SPACE)
        oracle_fail(&sim->oracle, "a request was refused: %s", memory->why);
    json_decref(reply);
}

/* ---- disasters ---- */

/* The journal keeps whole batches: what is durable, and perhaps some of what was on its way. */
static uint64_t some_cut(struct sim *sim)
{
    uint64_t kept = sim->memory.durable;
    for (size_t i = 0; i < sim->cut_count; i++)
        if (sim->cuts[i] > kept && sim->cuts[i] <= sim->memory.record_count && below(sim, 2))
            kept = sim->cuts[i];
    return kept;
}

static void crash(struct sim *sim)
{
    uint64_t kept = some_cut(sim);
    say(sim, "the scheduler dies; records up to %" PRIu64 " are there", kept);
    read_replies(sim);
    sim->publisher.client = NULL;
    oracle_crashed(&sim->oracle, kept);
    memory_restart(&sim->memory, kept);
    sim->cut_count = 0;
    flush(sim);
}

/* What recovery would make of the log is the same by every way. */
static void compare_recoveries(struct sim *sim)
{
    struct memory *memory = &sim->memory;
    uint64_t lsn = memory->record_count;
    int room = memory->has_room;
    memory->has_room = 0;
    for (size_t i = 0; i < memory->record_count; i++)
        if (!memory->records[i].body)
            lsn = 0; /* segments have gone: there is but one way */
    if (lsn > 0 && memory->snapshot_lsn > 0) {
        char *whole = memory_describe(memory, memory_recover(memory, lsn, false, 1), 1000);
        char *twice = memory_describe(memory, memory_recover(memory, lsn, false, 2), 1000);
        if (strcmp(whole, twice) != 0)
            oracle_fail(&sim->oracle, "records applied twice:\n%s\nonce:\n%s", twice, whole);
        free(whole);
        free(twice);
    }
    memory->has_room = room;
}

static void snapshot(struct sim *sim)
{
    flush(sim);
    memory_sync(&sim->memory); /* it becomes good only when all that it holds is durable */
    check(sim);
    memory_snapshot(&sim->memory);
    say(sim, "snapshot");
    if (below(sim, 4) == 0) {
        (void)pawl_bus_compact(sim->memory.bus, sim->memory.now,
                               (uint32_t)(sim->memory.record_count / MEMORY_RECORDS_A_SEGMENT), 1 << 20);
        flush(sim);
        memory_sync(&sim->memory);
        say(sim, "compacted; %zu segments go", memory_release_segments(&sim->memory));
    }
}

static void step(struct sim *sim)
{
    uint32_t what = below(sim, 100);
    if (!sim->publisher.client && below(sim, 3) == 0)
        connect_publisher(sim);
    if (what < 35) {
        for (uint32_t i = 1 + below(sim, 4); i-- > 0;)
            publish(sim);
    } else if (what < 45) {
        come_or_go(sim);
    } else if (what < 65) {
        settle(sim);
    } else if (what < 70) {
        take(sim);
    } else if (what < 75) {
        settle_taken(sim);
    } else if (what < 82) {
        memory_sync(&sim->memory);
        say(sim, "synced");
    } else if (what < 90) {
        uint64_t ns =
            below(sim, 4) ? below(sim, 1000) * UINT64_C(1000000) : below(sim, 40) * MEMORY_SECOND_NS;
        sim->memory.now.boottime_ns += ns;
        sim->memory.now.realtime_ns += ns;
        (void)pawl_bus_tick(sim->memory.bus, sim->memory.now);
        say(sim, "%" PRIu64 " ms pass", ns / 1000000);
    } else if (what < 94) {
        administer(sim);
    } else if (what < 95) {
        if (sim->publisher.client) {
            say(sim, "the publisher dies");
            read_replies(sim);
            memory_close(&sim->memory, sim->publisher.client);
            sim->publisher.client = NULL;
        }
    } else if (what < 97) {
        snapshot(sim);
    } else if (what < 98) {
        compare_recoveries(sim);
    } else {
        crash(sim);
    }
    flush(sim);
}

/* ---- the end of a round ---- */

static void drain(struct sim *sim, uint32_t q, uint32_t group)
{
    const struct oracle_queue *queue = &sim->oracle.queues[q];
    struct memory_client *client = memory_open(&sim->memory, 0);
    if (memory_consume(&sim->memory, client, q << 3 | group, queue->name, group_name(queue, group), 50, 0) !=
        0) {
        oracle_fail(&sim->oracle, "%s cannot be consumed: %s", queue->name, sim->memory.why);
        return;
    }
    uint64_t settled = 0;
    for (int idle = 0; idle < 40 && !sim->oracle.wrong[0];) {
        memory_turn(&sim->memory);
        oracle_flushed(&sim->oracle);
        check(sim);
        if (settled == client->delivery_count) {
            memory_pass(&sim->memory, 10 * MEMORY_SECOND_NS);
            idle++;
            continue;
        }
        idle = 0;
        begin_all(sim, client);
        while (settled < client->delivery_count)
            settle_one(sim, client, settled++, PAWL_SETTLE_OP_ACK);
    }
    memory_close(&sim->memory, client);
}

/* Dead letters are looked at where they lie. */
static void look_at_the_dead(struct sim *sim)
{
    json_t *list = memory_request(&sim->memory, 0, "{'op': 'queue.list'}"), *queue;
    size_t index;
    json_array_foreach(json_object_get(list, "queues"), index, queue)
    {
        const char *name = json_string_value(json_object_get(queue, "name"));
        struct pawl_wire_take request = {.count = 256};
        struct pawl_bus_taken taken[256];
        bool end = false;
        if (!strstr(name, ".dlq"))
            continue;
        snprintf(request.queue, sizeof request.queue, "%s", name);
        while (!end) {
            int count =
                pawl_bus_peek(sim->memory.bus, &request, taken, 256, &request.from, &end, sim->memory.why);
            for (int i = 0; i < count; i++) {
                const struct pawl_event *event =
                    pawl_bus_event(sim->memory.bus, taken[i].entry.queue, taken[i].entry.seq);
                if (!event)
                    oracle_fail(&sim->oracle, "a dead letter of %s cannot be read", name);
                else
                    (void)oracle_delivery(&sim->oracle, &taken[i].entry, event, 0);
            }
        }
    }
    json_decref(list);
}

static void end_round(struct sim *sim)
{
    sim->memory.has_room = 0;
    say(sim, "the end: all is drained");
    if (!sim->publisher.client)
        connect_publisher(sim);
    for (uint32_t i = 1; i < MEMORY_CLIENTS_MAX; i++)
        if (sim->memory.clients[i].open && &sim->memory.clients[i] != sim->publisher.client)
            memory_close(&sim->memory, &sim->memory.clients[i]);
    for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
        json_decref(memory_request(&sim->memory, 0, "{'op': 'queue.resume', 'name': '%s'}",
                                   sim->oracle.queues[q].name));
    for (uint32_t q = 0; q < sim->oracle.queue_count && !sim->oracle.wrong[0]; q++) {
        const struct oracle_queue *queue = &sim->oracle.queues[q];
        for (uint32_t g = queue->stream ? 1 : 0; g <= queue->groups; g++)
            drain(sim, q, g);
    }
    flush(sim);
    look_at_the_dead(sim);
    for (uint32_t q = 0; q < sim->oracle.queue_count; q++)
        if (!sim->oracle.queues[q].stream &&
            memory_number(&sim->memory, sim->oracle.queues[q].name, "depth") != 0)
            oracle_fail(&sim->oracle, "queue %s is not empty after all was drained",
                        sim->oracle.queues[q].name);
    if (sim->publisher.pending_count > 0)
        oracle_fail(&sim->oracle, "%zu publishes were never answered", sim->publisher.pending_count);
    oracle_end(&sim->oracle);
}

static bool run_round(uint64_t seed, bool verbose)
{
    struct sim *sim = calloc(1, sizeof *sim);
    if (!sim)
        abort();
    sim->verbose = verbose;
    sim->random = seed;
    memory_init(&sim->memory);
    sim->memory.random = seed | 1;
    sim->oracle.memory = &sim->memory;
    sim->oracle.verbose = verbose;
    sim->publisher.id = seed | 1;
    uint32_t queues = 1 + below(sim, ORACLE_QUEUES_MAX);
    for (uint32_t q = 0; q < queues; q++) {
        sim->oracle.queue_count = q + 1;
        declare(sim, q);
    }
    memory_turn(&sim->memory);
    connect_publisher(sim);
    for (int i = 0; i < STEPS && !sim->oracle.wrong[0]; i++)
        step(sim);
    if (!sim->oracle.wrong[0])
        end_round(sim);
    bool good = !sim->oracle.wrong[0];
    if (!good)
        fprintf(stderr, "SEED=%" PRIu64 ": %s\n", seed, sim->oracle.wrong);
    while (sim->taken_count > 0)
        forget_taken(sim, 0);
    memory_fini(&sim->memory);
    oracle_fini(&sim->oracle);
    free(sim);
    return good;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t rounds = number_of("ROUNDS", 60), passed = 0, failed = 0, seed = number_of("SEED", 0);
    if (seed)
        return run_round(seed, true) ? 0 : 1;
    uint64_t first = number_of("FIRST", ((uint64_t)now.tv_sec << 20) ^ (uint64_t)now.tv_nsec);
    for (uint64_t i = 0; i < rounds && failed < 5; i++)
        *(run_round(first + i, false) ? &passed : &failed) += 1;
    printf("seeds from %" PRIu64 ": %" PRIu64 " passed, %" PRIu64 " failed\n", first, passed, failed);
    return failed ? 1 : 0;
}
