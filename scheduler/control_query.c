/*
 * control_query.c - requests that only look: summaries, steps, results, plans, processes.
 *
 * Runs in: scheduler. Long answers come in pages. A run that was sealed is not here any more: the client
 * reads its image.
 */
#include "scheduler/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scheduler/figures.h"
#include "scheduler/handlers.h"
#include "scheduler/lanes.h"
#include "shm/error.h"

enum { FETCH_MAX = 256 };

/* A growing answer. */
struct page {
    char *bytes;
    size_t size, capacity;
    bool failed;
};

static char *page_add(struct page *page, size_t bytes)
{
    if (page->capacity - page->size < bytes) {
        size_t capacity = page->capacity ? page->capacity : 16 << 10;
        while (capacity - page->size < bytes)
            capacity *= 2;
        char *grown = realloc(page->bytes, capacity);
        if (!grown) {
            page->failed = true;
            return NULL;
        }
        page->bytes = grown;
        page->capacity = capacity;
    }
    char *at = page->bytes + page->size;
    page->size += bytes;
    return at;
}

static void page_send(struct page *page, struct pawl_connection *connection, uint16_t type, uint64_t tag)
{
    if (page->failed)
        pawl_control_error(connection, tag, -ENOMEM, NULL, "the scheduler is out of memory");
    else
        pawl_control_reply(connection, type, tag, page->bytes, page->size, NULL, 0);
    free(page->bytes);
}

static size_t padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

struct pawl_run *pawl_control_find(struct pawl_connection *connection, uint64_t tag, const char *run_id)
{
    char name[PAWL_NAME_BYTES];
    memcpy(name, run_id, sizeof name);
    name[sizeof name - 1] = 0;
    struct pawl_run *run = pawl_core_find(connection->loop->core, name);
    if (!run)
        pawl_control_error(connection, tag, PAWL_E_NOT_FOUND, "see pawl runs",
                           name[0] ? "there is no open run %s" : "there is no open run", name);
    return run;
}

/* ---- results ---- */

/* @files: what output files hold, to follow the results. Return: 0, or an error of the result itself (nothing
 * was added). */
static int add_result(struct page *page, struct page *files, struct pawl_core *core, struct pawl_run *run,
                      uint32_t step, uint64_t instance, uint32_t attempt, bool with_bytes)
{
    struct pawl_result_view view = {0};
    int error = pawl_run_result(core, run, step, instance, attempt, with_bytes, &view);
    if (error)
        return error;
    bool has_file = (view.fixed.flags & (PAWL_RESULT_STDOUT_FILE | PAWL_RESULT_STDERR_FILE)) != 0;
    struct pawl_wire_files *held = has_file ? (void *)page_add(files, sizeof *held) : NULL;
    if (held)
        *held = (struct pawl_wire_files){view.stdout_file.bytes, view.stdout_file.xxh3,
                                         view.stderr_file.bytes, view.stderr_file.xxh3};
    if (!with_bytes)
        view.fixed.stdout_bytes = view.fixed.stderr_bytes = view.fixed.named_bytes = 0;
    size_t bytes = (size_t)view.fixed.stdout_bytes + view.fixed.stderr_bytes + view.fixed.named_bytes;
    char *at = page_add(page, padded(sizeof view.fixed + bytes));
    if (at) {
        memcpy(at, &view.fixed, sizeof view.fixed);
        if (bytes)
            memcpy(at + sizeof view.fixed, view.bytes, bytes);
        memset(at + sizeof view.fixed + bytes, 0,
               padded(sizeof view.fixed + bytes) - sizeof view.fixed - bytes);
    }
    free(view.bytes);
    return at ? 0 : -ENOMEM;
}

/* A result that cannot be read is told as such: the client must not wait for it for ever. */
static int add_lost_result(struct page *page, struct pawl_run *run, uint32_t step, uint64_t instance,
                           int error)
{
    pawl_log(PAWL_LOG_ERROR, "run %s: a result of step %u cannot be read: %s", pawl_run_id(run), step,
             pawl_error_text(error));
    struct pawl_wire_result fixed = {.instance = instance,
                                     .step = step,
                                     .state = PAWL_STEP_FAILED,
                                     .outcome = PAWL_OUTCOME_CAPTURE,
                                     .exit_code = error > -4096 ? -error : EIO};
    char *at = page_add(page, padded(sizeof fixed));
    if (at)
        memcpy(at, &fixed, sizeof fixed);
    return at ? 0 : -ENOMEM;
}

/* @files: taken. */
static void send_results(struct page *page, struct page *files, const struct pawl_wire_results *head,
                         struct pawl_connection *connection, uint64_t tag)
{
    char *at = files->size ? page_add(page, files->size) : NULL;
    if (at)
        memcpy(at, files->bytes, files->size);
    page->failed |= files->failed;
    if (!page->failed)
        memcpy(page->bytes, head, sizeof *head);
    free(files->bytes);
    page_send(page, connection, PAWL_WIRE_RESULTS, tag);
}

