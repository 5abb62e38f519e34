/*
 * control_run.c - requests that start, feed, stop or await runs.
 *
 * Runs in: scheduler. Nothing is confirmed before the lsn that holds it is durable; what must wait is parked.
 */
#include "scheduler/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/plan.h"
#include "scheduler/queue.h"
#include "shm/error.h"

enum { CONTEXT_BYTES_MAX = 64 << 20, ITEMS_MAX = 65536 };

/* ---- parking ---- */

struct pawl_parked *pawl_control_park(struct pawl_connection *connection, uint16_t type, uint64_t tag,
                                      const char *run_id, uint64_t lsn)
{
    struct pawl_parked *parked = calloc(1, sizeof *parked);
    if (!parked) {
        pawl_control_error(connection, tag, -ENOMEM, NULL, "the scheduler is out of memory");
        return NULL;
    }
    parked->type = type;
    parked->tag = tag;
    parked->lsn = lsn;
    snprintf(parked->run_id, sizeof parked->run_id, "%s", run_id);
    *connection->parked_tail = parked;
    connection->parked_tail = &parked->next;
    connection->parked_count++;
    connection->loop->changed = true; /* it may be answered at the end of this very turn */
    return parked;
}

/* Keep the run in memory until this client has heard all of it. */
static void hold(struct pawl_connection *connection, struct pawl_run *run)
{
    for (struct pawl_held *held = connection->held; held; held = held->next)
        if (held->run == run)
            return;
    struct pawl_held *held = calloc(1, sizeof *held);
    if (!held)
        return; /* it may be sealed early: the client then reads the image */
    held->run = run;
    held->next = connection->held;
    connection->held = held;
}

static void let_go(struct pawl_connection *connection, const struct pawl_run *run)
{
    for (struct pawl_held **link = &connection->held; *link; link = &(*link)->next)
        if ((*link)->run == run) {
            struct pawl_held *held = *link;
            *link = held->next;
            free(held);
            return;
        }
}

static void answer_submitted(struct pawl_connection *connection, const struct pawl_parked *parked,
                             struct pawl_run *run)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_wire_summary summary;
    struct pawl_batch *batch = pawl_run_batch(run);
    pawl_run_summary(loop->core, run, loop->now, &summary);
    struct pawl_wire_submitted body = {
        .batch = batch ? pawl_batch_number(batch) : 0,
        .total = summary.total,
        .succeeded = summary.succeeded,
        .completion_count = parked->pull.from,
        .resumed = parked->count ? PAWL_RESUMED : PAWL_RESUMED_NOT,
    };
    memcpy(body.run_id, summary.run_id, sizeof body.run_id);
    pawl_control_reply(connection, PAWL_WIRE_SUBMITTED, parked->tag, &body, sizeof body, NULL, 0);
}

/* The instances first; credit that is owed comes later, with a count of 0. True when nothing is owed. */
static bool try_items(struct pawl_connection *connection, struct pawl_parked *parked, struct pawl_run *run)
{
    struct pawl_wire_items_ok body = {.credit = pawl_core_items_credit(connection->loop->core, run)};
    if (parked->answered && body.credit == 0)
        return pawl_run_over(run); /* no room will ever come */
    if (!parked->answered)
        body.count = parked->count;
    pawl_control_reply(connection, PAWL_WIRE_ITEMS_OK, parked->tag, &body, sizeof body, parked->instances,
                       body.count * sizeof(uint64_t));
    parked->answered = true;
    return body.credit > 0;
}

bool pawl_control_try_parked(struct pawl_connection *connection, struct pawl_parked *parked)
{
    struct pawl_loop *loop = connection->loop;
    struct pawl_run *run;
    struct pawl_wire_summary summary;

    if (parked->bus)
        return pawl_control_bus_try(connection, parked);
    if (parked->lsn > loop->durable_lsn)
        return false;
    if (parked->type == PAWL_WIRE_ITEMS_END || parked->type == PAWL_WIRE_CANCEL) {
        pawl_control_reply(connection, PAWL_WIRE_OK, parked->tag, NULL, 0, NULL, 0);
        return true;
    }
    run = pawl_control_find(connection, parked->tag, parked->run_id);
    if (!run)
        return true;
    switch (parked->type) {
    case PAWL_WIRE_SUBMIT:
        if (!pawl_run_durable(run))
            return false;
        answer_submitted(connection, parked, run);
        return true;
    case PAWL_WIRE_ITEMS:
        return try_items(connection, parked, run);
    case PAWL_WIRE_PULL:
        if (pawl_run_completions(run) <= parked->pull.from && !pawl_run_over(run))
            return false;
        return !pawl_control_answer_pull(connection, parked->tag, run, &parked->pull);
    case PAWL_WIRE_WAIT:
        pawl_run_summary(loop->core, run, loop->now, &summary);
        if (!pawl_run_over(run) && summary.state != PAWL_RUN_WAITING)
            return false;
        pawl_control_reply(connection, PAWL_WIRE_SUMMARY, parked->tag, &summary, sizeof summary, NULL, 0);
        let_go(connection, run);
        return true;
    default:
        return true;
    }
}

