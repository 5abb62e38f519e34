/*
 * wire.h - the control socket's messages: clients and workers to the scheduler and back.
 *
 * A Unix stream socket. Each message is a header and a body of header.bytes; descriptors travel with the
 * first byte of the message that needs them. On the stream a body is padded with zeros to a multiple of 8.
 * All integers little-endian, structs packed by hand to natural alignment. Every request carries a tag, its
 * replies carry the same tag; an ERROR with tag 0 refuses the whole conversation. Bodies from the other side
 * are checked as if they came from the network: sizes first, then fields.
 */
#ifndef PAWL_SHM_WIRE_H
#define PAWL_SHM_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    PAWL_WIRE_VERSION = 1,
    PAWL_WIRE_BYTES_MAX = 4 << 20, /* of one message's body; larger things travel as sealed memfds */
    PAWL_WIRE_FDS_MAX = 8,
    PAWL_NAME_BYTES = 72, /* a name of at most 64 bytes, NUL-padded */
};

struct pawl_wire_header {
    uint32_t bytes; /* of the body */
    uint16_t type;
    uint16_t fd_count;
    uint64_t tag;
};

enum pawl_wire_type {
    PAWL_WIRE_HELLO = 1, /* first message of everybody: pawl_wire_hello -> WELCOME or ERROR */
    PAWL_WIRE_WELCOME,   /* pawl_wire_welcome; the scheduler has recovered and serves */
    PAWL_WIRE_ERROR,     /* pawl_wire_error + text + hint: answers any request, or refuses the start */
    PAWL_WIRE_OK,        /* empty: done, and durable where that applies */
    PAWL_WIRE_NOTICE,    /* text for people, tag 0: to a client that waits, unasked */

    /* clients: runs */
    PAWL_WIRE_SUBMIT = 16, /* pawl_wire_submit + fds {plan, context} -> SUBMITTED once durable */
    PAWL_WIRE_SUBMITTED,   /* pawl_wire_submitted */
    PAWL_WIRE_ITEMS,       /* pawl_wire_items + items: feeds the fed step of a map run -> ITEMS_OK */
    PAWL_WIRE_ITEMS_OK,    /* pawl_wire_items_ok + uint64_t[count]: for each item its instance, top bit: had
                              succeeded */
    PAWL_WIRE_ITEMS_END,   /* pawl_wire_run: no more items -> OK */
    PAWL_WIRE_PULL,  /* pawl_wire_pull: results after `from` in completion order; parked until there is one ->
                        RESULTS, as often as it says */
    PAWL_WIRE_FETCH, /* pawl_wire_fetch + uint64_t[count]: results of these instances of step -> RESULTS */
    PAWL_WIRE_RESULTS, /* pawl_wire_results + records (pawl_wire_result + bytes, 8-aligned), then in their
                          order a pawl_wire_files for each that names a file (not RUNNING's) */
    PAWL_WIRE_RUNNING, /* pawl_wire_run: what runs now -> RESULTS with state running and the spool paths as
                          stdout bytes */
    PAWL_WIRE_STATUS,  /* pawl_wire_run ("" or "last": newest) -> SUMMARY */
    PAWL_WIRE_SUMMARY, /* pawl_wire_summary */
    PAWL_WIRE_RUNS, /* empty -> RUNS_OK: pawl_wire_summary[]: runs that the scheduler holds (not sealed ones)
                     */
    PAWL_WIRE_RUNS_OK,
    PAWL_WIRE_STEPS, /* pawl_wire_steps -> STEPS_OK: pawl_wire_steps_ok + records (pawl_wire_step + bytes,
                        8-aligned) */
    PAWL_WIRE_STEPS_OK,
    PAWL_WIRE_PLAN, /* pawl_wire_run -> PLAN_OK + fd of the plan */
    PAWL_WIRE_PLAN_OK,
    PAWL_WIRE_LOGS,   /* pawl_wire_logs -> RESULTS with one record (or ERROR) */
    PAWL_WIRE_WHY,    /* pawl_wire_logs -> TEXT */
    PAWL_WIRE_TEXT,   /* text */
    PAWL_WIRE_WAIT,   /* pawl_wire_run: parked until the run ends or only waits -> SUMMARY */
    PAWL_WIRE_CANCEL, /* pawl_wire_cancel -> OK */
    PAWL_WIRE_HEALTH, /* empty -> HEALTH_OK: pawl_wire_process[] */
    PAWL_WIRE_HEALTH_OK,
    PAWL_WIRE_GC,     /* pawl_wire_gc -> TEXT (JSON of what was freed) */
    PAWL_WIRE_DETACH, /* pawl_wire_run: the run no longer depends on this client -> OK */

