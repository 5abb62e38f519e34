/*
 * lib.h - what the files of libpawl share: the handle, its lane, its publications and deliveries.
 *
 * Runs in: the program that uses pawl.h, one thread at a time per handle. Never blocks unless the caller gave
 * a timeout, never starts a thread, touches no signal. The scheduler's structs of the same nouns are never
 * included here.
 *
 *   handle.c      made and closed
 *   fork.c        what a forked child has of them
 *   connection.c  finds the scheduler, shakes hands, comes back after it was lost; one step at a time
 *   wait.c        the pollable descriptor, sleeping and spinning, pawl_dispatch()
 *   request.c     a question over the socket, and its answer
 *   silence.c     a scheduler that does not answer
 *   lane.c        both segments of one attachment; replies and deliveries are taken in here
 *   publisher.c   events into the lane; what is not confirmed is kept for sending again
 *   consumer.c    subscriptions; deliveries handed out
 *   delivery.c    settlements
 */
#ifndef PAWL_RUNTIME_LIB_LIB_H
#define PAWL_RUNTIME_LIB_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/client.h"
#include "runtime/lib/command.h"
#include "runtime/pawl.h"
#include "runtime/state.h"
#include "shm/client_lane.h"
#include "shm/segment.h"
#include "shm/wire.h"

enum {
    PAWL_LIB_ERROR_BYTES = 640,
    PAWL_LIB_BATCH_ENTRIES = 64, /* submissions that are shown without being asked to */
    PAWL_LIB_BELL_ENTRIES =
        256, /* and for which a scheduler that sleeps is woken: that costs as much as they */
    PAWL_LIB_BATCH_BYTES = 64 << 10,
    PAWL_LIB_KEPT_BYTES_MAX = 32 << 20, /* copies of unconfirmed events whose lane bytes were needed again */
    PAWL_LIB_PREFETCH = 64,
    PAWL_LIB_CONSUMERS_MAX = 4096,
};
#define PAWL_LIB_FOREVER UINT64_MAX

/* ---- a lane ---- */

struct pawl_lib_delivery;

/* One attachment. When its scheduler is gone it stays mapped until what was handed out of it is settled. */
struct pawl_lib_lane {
    struct pawl *pawl;
    struct pawl_client_end end;
    int scheduler_fd, own_fd; /* doorbells */
    int self_fd;              /* what makes pawl_fd() readable without the scheduler */
    uint64_t epoch;
    uint64_t number_base;       /* the handle's number of this lane's delivery 0 */
    bool gone;                  /* nothing is settled or sent here any more */
    uint32_t held;              /* deliveries handed out, and a reservation: why it stays mapped */
    struct pawl_lib_lane *next; /* among those that are gone */

    /* Deliveries head..tail, by number; a ring of pointers. */
    struct pawl_lib_delivery **slots;
    uint64_t slot_mask;
    uint64_t head, tail;              /* oldest whose bytes were not given back; next to be taken in */
    uint64_t begun;                   /* all below were handed out, or never will be */
    uint64_t consumed, consumed_told; /* inbound position that may be, and was, given back */

    /* Settlements that are not in the ring yet: one run. */
    struct pawl_settle pending;
    bool has_pending;
    uint64_t text_position; /* submit position behind the last settlement with words */
};

/* ---- deliveries ---- */

/*
 *   FREE -> WAITING (in its consumer's list) -> HANDED -> SETTLED -> FREE (its bytes were given back)
 */
enum pawl_lib_delivery_state {
    PAWL_LIB_FREE = 0,
    PAWL_LIB_WAITING,
    PAWL_LIB_HANDED,
    PAWL_LIB_SETTLED,
};

struct pawl_lib_delivery {
    struct pawl_delivery shown; /* first: its address is the user's */
    struct pawl *pawl;          /* whose slab it lies in */
    struct pawl_lib_lane *lane;
    struct pawl_lib_delivery *next; /* of its consumer's list, or among the free */
    uint64_t number;                /* of the lane */
    uint64_t end_position;          /* of the inbound ring */
    uint8_t state;
    bool auto_ack;
};

