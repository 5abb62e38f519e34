/*
 * output.c - what the tool writes.
 *
 * Runs in: the command. Writes to the streams that it is given, nothing else.
 */
#include "runtime/cli/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/cli/errors.h"
#include "scheduler/run.h"

/* ---- JSON ---- */

/* Length of the UTF-8 sequence at @at, 0 if none holds there. */
static size_t utf8_bytes(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80)
        return 1;
    size_t need = at[0] >= 0xf0 && at[0] <= 0xf4  ? 4
                  : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                  : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                                                  : 0;
    if (need == 0 || need > left)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool outside = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
    return overlong || outside ? 0 : need;
}

json_t *pawl_json_text(const char *text)
{
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    size_t n = strlen(text), used = 0;
    char *clean = malloc(n * 3 + 1);
    if (clean == NULL)
        return json_null();
    for (size_t i = 0; i < n;) {
        size_t step = utf8_bytes((const unsigned char *)text + i, n - i);
        memcpy(clean + used, step != 0 ? text + i : "\xef\xbf\xbd", step != 0 ? step : 3);
        used += step != 0 ? step : 3;
        i += step != 0 ? step : 1;
    }
    value = json_stringn(clean, used);
    free(clean);
    return value != NULL ? value : json_null();
}

void pawl_json_bytes(json_t *object, const char *name, const void *bytes, size_t n)
{
    json_t *value = json_stringn(bytes, n);
    if (value != NULL) {
        json_object_set_new(object, name, value);
        return;
    }
    char key[64];
    char *encoded = pawl_base64(bytes, n);
    snprintf(key, sizeof key, "%s_base64", name);
    json_object_set_new(object, key, encoded != NULL ? json_string(encoded) : json_null());
    free(encoded);
}

char *pawl_base64(const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = bytes;
    char *out = malloc((n + 2) / 3 * 4 + 1), *at = out;
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < n; i += 3) {
        unsigned word = (unsigned)in[i] << 16 | (i + 1 < n ? (unsigned)in[i + 1] << 8 : 0) |
                        (i + 2 < n ? (unsigned)in[i + 2] : 0);
        *at++ = digits[word >> 18];
        *at++ = digits[word >> 12 & 63];
        *at++ = i + 1 < n ? digits[word >> 6 & 63] : '=';
        *at++ = i + 2 < n ? digits[word & 63] : '=';
    }
    *at = '\0';
    return out;
}

json_t *pawl_json_time(uint64_t realtime_ns)
{
    char text[PAWL_TIME_TEXT_BYTES];
    return realtime_ns == 0 ? json_null() : json_string(pawl_format_time(realtime_ns, text));
}

json_t *pawl_json_document(void)
{
    json_t *document = json_object();
    json_object_set_new(document, "schema", json_integer(1));
    return document;
}

void pawl_json_print(const json_t *value, FILE *stream)
{
    json_dumpf(value, stream, JSON_COMPACT);
    fputc('\n', stream);
}

json_t *pawl_summary_json(const struct pawl_wire_summary *summary)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"total", summary->total},     {"waiting", summary->waiting}, {"ready", summary->ready},
        {"running", summary->running}, {"delayed", summary->delayed}, {"succeeded", summary->succeeded},
        {"failed", summary->failed},   {"skipped", summary->skipped}, {"cancelled", summary->cancelled},
        {"cached", summary->cached},
    };
    json_t *document = pawl_json_document(), *steps = json_object();
    json_object_set_new(document, "run", pawl_json_text(summary->run_id));
    json_object_set_new(document, "workflow", pawl_json_text(summary->workflow));
    json_object_set_new(document, "state", json_string(pawl_run_state_name(summary->state)));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(steps, counts[i].name, json_integer((json_int_t)counts[i].count));
    json_object_set_new(document, "steps", steps);
    json_object_set_new(document, "started_at", pawl_json_time(summary->started_at_ns));
    json_object_set_new(document, "finished_at", pawl_json_time(summary->finished_at_ns));
    json_object_set_new(document, "elapsed_ms", json_integer((json_int_t)(summary->elapsed_ns / 1000000)));
    json_object_set_new(document, "attempts", json_integer((json_int_t)summary->attempts));
    json_object_set_new(document, "retries", json_integer((json_int_t)summary->retries));
    return document;
}

/* ---- for people ---- */

const char *pawl_format_time(uint64_t realtime_ns, char buffer[PAWL_TIME_TEXT_BYTES])
{
    if (realtime_ns == 0) {
        buffer[0] = '\0';
        return buffer;
    }
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t used = strftime(buffer, PAWL_TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(buffer + used, PAWL_TIME_TEXT_BYTES - used, ".%03uZ", (unsigned)(realtime_ns / 1000000 % 1000));
    return buffer;
}

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

void pawl_print_safe(FILE *stream, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char byte = (unsigned char)bytes[i];
        size_t step = utf8_bytes((const unsigned char *)bytes + i, n - i);
        /* C1 controls (U+0080..U+009F) act on some terminals, too */
        bool control = (byte < 0x20 && byte != '\t' && byte != '\n') || byte == 0x7f || step == 0 ||
                       (step == 2 && byte == 0xc2 && (unsigned char)bytes[i + 1] < 0xa0);
        if (!control) {
            fwrite(bytes + i, 1, step, stream);
            i += step;
            continue;
        }
        fprintf(stream, "\\x%02x", byte);
        i++;
    }
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

int pawl_output_finish(const struct pawl_cli *cli, int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    if (errno != EPIPE)
        pawl_fail(cli, 1, "stdout", NULL, "standard output: %s", strerror(errno));
    return exit_code == 0 ? PAWL_EXIT_FAILED : exit_code;
}
