/*
 * admin.h - one administrative request, and what its handlers share. For scheduler/bus/admin*.c only.
 */
#ifndef PAWL_SCHEDULER_BUS_ADMIN_H
#define PAWL_SCHEDULER_BUS_ADMIN_H

#include "scheduler/bus/state.h"

struct bus_request {
    struct pawl_bus *bus;
    uint32_t client;
    json_t *in;
    json_t *out;
    uint64_t lsn; /* the answer waits for it; UINT64_MAX: for whatever was appended */
    char *why;
    const char *died_in; /* of dlq requests: only letters of this queue; NULL: all */
};

/* admin.c */
int bus_request_fail(struct bus_request *request, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *bus_request_text(const struct bus_request *request, const char *key); /* "": it has none */
struct bus_queue *bus_request_queue(struct bus_request *request, const char *key, int *error_out);
uint64_t bus_purge(struct pawl_bus *bus, struct bus_queue *queue); /* all that nobody holds; how many */

/* admin_dlq.c */
int bus_on_dlq_list(struct bus_request *request);
int bus_on_dlq_redrive(struct bus_request *request);
int bus_on_dlq_purge(struct bus_request *request);

/* admin_group.c */
json_t *bus_group_describe(const struct bus_sub *sub);
int bus_on_group_create(struct bus_request *request);
int bus_on_group_commit(struct bus_request *request);
int bus_on_group_seek(struct bus_request *request);
int bus_on_group_lag(struct bus_request *request);
int bus_on_group_delete(struct bus_request *request);

#endif