struct pawl_consumer {
    struct pawl *pawl;
    struct pawl_consumer *next;
    uint32_t number;
    uint32_t credit;
    uint32_t flags;
    uint64_t from;
    char queue[PAWL_NAME_BYTES], group[PAWL_NAME_BYTES];
    int error;    /* why it gets no more */
    uint64_t tag; /* of a CONSUME that is under way; 0: none */
    bool consuming;
    struct pawl_lib_delivery *first, *last; /* taken in, not handed out */
    size_t waiting;
    size_t handed;    /* and not settled */
    uint64_t limit;   /* of deliveries, UINT64_MAX: none */
    uint64_t claimed; /* ever */
    uint64_t asked;   /* of those that settle themselves: what there was credit for */
};

/* ---- publications ---- */

enum pawl_lib_publication_state { PAWL_LIB_UNSENT = 0, PAWL_LIB_SENT, PAWL_LIB_DONE };

/* One publish whose confirm has not come. Its entry lies in the lane at `position`, or in `copy`. */
struct pawl_lib_publication {
    pawl_confirm_callback callback;
    void *context;
    void *copy; /* malloc'd */
    uint64_t position;
    uint32_t bytes; /* of the entry */
    uint16_t refused;
    uint8_t state;
    bool acts; /* part of an ack_publish: never sent again */
};

struct pawl_lib_publisher {
    uint64_t id;
    struct pawl_lib_publication *slots; /* by sequence */
    uint64_t slot_mask;
    uint64_t first, next; /* sequences: oldest unconfirmed, next to give */
    uint64_t send;        /* next to put into the lane; == next but after a reconnect */
    uint64_t kept;        /* below this one, what is unconfirmed has a copy (of this lane's) */
    uint64_t kept_bytes;
    uint64_t unconfirmed;
    uint64_t callbacks; /* unconfirmed with a callback */
    uint32_t batch_entries;
    uint32_t batch_bytes;
    char checked_topic[PAWL_TOPIC_BYTES_MAX + 1]; /* the last that was found good */
    size_t checked_topic_bytes;
    unsigned char *headers; /* packed here; PAWL_EVENT_HEADERS_BYTES_MAX */

    /* pawl_publish_reserve() */
    struct pawl_lib_lane *reserved_lane;
    uint64_t reserved_from; /* submit position before it */
    void *reserved;
    size_t reserved_bytes;
};

/* ---- the handle ---- */

/*
 *   DOWN -> HELLO -> (ATTACH -> CONSUME) -> UP -> DOWN ...      GONE: given up
 */
enum pawl_lib_phase {
    PAWL_LIB_DOWN = 0, /* no socket; tried again at retry_at */
    PAWL_LIB_HELLO,    /* connected, the scheduler has not said that it serves */
    PAWL_LIB_ATTACH,   /* asked for a lane */
    PAWL_LIB_CONSUME,  /* asked for consumers' deliveries once more */
    PAWL_LIB_UP,
    PAWL_LIB_GONE,
};

struct pawl {
    uint32_t forks;             /* of this process when it was made: another number is a forked child */
    struct pawl *newer, *older; /* among the process's handles: fork.c */
    bool may_launch;
    bool asks;                                     /* only: it takes no place among `clients` */
    uint64_t connect_limit_ns, reconnect_limit_ns; /* PAWL_LIB_FOREVER */
    struct pawl_state state;
    bool has_state;
    char *socket_path; /* NULL: of the state directory */

    enum pawl_lib_phase phase;
    bool was_up;           /* at least once */
    bool was_served;       /* by `pawl serve`, when last up: that one is waited for */
    int gone_error;        /* GONE: why */
    struct pawl_wire wire; /* fd -1: none */
    uint64_t hello_tag, attach_tag, next_tag;
    uint64_t retry_at_ns, retry_wait_ns, down_since_ns;
    struct pawl_wire_welcome welcome;
    bool wants_lane;
    int attach_error;           /* why the first lane was refused */
    struct pawl_lib_lane *lane; /* NULL: not attached now */
    struct pawl_lib_lane *old_lanes;
    uint64_t data_bytes_max, headers_bytes_max, delay_ns_max; /* of an event; 0: not known */
    uint64_t numbers;                                         /* deliveries of all lanes so far */

