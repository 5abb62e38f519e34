/*
 * verb_queue.c - `pawl queue`: which queues there are, how one stands; pause, resume, purge, delete.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "scheduler/bus/limits.h"

struct no_options {
    uint64_t given;
};

/* ---- list ---- */

static void print_queues(const json_t *queues)
{
    int width = 5;
    size_t i;
    const json_t *queue;
    char bytes[32];
    json_array_foreach(queues, i, queue)
    {
        int name = (int)strlen(pawl_cli_text(queue, "name"));
        width = name > width ? name : width;
    }
    printf("%-*s  %-7s  %-10s  %-9s  %-9s  %-9s  %-9s  %s\n", width, "QUEUE", "STATE", "DEPTH", "IN FLIGHT",
           "DEAD", "CONSUMERS", "BREAKER", "SIZE");
    json_array_foreach(queues, i, queue)
    {
        printf("%-*s  %-7s  %-10" PRIu64 "  %-9" PRIu64 "  %-9" PRIu64 "  %-9" PRIu64 "  %-9s  %s\n", width,
               pawl_cli_text(queue, "name"), pawl_cli_text(queue, "state"), pawl_cli_count(queue, "depth"),
               pawl_cli_count(queue, "in_flight"), pawl_cli_count(queue, "dlq_depth"),
               pawl_cli_count(queue, "consumers"), pawl_cli_text(queue, "breaker"),
               pawl_format_bytes(pawl_cli_count(queue, "bytes"), bytes));
    }
}

