/*
 * job.c - one task of kind exec from its bytes to its settlement.
 *
 * Runs in: worker. Allocates only when a task is larger than all before it.
 */
#include "workers/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"
#include "workers/program.h"
#include "workers/text.h"

enum {
    INPUT_KEPT_BYTES = 1 << 20, /* a larger stdin gets a memfd of its own */
    SLOT_DIGITS_MAX = 10,
    FAILURE_TEXT_BYTES = 8 << 10, /* PATH may be long */
};
#define LOOK_FIRST_NS 250000000u
#define LOOK_LEAST_NS 10000000u
#define LOOK_MOST_NS  1000000000u

/* ---- the host ---- */

int pawl_job_host_open(struct pawl_job_host *host, int state_dirfd, const char *state_path, uint32_t number)
{
    *host = (struct pawl_job_host){
        .state_dirfd = state_dirfd, .state_path = state_path, .null_fd = -1, .input_fd = -1};
    pawl_workdir_init(&host->workdir, state_dirfd);
    int error = pawl_capture_open(&host->capture, state_dirfd, state_path, number);
    if (error < 0)
        return error;
    host->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (host->null_fd < 0) {
        error = -errno;
        pawl_capture_close(&host->capture);
    }
    return error;
}

static void drop_input(struct pawl_job_host *host)
{
    if (host->input_fd >= 0)
        close(host->input_fd);
    host->input_fd = -1;
}

void pawl_job_host_close(struct pawl_job_host *host, uint64_t durable_position)
{
    pawl_workdir_fini(&host->workdir, durable_position);
    pawl_workdir_destroy(&host->workdir);
    pawl_capture_close(&host->capture);
    drop_input(host);
    close(host->null_fd);
    pawl_environ_destroy(host->environ);
    free(host->context_bytes);
    free(host->argv);
    free(host->patched);
}

/* Which limits of the submitter differ from ours. A hard limit that we may not raise to his is taken as ours
 * is: his own was lower once, or another command's was. */
static void compare_limits(struct pawl_job_host *host)
{
    host->limit_mask = 0;
    for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
        struct rlimit own, *wanted = &host->context.limits[i];
        if (getrlimit((__rlimit_resource_t)i, &own) < 0)
            continue;
        if (wanted->rlim_max > own.rlim_max) {
            struct rlimit raised = {.rlim_cur = own.rlim_cur, .rlim_max = wanted->rlim_max};
            if (setrlimit((__rlimit_resource_t)i, &raised) == 0)
                own = raised;
            else
                wanted->rlim_max = own.rlim_max;
        }
        if (wanted->rlim_cur > wanted->rlim_max)
            wanted->rlim_cur = wanted->rlim_max;
        if (wanted->rlim_cur != own.rlim_cur || wanted->rlim_max != own.rlim_max)
            host->limit_mask |= 1u << i;
    }
}

int pawl_job_host_set_queue(struct pawl_job_host *host, const void *context, size_t n, const char *mark,
                            uint32_t slot_number)
{
    struct pawl_environ *environ = NULL;
    struct pawl_context view;
    char *copy = malloc(n ? n : 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, context, n);
    int error = pawl_context_open(copy, n, &view);
    if (error == 0)
        error = pawl_environ_create(&view, mark, &environ);
    if (error < 0) {
        free(copy);
        return error;
    }
    pawl_environ_destroy(host->environ);
    free(host->context_bytes);
    host->environ = environ;
    host->context_bytes = copy;
    host->context = view;
    host->slot_number = slot_number;
    compare_limits(host);
    errno = 0;
    int nice_now = getpriority(PRIO_PROCESS, 0);
    host->set_nice = errno != 0 || nice_now != view.nice;
    return 0;
}

bool pawl_job_is_plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strlen(name) < PAWL_NAME_BYTES && !strchr(name, '/');
}

/* ---- failing before the process runs ---- */

