/*
 * pawl.h - libpawl: durable queues and an event bus beside your program, and workflows run for it.
 *
 * Two ways to begin: pawl_connect() to a state directory that `pawl serve` serves, or pawl_start(), which
 * embeds a scheduler of your own. Afterwards both are one handle.
 *
 * Handles are opaque; one thread at a time may use a handle, and several threads use one handle each. A
 * handle must not be used in a forked child. Calls that wait say so, and take a timeout in milliseconds: 0
 * never waits, -1 waits for ever; signals do not end them, unless the handle has an `interrupted` that says
 * so: then they return -EINTR, and of what was asked or published the fate is unknown. Errors are 0 or
 * negative: -errno of the system, PAWL_E_* (below -10000) of pawl; pawl_strerror() has words for both,
 * pawl_last_error() says what happened to which object. Option structs carry their size: set .bytes = sizeof,
 * zero the rest for defaults. Names of queues: [A-Za-z0-9_.-]{1,64}.
 */
#ifndef PAWL_H
#define PAWL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PAWL_API __attribute__((visibility("default")))
#else
#define PAWL_API
#endif

#define PAWL_API_VERSION 1

struct pawl;          /* a connection, with its lane */
struct pawl_consumer; /* a subscription of a handle to a queue */

/* Errors: append only. */
enum {
    PAWL_ERR_QUEUE_FULL = -10001,  /* the queue is at its limit: nothing was stored, try later */
    PAWL_ERR_EMPTY = -10002,       /* nothing is ready */
    PAWL_ERR_STALE = -10003,       /* the delivery was settled before, or given again (a late ack) */
    PAWL_ERR_BAD_FORMAT = -10004,  /* the other side is of another version */
    PAWL_ERR_DAMAGED = -10005,     /* the journal is damaged */
    PAWL_ERR_BAD_MESSAGE = -10006, /* the other side does not speak properly */
    PAWL_ERR_LIMIT = -10007,      /* a stated limit: event, topic, headers too large, too many of something */
    PAWL_ERR_INVALID = -10008,    /* a name, pattern or option does not hold */
    PAWL_ERR_BUSY = -10009,       /* another scheduler owns the state directory */
    PAWL_ERR_NOT_FOUND = -10010,  /* no such queue, group, run */
    PAWL_ERR_STATE = -10011,      /* not possible now */
    PAWL_ERR_NO_SPACE = -10012,   /* the disk has no room for new events; acks still work */
    PAWL_ERR_INDEFINITE = -10013, /* fate unknown: it may or may not have been stored */
    PAWL_ERR_CLOSED = -10015,     /* the scheduler is gone and did not come back */
    PAWL_ERR_DUPLICATE = -10016,  /* the key was there already: not stored again */
    PAWL_ERR_UNROUTED = -10017,   /* no queue wants the topic, and a route was asked for */
    PAWL_ERR_INCOMPATIBLE = -10018 /* the queue exists with settings that cannot be changed to these */
};

/* The same numbers by the names that the rest of pawl has for them. */
#ifndef PAWL_ERROR_SYMBOLS
#define PAWL_ERROR_SYMBOLS
enum pawl_error {
    PAWL_E_QUEUE_FULL = -10001,
    PAWL_E_QUEUE_EMPTY = -10002,
    PAWL_E_STALE_RECEIPT = -10003,
    PAWL_E_BAD_FORMAT = -10004,
    PAWL_E_DAMAGED = -10005,
    PAWL_E_BAD_MESSAGE = -10006,
    PAWL_E_LIMIT = -10007,
    PAWL_E_INVALID = -10008,
    PAWL_E_BUSY = -10009,
    PAWL_E_NOT_FOUND = -10010,
    PAWL_E_STATE = -10011,
    PAWL_E_NO_SPACE = -10012,
    PAWL_E_INDEFINITE = -10013,
    PAWL_E_SYNC_FAILED = -10014,
    PAWL_E_CLOSED = -10015,
    PAWL_E_DUPLICATE = -10016,
    PAWL_E_UNROUTED = -10017,
    PAWL_E_INCOMPATIBLE = -10018
};
#endif

PAWL_API const char *pawl_strerror(int error);
/* Words about the last error of this handle, "" if none; valid until its next call. NULL handle: of the last
 * pawl_connect() or pawl_start() of this thread. */
PAWL_API const char *pawl_last_error(const struct pawl *pawl);
PAWL_API const char *pawl_version(void);