bool pawl_control_answer_pull(struct pawl_connection *connection, uint64_t tag, struct pawl_run *run,
                              struct pawl_wire_pull *request)
{
    struct pawl_loop *loop = connection->loop;
    struct page page = {0}, files = {0};
    struct pawl_wire_results head = {.next = request->from};
    uint64_t end = pawl_run_completions(run);
    size_t most = request->bytes_max < PAWL_REPLY_BYTES_MAX ? request->bytes_max : PAWL_REPLY_BYTES_MAX;

    (void)page_add(&page, sizeof head);
    while (head.next < end && (head.count == 0 || page.size < most) && !page.failed) {
        uint32_t step;
        uint64_t instance;
        pawl_run_completion(run, head.next, &step, &instance);
        int error = add_result(&page, &files, loop->core, run, step, instance, 0, request->with_bytes != 0);
        if (error && !page.failed)
            (void)add_lost_result(&page, run, step, instance, error);
        head.next++;
        head.count++;
    }
    head.run_ended = pawl_run_over(run) && head.next >= end;
    send_results(&page, &files, &head, connection, tag);
    request->from = head.next;
    loop->changed |= head.next < end; /* what the page did not hold */
    if (request->answers <= 1 || head.run_ended || page.failed)
        return false;
    request->answers--;
    return true;
}

static void on_fetch(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_wire_fetch request;
    struct pawl_wire_results head = {0};
    struct page page = {0}, files = {0};
    uint64_t tag = message->header.tag;

    memcpy(&request, message->body, sizeof request);
    if (request.count > FETCH_MAX ||
        (message->header.bytes - sizeof request) / sizeof(uint64_t) < request.count) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL,
                           "a list of instances that does not hold");
        return;
    }
    struct pawl_run *run = pawl_control_find(connection, tag, request.run_id);
    if (!run)
        return;
    const char *at = (const char *)message->body + sizeof request;
    (void)page_add(&page, sizeof head);
    for (uint32_t i = 0; i < request.count && (i == 0 || page.size < PAWL_REPLY_BYTES_MAX); i++) {
        uint64_t instance;
        memcpy(&instance, at + i * sizeof instance, sizeof instance);
        int error = add_result(&page, &files, connection->loop->core, run, request.step, instance, 0, true);
        if (error && !page.failed)
            (void)add_lost_result(&page, run, request.step, instance, error);
        head.count++;
    }
    send_results(&page, &files, &head, connection, tag);
}

static void on_logs(struct pawl_connection *connection, const struct pawl_wire_message *message, bool why)
{
    struct pawl_wire_logs request;
    struct pawl_wire_results head = {.count = 1, .run_ended = 1};
    struct page page = {0}, files = {0};
    struct pawl_loop *loop = connection->loop;
    uint64_t tag = message->header.tag;
    char text[4096];

    memcpy(&request, message->body, sizeof request);
    request.step[sizeof request.step - 1] = 0;
    struct pawl_run *run = pawl_control_find(connection, tag, request.run_id);
    if (!run)
        return;
    int step = pawl_run_step_index(run, request.step);
    if (step < 0) {
        pawl_control_error(connection, tag, step, "see pawl steps", "run %s has no step %s", pawl_run_id(run),
                           request.step);
        return;
    }
    int error;
    if (why) {
        error = pawl_run_why(loop->core, run, (uint32_t)step, request.instance, loop->now, text, sizeof text);
        if (error >= 0) {
            pawl_control_reply(connection, PAWL_WIRE_TEXT, tag, text, strlen(text), NULL, 0);
            return;
        }
    } else {
        (void)page_add(&page, sizeof head);
        error = add_result(&page, &files, loop->core, run, (uint32_t)step, request.instance, request.attempt,
                           true);
    }
    if (error) {
        free(page.bytes);
        free(files.bytes);
        pawl_control_error(connection, tag, error, NULL,
                           error == PAWL_E_STATE ? "no attempt of %s has ended yet"
                                                 : "there is no such attempt of %s",
                           request.step);
        return;
    }
    send_results(&page, &files, &head, connection, tag);
}