static int run_list(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    (void)operands;
    json_t *reply = NULL;
    int status = 0;
    if (access(cli->state, F_OK) != 0 && errno == ENOENT) /* nothing was ever declared there */
        reply = json_pack("{s:i,s:[]}", "schema", 1, "queues");
    else
        status = pawl_cli_do(cli, false, pawl_cli_request("queue.list", NULL, NULL), &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    else if (status == 0 && json_array_size(json_object_get(reply, "queues")) == 0)
        pawl_note(cli, "no queues in %s", cli->state);
    else if (status == 0)
        print_queues(json_object_get(reply, "queues"));
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static const struct pawl_verb pawl_verb_queue_list = {
    .name = "queue list",
    .summary = "the queues, and how they stand",
    .operands = "",
    .examples = "pawl queue list\npawl queue list --json | jq '.queues[] | select(.depth > 0)'",
    .options_bytes = sizeof(struct no_options),
    .run = run_list,
};

/* ---- show ---- */

/* A bound that there is not: 0 where that says so, or what no disk holds. */
static bool is_unbounded(const char *key, const json_t *value)
{
    static const char *const zero_is_none[] = {"max_in_flight", "retain_bytes", "retain_events"};
    if (json_is_object(value))
        return strcmp(key, "rate") == 0 && pawl_cli_count(value, "count") == 0;
    if (!json_is_integer(value))
        return false;
    uint64_t bound = (uint64_t)json_integer_value(value);
    for (size_t i = 0; bound == 0 && i < sizeof zero_is_none / sizeof *zero_is_none; i++)
        if (strcmp(key, zero_is_none[i]) == 0)
            return true;
    return bound >= PAWL_LIMIT_DISK;
}

/* A value of the reply on a line of its own; times and sizes as people write them. */
static void print_value(int depth, const char *key, const json_t *value)
{
    char text[PAWL_DURATION_TEXT_BYTES], *json;
    size_t bytes = strlen(key);
    int width = 20 - 2 * depth;
    bool nanoseconds = bytes > 3 && strcmp(key + bytes - 3, "_ns") == 0;
    printf("%*s%-*.*s", 2 * depth, "", width, (int)(nanoseconds ? bytes - 3 : bytes), key);
    if (is_unbounded(key, value)) {
        printf("  none\n");
        return;
    }
    if (json_is_object(value)) {
        const char *inner;
        json_t *part;
        printf("%s\n", json_object_size(value) == 0 ? "  none" : "");
        json_object_foreach((json_t *)(uintptr_t)value, inner, part)
        {
            print_value(depth + 1, inner, part);
        }
        return;
    }
    printf("  ");
    if (json_is_integer(value) && nanoseconds) {
        uint64_t ns = (uint64_t)json_integer_value(value);
        printf("%s", ns != 0 ? pawl_format_duration(ns, text) : "none");
    } else if (json_is_array(value) && nanoseconds) {
        for (size_t i = 0; i < json_array_size(value); i++)
            printf("%s%s", i > 0 ? ", " : "",
                   pawl_format_duration((uint64_t)json_integer_value(json_array_get(value, i)), text));
    } else if (json_is_integer(value) && bytes >= 5 && strcmp(key + bytes - 5, "bytes") == 0) {
        printf("%s", pawl_format_bytes((uint64_t)json_integer_value(value), text));
    } else if (json_is_real(value)) {
        printf("%g", json_real_value(value));
    } else if (json_is_string(value)) {
        pawl_print_line(stdout, json_string_value(value), json_string_length(value));
    } else if ((json = json_dumps(value, JSON_ENCODE_ANY)) != NULL) {
        printf("%s", json);
        free(json);
    }
    putchar('\n');
}

static void print_groups(const json_t *groups)
{
    size_t i;
    const json_t *group;
    if (json_array_size(groups) == 0)
        return;
    printf("%-20s  %-12s  %-12s  %-9s  %s\n", "GROUP", "COMMITTED", "LAG", "IN FLIGHT", "CONSUMERS");
    json_array_foreach(groups, i, group)
    {
        printf("%-20s  %-12" PRIu64 "  %-12" PRIu64 "  %-9" PRIu64 "  %" PRIu64 "\n",
               pawl_cli_text(group, "group"), pawl_cli_count(group, "committed"),
               pawl_cli_count(group, "lag"), pawl_cli_count(group, "in_flight"),
               pawl_cli_count(group, "consumers"));
    }
}

static int run_show(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    json_t *reply = NULL;
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0)
        status = pawl_cli_do(cli, false, pawl_cli_request("queue.show", "name", operands[0]), &reply);
    if (status == 0 && cli->json) {
        pawl_json_print(reply, stdout);
    } else if (status == 0) {
        const char *key;
        json_t *value;
        json_object_foreach(reply, key, value)
        {
            if (strcmp(key, "schema") != 0 && strcmp(key, "groups") != 0)
                print_value(0, key, value);
        }
        print_groups(json_object_get(reply, "groups"));
    }
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static const struct pawl_verb pawl_verb_queue_show = {
    .name = "queue show",
    .summary = "one queue: numbers, settings, groups",
    .operands = "NAME",
    .examples = "pawl queue show orders\npawl queue show orders --json | jq .config",
    .options_bytes = sizeof(struct no_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_show,
};

/* ---- pause, resume, purge, delete ---- */

static int change(struct pawl_cli *cli, const char *op, const char *name, const char *count_of)
{
    json_t *reply = NULL;
    int status = pawl_cli_check_name(cli, name);
    if (status == 0)
        status = pawl_cli_do(cli, false, pawl_cli_request(op, "name", name), &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    else if (status == 0 && count_of != NULL)
        printf("%" PRIu64 "\n", pawl_cli_count(reply, count_of));
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static int run_pause(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    return change(cli, "queue.pause", operands[0], NULL);
}

static int run_resume(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    return change(cli, "queue.resume", operands[0], NULL);
}

static int run_purge(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    return change(cli, "queue.purge", operands[0], "purged");
}

static int run_delete(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    return change(cli, "queue.delete", operands[0], NULL);
}

#define ONE_NAME                                                                                             \
    .operands = "NAME", .options_bytes = sizeof(struct no_options), .operands_min = 1, .operands_max = 1

static const struct pawl_verb pawl_verb_queue_pause = {
    .name = "queue pause",
    .summary = "deliver nothing more of it; publishes go on",
    .examples = "pawl queue pause orders",
    .run = run_pause,
    ONE_NAME,
};
static const struct pawl_verb pawl_verb_queue_resume = {
    .name = "queue resume",
    .summary = "deliver again",
    .examples = "pawl queue resume orders",
    .run = run_resume,
    ONE_NAME,
};
static const struct pawl_verb pawl_verb_queue_purge = {
    .name = "queue purge",
    .summary = "drop what waits in it; prints how many",
    .examples = "pawl queue purge orders",
    .notes = "what is in flight is not touched",
    .run = run_purge,
    ONE_NAME,
};
static const struct pawl_verb pawl_verb_queue_delete = {
    .name = "queue delete",
    .summary = "remove it with all that is in it",
    .examples = "pawl queue delete orders",
    .notes = "its dead letters stay: delete NAME.dlq as well to be rid of them",
    .run = run_delete,
    ONE_NAME,
};

static const struct pawl_verb *const queue_verbs[] = {
    &pawl_verb_queue_declare, &pawl_verb_queue_list,  &pawl_verb_queue_show,   &pawl_verb_queue_pause,
    &pawl_verb_queue_resume,  &pawl_verb_queue_purge, &pawl_verb_queue_delete, NULL};

const struct pawl_verb pawl_verb_queue = {
    .name = "queue",
    .summary = "queues: declare, list, show, pause, purge, delete",
    .operands = "WHAT",
    .examples = "pawl queue declare orders --topic 'order.*'\npawl queue list",
    .subverbs = queue_verbs,
};