    /* clients: the event bus. What need not be fast speaks JSON; events travel in lanes (client_lane.h) */
    PAWL_WIRE_BUS = 128, /* JSON object with "op" (docs/bus.md) -> BUS_OK: JSON, once durable */
    PAWL_WIRE_BUS_OK, /* or, when no message holds it: pawl_wire_large + fd, a sealed memfd with that body */
    PAWL_WIRE_ATTACH, /* pawl_wire_attach -> ATTACHED + fds {lane, inbound, to-scheduler eventfd, own pipe}
                       */
    PAWL_WIRE_ATTACHED,    /* pawl_wire_attached */
    PAWL_WIRE_CONSUME,     /* pawl_wire_consume: deliver into my lane -> CONSUME_OK */
    PAWL_WIRE_CONSUME_OK,  /* pawl_wire_consume_ok */
    PAWL_WIRE_CONSUME_END, /* pawl_wire_consume: only client and consumer count; what has not begun goes back
                              -> OK */
    PAWL_WIRE_TAKE,  /* pawl_wire_take: detached deliveries, or a look -> TAKEN once their begin is durable */
    PAWL_WIRE_TAKEN, /* pawl_wire_taken + count times (pawl_inbound_entry + packed event), 8-aligned; or
                        pawl_wire_large + fd, as BUS_OK */
    PAWL_WIRE_SETTLE,  /* pawl_wire_settle + records (pawl_wire_settle_one + text, padded to 8) -> SETTLED */
    PAWL_WIRE_SETTLED, /* pawl_wire_settled + int32_t[count], once durable */
    PAWL_WIRE_METRICS, /* empty -> METRICS_OK + fd of the metrics segment (metrics.h) */
    PAWL_WIRE_METRICS_OK,

    /* supervisor <-> scheduler, over a socketpair of their own */
    PAWL_WIRE_WORKERS = 64, /* scheduler: pawl_wire_workers: have this many workers alive */
    PAWL_WIRE_WORKER_UP,    /* supervisor: pawl_wire_process: this worker was forked (pidfd attached) */
    PAWL_WIRE_WORKER_DOWN,  /* supervisor: pawl_wire_process + wait status: it was reaped, and nothing of its
                               job lives */
    PAWL_WIRE_RETIRE,       /* scheduler: pawl_wire_process: this worker is leaving: do not replace it */
    PAWL_WIRE_SERVES, /* scheduler: empty: it has recovered and serves; after each reload: pawl_wire_reloaded
                       */
    PAWL_WIRE_HANDLER_UP,   /* supervisor: pawl_wire_process: a helper of its was forked; for health */
    PAWL_WIRE_HANDLER_DOWN, /* supervisor: the same: it has ended, with this status (0: as it was to) */

    /* workers */
    PAWL_WIRE_LANE = 96, /* scheduler: pawl_wire_lane + fds {world, lane, scheduler eventfd, own eventfd} */
    PAWL_WIRE_QUEUE,   /* scheduler: pawl_wire_queue + fds {queue segment, claim words, context} : claim here
                          from now on */
    PAWL_WIRE_SEGMENT, /* scheduler: pawl_wire_segment + fd: one more task-memory segment */
    PAWL_WIRE_KILL,    /* scheduler: pawl_wire_kill: end this job */
    PAWL_WIRE_LEAVE,   /* scheduler: empty: claim no more from the queue; answer LEFT when idle */
    PAWL_WIRE_LEFT,    /* worker */
    PAWL_WIRE_EXIT,    /* scheduler: empty: finish what you hold, then exit 0 */
    PAWL_WIRE_OFFER,   /* worker, after a reconnect: pawl_wire_offer + inline bytes: I still hold this */
    PAWL_WIRE_OFFERS_END, /* worker: no more offers */
    PAWL_WIRE_ADOPT, /* scheduler: pawl_wire_adopt: keep it (ticket; its result comes through the lane) or
                        kill it */
};

enum pawl_wire_role {
    PAWL_ROLE_CLIENT = 1,
    PAWL_ROLE_WORKER = 2,
    PAWL_ROLE_SUPERVISOR = 3,
    PAWL_ROLE_HANDLER = 4, /* never greets with it: to the scheduler a handler process is a client */
    PAWL_ROLE_METRICS = 5, /* the same: it answers HTTP */
};