/* ---- begin and end ---- */

struct pawl_connect_options {
    size_t bytes;
    const char *state;  /* state directory; NULL: $PAWL_STATE, else ".pawl" */
    const char *socket; /* or the socket's own path; NULL: state/socket */
    int may_launch; /* 1: start a temporary scheduler when nobody serves: it leaves with its last client */
    int connect_timeout_ms;   /* 0: 10,000; -1: for ever */
    int reconnect_timeout_ms; /* how long a lost scheduler is waited for; 0: 30,000; -1: for ever */
    /* Asked in the calling thread before each sleep of a waiting call, and so after each signal that came
     * meanwhile: not 0 ends that call with -EINTR. Signals are held back while it is asked, and delivered
     * when the call sleeps. (One that another thread handles is seen when the call has waited as long again.)
     * It must not use the handle. NULL: nothing ends them. */
    int (*interrupted)(void *context);
    void *interrupt_context;
};

/**
 * pawl_connect - attach to the scheduler of a state directory. Waits until it serves.
 *
 * Return: 0; -ENOENT, -ECONNREFUSED (nobody serves); -EACCES (not an allowed user); PAWL_ERR_LIMIT (too many
 * clients); PAWL_ERR_BAD_FORMAT; -ETIMEDOUT; -EINTR; -errno.
 */
PAWL_API int pawl_connect(const struct pawl_connect_options *options, struct pawl **pawl_out);

/* A handler in a forked worker: 0 acks; PAWL_HANDLER_NACK, PAWL_HANDLER_REJECT, or any other value: nack (a
 * handler error). It may settle by itself through the consumer instead. */
struct pawl_delivery;
typedef int (*pawl_handler)(struct pawl_consumer *consumer, const struct pawl_delivery *delivery,
                            void *context);
enum { PAWL_HANDLER_ACK = 0, PAWL_HANDLER_NACK = 75, PAWL_HANDLER_REJECT = 65 };

struct pawl_handler_options {
    size_t bytes;
    const char *queue;
    const char *group; /* streams */
    pawl_handler handler;
    void *context;
    unsigned processes; /* workers for it; 0: 1. A crash of one costs one attempt of what it handled */
    unsigned prefetch;  /* 0: 16 */
};

struct pawl_start_options {
    size_t bytes;
    const char *state; /* NULL: a private one that is removed by pawl_close() */
    const char *config_file;
    const struct pawl_handler_options *handlers; /* run in processes forked from here */
    size_t handler_count;
    int (*interrupted)(void *context); /* as of pawl_connect() */
    void *interrupt_context;
};

/**
 * pawl_start - embed a scheduler: forks a zygote that is the supervisor of scheduler and handler processes
 *
 * Call it before the program has threads. The state directory's queues of `handlers` must be declared within
 * (config file or an earlier life), or are waited for. Ends with pawl_close(), or when this process ends.
 *
 * Return: 0; PAWL_ERR_STATE (this process has threads already); PAWL_ERR_BUSY (the directory is being served:
 * pawl_last_error() names the socket to connect to); as pawl_connect().
 */
PAWL_API int pawl_start(const struct pawl_start_options *options, struct pawl **pawl_out);

/* pawl_close - waits for nothing: what is unconfirmed has an unknown fate, what is unsettled goes again. */
PAWL_API void pawl_close(struct pawl *pawl);

/* ---- in a poll loop ---- */

/* pawl_fd - readable (POLLIN) when pawl_dispatch() has something to do. Valid until pawl_close(). */
PAWL_API int pawl_fd(const struct pawl *pawl);
/**
 * pawl_dispatch - take in what came: runs confirm callbacks, fills consumers, reconnects when the scheduler
 * went Return: how many things happened; a negative error once the connection is given up.
 */
PAWL_API int pawl_dispatch(struct pawl *pawl, int timeout_ms);

/* ---- queues ---- */

enum pawl_overflow_policy {
    PAWL_OVERFLOW_DEFAULT,
    PAWL_OVERFLOW_BLOCK,
    PAWL_OVERFLOW_DROP_NEWEST,
    PAWL_OVERFLOW_DROP_OLDEST,
    PAWL_OVERFLOW_REJECT,
    PAWL_OVERFLOW_DEAD_LETTER
};
enum pawl_durability_mode {
    PAWL_DURABLE_DEFAULT,
    PAWL_DURABLE_MEMORY,
    PAWL_DURABLE_ASYNC,
    PAWL_DURABLE_FSYNC
};
enum pawl_delivery_guarantee { PAWL_DELIVER_DEFAULT, PAWL_DELIVER_AT_MOST_ONCE, PAWL_DELIVER_AT_LEAST_ONCE };

