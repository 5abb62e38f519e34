/*
 * output.c - what the tool writes.
 *
 * Runs in: the command. Writes to the streams that it is given, nothing else.
 */
#include "runtime/cli/output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "scheduler/run.h"

/* ---- JSON ---- */

void pawl_json_print(const json_t *value, FILE *stream)
{
    json_dumpf(value, stream, JSON_COMPACT);
    fputc('\n', stream);
}

/* ---- for people ---- */

const char *pawl_format_duration(uint64_t ns, char buffer[PAWL_DURATION_TEXT_BYTES])
{
    uint64_t seconds = ns / 1000000000;
    if (ns < 1000000000)
        snprintf(buffer, PAWL_DURATION_TEXT_BYTES, "%u ms", (unsigned)(ns / 1000000));
    else if (seconds < 60)
        snprintf(buffer, PAWL_DURATION_TEXT_BYTES, "%u.%u s", (unsigned)seconds,
                 (unsigned)(ns / 100000000 % 10));
    else if (seconds < 3600)
        snprintf(buffer, PAWL_DURATION_TEXT_BYTES, "%um%02us", (unsigned)(seconds / 60),
                 (unsigned)(seconds % 60));
    else if (seconds < 86400)
        snprintf(buffer, PAWL_DURATION_TEXT_BYTES, "%uh%02um", (unsigned)(seconds / 3600),
                 (unsigned)(seconds / 60 % 60));
    else
        snprintf(buffer, PAWL_DURATION_TEXT_BYTES, "%llud%02uh", (unsigned long long)(seconds / 86400),
                 (unsigned)(seconds / 3600 % 24));
    return buffer;
}

const char *pawl_format_bytes(uint64_t bytes, char buffer[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return buffer;
}

static void print_escaped(FILE *stream, const char *bytes, size_t n, bool in_line)
{
    for (size_t i = 0; i < n;) {
        unsigned char byte = (unsigned char)bytes[i];
        size_t step = pawl_utf8_bytes((const unsigned char *)bytes + i, n - i);
        /* C1 controls (U+0080..U+009F) act on some terminals, too */
        bool control = (byte < 0x20 && byte != '\t' && byte != '\n') || byte == 0x7f || step == 0 ||
                       (step == 2 && byte == 0xc2 && (unsigned char)bytes[i + 1] < 0xa0);
        if (in_line && (byte == '\n' || byte == '\t')) {
            fputs(byte == '\n' ? "\\n" : "\\t", stream);
            i++;
            continue;
        }
        if (!control) {
            fwrite(bytes + i, 1, step, stream);
            i += step;
            continue;
        }
        fprintf(stream, "\\x%02x", byte);
        i++;
    }
}

void pawl_print_safe(FILE *stream, const char *bytes, size_t n)
{
    print_escaped(stream, bytes, n, false);
}

void pawl_print_line(FILE *stream, const char *bytes, size_t n)
{
    print_escaped(stream, bytes, n, true);
}

static void print_padded(FILE *stream, const char *name, int width, const char *escape)
{
    int padding = width - (int)strlen(name);
    fprintf(stream, "%s%s%s%*s", escape, name, escape[0] != '\0' ? "\033[0m" : "", padding > 0 ? padding : 0,
            "");
}

void pawl_print_run_state(FILE *stream, uint32_t state, int width, bool color)
{
    static const char *const escapes[] = {"\033[36m", "\033[33m", "\033[32m",
                                          "\033[31m", "\033[33m", "\033[33m"};
    bool known = state < sizeof escapes / sizeof escapes[0];
    print_padded(stream, pawl_run_state_name(state), width, color && known ? escapes[state] : "");
}

void pawl_print_step_state(FILE *stream, uint32_t state, int width, bool color)
{
    static const char *const escapes[PAWL_STEP_STATES] = {
        "\033[2m", "", "\033[36m", "\033[33m", "\033[32m", "\033[31m", "\033[2m", "\033[33m", "\033[32m"};
    bool known = state < PAWL_STEP_STATES;
    print_padded(stream, pawl_step_state_name(state), width, color && known ? escapes[state] : "");
}

uint64_t pawl_summary_done(const struct pawl_wire_summary *summary)
{
    return summary->succeeded + summary->failed + summary->skipped + summary->cancelled + summary->cached;
}

int pawl_summary_exit(const struct pawl_wire_summary *summary)
{
    switch ((enum pawl_run_state)summary->state) {
    case PAWL_RUN_SUCCEEDED:
        return PAWL_EXIT_OK;
    case PAWL_RUN_FAILED:
        return PAWL_EXIT_FAILED;
    case PAWL_RUN_WAITING:
        return PAWL_EXIT_WAITING;
    case PAWL_RUN_CANCELLED:
    case PAWL_RUN_INTERRUPTED:
    case PAWL_RUN_RUNNING:
        return PAWL_EXIT_INTERRUPTED;
    }
    return PAWL_EXIT_INTERNAL;
}

/* Why stdout could not be written, when an earlier write failed and its errno is gone. 0: nobody knows. */
static int reason_of_stdout(void)
{
    struct pollfd fd = {.fd = STDOUT_FILENO};
    if (poll(&fd, 1, 0) > 0 && (fd.revents & POLLERR) != 0)
        return EPIPE;
    return 0;
}

int pawl_output_finish(const struct pawl_cli *cli, int exit_code)
{
    static bool told;
    bool failed = ferror(stdout) != 0;
    errno = 0;
    int error = fflush(stdout) != 0 ? errno : failed ? reason_of_stdout() : 0;
    if (error == 0 && !failed)
        return exit_code;
    if (error != EPIPE && !told)
        pawl_fail(cli, PAWL_EXIT_FAILED, "stdout", NULL, "standard output: %s",
                  error != 0 ? strerror(error) : "not all of it could be written");
    told = true;
    return exit_code == 0 ? PAWL_EXIT_FAILED : exit_code;
}