enum {
    PAWL_HELLO_ASKS =
        1, /* a command that only asks: it has no place among `clients` before it wants a lane */
};

struct pawl_wire_hello {
    uint32_t version;
    uint32_t role;
    union {
        uint32_t worker_number; /* workers: 1-based slot number of the process's life */
        uint32_t flags;         /* clients: PAWL_HELLO_* */
    };
    uint32_t pid; /* advisory: the scheduler asks the socket (SO_PEERPIDFD or SO_PEERCRED) */
};

struct pawl_wire_welcome {
    uint32_t version;
    uint32_t scheduler_pid;
    uint64_t epoch;
    char io[16]; /* "io_uring" or "syscall" */
};

struct pawl_wire_error {
    int32_t error;                   /* -errno or PAWL_E_* */
    int32_t exit_code;               /* what a command should exit with (SPEC 1): 1..7, 70 */
    uint32_t text_bytes, hint_bytes; /* text, then hint, follow */
};

enum {
    PAWL_SUBMIT_DETACH = 1,
    PAWL_SUBMIT_MAP = 2,        /* the plan has one fed step; keep its completion order */
    PAWL_SUBMIT_KEEP_GOING = 4, /* keep_going says how many steps may fail; 0: any number */
    PAWL_SUBMIT_RETRY = 8,      /* resume_id with only failed steps rerun */
    PAWL_SUBMIT_ANY_SLOTS = 32, /* nobody said -j: slots may be what the scheduler is configured for */
    PAWL_SUBMIT_SAME_PLAN = 16, /* resume_id with the plan and context that it has: no fds come along */
};

/* Descriptors that the scheduler may need: who submits asks for no more slots than its limit has room for. */
enum {
    PAWL_FILES_BASE = 48,  /* journal, sockets, clients, images */
    PAWL_FILES_A_SLOT = 5, /* its worker, the one that replaces it, a job that outlived both */
};

struct pawl_wire_submit {
    uint32_t flags;
    uint32_t slots; /* -j of the batch */
    uint32_t keep_going;
    uint32_t halt_percent;  /* 0 or 1..100: stop when this share of the started tasks has failed */
    uint64_t delay_ns;      /* least time between two starts; 0 none */
    uint64_t memfree_bytes; /* start nothing while less memory is available; 0 none */
    uint32_t load_milli;    /* start nothing while the 1-minute load is above; 0 none */
    uint32_t halt_now;      /* 1: kill what runs when halting */
    uint64_t batch;    /* 0: a batch of its own; else one of an earlier SUBMITTED of this client (--inputs) */
    uint64_t identity; /* hash of (file path, workflow, parameters): what --resume looks for */
    char run_id[PAWL_NAME_BYTES];    /* "" : the scheduler makes one */
    char resume_id[PAWL_NAME_BYTES]; /* go on with this run */
    char workflow[PAWL_NAME_BYTES];
    uint32_t file_bytes;   /* path of the file, follows (for people) */
    uint32_t filter_bytes; /* --filter text of retry, follows */
};

enum pawl_wire_resumed {
    PAWL_RESUMED_NOT = 0, /* a new run */
    PAWL_RESUMED = 1,
    PAWL_RESUMED_NOTHING_LEFT =
        2, /* it has succeeded: nothing was submitted; WAIT, or its image, tells the rest */
};

struct pawl_wire_submitted {
    uint64_t batch;
    uint64_t total, succeeded;
    uint64_t completion_count; /* results before this one are of earlier sessions */
    char run_id[PAWL_NAME_BYTES];
    uint32_t resumed; /* enum pawl_wire_resumed */
    uint32_t reserved;
};

struct pawl_wire_run {
    char run_id[PAWL_NAME_BYTES];
};

struct pawl_wire_items {
    char run_id[PAWL_NAME_BYTES];
    uint64_t first; /* the client's own number of the first of these, from 0: repeated ones are answered, not
                       added */
    uint32_t count;
    uint32_t reserved; /* items follow: pawl_wire_item + packed task, 8-aligned */
};

struct pawl_wire_item {
    uint32_t task_bytes;
    uint32_t reserved;
    uint64_t hash[2]; /* of command template and argument: what --resume compares */
};

