/*
 * bus_sim_consumer.c - consumers that come and go, and how they settle.
 */
#include "tests/sim/bus_sim.h"

#include <inttypes.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

void sim_check(struct bus_sim *sim)
{
    oracle_deliveries(&sim->oracle);
    sim_read_replies(sim);
}

void sim_flush(struct bus_sim *sim)
{
    memory_flush(&sim->memory);
    oracle_flushed(&sim->oracle);
    sim->cuts[sim->cut_count++] = sim->memory.record_count;
    sim_check(sim);
    oracle_recount(&sim->oracle);
}

static struct memory_client *some_client(struct bus_sim *sim)
{
    struct memory_client *client = &sim->memory.clients[1 + sim_below(sim, SIM_CLIENTS)];
    return client->open && client != sim->publisher.client ? client : NULL;
}

/* What is taken back from a lane by request: no handler sees it any more. */
void sim_hand_no_more(struct memory_client *client, uint32_t consumer)
{
    for (uint64_t n = client->begun; n < client->delivery_count; n++)
        if (client->deliveries[n].entry.consumer == consumer)
            client->deliveries[n].begun = client->deliveries[n].over = true;
}

void sim_come_or_go(struct bus_sim *sim)
{
    struct memory_client *client = some_client(sim);
    if (client && sim_below(sim, 3) == 0) {
        sim_say(sim, "client %u dies", client->number);
        memory_close(&sim->memory, client);
        return;
    }
    if (!client)
        client = memory_open(&sim->memory, 0);
    uint32_t q = sim_below(sim, sim->oracle.queue_count);
    struct oracle_queue *queue = &sim->oracle.queues[q];
    uint32_t group = queue->stream ? 1 + sim_below(sim, queue->groups) : 0;
    uint32_t consumer = q << 3 | group, credit = 1 + sim_below(sim, 20);
    client->room = sim_below(sim, 4) ? UINT32_MAX : (uint32_t)client->delivery_count + 3;
    if (sim_below(sim, 4) == 0) {
        sim_say(sim, "client %u consumes %s no more", client->number, queue->name);
        sim_hand_no_more(client, consumer);
        (void)pawl_bus_consume_end(sim->memory.bus, sim->memory.now,
                                   pawl_bus_client(sim->memory.bus, client->number), consumer);
        return;
    }
    sim_say(sim, "client %u consumes %s/%u, credit %u", client->number, queue->name, group, credit);
    (void)memory_consume(&sim->memory, client, consumer, queue->name, sim_group_name(queue, group), credit,
                         0);
}

void sim_begin_all(struct bus_sim *sim, struct memory_client *client)
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

void sim_settle_one(struct bus_sim *sim, struct memory_client *client, uint64_t n, enum pawl_settle_op op)
{
    struct memory_delivery *delivery = &client->deliveries[n];
    uint32_t group = oracle_group_of(&delivery->entry);
    uint64_t value = op == PAWL_SETTLE_OP_NACK
                         ? (sim_below(sim, 2) ? PAWL_SETTLE_POLICY : sim_below(sim, 3) * MEMORY_SECOND_NS)
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
    sim_say(sim, "client %u: op %d of %" PRIu64 " (queue %u seq %" PRIu64 " attempt %u)%s", client->number,
            (int)op, n, delivery->entry.queue, delivery->entry.seq, delivery->entry.attempt,
            late ? ": late" : "");
}

void sim_settle(struct bus_sim *sim)
{
    struct memory_client *client = some_client(sim);
    if (!client || client->delivery_count == 0)
        return;
    if (sim_below(sim, 20) == 0) { /* a lie */
        uint64_t n = client->delivery_count + sim_below(sim, 5);
        if (memory_ack(&sim->memory, client, n) != PAWL_E_BAD_MESSAGE)
            oracle_fail(&sim->oracle, "a delivery that was never given was settled");
        return;
    }
    if (sim_below(sim, 4))
        sim_begin_all(sim, client);
    for (uint32_t i = sim_below(sim, 8); i-- > 0;) {
        static const enum pawl_settle_op ops[] = {
            PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_ACK,    PAWL_SETTLE_OP_NACK,
            PAWL_SETTLE_OP_REJECT, PAWL_SETTLE_OP_EXTEND, PAWL_SETTLE_OP_RELEASE};
        enum pawl_settle_op op = ops[sim_below(sim, 7)];
        if (op == PAWL_SETTLE_OP_EXTEND) /* who extends has begun */
            sim_begin_all(sim, client);
        uint64_t recent = client->delivery_count < 30 ? client->delivery_count : 30;
        sim_settle_one(sim, client, client->delivery_count - 1 - sim_below(sim, (uint32_t)recent), op);
    }
}
