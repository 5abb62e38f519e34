/*
 * client_attach.c - a client comes and gets its lane, and goes.
 *
 * Runs in: scheduler. A client that went is freed when the kernel has given back the read of its bell.
 */
#include "scheduler/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "scheduler/bus/bus.h"
#include "scheduler/figures.h"
#include "shm/doorbell.h"
#include "shm/error.h"

static struct pawl_clients *clients_of(struct pawl_loop *loop)
{
    if (!loop->clients)
        loop->clients = calloc(1, sizeof *loop->clients);
    return loop->clients;
}

/* ---- it comes ---- */

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
    client->bell_read = (struct pawl_io_request){.done = pawl_client_on_bell, .ctx = client};
    client->own_bell_fd = -1;
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
    pawl_client_make_hot(client);
    return 0;
}

void pawl_clients_attach(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_attach *request = message->body;
    struct pawl_wire_attached body = {.epoch = loop->epoch,
                                      .data_bytes_max = loop->config.bus.event_payload_bytes,
                                      .headers_bytes_max = loop->config.bus.event_headers_bytes,
                                      .delay_ns_max = loop->config.bus.publish_delay_ns};
    uint64_t tag = message->header.tag;
    if (message->header.bytes < sizeof *request || connection->attached) {
        pawl_control_error(connection, tag, connection->attached ? PAWL_E_STATE : PAWL_E_BAD_MESSAGE, NULL,
                           connection->attached ? "this client has its lane already" : "too short a request");
        return;
    }
    if (!pawl_control_place(connection, tag))
        return;
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

/* ---- it goes ---- */

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

void pawl_clients_disconnected(struct pawl_connection *connection)
{
    struct pawl_client *client = connection->attached;
    if (!client)
        return;
    struct pawl_loop *loop = client->loop;
    /* What it had published into its lane before it went is taken: it may have been its last words. The lane
     * may have outlived its socket in another process, which goes on writing: not for ever. */
    uint32_t turns =
        client->port.submit_bytes / (PAWL_SUBMISSIONS_A_TURN * (uint32_t)sizeof(struct pawl_submit)) +
        client->port.submit_bytes / PAWL_SUBMIT_BYTES_A_TURN + 2;
    while (turns > 0 && !client->bad && pawl_client_drain(client))
        turns--;
    connection->attached = NULL;
    pawl_bus_client_close(loop->bus, loop->now, client->number);
    loop->clients->by_number[client->number] = NULL;
    loop->attached_count--;
    pawl_figures_clients(loop);
    pawl_client_make_cold(client);
    unlink_touched(client);
    unlink_listened(client);
    client->gone = true;
    if (pawl_io_active(&client->bell_read))
        (void)pawl_io_poll_cancel(loop->io, &client->bell_read);
    client->next_gone = loop->clients->gone;
    loop->clients->gone = client;
}

void pawl_clients_sweep(struct pawl_clients *clients)
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
    pawl_clients_sweep(clients);
    free(clients->by_number);
    free(clients->copy);
    free(clients);
    loop->clients = NULL;
}
