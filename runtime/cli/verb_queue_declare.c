/*
 * verb_queue_declare.c - `pawl queue declare`: make a queue, or change one.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "runtime/queue_settings.h"
#include "shm/error.h"

/* A flag has the name of a setting (queue_settings.h), and its place among them. */
enum { SETTINGS_MAX = 24 };

struct declare_options {
    uint64_t given;
    struct pawl_text_list texts[SETTINGS_MAX];
    bool flag[SETTINGS_MAX];
    const char *unrouted_to;
};

#define VALUE(i, name, value, help)                                                                          \
    {                                                                                                        \
        0, name, value, help, PAWL_OPTION_LIST, offsetof(struct declare_options, texts[i]), 0, 0             \
    }
#define FLAG(i, name, help)                                                                                  \
    {                                                                                                        \
        0, name, NULL, help, PAWL_OPTION_SWITCH, offsetof(struct declare_options, flag[i]), 0, 0             \
    }

static const struct pawl_option declare_option_table[] = {
    VALUE(0, "topic", "PATTERN", "what it takes"),
    VALUE(1, "ack-wait", "D", "time to settle (30s)"),
    VALUE(2, "max-deliver", "N", "failures till dead (5; 0 none)"),
    VALUE(3, "backoff", "B", "1s,5s,30s or 200ms,2,10s,0.1"),
    VALUE(4, "retry", "R", "CAUSE=LIMIT,BACKOFF"),
    VALUE(5, "dlq", "NAME", "dead letters (NAME.dlq)"),
    VALUE(6, "max-depth", "N", "events at most"),
    VALUE(7, "max-bytes", "SIZE", "bytes at most"),
    VALUE(8, "overflow", "POLICY", "when full (reject)"),
    VALUE(9, "topic-overflow", "T=P", "policy of a pattern"),
    VALUE(10, "max-in-flight", "N", "unsettled at most"),
    VALUE(11, "rate", "N/D", "deliveries: 100/s"),
    VALUE(12, "ttl", "D", "events expire"),
    FLAG(13, "strict-attempts", "count durably"),
    VALUE(14, "guarantee", "G", "at_most_once, at_least_once"),
    VALUE(15, "durability", "M", "memory, async, fsync"),
    VALUE(16, "ordering-key", "HEADER", "one at a time of a key"),
    FLAG(17, "stream", "keep, for groups"),
    VALUE(18, "retain", "D|SIZE", "what a stream keeps"),
    VALUE(19, "breaker", "F,C,P", "failures,cooldown,probes"),
    FLAG(20, "temporary", "ends with its client"),
    FLAG(21, "unrouted", "takes what none wants"),
    {0, "unrouted-to", "QUEUE", "where that goes", PAWL_OPTION_TEXT,
     offsetof(struct declare_options, unrouted_to), 0, 0},
    {0},
};

static int put(const struct pawl_cli *cli, json_t *config, const struct pawl_queue_setting *setting,
               const char *value)
{
    char why[PAWL_QUEUE_SETTING_WHY_BYTES];
    int error = pawl_queue_setting_put(config, setting, value, why);
    if (error == 0)
        return 0;
    return pawl_fail(cli, PAWL_EXIT_USAGE, error == PAWL_E_LIMIT ? "limit" : "usage",
                     "see pawl help queue declare", "--%s: %s", setting->name, why);
}

/* All flags as a configuration. 0 or an exit code. */
static int read_settings(const struct pawl_cli *cli, const struct declare_options *o, json_t *config)
{
    int status = 0;
    for (unsigned i = 0; declare_option_table[i].name != NULL && status == 0; i++) {
        const struct pawl_queue_setting *setting = pawl_queue_setting_find(declare_option_table[i].name);
        if ((o->given >> i & 1) == 0 || setting == NULL)
            continue;
        if (setting->kind == PAWL_SETTING_FLAG) {
            status = put(cli, config, setting, o->flag[i] ? "true" : "false");
            continue;
        }
        const struct pawl_text_list *list = &o->texts[i];
        for (size_t at = setting->repeats ? 0 : list->count - 1; at < list->count && status == 0; at++)
            status = put(cli, config, setting, list->items[at]);
    }
    return status;
}

static int declare(const struct pawl_cli *cli, struct pawl *pawl, const char *name, json_t *config,
                   json_t **reply_out)
{
    json_t *request = pawl_cli_request("queue.declare", "name", name);
    json_object_set(request, "config", config);
    return pawl_cli_ask(cli, pawl, request, reply_out);
}

/* Who comes from NATS means the rest of a topic by it, and would have a queue that nothing comes to. */
static void note_foreign_wildcards(const struct pawl_cli *cli, const json_t *config)
{
    size_t i;
    json_t *topic;
    json_array_foreach(json_object_get(config, "topics"), i, topic)
    {
        const char *text = json_string_value(topic), *last = text != NULL ? strrchr(text, '.') : NULL;
        last = last != NULL ? last + 1 : text;
        if (last != NULL && strcmp(last, ">") == 0)
            pawl_note(cli, "'%.80s': > is a segment as any other; # is the rest of a topic, as a last * is",
                      text);
    }
}

static int run_declare(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct declare_options *o = options;
    struct pawl *pawl = NULL;
    json_t *config = json_object(), *reply = NULL, *other = NULL;
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0 && o->unrouted_to != NULL)
        status = pawl_cli_check_name(cli, o->unrouted_to);
    if (status == 0)
        status = read_settings(cli, o, config);
    if (status == 0)
        status = pawl_cli_open(cli, true, &pawl);
    if (status == 0)
        status = declare(cli, pawl, operands[0], config, &reply);
    if (status == 0 && o->unrouted_to != NULL) {
        json_t *catch_all = json_pack("{s:b}", "unrouted", 1);
        status = declare(cli, pawl, o->unrouted_to, catch_all, &other);
        json_decref(catch_all);
    }
    if (status == 0)
        note_foreign_wildcards(cli, config);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    if (pawl != NULL)
        pawl_close(pawl);
    json_decref(other);
    json_decref(reply);
    json_decref(config);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_queue_declare = {
    .name = "queue declare",
    .summary = "make a queue, or change its settings",
    .operands = "NAME",
    .examples = "pawl queue declare orders --topic 'order.*' --ack-wait 1m --backoff 1s,10s,1m\n"
                "pawl queue declare clicks --topic 'click.#' --stream --retain 7d",
    .notes = "POLICY: block, drop_newest, drop_oldest, reject, dead_letter. the same again is fine.\n"
             "CAUSE: nack, deadline, consumer-died, handler-error, exit, exit:75, exit:100-120",
    .options = declare_option_table,
    .options_bytes = sizeof(struct declare_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_declare,
};
