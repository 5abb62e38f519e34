/*
 * verb_gc.c - `pawl gc`: the space that finished runs take.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/session.h"
#include "runtime/cli/verbs.h"

struct gc_options {
    uint64_t given;
    uint64_t keep_runs, older_than_ns;
};

static const struct pawl_option gc_option_table[] = {
    {0, "keep-runs", "N", "keep the newest N finished runs", PAWL_OPTION_COUNT,
     offsetof(struct gc_options, keep_runs), 0, 0},
    {0, "older-than", "D", "remove only runs that ended longer ago than this", PAWL_OPTION_DURATION,
     offsetof(struct gc_options, older_than_ns), 0, 0},
    {0},
};

/* {"runs_removed": 3, "bytes_freed": 4711} as "runs removed: 3", "bytes freed: 4.6 KiB". */
static void print_freed(json_t *freed)
{
    const char *key;
    json_t *value;
    json_object_foreach(freed, key, value)
    {
        char name[64], text[64];
        if (strcmp(key, "schema") == 0 || !json_is_integer(value))
            continue;
        snprintf(name, sizeof name, "%s", key);
        for (char *at = name; *at != '\0'; at++)
            *at = *at == '_' ? ' ' : *at;
        if (strstr(key, "bytes") != NULL)
            pawl_format_bytes((uint64_t)json_integer_value(value), text);
        else
            snprintf(text, sizeof text, "%" PRIu64, (uint64_t)json_integer_value(value));
        printf("%s: %s\n", name, text);
    }
}

static int run_gc(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    (void)operands;
    const struct gc_options *o = options;
    struct pawl_session session;
    struct pawl_wire_message reply;
    struct pawl_wire_gc request = {.keep_runs = UINT64_MAX, .older_than_ns = o->older_than_ns};
    if (pawl_option_given(cli->verb, o, "keep-runs"))
        request.keep_runs = o->keep_runs;
    int status = pawl_session_open(cli, PAWL_STATE_EXISTING, &session);
    if (status == -ENOENT)
        return pawl_fail_no_state(cli);
    if (status == 0)
        status = pawl_session_connect(&session, true);
    if (status == 0)
        status =
            pawl_session_call(&session, PAWL_WIRE_GC, &request, sizeof request, PAWL_WIRE_TEXT, 0, &reply);
    if (status == 0) {
        json_t *freed = json_loadb(reply.body, reply.header.bytes, 0, NULL);
        if (!json_is_object(freed))
            status = pawl_fail(cli, PAWL_EXIT_INTERNAL, "bad_message", NULL,
                               "the scheduler's answer is not understood");
        else if (cli->json)
            pawl_json_print(freed, stdout);
        else
            print_freed(freed);
        json_decref(freed);
    }
    pawl_session_close(&session);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_gc = {
    .name = "gc",
    .summary = "remove finished runs and dead journal; says what it freed",
    .operands = "",
    .examples = "pawl gc --keep-runs 20\npawl gc --older-than 30d",
    .notes = "runs that are not over are never touched; with both, a run must be beyond both to go",
    .options = gc_option_table,
    .options_bytes = sizeof(struct gc_options),
    .run = run_gc,
};