static void fill_times(const struct pawl_job *job, uint64_t now_ns, struct pawl_settlement *settlement)
{
    settlement->type = PAWL_SETTLE_RESULT;
    settlement->attempt = job->attempt;
    settlement->started_at_ns = job->started_at_ns;
    settlement->duration_ns = now_ns > job->started_ns ? now_ns - job->started_ns : 0;
}

/* A RESULT that says why there is no process; the words stand in stderr's place. Return: -error. */
static int refuse(struct pawl_job_host *host, struct pawl_job *job, struct pawl_settlement *settlement,
                  struct pawl_captured *captured, int error, const char *text)
{
    pawl_capture_started(&host->capture);
    pawl_workdir_leave(&host->workdir, false);
    job->exec.pid = 0;
    captured->flags = 0;
    captured->error = 0;
    captured->cut = false;
    captured->stdout_bytes = captured->named_bytes = 0;
    captured->stderr_bytes = (uint32_t)strlen(text);
    memcpy(captured->bytes, text, captured->stderr_bytes);
    *settlement = (struct pawl_settlement){
        .outcome = PAWL_OUTCOME_SPAWN_FAILED,
        .exit_code = error,
        .stderr_bytes = captured->stderr_bytes,
        .arena_bytes = captured->stderr_bytes,
    };
    fill_times(job, job->started_ns, settlement);
    return -error;
}

