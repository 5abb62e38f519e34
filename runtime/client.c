/*
 * client.c - finds or starts the scheduler, shakes hands, and turns refusals into words.
 *
 * Runs in: commands. Two commands may start at once: each forks a supervisor, the lock lets one live, and the
 * other command finds its line closed without a word and connects to the winner's socket.
 */
#include "runtime/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "runtime/launch.h"
#include "runtime/patience.h"
#include "runtime/silence.h"
#include "shm/error.h"

#define OPEN_LIMIT_NS UINT64_C(10000000000)

enum { FILES_MIN = 64 /* a scheduler with one worker holds about 30 */ };

__attribute__((format(printf, 4, 5))) static int report(struct pawl_error_report *report_out, int error,
                                                        int exit_code, const char *format, ...)
{
    va_list arguments;
    memset(report_out, 0, sizeof *report_out);
    report_out->error = error;
    report_out->exit_code = exit_code;
    va_start(arguments, format);
    vsnprintf(report_out->text, sizeof report_out->text, format, arguments);
    va_end(arguments);
    return error;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void copy_text(char *to, size_t room, const char *from, size_t bytes)
{
    if (bytes >= room)
        bytes = room - 1;
    memcpy(to, from, bytes);
    to[bytes] = 0;
}

int pawl_client_read_error(const struct pawl_wire_message *message, struct pawl_error_report *report_out)
{
    struct pawl_wire_error fixed;
    if (message->header.bytes < sizeof fixed)
        goto bad;
    memcpy(&fixed, message->body, sizeof fixed);
    size_t left = message->header.bytes - sizeof fixed;
    if (fixed.text_bytes > left || fixed.hint_bytes > left - fixed.text_bytes || fixed.error >= 0)
        goto bad;
    const char *text = (const char *)message->body + sizeof fixed;
    memset(report_out, 0, sizeof *report_out);
    report_out->error = fixed.error;
    report_out->exit_code = fixed.exit_code > 0 && fixed.exit_code < 256 ? fixed.exit_code : 70;
    copy_text(report_out->text, sizeof report_out->text, text, fixed.text_bytes);
    copy_text(report_out->hint, sizeof report_out->hint, text + fixed.text_bytes, fixed.hint_bytes);
    return fixed.error;
bad:
    return report(report_out, PAWL_E_BAD_MESSAGE, 70, "the scheduler's answer does not hold");
}

int pawl_client_report_silence(struct pawl_error_report *report_out, const struct pawl_patience *patience)
{
    report(report_out, -ETIMEDOUT, 4,
           "the scheduler (pid %ld) does not answer: its answer was waited for while it did nothing for %d s",
           (long)patience->pid, PAWL_PATIENCE_SLICES);
    snprintf(report_out->hint, sizeof report_out->hint,
             "if it was stopped it goes on with: kill -CONT %ld; pawl health says more", (long)patience->pid);
    return -ETIMEDOUT;
}

/* What a call ended with, as an error with its report. */
static int judge(int got, uint16_t want, size_t reply_bytes_min, const struct pawl_wire_message *reply,
                 struct pawl_error_report *report_out)
{
    if (got < 0)
        return report(report_out, got, 4, "the scheduler is gone: %s", pawl_error_text(got));
    if (reply->header.type == PAWL_WIRE_ERROR)
        return pawl_client_read_error(reply, report_out);
    if (reply->header.type != want || reply->header.bytes < reply_bytes_min)
        return report(report_out, PAWL_E_BAD_MESSAGE, 70, "the scheduler answered with something else (%u)",
                      reply->header.type);
    return 0;
}

int pawl_client_call(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                     size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want,
                     size_t reply_bytes_min, struct pawl_wire_message *reply_out,
                     struct pawl_error_report *report_out)
{
    memset(report_out, 0, sizeof *report_out);
    int got = pawl_wire_call(wire, type, body, bytes, more, more_bytes, fds, fd_count, UINT64_MAX, reply_out);
    return judge(got, want, reply_bytes_min, reply_out, report_out);
}

int pawl_client_ask(struct pawl_wire *wire, uint16_t type, const void *body, size_t bytes, const void *more,
                    size_t more_bytes, const int *fds, unsigned fd_count, uint16_t want,
                    size_t reply_bytes_min, struct pawl_wire_message *reply_out,
                    struct pawl_error_report *report_out)
{
    struct pawl_silence silence;
    memset(report_out, 0, sizeof *report_out);
    pawl_silence_begin(&silence, wire, 0);
    int got = pawl_wire_call(wire, type, body, bytes, more, more_bytes, fds, fd_count, PAWL_PATIENCE_SLICE_NS,
                             reply_out);
    while (got == -ETIMEDOUT) {
        int error = pawl_silence_look(&silence, wire, report_out);
        if (error == -ETIMEDOUT)
            return error;
        got = error ? error : pawl_wire_call_on(wire, PAWL_PATIENCE_SLICE_NS, reply_out);
    }
    return judge(got, want, reply_bytes_min, reply_out, report_out);
}

/* HELLO on a fresh connection. The descriptor is given to *wire_out or closed. */
static int shake_hands(int fd, bool for_ever, struct pawl_wire *wire_out,
                       struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out)
{
    struct pawl_wire_message reply;
    struct pawl_wire_hello hello = {.version = PAWL_WIRE_VERSION,
                                    .role = PAWL_ROLE_CLIENT,
                                    .flags = PAWL_HELLO_ASKS,
                                    .pid = (uint32_t)getpid()};
    int error = pawl_wire_init(wire_out, fd);
    if (error) {
        close(fd);
        return report(report_out, error, 70, "%s", pawl_error_text(error));
    }
    error = for_ever ? pawl_client_call(wire_out, PAWL_WIRE_HELLO, &hello, sizeof hello, NULL, 0, NULL, 0,
                                        PAWL_WIRE_WELCOME, sizeof *welcome_out, &reply, report_out)
                     : pawl_client_ask(wire_out, PAWL_WIRE_HELLO, &hello, sizeof hello, NULL, 0, NULL, 0,
                                       PAWL_WIRE_WELCOME, sizeof *welcome_out, &reply, report_out);
    if (error)
        pawl_wire_fini(wire_out);
    else
        memcpy(welcome_out, reply.body, sizeof *welcome_out);
    return error;
}

bool pawl_client_is_supervised(const struct pawl_state *state)
{
    int fd = openat(state->dirfd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return held;
}

/* What a start needs, asked here: a scheduler that cannot even open its files tells nobody why. */
static int check_before_launch(const struct pawl_state *state, struct pawl_error_report *report_out)
{
    struct rlimit files;
    if (faccessat(state->dirfd, ".", W_OK, AT_EACCESS) != 0) {
        int error = -errno;
        report(report_out, error, 4, "the state directory %s cannot be written: %s", state->path,
               pawl_error_text(error));
        snprintf(report_out->hint, sizeof report_out->hint, "choose another with --state");
        return error;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < FILES_MIN) {
        report(report_out, -EMFILE, 4, "too few file descriptors: the limit is %llu, pawl needs %d",
               (unsigned long long)files.rlim_max, FILES_MIN);
        snprintf(report_out->hint, sizeof report_out->hint, "raise the hard limit: ulimit -Hn 1024");
        return -EMFILE;
    }
    return 0;
}

static int open_client(struct pawl_state *state, bool may_launch, bool for_ever, struct pawl_wire *wire_out,
                       struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out)
{
    const struct pawl_launch_options launch = {.temporary = true};
    uint64_t deadline_ns = monotonic_ns() + OPEN_LIMIT_NS;
    long wait_ns = 500000;

    for (;;) {
        int fd = pawl_state_connect(state);
        if (fd == -ENOENT || fd == -ECONNREFUSED) {
            bool supervised = pawl_client_is_supervised(state);
            if (!supervised && !may_launch)
                return report(report_out, -ENOENT, 4, "nobody serves %s", state->path);
            if (!supervised && check_before_launch(state, report_out) != 0)
                return report_out->error;
            int error = supervised ? 0 : pawl_launch(state, &launch, &fd);
            if (error)
                return report(report_out, error, 4, "cannot start a scheduler: %s", pawl_error_text(error));
        }
        if (fd >= 0) {
            int error = shake_hands(fd, for_ever, wire_out, welcome_out, report_out);
            if (error != PAWL_E_CLOSED)
                return error;
        } else if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN) {
            return report(report_out, fd, 4, "cannot connect to %s/socket: %s", state->path,
                          pawl_error_text(fd));
        }
        /* Another command's supervisor is starting or leaving, or a scheduler is being restarted. */
        if (monotonic_ns() >= deadline_ns)
            break;
        nanosleep(&(struct timespec){.tv_nsec = wait_ns}, NULL);
        if (wait_ns < 50000000)
            wait_ns *= 2;
    }
    report(report_out, PAWL_E_BUSY, 4, "the scheduler of %s does not answer", state->path);
    snprintf(report_out->hint, sizeof report_out->hint, "see scheduler.log in that directory");
    return PAWL_E_BUSY;
}

int pawl_client_open(struct pawl_state *state, bool may_launch, struct pawl_wire *wire_out,
                     struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out)
{
    return open_client(state, may_launch, false, wire_out, welcome_out, report_out);
}

int pawl_client_reopen(struct pawl_state *state, struct pawl_wire *wire_out,
                       struct pawl_wire_welcome *welcome_out, struct pawl_error_report *report_out)
{
    return open_client(state, false, true, wire_out, welcome_out, report_out);
}

int pawl_client_sealed_memfd(const char *name, const void *bytes, size_t n)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int error = 0;
    for (size_t done = 0; done < n && !error;) {
        ssize_t written = write(fd, (const char *)bytes + done, n - done);
        if (written < 0 && errno != EINTR)
            error = -errno;
        if (written > 0)
            done += (size_t)written;
    }
    if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        error = -errno;
    if (error)
        close(fd);
    return error ? error : fd;
}