struct pawl_wire_items_ok {
    uint32_t count;
    uint32_t credit; /* how many more items may be sent now; when 0, the next ITEMS_OK comes when there is
                        room again */
};

struct pawl_wire_pull {
    char run_id[PAWL_NAME_BYTES];
    uint64_t from;       /* completion number, 0-based */
    uint32_t bytes_max;  /* of each reply */
    uint16_t with_bytes; /* 0: leave output bytes out */
    uint16_t answers; /* so many replies, one after the other, as results come; 0 and 1: one. Fewer when the
                         run ends */
};

struct pawl_wire_fetch {
    char run_id[PAWL_NAME_BYTES];
    uint32_t step;
    uint32_t count; /* at most 256; uint64_t instance numbers follow */
};

struct pawl_wire_results {
    uint32_t count;
    uint32_t run_ended; /* 1: nothing will follow `next` */
    uint64_t next;      /* PULL: where to go on */
};

enum { PAWL_RESULT_STDOUT_FILE = 1, PAWL_RESULT_STDERR_FILE = 2 };

struct pawl_wire_result {
    uint64_t instance;
    uint32_t step;
    uint32_t attempt;
    uint32_t state;   /* enum pawl_step_state (scheduler/run.h) */
    uint32_t outcome; /* enum pawl_outcome */
    int32_t exit_code;
    uint32_t flags; /* PAWL_RESULT_*: the stream's bytes are a path instead */
    uint64_t started_at_ns;
    uint64_t duration_ns;
    uint32_t worker;
    uint32_t stdout_bytes, stderr_bytes, named_bytes; /* follow in this order, then padding to 8 */
};

/* What the files of a result's streams held when it was recorded; zeros: that stream is no file. */
struct pawl_wire_files {
    uint64_t stdout_bytes, stdout_xxh3;
    uint64_t stderr_bytes, stderr_xxh3;
};

struct pawl_wire_summary {
    char run_id[PAWL_NAME_BYTES];
    char workflow[PAWL_NAME_BYTES];
    uint32_t state; /* enum pawl_run_state */
    uint32_t slots;
    uint64_t total, waiting, ready, running, delayed, succeeded, failed, skipped, cancelled, cached;
    uint64_t attempts, retries;
    uint64_t started_at_ns, finished_at_ns; /* CLOCK_REALTIME; 0: not yet */
    uint64_t elapsed_ns;
    uint64_t completions;
    uint64_t identity;
    uint32_t open_ended; /* more items may come: total is not final */
    uint32_t sealed;
    uint64_t busy_ns; /* sum of the durations of ended attempts of this session */
};

struct pawl_wire_steps {
    char run_id[PAWL_NAME_BYTES];
    uint64_t from;       /* cursor: 0, then `next` of the reply */
    uint32_t state_mask; /* bit per enum pawl_step_state; 0: all */
    uint32_t reserved;
};

struct pawl_wire_steps_ok {
    uint32_t count;
    uint32_t end;
    uint64_t next;
};

struct pawl_wire_step {
    uint64_t instance;
    uint32_t step;
    uint32_t state;
    uint32_t attempts;
    uint32_t failures;
    int32_t exit_code;
    uint32_t outcome;
    uint64_t started_at_ns;
    uint64_t duration_ns;
    uint32_t worker;
    uint32_t fan_out; /* 1: the step has foreach or matrix, index and item mean something */
    uint32_t name_bytes, item_bytes, reason_bytes; /* follow in this order, then padding to 8 */
    uint32_t has_item;
};

struct pawl_wire_logs {
    char run_id[PAWL_NAME_BYTES];
    char step[PAWL_NAME_BYTES];
    uint64_t instance;
    uint32_t attempt; /* 0: the newest */
    uint32_t reserved;
};

enum { PAWL_CANCEL_DRAIN = 1, PAWL_CANCEL_INTERRUPT = 2, PAWL_CANCEL_CANCEL = 3 };

struct pawl_wire_cancel {
    char run_id[PAWL_NAME_BYTES]; /* "": every run of the client's batch (^C) */
    uint64_t batch;
    uint32_t mode; /* DRAIN: start nothing new (^C once); INTERRUPT: SIGTERM, grace, SIGKILL (^C twice);
                      CANCEL: for good */
    uint32_t reserved;
    uint64_t grace_ns;
};

