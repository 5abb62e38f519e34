/*
 * client.c - attached clients: they come, publish under a name, and go.
 *
 * Runs in: scheduler. What lies in their lanes: held.c; what they consume: consumer.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/bus/state.h"
#include "shm/error.h"

enum { HELD_FIRST = 64, CLIENTS_MAX = 1 << 20 };

struct pawl_bus_client *pawl_bus_client(struct pawl_bus *bus, uint32_t client)
{
    return client < bus->client_room ? bus->clients[client] : NULL;
}

uint64_t pawl_bus_delivered(const struct pawl_bus_client *client)
{
    return client->held_next;
}

uint64_t pawl_bus_begun_count(const struct pawl_bus_client *client)
{
    return client->begun;
}

bool pawl_bus_is_handling(const struct pawl_bus_client *client)
{
    return client->begun > client->held_first;
}

bool pawl_bus_may_submit(const struct pawl_bus_client *client)
{
    return client->parked_count < BUS_PARKED_MAX && client->parked_bytes < BUS_PARKED_BYTES_MAX;
}

int pawl_bus_client_open(struct pawl_bus *bus, struct pawl_now now, uint32_t number, uint64_t publisher,
                         uint64_t *publisher_sequence_out)
{
    size_t room = bus->client_room;
    bus->now = now;
    if (number >= CLIENTS_MAX)
        return PAWL_E_LIMIT;
    if (bus_grow((void **)&bus->clients, &room, (size_t)number + 1, sizeof(struct pawl_bus_client *)) < 0)
        return -ENOMEM;
    if (room > bus->client_room)
        memset(bus->clients + bus->client_room, 0,
               (room - bus->client_room) * sizeof(struct pawl_bus_client *));
    bus->client_room = (uint32_t)room;
    struct pawl_bus_client *client = calloc(1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->held = calloc(HELD_FIRST, sizeof *client->held);
    if (!client->held) {
        free(client);
        return -ENOMEM;
    }
    client->held_room = HELD_FIRST;
    client->number = number;
    client->serial = ++bus->client_serial;
    client->publisher = publisher;
    client->deadline_check_ns = UINT64_MAX;
    *publisher_sequence_out = 0;
    bus->clients[number] = client;
    if (!publisher)
        return 0;
    bus_group_flush(bus);
    bus_publisher_moves(bus, client);
    client->last_sequence = pawl_publishers_last(&bus->publishers, publisher);
    *publisher_sequence_out = pawl_publishers_upto(&bus->publishers, publisher, bus->durable_lsn);
    return 0;
}

static void delete_temporary(struct pawl_bus *bus, uint32_t owner)
{
    for (uint32_t i = 0; i < bus->queue_end && bus->temporary_count > 0; i++)
        if (bus->queues[i] && bus->queues[i]->config.temporary && bus->queues[i]->owner == owner) {
            struct pawl_bus_mark mark = {.queue = i, .realtime_ns = bus->now.realtime_ns};
            bus_append(bus, PAWL_BUS_RECORD_DELETE, &mark, sizeof mark, NULL, 0);
        }
}

void pawl_bus_client_close(struct pawl_bus *bus, struct pawl_now now, uint32_t number)
{
    struct pawl_bus_client *client = pawl_bus_client(bus, number);
    bus->now = now;
    if (!client)
        return;
    bus_group_flush(bus);
    for (struct bus_consumer *consumer = client->consumers; consumer; consumer = consumer->next_of_client) {
        bus_consumer_unlink(consumer);
        if (consumer->sub)
            bus_queue_row(consumer->sub->queue);
    }
    bus_held_give_up(bus, client, NULL, true);
    bus_parked_drop_client(bus, client);
    bus->clients[number] = NULL;
    while (client->consumers) {
        struct bus_consumer *consumer = client->consumers;
        client->consumers = consumer->next_of_client;
        free(consumer);
    }
    free(client->held);
    free(client);
    delete_temporary(bus, number);
    pawl_bus_flush(bus, now);
}
