/*
 * clients.h - attached clients: their lanes, drained and filled; who sleeps, who is woken.
 *
 * Runs in: scheduler. A client is hot while it is heard of, and drained every turn; one that was quiet for
 * some turns is cold, costs nothing a turn, and rings its bell. A lane that does not hold is closed: it harms
 * only its client.
 */
#ifndef PAWL_SCHEDULER_CLIENTS_H
#define PAWL_SCHEDULER_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/control.h"
#include "scheduler/loop.h"
#include "shm/client_lane.h"

struct pawl_client;

void pawl_clients_attach(struct pawl_connection *connection, const struct pawl_wire_message *message);
void pawl_clients_disconnected(struct pawl_connection *connection);
void pawl_clients_destroy(struct pawl_loop *loop);

/* One turn: begins, settlements, submissions of every hot client, a bounded number of each. True: some were
 * left. */
bool pawl_clients_drain(struct pawl_loop *loop);
/* End of a turn: replies and deliveries become visible, sleepers are woken. True: something could not be
 * given. */
bool pawl_clients_publish(struct pawl_loop *loop);
/* Begins of quiet clients are heard of. Return: when to call again (boottime). */
uint64_t pawl_clients_listen(struct pawl_loop *loop);
/* Which settlements are durable now, for clients_publish() to tell. True: some are not yet. */
bool pawl_clients_tell_durable(struct pawl_loop *loop);

/* Around the loop's sleep. prepare: flags are set; true: there is something to do, do not sleep. */
bool pawl_clients_prepare(struct pawl_loop *loop);
void pawl_clients_awake(struct pawl_loop *loop);
bool pawl_clients_waiting(const struct pawl_loop *loop); /* a look while spinning */

/* Effects of the bus. */
int pawl_clients_deliver(struct pawl_loop *loop, uint32_t number, const struct pawl_inbound_entry *entry,
                         const struct pawl_event *event);
void pawl_clients_reply(struct pawl_loop *loop, uint32_t number, const struct pawl_reply *reply);
/** pawl_clients_tell - words for the person at a client. */
void pawl_clients_tell(const struct pawl_loop *loop, uint32_t number, const char *text);

/* The bus's client of a connection; NULL: it has not attached. */
struct pawl_bus_client *pawl_clients_of(const struct pawl_connection *connection);
uint32_t pawl_clients_number(const struct pawl_connection *connection);
/** pawl_clients_hear - which deliveries its handlers have seen by now. */
void pawl_clients_hear(const struct pawl_connection *connection);

#endif