struct pawl_wire_process {
    uint32_t role;   /* enum pawl_wire_role; 0: none */
    uint32_t number; /* workers: their number */
    uint32_t pid;
    uint32_t state; /* enum pawl_process_state */
    int32_t status; /* WORKER_DOWN: wait status; with number 0 and -errno: none could be forked. HEALTH, of
                       the supervisor: workers in a row that ended before they did anything */
    uint32_t reserved;
    uint64_t since_ns; /* CLOCK_REALTIME */
};

enum pawl_process_state { PAWL_PROCESS_STARTING, PAWL_PROCESS_IDLE, PAWL_PROCESS_BUSY, PAWL_PROCESS_LEAVING };

struct pawl_wire_gc {
    uint64_t keep_runs;     /* UINT64_MAX: no limit by number */
    uint64_t older_than_ns; /* 0: no limit by age */
};

struct pawl_wire_workers {
    uint32_t count;
    uint32_t reserved;
};

struct pawl_wire_reloaded {
    uint32_t taken_up; /* 0: the configuration before stays in force, all of it */
    uint32_t reserved;
};

struct pawl_wire_lane {
    uint32_t lane;
    uint32_t reserved;
    uint64_t epoch;
    char mark[PAWL_NAME_BYTES]; /* value of PAWL_MARK for the jobs of this scheduler's state directory */
};

struct pawl_wire_queue {
    uint32_t queue;
    uint32_t slot_number; /* {%}: 1..slots */
};

struct pawl_wire_segment {
    uint32_t id;
    uint32_t bytes;
};

struct pawl_wire_kill {
    uint32_t queue, slot, generation; /* or PAWL_SLOT_ADOPTED and the ticket */
    uint32_t reserved;
    uint64_t grace_ns; /* 0: SIGKILL at once */
};

struct pawl_wire_offer {
    char run_id[PAWL_NAME_BYTES];
    uint32_t step;
    uint32_t pid;
    uint64_t instance;
    uint32_t attempt;
    uint32_t ended; /* 1: a pawl_settlement of type RESULT and its arena bytes follow */
    uint64_t started_at_ns;
    uint64_t epoch;  /* of the scheduler that gave it */
    uint32_t number; /* which of this worker's offers: ADOPT names it */
    uint32_t reserved;
};

struct pawl_wire_adopt {
    uint32_t number;
    uint32_t keep;   /* 0: kill the job and forget it */
    uint32_t ticket; /* goes into settlement.generation, with slot PAWL_SLOT_ADOPTED */
    uint32_t queue;
};

/* ---- the event bus ---- */

struct pawl_wire_large {
    uint64_t bytes; /* of the body, in the memfd that comes along */
};

struct pawl_wire_attach {
    uint64_t publisher; /* random, the client's own for its life: what makes resent publishes no duplicates;
                           0: none */
    uint32_t flags;     /* 0 */
    uint32_t reserved;
};

struct pawl_wire_attached {
    uint64_t epoch;
    uint64_t
        publisher_sequence; /* of this publisher's publishes, all up to this one are settled; 0: never seen */
    uint64_t data_bytes_max, headers_bytes_max; /* of an event, now */
    uint32_t client;                            /* number of this client */
    uint32_t reserved;
};

enum {
    PAWL_CONSUME_AUTO_ACK = 1, /* settled by its delivery */
    PAWL_CONSUME_FROM = 2,     /* streams: `from` is an offset to begin a new group at */
};

struct pawl_wire_consume {
    char queue[PAWL_NAME_BYTES];
    char group[PAWL_NAME_BYTES]; /* streams; "" else */
    uint32_t consumer;           /* the client's own number for it, unique in its lane */
    uint32_t credit;             /* deliveries that may be in the lane unsettled: 1..PAWL_CREDIT_MAX */
    uint32_t flags;
    uint32_t reserved;
    uint64_t from;
};

struct pawl_wire_consume_ok {
    uint32_t queue; /* number */
    uint32_t reserved;
    uint64_t ack_wait_ns;
};

enum {
    PAWL_TAKE_PEEK = 1, /* look, change nothing: attempt 0, from seq `from` on */
    PAWL_TAKE_END = 2,  /* those of this client that wait are answered now; this one is not. Names are "" */
};

struct pawl_wire_take {
    char queue[PAWL_NAME_BYTES];
    char group[PAWL_NAME_BYTES];
    uint32_t count; /* 1..256 at most */
    uint32_t flags;
    uint64_t wait_ns; /* answered at once when something is there; else after this, with none */
    uint64_t from;    /* PEEK */
};

