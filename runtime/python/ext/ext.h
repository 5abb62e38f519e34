/*
 * ext.h - what the files of the extension module pawl._pawl share.
 *
 * Runs in: the Python interpreter that imports pawl. Uses pawl.h alone, and of Python the stable ABI of 3.9.
 * The GIL guards every struct here. It is released only while something waits or asks the scheduler (wait.c);
 * meanwhile the client is `busy` and other threads are refused. libpawl's callbacks may run without the GIL:
 * they touch no Python object, but for the one that looks at signals.
 */
#ifndef PAWL_PYTHON_EXT_H
#define PAWL_PYTHON_EXT_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "runtime/pawl.h"

struct client;

/* Some publishes, and what became of them. It is completed when all that was put into the lane is confirmed
 * and nothing of `messages` is left to be put there. */
struct batch {
    PyObject_HEAD struct client *client; /* while it is in one of its lists; NULL afterwards */
    PyObject *messages;                  /* a list; NULL: all are in the lane */
    Py_ssize_t next, count;              /* of messages */
    uint64_t left;                       /* in the lane, not confirmed */
    uint64_t stored;
    uint64_t refused;            /* by the scheduler, or before they were put into the lane */
    int error;                   /* of the first that was refused */
    char why[256];               /* words for it; "": the error's own */
    bool awaited;                /* by a blocking call: dispatch does not tell of it */
    bool linked, finished;       /* in one of the client's lists, which hold a reference; and in which */
    struct pawl_confirm confirm; /* the last */
    struct batch *newer, *older; /* in that list */
};

/* Newest first. */
struct batch_list {
    struct batch *newest, *oldest;
};

struct client {
    PyObject_HEAD struct pawl *pawl; /* NULL: closed */
    bool busy;                       /* a thread waits in it without the GIL */
    bool heeds;                      /* and wants to know of signals */
    struct batch_list open, finished;
    PyObject *last_topic, *last_topic_bytes; /* what was converted last */
};

struct consumer {
    PyObject_HEAD struct client *client; /* strong */
    struct pawl_consumer *self;          /* NULL: closed; also void once the client is */
    PyObject *queue;
    char group[65]; /* of a stream; "" */
    bool auto_ack;
    uint64_t settled_below; /* numbers: ack_up_to() settled them all */
    PyObject *topic;        /* of the delivery before, and its bytes */
    char topic_text[256];
};

/* Contents are copied when it is handed out: they stay readable after it was settled. */
struct delivery {
    PyObject_HEAD struct client *client;  /* strong */
    struct consumer *consumer;            /* strong; NULL: detached, settled by `tag` */
    const struct pawl_delivery *delivery; /* NULL: settled. Another's once `number` differs */
    uint64_t number;
    PyObject *queue, *topic, *data, *tag;
    PyObject *packed, *headers; /* as packed; as a dict once it was asked for */
    uint64_t event_id, seq, epoch, published_at_ns;
    uint32_t attempt, failures;
    unsigned priority;
};

/* ---- module.c ---- */

/** raise_error - set a pawl.Error of this code. Return: NULL. @why NULL or "": the code's own words. */
PyObject *raise_error(int code, const char *why);
/** raise_last - with the words of the client's last error. Return: NULL. */
PyObject *raise_last(const struct client *client, int code);
extern PyTypeObject *client_type, *consumer_type, *delivery_type, *batch_type;

/* ---- client.c ---- */

extern PyType_Spec client_spec;
PyObject *connect_client(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *start_client(PyObject *module, PyObject *args);
/** enter - is it open, and no other thread's just now? false: an exception is set. */
bool enter(struct client *client);

/* ---- wait.c ---- */

#define FOREVER INT64_MAX
int64_t now_ms(void);
/** read_timeout - None or seconds, as a deadline of now_ms(). false: an exception is set. */
bool read_timeout(PyObject *timeout, int64_t *deadline_out);
int milliseconds_left(int64_t deadline_ms);
/* Around a call of libpawl that waits for an answer: without the GIL, and with an ear for signals. */
/* clang-format off */
#define BEGIN_ASKING(client) (client)->busy = (client)->heeds = true; Py_BEGIN_ALLOW_THREADS
#define END_ASKING(client) Py_END_ALLOW_THREADS (client)->busy = (client)->heeds = false
/* clang-format on */
/** was_interrupted - libpawl's question (pawl_connect_options): has a signal handler raised something? */
int was_interrupted(void *context);
/** raise_asked - after such a call that failed: what a signal handler raised, else raise_last(). NULL. */
PyObject *raise_asked(const struct client *client, int error);
/** wait_for_news - without the GIL, until something may have changed; signals are looked at
 * Return: 1; 0: the deadline has passed; -1: an exception is set. */
int wait_for_news(struct client *client, int64_t deadline_ms);

/* ---- publish.c ---- */

extern PyType_Spec batch_spec;
PyObject *client_submit(struct client *self, PyObject *messages);
PyObject *client_publish(struct client *self, PyObject *args);
PyObject *client_publish_batch(struct client *self, PyObject *args);
PyObject *take_finished(struct client *client); /* a list of batches */
void drop_batches(struct client *client);       /* its pawl handle is gone */

/* ---- message.c ---- */

enum { HEADERS_INLINE = 32 };
/* A message and the objects that its pointers lie in. */
struct message {
    struct pawl_message message;
    struct pawl_header *headers; /* inline_headers or allocated */
    PyObject **held;             /* two for each header */
    Py_ssize_t held_count;
    PyObject *topic, *key, *data;
    struct pawl_header inline_headers[HEADERS_INLINE];
    PyObject *inline_held[2 * HEADERS_INLINE];
};
/** message_read - of (topic, data, headers, key, delay_ms, ttl_ms, priority, durability, guarantee,
 * expect_routed), all but the first two optional. -1: an exception is set, nothing is held. */
int message_read(struct client *client, PyObject *tuple, struct message *out);
void message_drop(struct message *message);

/* ---- consumer.c ---- */

extern PyType_Spec consumer_spec;
PyObject *client_consume(struct client *self, PyObject *args, PyObject *keywords);
PyObject *client_take(struct client *self, PyObject *args, PyObject *keywords);

/* ---- delivery.c ---- */

extern PyType_Spec delivery_spec;
/** delivery_new - of what was just handed out. @topic is borrowed. NULL: an exception is set. */
PyObject *delivery_new(struct client *client, struct consumer *consumer, const struct pawl_delivery *given,
                       PyObject *queue, PyObject *topic, const char *tag);
/** delivery_own - may it be settled? NULL: an exception is set. */
const struct pawl_delivery *delivery_own(struct delivery *self);

#endif