    /* one question at a time over the socket */
    uint64_t awaited_tag;
    bool answered;
    int answer_error; /* the connection was lost meanwhile */
    struct pawl_wire_message answer;
    uint64_t beside_tag; /* of a question that is asked beside another, to see who answers; 0: none is open */
    struct pawl_segment large; /* where the body of the answer lies when no message holds it; fd -1: none */
    void (*on_notice)(void *ctx, const char *text, size_t bytes); /* words for people; NULL: nobody listens */
    void *notice_ctx;
    int stop_fd;  /* while a take waits: ends it when readable; -1: none, or it was heard */
    bool stopped; /* it was */
    int (*interrupted)(void *context); /* does the program want the waiting call to end? NULL: never */
    void *interrupt_context;
    bool hears_none; /* it is not asked now */

    /* wait.c */
    int epoll_fd, timer_fd;
    bool polled;   /* pawl_fd() was asked for: leave the bell armed when we return */
    bool flushing; /* a pawl_flush() timed out: its poll loop waits for its settlements to be durable */
    bool unseen;   /* deliveries were taken in where the poll loop does not know of it */
    bool timed;    /* the timer may fire */
    uint32_t spin; /* how often to look before sleeping */
    bool epoll_has_out;

    struct pawl_lib_publisher publisher;
    struct pawl_consumer *consumers;
    uint32_t consumer_numbers;
    uint32_t refusing,
        refusing_known; /* numbers: of the queue that refused last; of the one whose name is known */
    char refusing_name[PAWL_NAME_BYTES];
    struct pawl_lib_delivery *free_deliveries;
    void **slabs;
    size_t slab_count;
    uint64_t late;
    uint64_t lost_settlements; /* whose lane went before they were durable; since the last flush */
    pawl_late_callback on_late;
    void *late_context;
    uint64_t happened; /* counts everything that was taken in */
    struct pawl_lib_embedded *embedded;
    char error[PAWL_LIB_ERROR_BYTES];
};

/* ---- errors.c ---- */

/** pawl_lib_fail - keep words for pawl_last_error(). Return: @error. @pawl NULL: of this thread. */
__attribute__((format(printf, 3, 4))) int pawl_lib_fail(struct pawl *pawl, int error, const char *format,
                                                        ...);
int pawl_lib_fail_report(struct pawl *pawl, const struct pawl_error_report *report);
/** pawl_lib_check - may this process use this handle now? 0, PAWL_E_INVALID (NULL), PAWL_E_STATE (forked
 * child), or why it is gone. */
int pawl_lib_check(struct pawl *pawl);
/** pawl_lib_need - what a call cannot do without. 0; PAWL_E_INVALID with words. */
int pawl_lib_need(struct pawl *pawl, const void *argument, const char *what);
/** pawl_lib_options - the caller's options (NULL: none), as a struct of @known bytes whose first field is its
 * size; what it does not have is 0. 0; PAWL_E_INVALID with words. */
int pawl_lib_options(struct pawl *pawl, const char *what, const void *given, void *options, size_t known);

/* ---- fork.c ---- */

extern uint32_t pawl_lib_fork_count;
uint32_t pawl_lib_forks(void);
void pawl_lib_handle_made(struct pawl *pawl);
void pawl_lib_handle_gone(struct pawl *pawl);

/* ---- connection.c ---- */

/** pawl_lib_step - go on with connecting as far as it goes without waiting; takes in messages of the socket.
 */
void pawl_lib_step(struct pawl *pawl);
void pawl_lib_lost(struct pawl *pawl); /* the socket is gone, or what came over it did not hold */
/** pawl_lib_need_lane - attached and up. 0; -EAGAIN (timeout); an error. */
int pawl_lib_need_lane(struct pawl *pawl, uint64_t deadline_ns);
/** pawl_lib_shake_hands - on a fresh socket, which is taken over. */
void pawl_lib_shake_hands(struct pawl *pawl, int fd);
/** pawl_lib_give_up - nobody is coming back: what is unconfirmed has an unknown fate, and is told so. */
void pawl_lib_give_up(struct pawl *pawl, int error);
void pawl_lib_close_socket(struct pawl *pawl);
int pawl_lib_ask_consume(struct pawl *pawl, struct pawl_consumer *consumer);
/** pawl_lib_has_threads - /proc/self/status says more than one. */
bool pawl_lib_has_threads(void);