struct pawl_wire_taken {
    uint32_t count;
    uint32_t end;  /* PEEK: nothing follows `next` */
    uint64_t next; /* PEEK: where to go on */
};

struct pawl_wire_settle {
    uint32_t count; /* 1..1024 */
    uint32_t reserved;
};

/* By identity: for detached deliveries, or when the client that got it asks over the socket. */
struct pawl_wire_settle_one {
    char queue[PAWL_NAME_BYTES];
    char group[PAWL_NAME_BYTES];
    uint64_t seq, epoch;
    uint64_t value; /* as pawl_settle.value */
    uint32_t attempt;
    uint8_t op; /* enum pawl_settle_op */
    uint8_t flags;
    uint16_t cause;
    uint32_t text_bytes; /* words follow, padded to 8 */
    uint32_t reserved;
};

struct pawl_wire_settled {
    uint32_t count; /* int32_t each follow: 0, PAWL_E_STALE_RECEIPT, PAWL_E_NOT_FOUND, ... */
    uint32_t reserved;
};

/* ---- framing, used by every side ---- */

struct pawl_wire_buffer; /* growable receive or send buffer with its descriptors */

/* One with descriptors must stay where it is (not a dead stack frame) until the next receive, call or fini.
 */
struct pawl_wire_message {
    struct pawl_wire_header header;
    const void *body;           /* 8-aligned; valid until the next receive call */
    int fds[PAWL_WIRE_FDS_MAX]; /* header.fd_count of them; taken ones must be set to -1, the rest is closed
                                   by the next call */
};

struct pawl_wire {
    int fd;
    struct pawl_wire_buffer *in, *out;
    uint64_t received_count; /* messages that came */
    /* The owner's, NULL after init: what comes of type NOTICE while pawl_wire_call() waits for its reply. */
    void (*on_notice)(void *ctx, const struct pawl_wire_message *message);
    void *notice_ctx;
};

int pawl_wire_init(struct pawl_wire *wire, int fd);
/* Closes fd and undelivered descriptors. Who still speaks on it is told PAWL_E_CLOSED. */
void pawl_wire_fini(struct pawl_wire *wire);

/**
 * pawl_wire_queue_message - append a message to the send buffer; descriptors are duplicated
 *
 * Return: 0, -ENOMEM, PAWL_E_LIMIT (body over PAWL_WIRE_BYTES_MAX).
 */
int pawl_wire_queue_message(struct pawl_wire *wire, uint16_t type, uint64_t tag, const void *body,
                            size_t bytes, const void *more, size_t more_bytes, const int *fds,
                            unsigned fd_count);

/* Bytes that wait in the send buffer. */
size_t pawl_wire_pending(const struct pawl_wire *wire);
/* Descriptors that wait with them; the buffer owns them. */
size_t pawl_wire_pending_fds(const struct pawl_wire *wire);

/**
 * pawl_wire_flush - send what the socket takes without blocking
 *
 * Return: 0 when all is sent, -EAGAIN when some waits, PAWL_E_CLOSED or -errno.
 */
int pawl_wire_flush(struct pawl_wire *wire);

/**
 * pawl_wire_receive - the next whole message, without blocking
 *
 * After 0, poll the descriptor before the next call. What came before the other side closed is still given.
 *
 * Return: 1 with *message_out; 0 when none is whole yet; PAWL_E_CLOSED; PAWL_E_BAD_MESSAGE; -errno.
 */
int pawl_wire_receive(struct pawl_wire *wire, struct pawl_wire_message *message_out);

/**
 * pawl_wire_call - blocking: send one message and wait for the reply with its tag (clients)
 *
 * @timeout_ns: UINT64_MAX for none. A reply of type ERROR is returned like any other message. Messages that
 * come meanwhile with another tag are dropped, but counted, and told of to wire->on_notice.
 * Return: 1, -ETIMEDOUT, PAWL_E_CLOSED, PAWL_E_BAD_MESSAGE, -errno.
 */
int pawl_wire_call(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                   size_t more_bytes, const int *fds, unsigned fd_count, uint64_t timeout_ns,
                   struct pawl_wire_message *reply_out);

/**
 * pawl_wire_call_on - go on waiting for the reply of the last pawl_wire_call(), after its -ETIMEDOUT
 *
 * Return: as pawl_wire_call().
 */
int pawl_wire_call_on(struct pawl_wire *wire, uint64_t timeout_ns, struct pawl_wire_message *reply_out);

#endif