/* ---- submit ---- */

static void answer_nothing_left(struct pawl_connection *connection, uint64_t tag, const char *run_id)
{
    struct pawl_wire_submitted body = {.resumed = PAWL_RESUMED_NOTHING_LEFT};
    snprintf(body.run_id, sizeof body.run_id, "%s", run_id);
    pawl_control_reply(connection, PAWL_WIRE_SUBMITTED, tag, &body, sizeof body, NULL, 0);
}

struct mapped {
    void *bytes;
    size_t n;
};

/* A sealed memfd cannot change under us: mapped, checked, copied by the core, unmapped. */
static int map_sealed(int fd, size_t bytes_max, struct mapped *mapped_out)
{
    struct stat status;
    const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & needed) != needed || fstat(fd, &status) != 0)
        return PAWL_E_BAD_MESSAGE;
    if (status.st_size <= 0 || (uint64_t)status.st_size > bytes_max)
        return PAWL_E_LIMIT;
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    mapped_out->bytes = bytes;
    mapped_out->n = (size_t)status.st_size;
    return 0;
}

static void unmap(struct mapped *mapped)
{
    if (mapped->bytes)
        munmap(mapped->bytes, mapped->n);
}

/* Names come as arrays of bytes, and become parts of paths. "" is allowed. */
static bool name_holds(const char name[PAWL_NAME_BYTES])
{
    size_t length = strnlen(name, PAWL_NAME_BYTES);
    if (length > 64 || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
              c == '.' || c == '-'))
            return false;
    }
    return true;
}