struct pawl_queue_options {
    size_t bytes;
    const char *const *topics; /* patterns; required when the queue is new */
    size_t topic_count;
    uint64_t ack_wait_ms;          /* 0: 30,000 */
    int64_t max_deliver;           /* 0: default (5); -1: no limit */
    const char *backoff;           /* as `pawl queue declare --backoff`; NULL: default */
    const char *dead_letter_queue; /* NULL: NAME.dlq */
    uint64_t max_depth, max_bytes;
    enum pawl_overflow_policy overflow;
    uint32_t max_in_flight;
    uint64_t rate_count, rate_per_ms; /* 0: no limit */
    uint64_t ttl_ms;
    int strict_attempts;
    enum pawl_delivery_guarantee guarantee;
    enum pawl_durability_mode durability;
    const char *ordering_key; /* name of a header */
    int stream;
    uint64_t retain_ms, retain_bytes;
    int temporary;    /* ends with this client */
    const char *json; /* the whole configuration as JSON instead (docs/bus.md); the rest is ignored */
};

/** pawl_queue_declare - create or update; the same again is fine. 0; PAWL_ERR_INCOMPATIBLE; PAWL_ERR_INVALID;
 * PAWL_ERR_LIMIT. Waits until it is durable. */
PAWL_API int pawl_queue_declare(struct pawl *pawl, const char *name,
                                const struct pawl_queue_options *options);
PAWL_API int pawl_queue_delete(struct pawl *pawl, const char *name);
PAWL_API int pawl_queue_pause(struct pawl *pawl, const char *name);
PAWL_API int pawl_queue_resume(struct pawl *pawl, const char *name);
PAWL_API int pawl_queue_purge(struct pawl *pawl, const char *name, uint64_t *count_out);
/** pawl_request - any administrative request as JSON text (docs/bus.md); *reply_out is to be free()d. */
PAWL_API int pawl_request(struct pawl *pawl, const char *json, char **reply_out);

/* ---- publish ---- */

struct pawl_header {
    const char *name;
    const void *value;
    size_t value_bytes;
};

struct pawl_message {
    size_t bytes; /* sizeof this struct */
    const char *topic;
    const void *data;
    size_t data_bytes;
    const struct pawl_header *headers;
    size_t header_count;
    const char *key; /* deduplication; NULL: none */
    uint64_t delay_ms, ttl_ms;
    unsigned priority; /* 0..9 */
    enum pawl_durability_mode durability;
    enum pawl_delivery_guarantee guarantee;
    int expect_routed;
};

struct pawl_confirm {
    uint64_t sequence; /* as pawl_publish_async() gave it */
    int error;         /* 0, or why nothing was stored */
    uint64_t event_id;
    enum pawl_durability_mode durability; /* what this confirm means */
    unsigned routed;                      /* queues that took it; 0: none wanted it */
    unsigned refused;                     /* queues that refused it while others took it; with
                                             routed, event_id and error 0: a full queue dropped it */
    int duplicate;
};
typedef void (*pawl_confirm_callback)(void *context, const struct pawl_confirm *confirm);

/** pawl_publish - one event, and wait for its confirm. data is copied.
 * Return: 0 (confirm_out may be NULL); PAWL_ERR_QUEUE_FULL, PAWL_ERR_UNROUTED, PAWL_ERR_LIMIT,
 * PAWL_ERR_NO_SPACE, PAWL_ERR_INVALID; -EAGAIN (no room in the lane, or no scheduler, in time: nothing was
 * sent), -EMFILE; -ETIMEDOUT, PAWL_ERR_INDEFINITE (fate unknown). */
PAWL_API int pawl_publish(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                          struct pawl_confirm *confirm_out);

/** pawl_refusing_queue - name of the queue that refused a publish of this handle last (a confirm whose error
 * is PAWL_ERR_QUEUE_FULL or PAWL_ERR_LIMIT, or with refused > 0). Asks the scheduler unless it is known, for
 * a second at most: not from a callback. Return: "" if nobody knows it; valid until the next call with this
 * handle. */
PAWL_API const char *pawl_refusing_queue(struct pawl *pawl);