static void add_running(struct page *page, const struct pawl_delivery *delivery, uint64_t realtime_ns)
{
    char out[64], err[64];
    struct pawl_wire_result fixed = {
        .instance = delivery->instance,
        .step = delivery->step,
        .attempt = delivery->attempt,
        .state = PAWL_STEP_RUNNING,
        .flags = PAWL_RESULT_STDOUT_FILE | PAWL_RESULT_STDERR_FILE,
        .started_at_ns = delivery->started_at_ns,
        .duration_ns = realtime_ns > delivery->started_at_ns ? realtime_ns - delivery->started_at_ns : 0,
        .worker = delivery->worker,
    };
    fixed.stdout_bytes = (uint32_t)snprintf(out, sizeof out, "spool/w%u.out", delivery->worker);
    fixed.stderr_bytes = (uint32_t)snprintf(err, sizeof err, "spool/w%u.err", delivery->worker);
    size_t bytes = sizeof fixed + fixed.stdout_bytes + fixed.stderr_bytes;
    char *at = page_add(page, padded(bytes));
    if (!at)
        return;
    memset(at, 0, padded(bytes));
    memcpy(at, &fixed, sizeof fixed);
    memcpy(at + sizeof fixed, out, fixed.stdout_bytes);
    memcpy(at + sizeof fixed + fixed.stdout_bytes, err, fixed.stderr_bytes);
}

static void on_running(struct pawl_connection *connection, uint64_t tag, struct pawl_run *run)
{
    struct page page = {0};
    struct pawl_wire_results head = {0};
    (void)page_add(&page, sizeof head);
    for (struct pawl_delivery *delivery = pawl_run_delivery_next(run, NULL); delivery;
         delivery = pawl_run_delivery_next(run, delivery)) {
        if (!delivery->begun || page.size >= PAWL_REPLY_BYTES_MAX)
            continue;
        add_running(&page, delivery, connection->loop->now.realtime_ns);
        head.count++;
    }
    head.run_ended = pawl_run_over(run);
    if (!page.failed)
        memcpy(page.bytes, &head, sizeof head);
    page_send(&page, connection, PAWL_WIRE_RESULTS, tag);
}

/* ---- runs and steps ---- */

static void on_runs(struct pawl_connection *connection, uint64_t tag)
{
    struct pawl_loop *loop = connection->loop;
    struct page page = {0};
    const size_t most = PAWL_WIRE_BYTES_MAX - sizeof(struct pawl_wire_summary);
    for (struct pawl_run *run = pawl_core_run_next(loop->core, NULL); run && page.size < most;
         run = pawl_core_run_next(loop->core, run)) {
        char *at = page_add(&page, sizeof(struct pawl_wire_summary));
        if (!at)
            break;
        pawl_run_summary(loop->core, run, loop->now, (struct pawl_wire_summary *)(void *)at);
    }
    page_send(&page, connection, PAWL_WIRE_RUNS_OK, tag);
}

static void on_steps(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    struct pawl_wire_steps request;
    struct pawl_wire_steps_ok head = {0};
    struct pawl_step_view view;
    struct page page = {0};
    uint64_t tag = message->header.tag;

    memcpy(&request, message->body, sizeof request);
    struct pawl_run *run = pawl_control_find(connection, tag, request.run_id);
    if (!run)
        return;
    head.next = request.from;
    (void)page_add(&page, sizeof head);
    while (page.size < PAWL_REPLY_BYTES_MAX && !page.failed) {
        int got = pawl_run_step_next(connection->loop->core, run, &head.next, request.state_mask, &view);
        if (got <= 0) {
            head.end = 1;
            break;
        }
        view.fixed.name_bytes = (uint32_t)strlen(view.name);
        view.fixed.reason_bytes = (uint32_t)strlen(view.reason);
        size_t bytes =
            sizeof view.fixed + view.fixed.name_bytes + view.fixed.item_bytes + view.fixed.reason_bytes;
        char *at = page_add(&page, padded(bytes));
        if (!at)
            break;
        memset(at + padded(bytes) - 8, 0, 8);
        memcpy(at, &view.fixed, sizeof view.fixed);
        at += sizeof view.fixed;
        memcpy(at, view.name, view.fixed.name_bytes);
        at += view.fixed.name_bytes;
        if (view.fixed.item_bytes)
            memcpy(at, view.item, view.fixed.item_bytes);
        memcpy(at + view.fixed.item_bytes, view.reason, view.fixed.reason_bytes);
        head.count++;
    }
    if (!page.failed)
        memcpy(page.bytes, &head, sizeof head);
    page_send(&page, connection, PAWL_WIRE_STEPS_OK, tag);
}

