/*
 * document.c - JSON as verbs and library show it.
 *
 * Runs in: commands, and programs that use libpawl. No I/O.
 */
#include "runtime/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scheduler/run.h"

size_t pawl_utf8_bytes(const unsigned char *at, size_t left)
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
        size_t step = pawl_utf8_bytes((const unsigned char *)text + i, n - i);
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

static const char *process_state_name(uint32_t state)
{
    static const char *const names[] = {"starting", "idle", "busy", "leaving"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

static const char *role_name(uint32_t role)
{
    return role == PAWL_ROLE_WORKER || role == PAWL_ROLE_HANDLER ? "worker"
           : role == PAWL_ROLE_SUPERVISOR                        ? "supervisor"
           : role == PAWL_ROLE_METRICS                           ? "metrics"
                                                                 : NULL;
}

static void add_process(json_t *list, const char *role, uint32_t pid, const char *state, uint32_t number,
                        uint64_t since_ns)
{
    json_t *process = json_object();
    json_object_set_new(process, "role", json_string(role));
    json_object_set_new(process, "pid", json_integer(pid));
    json_object_set_new(process, "state", json_string(state));
    json_object_set_new(process, "number", number != 0 ? json_integer(number) : json_null());
    json_object_set_new(process, "since", pawl_json_time(since_ns));
    json_array_append_new(list, process);
}

void pawl_processes_json(json_t *list, uint32_t scheduler_pid, const struct pawl_wire_process *processes,
                         size_t count)
{
    add_process(list, "scheduler", scheduler_pid, "serving", 0, 0);
    for (size_t i = 0; i < count; i++) {
        const char *role = role_name(processes[i].role);
        if (role != NULL)
            add_process(list, role, processes[i].pid,
                        processes[i].role == PAWL_ROLE_SUPERVISOR || processes[i].role == PAWL_ROLE_METRICS
                            ? "serving"
                            : process_state_name(processes[i].state),
                        processes[i].number, processes[i].since_ns);
    }
}
