/*
 * verb_settle.c - `pawl ack`, `nack`, `reject`, `extend`: deliveries that `pawl consume` printed, by their
 * tags.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"

struct settle_options {
    uint64_t given;
    uint64_t duration_ns;
    const char *reason;
};

#define DAY_NS         (UINT64_C(86400) * 1000000000)
#define OFFSET(member) offsetof(struct settle_options, member)
static const struct pawl_option no_option_table[] = {{0}};
static const struct pawl_option nack_option_table[] = {
    {0, "delay", "D", "deliver it again after that (default: the queue's backoff)", PAWL_OPTION_DURATION,
     OFFSET(duration_ns), 0, 3650 * DAY_NS},
    {0},
};
static const struct pawl_option reject_option_table[] = {
    {0, "reason", "TEXT", "words that stay with the dead letter", PAWL_OPTION_TEXT, OFFSET(reason), 0, 0},
    {0},
};
static const struct pawl_option extend_option_table[] = {
    {0, "by", "D", "from now (default: the queue's ack wait)", PAWL_OPTION_DURATION, OFFSET(duration_ns), 0,
     7 * DAY_NS},
    {0},
};

/* Why @tag names no delivery that there is: the queue or the event. Returns the exit code. */
static int tell_missing(const struct pawl_cli *cli, struct pawl *pawl, const char *tag)
{
    char name[80], *reply = NULL;
    int name_bytes = (int)strcspn(tag, ":/"), seq_bytes;
    const char *seq = strchr(tag, ':') + 1; /* it is a tag: it has three colons */
    seq_bytes = (int)strcspn(seq, ":");
    snprintf(name, sizeof name, "%.*s", name_bytes, tag);
    json_t *request = pawl_cli_request("queue.show", "name", name);
    char *text = json_dumps(request, JSON_COMPACT);
    int error = text != NULL ? pawl_request(pawl, text, &reply) : 0;
    free(reply);
    free(text);
    json_decref(request);
    if (error == PAWL_ERR_NOT_FOUND)
        return pawl_cli_fail(cli, pawl, error, "%.200s", tag);
    return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "pawl consume prints the deliveries that it took",
                     "%.200s: queue %s has no event %.*s", tag, name, seq_bytes, seq);
}

/* Each delivery; one that fails does not keep the others. The first failure is the exit code. */
static int settle(struct pawl_cli *cli, const char *op, int64_t value_ms, const char *text, int count,
                  char **tags)
{
    struct pawl *pawl;
    json_t *settled = json_array();
    int status = pawl_cli_open(cli, false, &pawl);
    if (status != 0) {
        json_decref(settled);
        return status;
    }
    for (int i = 0; i < count; i++) {
        int error = pawl_settle_tag(pawl, tags[i], op, value_ms, text);
        if (error != 0) {
            int exit_code = 0;
            if (error == PAWL_ERR_INVALID) /* a wrong argument, not a wrong configuration */
                exit_code = pawl_fail(cli, PAWL_EXIT_USAGE, "invalid",
                                      "write what pawl consume prints as delivery, QUEUE:SEQ:ATTEMPT:EPOCH",
                                      "'%.200s' is not a delivery", tags[i]);
            else if (error == PAWL_ERR_NOT_FOUND)
                exit_code = tell_missing(cli, pawl, tags[i]);
            else
                exit_code = pawl_cli_fail(cli, pawl, error, "%.200s", tags[i]);
            status = status == 0 ? exit_code : status;
        } else {
            json_array_append_new(settled, pawl_json_text(tags[i]));
        }
    }
    pawl_close(pawl);
    if (cli->json && json_array_size(settled) > 0) {
        json_t *document = pawl_json_document();
        json_object_set(document, "settled", settled);
        pawl_json_print(document, stdout);
        json_decref(document);
    }
    json_decref(settled);
    return pawl_output_finish(cli, status);
}

static int run_ack(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    return settle(cli, "ack", 0, NULL, operand_count, operands);
}

static int run_nack(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct settle_options *o = options;
    bool given = pawl_option_given(cli->verb, o, "delay");
    return settle(cli, "nack", given ? (int64_t)((o->duration_ns + 999999) / 1000000) : -1, NULL,
                  operand_count, operands);
}

static int run_reject(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct settle_options *o = options;
    return settle(cli, "reject", 0, o->reason, operand_count, operands);
}

static int run_extend(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    const struct settle_options *o = options;
    return settle(cli, "extend", (int64_t)((o->duration_ns + 999999) / 1000000), NULL, operand_count,
                  operands);
}

#define DELIVERIES                                                                                           \
    .operands = "DELIVERY...", .options_bytes = sizeof(struct settle_options), .operands_min = 1,            \
    .operands_max = -1

const struct pawl_verb pawl_verb_ack = {
    .name = "ack",
    .summary = "deliveries are done with",
    .examples = "pawl ack \"$(pawl consume orders --count 1 | jq -r .delivery)\"",
    .notes = "DELIVERY is what `pawl consume` prints as delivery, QUEUE:SEQ:ATTEMPT:EPOCH\n"
             "exit 1: it was settled before, or its ack wait had passed",
    .options = no_option_table,
    .run = run_ack,
    DELIVERIES,
};
const struct pawl_verb pawl_verb_nack = {
    .name = "nack",
    .summary = "deliveries failed: deliver them again, or no more after the limit",
    .examples = "pawl nack orders:12:1:3\npawl nack orders:12:1:3 --delay 10m",
    .options = nack_option_table,
    .run = run_nack,
    DELIVERIES,
};
const struct pawl_verb pawl_verb_reject = {
    .name = "reject",
    .summary = "deliveries become dead letters now",
    .examples = "pawl reject orders:12:1:3 --reason 'no such customer'",
    .options = reject_option_table,
    .run = run_reject,
    DELIVERIES,
};
const struct pawl_verb pawl_verb_extend = {
    .name = "extend",
    .summary = "more time to settle deliveries",
    .examples = "pawl extend orders:12:1:3 --by 5m\npawl extend \"$PAWL_DELIVERY\"",
    .options = extend_option_table,
    .run = run_extend,
    DELIVERIES,
};