static void on_plan(struct pawl_connection *connection, uint64_t tag, struct pawl_run *run)
{
    size_t bytes;
    const void *plan = pawl_run_plan(run, &bytes);
    int fd = memfd_create("pawl-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int error = fd < 0 ? -errno : 0;
    for (size_t done = 0; done < bytes && !error;) {
        ssize_t written = write(fd, (const char *)plan + done, bytes - done);
        if (written < 0 && errno != EINTR)
            error = -errno;
        done += written > 0 ? (size_t)written : 0;
    }
    if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        error = -errno;
    if (!error)
        error = pawl_wire_queue_message(&connection->wire, PAWL_WIRE_PLAN_OK, tag, NULL, 0, NULL, 0, &fd, 1);
    if (error)
        pawl_control_error(connection, tag, error, NULL, "the plan cannot be sent: %s",
                           pawl_error_text(error));
    if (fd >= 0)
        close(fd);
}

/* ---- processes ---- */

static void add_process(struct page *page, uint32_t role, uint32_t number, pid_t pid, uint32_t state,
                        uint64_t since_ns)
{
    struct pawl_wire_process process = {
        .role = role, .number = number, .pid = (uint32_t)pid, .state = state, .since_ns = since_ns};
    char *at = page_add(page, sizeof process);
    if (at)
        memcpy(at, &process, sizeof process);
}

static void on_health(struct pawl_connection *connection, uint64_t tag)
{
    struct pawl_loop *loop = connection->loop;
    struct page page = {0};
    bool busy = loop->queue_count > 0;
    pawl_figures_sample(loop);
    const struct pawl_wire_process supervisor = {.role = PAWL_ROLE_SUPERVISOR,
                                                 .pid = (uint32_t)loop->options->supervisor,
                                                 .state = PAWL_PROCESS_IDLE,
                                                 .status = (int32_t)pawl_lanes_stillborn(loop)};
    char *at = page_add(&page, sizeof supervisor);
    if (at)
        memcpy(at, &supervisor, sizeof supervisor);
    /* The scheduler has no role in the greeting: 0. */
    add_process(&page, 0, 0, getpid(), busy ? PAWL_PROCESS_BUSY : PAWL_PROCESS_IDLE,
                loop->world->started_at_ns);
    for (uint32_t number = 1; number < pawl_lanes_number_end(loop); number++) {
        const struct pawl_worker *worker = pawl_lanes_worker(loop, number);
        if (worker && worker->life != PAWL_WORKER_NONE)
            add_process(&page, PAWL_ROLE_WORKER, number, worker->pid, pawl_figures_worker_state(worker),
                        worker->since_ns);
    }
    struct pawl_wire_process handler;
    for (uint32_t i = 0; pawl_handlers_look(loop, i, &handler); i++)
        add_process(&page, handler.role, handler.number, (pid_t)handler.pid, handler.state, handler.since_ns);
    page_send(&page, connection, PAWL_WIRE_HEALTH_OK, tag);
}

/* ---- dispatch ---- */

static size_t least_bytes(uint16_t type)
{
    switch (type) {
    case PAWL_WIRE_FETCH:
        return sizeof(struct pawl_wire_fetch);
    case PAWL_WIRE_STEPS:
        return sizeof(struct pawl_wire_steps);
    case PAWL_WIRE_LOGS:
    case PAWL_WIRE_WHY:
        return sizeof(struct pawl_wire_logs);
    case PAWL_WIRE_RUNNING:
    case PAWL_WIRE_STATUS:
    case PAWL_WIRE_PLAN:
        return sizeof(struct pawl_wire_run);
    default:
        return 0;
    }
}

/* Those that name a run and nothing else. */
static void on_run_query(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    const struct pawl_wire_run *request = message->body;
    uint64_t tag = message->header.tag;
    struct pawl_run *run = pawl_control_find(connection, tag, request->run_id);
    if (!run)
        return;
    if (message->header.type == PAWL_WIRE_RUNNING) {
        on_running(connection, tag, run);
    } else if (message->header.type == PAWL_WIRE_PLAN) {
        on_plan(connection, tag, run);
    } else {
        struct pawl_wire_summary summary;
        pawl_run_summary(connection->loop->core, run, connection->loop->now, &summary);
        pawl_control_reply(connection, PAWL_WIRE_SUMMARY, tag, &summary, sizeof summary, NULL, 0);
    }
}

bool pawl_control_query(struct pawl_connection *connection, const struct pawl_wire_message *message)
{
    uint64_t tag = message->header.tag;
    if (message->header.bytes < least_bytes(message->header.type)) {
        pawl_control_error(connection, tag, PAWL_E_BAD_MESSAGE, NULL, "too short a request");
        return true;
    }
    switch (message->header.type) {
    case PAWL_WIRE_RUNNING:
    case PAWL_WIRE_STATUS:
    case PAWL_WIRE_PLAN:
        on_run_query(connection, message);
        return true;
    case PAWL_WIRE_FETCH:
        on_fetch(connection, message);
        return true;
    case PAWL_WIRE_RUNS:
        on_runs(connection, tag);
        return true;
    case PAWL_WIRE_STEPS:
        on_steps(connection, message);
        return true;
    case PAWL_WIRE_LOGS:
        on_logs(connection, message, false);
        return true;
    case PAWL_WIRE_WHY:
        on_logs(connection, message, true);
        return true;
    case PAWL_WIRE_HEALTH:
        on_health(connection, tag);
        return true;
    default:
        return false;
    }
}