/** pawl_publish_async - put it into the lane; the callback (may be NULL) runs in pawl_dispatch() or a waiting
 * call. Nothing is sent before pawl_kick(), a waiting call, or a filled batch. After a reconnect unconfirmed
 * ones are sent again. Return: 0; -EAGAIN (lane or window is full and timeout_ms passed); as pawl_publish().
 */
PAWL_API int pawl_publish_async(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                                pawl_confirm_callback callback, void *context, uint64_t *sequence_out);
/** pawl_publish_batch - all of them, and wait for all confirms. *stored_out: how many were confirmed without
 * an error and not dropped by a full queue; what nobody wanted (routed 0) counts, as pawl_publish() returns 0
 * for it. Return: 0, also when some were dropped; the first error. */
PAWL_API int pawl_publish_batch(struct pawl *pawl, const struct pawl_message *messages, size_t count,
                                int timeout_ms, size_t *stored_out);
/** pawl_publish_reserve - room in the lane for an event whose data you write yourself: message->data is
 * ignored, data_bytes counts. *data_out is valid until commit or abort; one reservation at a time. */
PAWL_API int pawl_publish_reserve(struct pawl *pawl, const struct pawl_message *message, int timeout_ms,
                                  void **data_out);
PAWL_API int pawl_publish_commit(struct pawl *pawl, pawl_confirm_callback callback, void *context,
                                 uint64_t *sequence_out);
PAWL_API void pawl_publish_abort(struct pawl *pawl);
/** pawl_kick - let the scheduler see what was put into the lane. No system call when it is awake. */
PAWL_API void pawl_kick(struct pawl *pawl);
/** pawl_flush - wait until every publish and settlement so far is confirmed. 0; -ETIMEDOUT. */
PAWL_API int pawl_flush(struct pawl *pawl, int timeout_ms);
PAWL_API uint64_t pawl_unconfirmed(const struct pawl *pawl);

/* ---- consume ---- */

/* Read it in place; everything is valid until the delivery is settled, and nothing of it in a forked child:
 * copy what one needs before. Fields are only ever appended. */
struct pawl_delivery {
    const char *queue;
    const char *topic; /* NUL-terminated */
    const void *data;
    size_t data_bytes;
    uint64_t event_id;
    uint64_t seq; /* of the queue; streams: the offset */
    uint64_t epoch;
    uint32_t attempt; /* 1 on the first delivery */
    uint32_t failures;
    uint64_t published_at_ns; /* CLOCK_REALTIME */
    unsigned priority;
    const void *headers; /* packed: pawl_delivery_header() */
    size_t headers_bytes;
    uint64_t number; /* of this handle */
    struct pawl_consumer *consumer;
    void *reserved;
};

struct pawl_consumer_options {
    size_t bytes;
    const char *group; /* streams */
    unsigned prefetch; /* 0: 64; at most 16,384 */
    int auto_ack;
    int has_from; /* streams: a new group begins at `from` */
    uint64_t from;
};

PAWL_API int pawl_consume(struct pawl *pawl, const char *queue, const struct pawl_consumer_options *options,
                          struct pawl_consumer **consumer_out);
/** pawl_consumer_close - what was not handed out goes back uncounted; what is unsettled goes back too. */
PAWL_API void pawl_consumer_close(struct pawl_consumer *consumer);

/** pawl_claim - hand out up to max deliveries. Each is counted now. Waits until at least one is there.
 * Return: how many; 0: timeout; negative. */
PAWL_API int pawl_claim(struct pawl_consumer *consumer, const struct pawl_delivery **deliveries_out,
                        size_t max, int timeout_ms);
/** pawl_delivery_header - value of the first header of this name, not NUL-terminated; NULL. */
PAWL_API const void *pawl_delivery_header(const struct pawl_delivery *delivery, const char *name,
                                          size_t *value_bytes_out);
/** pawl_delivery_tag - its identity as text (QUEUE:SEQ:ATTEMPT:EPOCH), for pawl_settle_tag() anywhere. */
PAWL_API int pawl_delivery_tag(const struct pawl_delivery *delivery, char *out, size_t bytes);

/* Settle: put into the lane, confirmed by pawl_flush(). The delivery's memory is gone afterwards. A
 * settlement that came too late is counted (pawl_late_settlements()) and told of by the callback. 0; -EAGAIN;
 * PAWL_ERR_STALE. */