/* ---- handle.c ---- */

/** pawl_lib_open - a handle, not connected. */
int pawl_lib_open(struct pawl **pawl_out);
/** pawl_lib_begin - connect, over @fd when it is not -1, and wait until it is up or given up. */
int pawl_lib_begin(struct pawl *pawl, int fd);

/* ---- wait.c ---- */

uint64_t pawl_lib_now_ns(void);
uint64_t pawl_lib_deadline(int timeout_ms);
uint64_t pawl_lib_deadline_ns(uint64_t limit_ns);
/* What is waited for beside replies and deliveries. */
enum { PAWL_LIB_FOR_NEWS = 0, PAWL_LIB_FOR_ROOM = 1, PAWL_LIB_FOR_DURABLE = 2 };
/**
 * pawl_lib_wait - until something was taken in, or may have changed
 * @what: ROOM: in the lane; DURABLE: until all that was settled is so
 *
 * Return: 0: look again; -ETIMEDOUT; -EINTR (the program wants no more of it); an error once the connection
 * is given up.
 */
int pawl_lib_wait(struct pawl *pawl, uint64_t deadline_ns, unsigned what);
/** pawl_lib_take_in - everything that came by the lane, and steps of a connection that is not up. */
void pawl_lib_take_in(struct pawl *pawl);
int pawl_lib_watch_socket(struct pawl *pawl);
void pawl_lib_arm(struct pawl *pawl); /* before returning to the user's poll loop */
/** pawl_lib_rearm - the same where nothing may have changed: cheap. */
static inline void pawl_lib_rearm(struct pawl *pawl)
{
    if (pawl->polled && pawl->unseen)
        pawl_lib_arm(pawl);
}

/* ---- request.c ---- */

/**
 * pawl_lib_ask - one question, one answer, in pawl->answer
 * @repeatable: may be asked again when the scheduler was lost meanwhile
 *
 * Return: 0; what the scheduler said; -ETIMEDOUT; -EINTR; PAWL_E_INDEFINITE (lost meanwhile); PAWL_E_CLOSED.
 */
int pawl_lib_ask(struct pawl *pawl, uint16_t type, const void *body, size_t bytes, const void *more,
                 size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want, size_t reply_bytes_min,
                 bool repeatable, uint64_t deadline_ns);
/** pawl_lib_tell - a question whose answer nobody waits for. 0, also when it is only queued; an error. */
int pawl_lib_tell(struct pawl *pawl, uint16_t type, const void *body, size_t bytes);
/** pawl_lib_name - @text as a name of the wire. 0; PAWL_E_INVALID with words. */
int pawl_lib_name(struct pawl *pawl, const char *what, const char *text, char field[PAWL_NAME_BYTES]);

/* ---- lane.c ---- */

int pawl_lib_lane_open(struct pawl *pawl, int fds[4], uint64_t epoch, struct pawl_lib_lane **lane_out);
void pawl_lib_lane_lose(struct pawl_lib_lane *lane); /* its scheduler is gone */
void pawl_lib_lane_drop(struct pawl_lib_lane *lane); /* one holder less; the last of a gone one unmaps it */
void pawl_lib_lane_close(struct pawl_lib_lane *lane);
/** pawl_lib_take_in_replies, _deliveries - Return: how many; @most deliveries. */
size_t pawl_lib_take_in_replies(struct pawl *pawl);
size_t pawl_lib_take_in_deliveries(struct pawl *pawl, struct pawl_consumer *consumer, size_t most);
/** pawl_lib_give_back - bytes of settled deliveries at the front. */
void pawl_lib_give_back(struct pawl_lib_lane *lane);
void pawl_lib_mark_begun(struct pawl_lib_lane *lane);

/* ---- publisher.c ---- */

/** pawl_lib_parts - what a message becomes when it is packed, checked. Headers lie in publisher.headers from
 * *headers_used on, which moves. 0; PAWL_E_INVALID; PAWL_E_LIMIT. */
int pawl_lib_parts(struct pawl *pawl, const struct pawl_message *message, size_t *headers_used,
                   struct pawl_event_parts *parts_out);