__attribute__((format(printf, 6, 7))) static int refuse_with(struct pawl_job_host *host, struct pawl_job *job,
                                                             struct pawl_settlement *settlement,
                                                             struct pawl_captured *captured, int error,
                                                             const char *format, ...)
{
    char text[FAILURE_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return refuse(host, job, settlement, captured, error, text);
}

/* ---- arguments ---- */

static int reserve_arguments(struct pawl_job_host *host, const struct pawl_task *task)
{
    if (task->argc + 2 > host->argv_capacity) {
        char **grown = realloc(host->argv, ((size_t)task->argc + 2) * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        host->argv = grown;
        host->argv_capacity = task->argc + 2;
    }
    if (task->patch_count == 0)
        return 0;
    /* Every argument could be patched: their bytes, and the digits of each patch. */
    const char *end = task->argv;
    for (uint32_t i = 0; i < task->argc; i++)
        end += strlen(end) + 1;
    size_t bytes = (size_t)(end - task->argv) + (size_t)task->patch_count * SLOT_DIGITS_MAX;
    if (bytes > host->patched_capacity) {
        free(host->patched);
        host->patched = malloc(bytes);
        host->patched_capacity = host->patched ? bytes : 0;
    }
    return host->patched ? 0 : -ENOMEM;
}

/* Fills host->argv[1..]; argv[0] stays spare. */
static int build_arguments(struct pawl_job_host *host, const struct pawl_task *task)
{
    int error = reserve_arguments(host, task);
    if (error < 0)
        return error;
    char slot[16];
    struct pawl_text slot_text = pawl_text_begin(slot, sizeof slot);
    pawl_text_add_number(&slot_text, host->slot_number);
    size_t digits = (size_t)(slot_text.at - slot);
    const char *argument = task->argv;
    char *to = host->patched;
    uint32_t patch = 0;
    for (uint32_t i = 0; i < task->argc; i++) {
        size_t n = strlen(argument), done = 0;
        if (patch == task->patch_count || task->patches[patch].arg_index != i) {
            host->argv[i + 1] = (char *)(uintptr_t)argument;
        } else {
            host->argv[i + 1] = to;
            for (; patch < task->patch_count && task->patches[patch].arg_index == i; patch++) {
                size_t until = task->patches[patch].byte_offset;
                memcpy(to, argument + done, until - done);
                memcpy(to + (until - done), slot, digits);
                to += until - done + digits;
                done = until;
            }
            memcpy(to, argument + done, n - done + 1);
            to += n - done + 1;
        }
        argument += n + 1;
    }
    host->argv[task->argc + 1] = NULL;
    return 0;
}

/* ---- input ---- */

static int write_input(int fd, const char *data, size_t bytes)
{
    if (ftruncate(fd, (off_t)bytes) < 0)
        return -errno;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(fd, data + done, bytes - done, (off_t)done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The job reads through a descriptor of its own: nobody else moves its offset, and it cannot write. */
static int open_input_bytes(struct pawl_job_host *host, const struct pawl_task *task)
{
    char path[40];
    bool keep = task->stdin_bytes <= INPUT_KEPT_BYTES;
    int fd = keep ? host->input_fd : -1;
    if (fd < 0)
        fd = memfd_create("pawl-stdin", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int result = write_input(fd, task->stdin_data, task->stdin_bytes);
    if (result == 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        result = open(path, O_RDONLY | O_CLOEXEC);
        if (result < 0)
            result = -errno;
    }
    if (keep)
        host->input_fd = fd;
    else
        close(fd);
    return result;
}

/* A relative path is below the state directory. Non-blocking until it is open, so that a FIFO without a
 * writer does not hold the worker. */
static int open_input_file(const struct pawl_job_host *host, const char *path)
{
    int fd = openat(host->state_dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    return fd;
}

/* ---- life of a job ---- */

int pawl_job_prepare(struct pawl_job_host *host, struct pawl_job *job, const struct pawl_task *task,
                     const char *run_id, uint64_t index, bool fan_out, uint32_t attempt,
                     uint64_t durable_position, uint64_t realtime_ns, uint64_t now_ns,
                     struct pawl_settlement *settlement, struct pawl_captured *captured)
{
    job->task = *task;
    job->attempt = attempt;
    job->started_at_ns = realtime_ns;
    job->started_ns = now_ns;
    job->exec.pid = 0;
    job->output_bytes_max = task->output_bytes_max ? task->output_bytes_max : UINT64_MAX;
    job->look_at_ns = now_ns + LOOK_FIRST_NS;
    job->looked_ns = now_ns;
    job->looked_bytes = 0;
    if (!pawl_job_is_plain_name(run_id) || !pawl_job_is_plain_name(task->step))
        return refuse_with(host, job, settlement, captured, EINVAL, "run or step has no plain name\n");
    memcpy(job->run_id, run_id, strlen(run_id) + 1); /* a plain name fits */

    int error = pawl_workdir_place(&host->workdir, run_id, task->step, fan_out ? index : UINT64_MAX,
                                   &job->attempt, durable_position, job->stem);
    if (error < 0)
        return refuse_with(host, job, settlement, captured, -error,
                           "cannot make runs/%s/work/%s for PAWL_DIR: %s\n", run_id, job->stem,
                           strerror(-error));
    char dir_path[PAWL_CAPTURE_PATH_BYTES];
    struct pawl_text dir_text = pawl_text_begin(dir_path, sizeof dir_path);
    pawl_text_add(&dir_text, host->state_path);
    pawl_text_add(&dir_text, "/");
    pawl_text_add(&dir_text, host->workdir.current.name);
    if (dir_text.cut)
        return refuse_with(host, job, settlement, captured, ENAMETOOLONG, "PAWL_DIR: %s\n",
                           strerror(ENAMETOOLONG));
    const struct pawl_environ_names names = {
        .run_id = run_id,
        .step = task->step,
        .output_path = host->capture.named_path,
        .dir_path = dir_path,
        .index = index,
        .attempt = job->attempt,
    };
    char *const *envp;
    error = pawl_environ_build(host->environ, task, &names, &envp);
    if (error == 0)
        error = build_arguments(host, task);
    if (error < 0)
        return refuse_with(host, job, settlement, captured, -error,
                           "arguments and environment cannot be built: %s\n", strerror(-error));
    error = pawl_capture_begin(&host->capture);
    if (error < 0)
        return refuse_with(host, job, settlement, captured, -error,
                           "files for the output cannot be made in %s: %s\n", host->capture.spool_path,
                           strerror(-error));
    return 0;
}

void pawl_job_abandon(struct pawl_job_host *host, struct pawl_job *job)
{
    pawl_capture_started(&host->capture);
    pawl_workdir_leave(&host->workdir, false);
    job->exec.pid = 0;
}

/* The task's directory, or the submitter's. */
static const char *directory_of(const struct pawl_job_host *host, const struct pawl_task *task,
                                char buffer[PATH_MAX])
{
    if (!task->dir || task->dir[0] == '\0')
        return host->context.dir;
    if (task->dir[0] == '/')
        return task->dir;
    return snprintf(buffer, PATH_MAX, "%s/%s", host->context.dir, task->dir) < PATH_MAX ? buffer : NULL;
}

/* Return: a descriptor to close afterwards (never null_fd itself: -2 stands for it), or -1 with *settlement.
 */
static int open_input(struct pawl_job_host *host, struct pawl_job *job, struct pawl_settlement *settlement,
                      struct pawl_captured *captured)
{
    const struct pawl_task *task = &job->task;
    int fd = -2;
    switch (task->stdin_kind) {
    case PAWL_STDIN_NULL:
        return -2;
    case PAWL_STDIN_BYTES:
        fd = open_input_bytes(host, task);
        if (fd < 0)
            refuse_with(host, job, settlement, captured, -fd, "stdin cannot be prepared: %s\n",
                        strerror(-fd));
        break;
    case PAWL_STDIN_FILE:
        fd = open_input_file(host, task->stdin_data);
        if (fd < 0)
            refuse_with(host, job, settlement, captured, -fd, "cannot open %s for stdin: %s\n",
                        task->stdin_data, strerror(-fd));
        break;
    }
    return fd < 0 ? -1 : fd;
}

/* The limit of processes, or no memory for one: others end, and it passes. */
static bool is_shortage(const struct pawl_exec_failure *failure)
{
    return failure->step == PAWL_EXEC_CLONE && (failure->error == EAGAIN || failure->error == ENOMEM);
}

int pawl_job_spawn(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns, bool may_wait,
                   struct pawl_settlement *settlement, struct pawl_captured *captured)
{
    const struct pawl_task *task = &job->task;
    char directory_buffer[PATH_MAX], program[PATH_MAX];
    const char *directory = directory_of(host, task, directory_buffer);
    const char *name = host->argv[1];
    const char *search = strchr(name, '/') ? NULL : pawl_environ_get(host->environ, "PATH");
    if (!directory)
        return refuse_with(host, job, settlement, captured, ENAMETOOLONG, "cannot enter %s: %s\n", task->dir,
                           strerror(ENAMETOOLONG));
    if (!search && !strchr(name, '/'))
        search = PAWL_PATH_DEFAULT;
    struct pawl_exec_failure failure = {.step = PAWL_EXEC_PROGRAM};
    int input_fd = open_input(host, job, settlement, captured);
    if (input_fd == -1)
        return -settlement->exit_code;
    int error = pawl_program_find(name, search, directory, program);
    if (error < 0) {
        failure.error = -error;
    } else {
        struct pawl_exec_spec spec = {
            .program = program,
            .argv = host->argv + 1,
            .envp = pawl_environ_block(host->environ),
            .directory = directory,
            .stdin_fd = input_fd == -2 ? host->null_fd : input_fd,
            .stdout_fd = host->capture.out.job_fd,
            .stderr_fd = host->capture.err.job_fd,
            .umask = host->context.umask,
            .set_nice = host->set_nice,
            .nice = host->context.nice,
            .limit_mask = host->limit_mask,
            .limits = host->context.limits,
        };
        error = pawl_exec_spawn(&spec, &job->exec, &failure);
    }
    if (input_fd >= 0)
        close(input_fd);
    if (error < 0 && may_wait && is_shortage(&failure))
        return 1;
    if (error < 0) {
        char text[FAILURE_TEXT_BYTES];
        pawl_exec_failure_text(&failure, name, directory, search, text, sizeof text);
        return refuse(host, job, settlement, captured, -error, text);
    }
    pawl_capture_started(&host->capture);
    pawl_exec_set_timeout(&job->exec, now_ns, task->timeout_ns, task->grace_ns);
    return 0;
}

/* Sooner when it could reach the limit sooner: half of the time that it would take at the present pace. */
static void look_at_output(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns)
{
    uint64_t bytes = pawl_capture_bytes(&host->capture);
    if (bytes > job->output_bytes_max) {
        pawl_exec_stop(&job->exec, PAWL_EXEC_END_OUTPUT, now_ns, 0);
        job->look_at_ns = UINT64_MAX;
        return;
    }
    uint64_t took_ns = now_ns - job->looked_ns;
    uint64_t grown = bytes > job->looked_bytes ? bytes - job->looked_bytes : 0;
    uint64_t wait_ns = took_ns * 2 < LOOK_MOST_NS ? took_ns * 2 : LOOK_MOST_NS;
    if (grown > 0) {
        double reach_ns = (double)(job->output_bytes_max - bytes) / (double)grown * (double)took_ns / 2;
        if (reach_ns < (double)wait_ns)
            wait_ns = reach_ns > (double)LOOK_LEAST_NS ? (uint64_t)reach_ns : LOOK_LEAST_NS;
    }
    job->looked_ns = now_ns;
    job->looked_bytes = bytes;
    job->look_at_ns = now_ns + wait_ns;
}

uint64_t pawl_job_tick(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns)
{
    uint64_t due_ns = pawl_exec_tick(&job->exec, now_ns);
    if (job->output_bytes_max == UINT64_MAX)
        return due_ns;
    if (now_ns >= job->look_at_ns)
        look_at_output(host, job, now_ns);
    return due_ns < job->look_at_ns ? due_ns : job->look_at_ns;
}

/* The verdict: why pawl ended it, or how it ended by itself; storing its output only counts when all else is
 * well. */
static void judge(const struct pawl_exec_status *status, const struct pawl_captured *captured,
                  struct pawl_settlement *settlement)
{
    settlement->outcome = status->signalled ? PAWL_OUTCOME_SIGNALED : PAWL_OUTCOME_EXITED;
    settlement->exit_code = status->code;
    switch (status->end) {
    case PAWL_EXEC_END_TIMEOUT:
        settlement->outcome = PAWL_OUTCOME_TIMED_OUT;
        return;
    case PAWL_EXEC_END_KILL:
        settlement->outcome = PAWL_OUTCOME_KILLED;
        return;
    case PAWL_EXEC_END_OUTPUT:
        settlement->outcome = PAWL_OUTCOME_OUTPUT_LIMIT;
        return;
    case PAWL_EXEC_END_NONE:
        break;
    }
    if (captured->cut) {
        settlement->outcome = PAWL_OUTCOME_OUTPUT_LIMIT;
    } else if (captured->error && !status->signalled && status->code == 0) {
        settlement->outcome = PAWL_OUTCOME_CAPTURE;
        settlement->exit_code = captured->error;
    }
}

void pawl_job_finish(struct pawl_job_host *host, struct pawl_job *job, uint64_t now_ns,
                     struct pawl_settlement *settlement, struct pawl_captured *captured)
{
    struct pawl_exec_status status = {0};
    int error = pawl_exec_reap(&job->exec, &status);
    if (error < 0) /* cannot happen to our own child; the result must still go out */
        status = (struct pawl_exec_status){.signalled = true, .code = SIGKILL, .group_lives = true};
    bool strays = pawl_capture_collect(&host->capture, job->run_id, job->stem, status.group_lives,
                                       job->output_bytes_max, captured);
    bool kept = pawl_workdir_leave(&host->workdir, strays);
    if (strays)
        drop_input(host);
    *settlement = (struct pawl_settlement){
        .flags = (uint8_t)(captured->flags | (kept ? PAWL_SETTLE_KEPT_DIR : 0)),
        .stdout_bytes = captured->stdout_bytes,
        .stderr_bytes = captured->stderr_bytes,
        .arena_bytes = captured->stdout_bytes + captured->stderr_bytes + captured->named_bytes,
    };
    fill_times(job, now_ns, settlement);
    judge(&status, captured, settlement);
}
