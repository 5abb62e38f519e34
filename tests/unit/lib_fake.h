/*
 * lib_fake.h - the scheduler's end of one client, in a thread of the test: libpawl's other side.
 *
 * The thread answers the socket. The lane is read and written by the test itself (fake_lock() around it), or,
 * with `serves`, by the thread: then every publish is confirmed and every settlement durable.
 */
#ifndef PAWL_TESTS_LIB_FAKE_H
#define PAWL_TESTS_LIB_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/pawl.h"
#include "shm/client_lane.h"
#include "shm/wire.h"

enum { FAKE_EVENTS_MAX = 4096, FAKE_ENTRY_BYTES = 4096 };

struct fake {
    char directory[64], path[96];
    pthread_t thread;
    pthread_mutex_t mutex;
    int listen_fd, scheduler_fd, client_fd; /* the bells */
    struct pawl_wire wire;                  /* fd -1: nobody is connected */
    struct pawl_client_port port;
    bool attached;
    unsigned attachments, consumes, consume_ends, asked;
    atomic_bool stops, serves;
    atomic_bool refuses; /* closes every connection without a word */
    uint64_t publisher, known_sequence;
    uint32_t submit_bytes, inbound_bytes;
    uint64_t epoch;
    uint64_t numbers; /* deliveries given in this lane */
    char last_request[4096];
    const char *reply_json;
    int reply_error, attach_error;
    struct pawl_wire_consume last_consume;
    struct pawl_wire_settle_one last_settle;
    int32_t settle_result;
    bool takes_end; /* a take is answered when it is to end */
    uint64_t take_tag;
    bool answers_second; /* a question once another was asked */
    uint64_t late_tag;
    bool dies_when_asked;              /* once, instead of answering */
    _Alignas(8) uint8_t copy[1 << 20]; /* a submission is read where it lies here */
};

/* Starts listening; `fake.path` is the socket. */
void fake_start(struct fake *fake);
void fake_stop(struct fake *fake);
/* As if the scheduler was killed: connection and lane are gone, the next one is of another epoch. */
void fake_die(struct fake *fake);
void fake_lock(struct fake *fake);
void fake_unlock(struct fake *fake);

/* connected to it */
struct pawl *fake_client(struct fake *fake);

/* The next submission, or NULL. Its event, if it is one, lies behind it. */
const struct pawl_submit *fake_submission(struct fake *fake);
const struct pawl_event *fake_event(const struct pawl_submit *submit);
bool fake_settlement(struct fake *fake, struct pawl_settle *settle_out);
void fake_reply(struct fake *fake, struct pawl_reply reply);
void fake_confirm(struct fake *fake, uint64_t first, uint64_t last, uint64_t event_id);
void fake_deliver(struct fake *fake, uint32_t consumer, const char *topic, const char *data, bool auto_ack);
void fake_durable(struct fake *fake);
uint64_t fake_begun(struct fake *fake);

#endif