size_t pawl_lib_entry_bytes(const struct pawl_event_parts *parts);
/** pawl_lib_fill - an entry of the submit ring. Return: where its data lies. */
void *pawl_lib_fill(void *entry, size_t bytes, const struct pawl_message *message,
                    const struct pawl_event_parts *parts, uint64_t sequence, bool more);
/** pawl_lib_reserve - room for an entry, copies made of what lies there. NULL: none now (*error_out 0), or
 * why. */
void *pawl_lib_reserve(struct pawl *pawl, size_t bytes, int *error_out);
/** pawl_lib_can_publish - would pawl_lib_may_publish() say 0 at once? Asks no clock. */
bool pawl_lib_can_publish(const struct pawl *pawl, size_t count);
/* What a wait for room ended with: -EAGAIN with words for -ETIMEDOUT. */
int pawl_lib_no_room(struct pawl *pawl, int error);
/** pawl_lib_may_publish - attached, all earlier ones sent, @count places in the window. 0; -EAGAIN; an error.
 */
int pawl_lib_may_publish(struct pawl *pawl, size_t count, uint64_t deadline_ns);
/** pawl_lib_record - the entry at @position is publication publisher.next. */
/** pawl_lib_window - places for @count more publications. 0 or -ENOMEM. */
int pawl_lib_window(struct pawl *pawl, size_t count);
void pawl_lib_record(struct pawl *pawl, uint64_t position, size_t bytes, pawl_confirm_callback callback,
                     void *context, bool acts);
/** pawl_lib_record_reserved - the same for what was reserved, also when its lane is lost. 0 or -ENOMEM. */
int pawl_lib_record_reserved(struct pawl *pawl, pawl_confirm_callback callback, void *context);
static inline void *pawl_lib_entry_at(const struct pawl_lib_lane *lane, uint64_t position)
{
    return (char *)lane->end.lane + PAWL_CLIENT_SUBMIT_AT + (position & (lane->end.submit_bytes - 1));
}
/** pawl_lib_forget - callbacks with this context are not to run any more. */
void pawl_lib_forget(struct pawl *pawl, uint64_t first, uint64_t end, const void *context);
int pawl_lib_refusal(struct pawl *pawl, const struct pawl_confirm *confirm);
void pawl_lib_confirm(struct pawl *pawl, const struct pawl_reply *reply);
void pawl_lib_publisher_lost(struct pawl *pawl); /* before its lane goes: copies of what is not confirmed */
/** pawl_lib_publisher_attached - on a new lane: @sequence and all below are known. */
void pawl_lib_publisher_attached(struct pawl *pawl, uint64_t sequence);
/** pawl_lib_resend - put into the lane what is not there yet, as far as there is room. */
void pawl_lib_resend(struct pawl *pawl);
/** pawl_lib_publisher_fini - the end; callbacks are told @error, 0: nothing. */
void pawl_lib_publisher_fini(struct pawl *pawl, int error);
/** pawl_lib_send - make submissions visible and ring; not while one is reserved. */
void pawl_lib_send(struct pawl *pawl);
/** pawl_lib_send_batch - of a program that publishes on: visible, but little of it wakes nobody. */
void pawl_lib_send_batch(struct pawl *pawl);

/* ---- consumer.c, delivery.c ---- */

void pawl_lib_consumers_lost(struct pawl *pawl);
/** pawl_lib_consumer_gone - its queue is not there any more: what was not handed out is nobody's. */
void pawl_lib_consumer_gone(struct pawl *pawl, uint64_t number, int error);
void pawl_lib_delivery_done(struct pawl_lib_delivery *delivery); /* settled or void: its bytes may go */
/** pawl_lib_settle_send - the pending run goes into the ring, all becomes visible. */
void pawl_lib_settle_send(struct pawl *pawl);
/** pawl_lib_own - ours, handed out and not settled. NULL with *error_out. */
struct pawl_lib_delivery *pawl_lib_own(const struct pawl_delivery *delivery, int *error_out);
/** pawl_lib_all_settled - is everything that was settled here durable? */
bool pawl_lib_all_settled(const struct pawl_lib_lane *lane);

/* ---- embed.c ---- */

void pawl_lib_embedded_close(struct pawl *pawl);

#endif