static bool is_sealed_run(const struct pawl_loop *loop, const char *run_id)
{
    char path[PAWL_NAME_BYTES + 16];
    snprintf(path, sizeof path, "%s/image", run_id);
    return faccessat(loop->options->runs_dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The request's texts and descriptors into a submission. 0 or an error. */
static int read_submission(struct pawl_connection *connection, struct pawl_wire_message *message,
                           struct pawl_submission *submission, struct mapped mapped[2], char **texts_out)
{
    const struct pawl_wire_submit *request = submission->request;
    const char *texts = (const char *)message->body + sizeof *request;
    size_t left = message->header.bytes - sizeof *request;

    if (!name_holds(request->run_id) || !name_holds(request->resume_id) || !name_holds(request->workflow) ||
        request->file_bytes > left || request->filter_bytes > left - request->file_bytes)
        return PAWL_E_BAD_MESSAGE;
    char *copy = malloc((size_t)request->file_bytes + request->filter_bytes + 2);
    if (!copy)
        return -ENOMEM;
    *texts_out = copy;
    memcpy(copy, texts, request->file_bytes);
    copy[request->file_bytes] = 0;
    submission->file = copy;
    copy += request->file_bytes + 1;
    memcpy(copy, texts + request->file_bytes, request->filter_bytes);
    copy[request->filter_bytes] = 0;
    submission->filter = copy;
    submission->client = request->flags & PAWL_SUBMIT_DETACH ? 0 : connection->client;

    if (!(request->flags & PAWL_SUBMIT_SAME_PLAN)) {
        if (message->header.fd_count != 2)
            return PAWL_E_BAD_MESSAGE;
        int error = map_sealed(message->fds[0], PAWL_PLAN_BYTES_MAX, &mapped[0]);
        if (!error)
            error = map_sealed(message->fds[1], CONTEXT_BYTES_MAX, &mapped[1]);
        if (error)
            return error;
        submission->plan = mapped[0].bytes;
        submission->plan_bytes = mapped[0].n;
        submission->context = mapped[1].bytes;
        submission->context_bytes = mapped[1].n;
    } else if (!request->resume_id[0]) {
        return PAWL_E_BAD_MESSAGE;
    }
    return 0;
}

/* The scheduler's descriptors, for all slots at once. A worker that could not be taken in would have to be
 * killed, which its deliveries would count as a failure. */
static int check_files(const struct pawl_loop *loop, const struct pawl_wire_submit *request, char why[256])
{
    struct rlimit files;
    uint64_t all_slots = request->slots;
    for (const struct pawl_queue *queue = loop->queues; queue; queue = queue->next)
        if (pawl_batch_number(queue->batch) != request->batch)
            all_slots += queue->slots;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 ||
        PAWL_FILES_BASE + all_slots * PAWL_FILES_A_SLOT <= files.rlim_cur)
        return 0;
    snprintf(why, 256, "too few file descriptors: the limit is %llu, %llu slots need %llu",
             (unsigned long long)files.rlim_cur, (unsigned long long)all_slots,
             (unsigned long long)(PAWL_FILES_BASE + all_slots * PAWL_FILES_A_SLOT));
    return -EMFILE;
}

static void refuse_submit(struct pawl_connection *connection, uint64_t tag, int error,
                          const struct pawl_wire_submit *request, const char *why)
{
    char wait[PAWL_NAME_BYTES + 32];
    const char *hint = NULL;
    if (error == PAWL_E_NO_SPACE) {
        hint = "free some space, or run pawl gc";
    } else if (error == -EMFILE) {
        hint = "raise the hard limit (ulimit -Hn), or give fewer slots with -j";
    } else if (error == PAWL_E_STATE && !request->resume_id[0] && !connection->loop->stopping) {
        hint = "choose another, or go on with it: pawl resume";
    } else if (error == PAWL_E_BUSY && request->resume_id[0]) {
        snprintf(wait, sizeof wait, "wait for its end: pawl wait %.64s", request->resume_id);
        hint = wait;
    }
    pawl_control_error(connection, tag, error, hint, "%s", why[0] ? why : pawl_error_text(error));
}

void pawl_control_submit(struct pawl_connection *connection, struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    struct mapped mapped[2] = {0};
    struct pawl_wire_submit request;
    struct pawl_run *run = NULL;
    char *texts = NULL, why[256] = "";

    if (message->header.bytes < sizeof request) {
        pawl_control_error(connection, message->header.tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    memcpy(&request, message->body, sizeof request);
    if ((request.flags & PAWL_SUBMIT_ANY_SLOTS) && loop->config.run.workers > 0)
        request.slots = (uint32_t)loop->config.run.workers;
    request.flags &= ~(uint32_t)PAWL_SUBMIT_ANY_SLOTS;
    struct pawl_submission submission = {.request = &request};
    int error = read_submission(connection, message, &submission, mapped, &texts);
    if (loop->stopping && !error) {
        error = PAWL_E_STATE;
        snprintf(why, sizeof why, "the scheduler is stopping");
    }
    if (!error)
        error = check_files(loop, &request, why);
    if (!error) {
        submission.sealed = request.resume_id[0] && !pawl_core_find(loop->core, request.resume_id) &&
                            is_sealed_run(loop, request.resume_id);
        error = pawl_core_submit(loop->core, loop->now, &submission, &run, why);
    }
    unmap(&mapped[0]);
    unmap(&mapped[1]);
    free(texts);
    if (error == PAWL_SUBMIT_NOTHING_LEFT) {
        answer_nothing_left(connection, message->header.tag, request.resume_id);
        return;
    }
    if (error) {
        refuse_submit(connection, message->header.tag, error, &request, why);
        return;
    }
    struct pawl_parked *parked =
        pawl_control_park(connection, PAWL_WIRE_SUBMIT, message->header.tag, pawl_run_id(run), 0);
    if (parked) {
        parked->count = request.resume_id[0] != 0;
        parked->pull.from = pawl_run_completions(run);
    }
    if ((request.flags & PAWL_SUBMIT_MAP) && !(request.flags & PAWL_SUBMIT_DETACH))
        hold(connection, run);
}

/* ---- items ---- */

void pawl_control_items(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_items *request = message->body;
    uint64_t tag = message->header.tag;

    if (message->header.bytes < sizeof *request || request->count == 0 || request->count > ITEMS_MAX ||
        request->count > (message->header.bytes - sizeof *request) / sizeof(struct pawl_wire_item)) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL, "items that do not hold");
        return;
    }
    struct pawl_run *run = pawl_control_find(connection, tag, request->run_id);
    if (!run)
        return;
    uint64_t *instances = calloc(request->count, sizeof *instances);
    int error = instances
                    ? pawl_core_items(loop->core, loop->now, run, request->first, request + 1,
                                      message->header.bytes - sizeof *request, request->count, instances)
                    : -ENOMEM;
    struct pawl_parked *parked = NULL;
    if (error == PAWL_E_LIMIT)
        pawl_control_error(connection, tag, error, PAWL_RUN_INSTANCES_HINT,
                           "run %s has more tasks than the limit run-instances, %llu", pawl_run_id(run),
                           (unsigned long long)loop->config.run.run_instances);
    else if (error)
        pawl_control_error(connection, tag, error, NULL, "items of run %s: %s", pawl_run_id(run),
                           error == PAWL_E_STATE ? "it takes no more" : pawl_error_text(error));
    else
        parked = pawl_control_park(connection, PAWL_WIRE_ITEMS, tag, pawl_run_id(run),
                                   pawl_journal_last_lsn(loop->journal));
    if (!parked) {
        free(instances);
        return;
    }
    parked->instances = instances;
    parked->count = request->count;
}

void pawl_control_items_end(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_run *request = message->body;
    uint64_t tag = message->header.tag;
    if (message->header.bytes < sizeof *request) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    struct pawl_run *run = pawl_control_find(connection, tag, request->run_id);
    if (!run)
        return;
    int error = pawl_core_items_end(loop->core, loop->now, run);
    if (error)
        pawl_control_error(connection, tag, error, NULL, "run %s takes no more items", pawl_run_id(run));
    else
        (void)pawl_control_park(connection, PAWL_WIRE_ITEMS_END, tag, "",
                                pawl_journal_last_lsn(loop->journal));
}

/* ---- stop, wait, pull ---- */

void pawl_control_cancel(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_loop *loop = connection->loop;
    const struct pawl_wire_cancel *request = message->body;
    uint64_t tag = message->header.tag;
    struct pawl_batch *batch = NULL;
    struct pawl_run *run = NULL;

    if (message->header.bytes < sizeof *request) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    if (request->run_id[0]) {
        run = pawl_control_find(connection, tag, request->run_id);
        if (!run)
            return;
    } else {
        batch = pawl_core_batch(loop->core, request->batch);
        if (!batch) {
            pawl_control_error(connection, tag, PAWL_E_NOT_FOUND, NULL, "there is no such batch");
            return;
        }
    }
    int error = pawl_core_cancel(loop->core, loop->now, batch, run, request->mode, request->grace_ns);
    if (error == PAWL_E_STATE && run)
        pawl_control_error(connection, tag, error, NULL, "run %s has ended already", pawl_run_id(run));
    else if (error)
        pawl_control_error(connection, tag, error, NULL, "cannot cancel: %s", pawl_error_text(error));
    else
        (void)pawl_control_park(connection, PAWL_WIRE_CANCEL, tag, "", pawl_journal_last_lsn(loop->journal));
}

void pawl_control_detach(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    const struct pawl_wire_run *request = message->body;
    if (message->header.bytes < sizeof *request) {
        pawl_control_error(connection, message->header.tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    struct pawl_run *run = pawl_control_find(connection, message->header.tag, request->run_id);
    if (!run)
        return;
    pawl_core_detach(connection->loop->core, run);
    pawl_control_reply(connection, PAWL_WIRE_OK, message->header.tag, NULL, 0, NULL, 0);
}

void pawl_control_wait(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    const struct pawl_wire_run *request = message->body;
    if (message->header.bytes < sizeof *request) {
        pawl_control_error(connection, message->header.tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    struct pawl_run *run = pawl_control_find(connection, message->header.tag, request->run_id);
    if (!run)
        return;
    pawl_core_own(connection->loop->core, run, connection->client);
    /* Asked again, since its time had passed: only the newest question is still listened for. */
    for (struct pawl_parked *parked = connection->parked; parked; parked = parked->next)
        if (parked->type == PAWL_WIRE_WAIT && strcmp(parked->run_id, pawl_run_id(run)) == 0) {
            parked->tag = message->header.tag;
            return;
        }
    (void)pawl_control_park(connection, PAWL_WIRE_WAIT, message->header.tag, pawl_run_id(run), 0);
}

void pawl_control_pull(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_wire_pull request;
    if (message->header.bytes < sizeof request) {
        pawl_control_error(connection, message->header.tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return;
    }
    memcpy(&request, message->body, sizeof request);
    struct pawl_run *run = pawl_control_find(connection, message->header.tag, request.run_id);
    if (!run)
        return;
    pawl_core_own(connection->loop->core, run, connection->client);
    hold(connection, run);
    struct pawl_parked *parked =
        pawl_control_park(connection, PAWL_WIRE_PULL, message->header.tag, pawl_run_id(run), 0);
    if (parked)
        parked->pull = request;
}