PAWL_API int pawl_ack(const struct pawl_delivery *delivery);
PAWL_API int pawl_ack_batch(const struct pawl_delivery *const *deliveries, size_t count);
PAWL_API int pawl_ack_up_to(const struct pawl_delivery *delivery); /* all of its consumer up to this one */
PAWL_API int pawl_nack(const struct pawl_delivery *delivery, int requeue,
                       int64_t delay_ms); /* -1: the queue's backoff; requeue 0: as reject */
PAWL_API int pawl_nack_cause(const struct pawl_delivery *delivery, int exit_code, int64_t delay_ms,
                             int spare_breaker, const char *text);
PAWL_API int pawl_reject(const struct pawl_delivery *delivery, const char *reason);
/* 0: one ack wait; at most 7 days, else PAWL_ERR_LIMIT. */
PAWL_API int pawl_extend(const struct pawl_delivery *delivery, uint64_t by_ms);
PAWL_API int pawl_release(const struct pawl_delivery *delivery); /* hand back without a failure */
/** pawl_ack_publish - ack and the events that follow from it as one atomic record. Waits for the confirm. */
PAWL_API int pawl_ack_publish(const struct pawl_delivery *delivery, const struct pawl_message *messages,
                              size_t count, int timeout_ms);
typedef void (*pawl_late_callback)(void *context, uint64_t number, int error);
PAWL_API void pawl_on_late(struct pawl *pawl, pawl_late_callback callback, void *context);
PAWL_API uint64_t pawl_late_settlements(const struct pawl *pawl);

/* By tag, over the socket; waits until durable. op: "ack", "nack", "reject", "extend". */
PAWL_API int pawl_settle_tag(struct pawl *pawl, const char *tag, const char *op, int64_t value_ms,
                             const char *text);

/* A detached delivery: not bound to this process; settle it by its tag, within its ack wait. free() it. */
struct pawl_taken {
    struct pawl_delivery delivery;
    char tag[192];
};
/** pawl_take - up to count detached deliveries; *taken_out is one allocation, to be free()d. How many, or
 * negative. One that is interrupted still hands out what it had been given. */
PAWL_API int pawl_take(struct pawl *pawl, const char *queue, const char *group, size_t count, int timeout_ms,
                       struct pawl_taken **taken_out);
/** pawl_peek - look without taking, from seq `from` on; *next_out: where to go on. */
PAWL_API int pawl_peek(struct pawl *pawl, const char *queue, const char *group, uint64_t from, size_t count,
                       uint64_t *next_out, struct pawl_taken **taken_out);

/* ---- workflows ---- */

struct pawl_run_options {
    size_t bytes;
    const char *workflow;      /* NULL: the file's only or first one */
    const char *const *params; /* "K=V" */
    size_t param_count;
    unsigned slots;
    const char *run_id;
    int resume;
};
/** pawl_run_submit - load, check and submit a workflow file. *run_id_out: of at least 72 bytes.
 * PAWL_ERR_INVALID: pawl_last_error() has file:line:column. */
PAWL_API int pawl_run_submit(struct pawl *pawl, const char *file, const struct pawl_run_options *options,
                             char *run_id_out);
/** pawl_run_wait - 0: succeeded; PAWL_ERR_STATE: it ended otherwise (*status_json_out says how); -ETIMEDOUT.
 */
PAWL_API int pawl_run_wait(struct pawl *pawl, const char *run_id, int timeout_ms, char **status_json_out);
/** pawl_run_output - what a step printed; *output_out is to be free()d. */
PAWL_API int pawl_run_output(struct pawl *pawl, const char *run_id, const char *step, uint64_t instance,
                             void **output_out, size_t *bytes_out);
PAWL_API int pawl_run_cancel(struct pawl *pawl, const char *run_id);

/* ---- looking ---- */

/* JSON text, to be free()d; shapes as `pawl metrics --format json` and `pawl health --json`. */
PAWL_API int pawl_metrics(struct pawl *pawl, char **json_out);
PAWL_API int pawl_health(struct pawl *pawl, char **json_out);

/* ---- plugins: a shared object that `pawl serve` workers load ---- */

#define PAWL_PLUGIN_ABI 1
struct pawl_plugin {
    uint32_t abi; /* PAWL_PLUGIN_ABI */
    uint32_t bytes;
    const char *name;
    const char *version;
    int (*init)(const char *config_json, void **context_out);
    int (*handle)(const struct pawl_delivery *delivery, void *context); /* as pawl_handler's result */
    void (*fini)(void *context);
};
/* The object exports: const struct pawl_plugin pawl_plugin; */

#ifdef __cplusplus
}
#endif

#endif
