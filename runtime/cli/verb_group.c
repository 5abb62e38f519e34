/*
 * verb_group.c - `pawl group`: consumer groups of a stream: create, commit, seek, lag, delete.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/group_place.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"

struct group_options {
    uint64_t given;
    const char *from;
};

static const struct pawl_option create_option_table[] = {
    {0, "from", "O", "an offset, earliest, latest (default), or a time", PAWL_OPTION_TEXT,
     offsetof(struct group_options, from), 0, 0},
    {0},
};

/* One request about STREAM GROUP, with a place in it under @key when there is one. */
static int about(struct pawl_cli *cli, const char *op, char **operands, const char *key, const char *place,
                 json_t **reply_out)
{
    json_t *request = pawl_cli_request(op, "queue", operands[0]);
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0 && operands[1] != NULL)
        status = pawl_cli_check_name(cli, operands[1]);
    if (status == 0 && operands[1] != NULL)
        json_object_set_new(request, "group", json_string(operands[1]));
    if (status == 0 && place != NULL) {
        json_t *value = pawl_group_place(place);
        if (value == NULL)
            status = pawl_fail(cli, PAWL_EXIT_USAGE, "usage",
                               "write an offset (1200), earliest, latest, 2026-01-31T12:00:00Z, or 1h ago",
                               "'%.40s' is no place in a stream", place);
        else
            json_object_set_new(request, key, value);
    }
    if (status != 0) {
        json_decref(request);
        return status;
    }
    return pawl_cli_do(cli, false, request, reply_out);
}

static int run_create(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    const struct group_options *o = options;
    json_t *reply = NULL;
    int status = about(cli, "group.create", operands, "from", o->from != NULL ? o->from : "latest", &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static int run_commit(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    json_t *reply = NULL;
    char *end;
    errno = 0;
    (void)strtoull(operands[2], &end, 10);
    if (operands[2][0] < '0' || operands[2][0] > '9' || *end != '\0' || errno == ERANGE)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "pawl group lag STREAM shows where each group stands",
                         "'%.40s' is no offset", operands[2]);
    int status = about(cli, "group.commit", operands, "offset", operands[2], &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static int run_seek(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    json_t *reply = NULL;
    int status = about(cli, "group.seek", operands, "to", operands[2], &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    else if (status == 0)
        printf("%" PRIu64 "\n", pawl_cli_count(reply, "offset"));
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static int run_lag(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    json_t *reply = NULL;
    char *words[3] = {operands[0], operand_count > 1 ? operands[1] : NULL, NULL};
    int status = about(cli, "group.lag", words, NULL, NULL, &reply);
    /* One group alone is answered as itself: here it is a list of one. */
    if (status == 0 && json_object_get(reply, "groups") == NULL) {
        json_t *groups = json_array(), *group = json_copy(reply);
        json_object_del(group, "schema");
        json_object_del(group, "queue");
        json_array_append_new(groups, group);
        json_object_set_new(reply, "groups", groups);
    }
    if (status == 0 && cli->json) {
        pawl_json_print(reply, stdout);
    } else if (status == 0) {
        size_t i;
        const json_t *group, *groups = json_object_get(reply, "groups");
        printf("%-20s  %-12s  %-12s  %s\n", "GROUP", "COMMITTED", "END", "LAG");
        json_array_foreach(groups, i, group)
        {
            printf("%-20s  %-12" PRIu64 "  %-12" PRIu64 "  %" PRIu64 "\n", pawl_cli_text(group, "group"),
                   pawl_cli_count(group, "committed"), pawl_cli_count(group, "end"),
                   pawl_cli_count(group, "lag"));
        }
    }
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

static int run_delete(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    json_t *reply = NULL;
    int status = about(cli, "group.delete", operands, NULL, NULL, &reply);
    if (status == 0 && cli->json)
        pawl_json_print(reply, stdout);
    json_decref(reply);
    return pawl_output_finish(cli, status);
}

struct no_options {
    uint64_t given;
};

static const struct pawl_verb pawl_verb_group_create = {
    .name = "group create",
    .summary = "make a consumer group of a stream",
    .operands = "STREAM GROUP",
    .examples = "pawl group create clicks billing --from earliest",
    .options = create_option_table,
    .options_bytes = sizeof(struct group_options),
    .operands_min = 2,
    .operands_max = 2,
    .run = run_create,
};
static const struct pawl_verb pawl_verb_group_commit = {
    .name = "group commit",
    .summary = "all below this offset is done with",
    .operands = "STREAM GROUP OFFSET",
    .examples = "pawl group commit clicks billing 1200",
    .notes = "the next one to be delivered is OFFSET; going back is `pawl group seek`",
    .options_bytes = sizeof(struct no_options),
    .operands_min = 3,
    .operands_max = 3,
    .run = run_commit,
};
static const struct pawl_verb pawl_verb_group_seek = {
    .name = "group seek",
    .summary = "go on from another place; prints its offset",
    .operands = "STREAM GROUP PLACE",
    .examples =
        "pawl group seek clicks billing earliest\npawl group seek clicks billing 2026-01-31T12:00:00Z\n"
        "pawl group seek clicks billing '1h ago'",
    .notes = "PLACE: an offset, earliest, latest, a time, or a duration ago",
    .options_bytes = sizeof(struct no_options),
    .operands_min = 3,
    .operands_max = 3,
    .run = run_seek,
};
static const struct pawl_verb pawl_verb_group_lag = {
    .name = "group lag",
    .summary = "how far behind the groups of a stream are",
    .operands = "STREAM [GROUP]",
    .examples = "pawl group lag clicks\npawl group lag clicks billing --json | jq '.groups[0].lag'",
    .options_bytes = sizeof(struct no_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = run_lag,
};

static const struct pawl_verb pawl_verb_group_delete = {
    .name = "group delete",
    .summary = "forget a consumer group; the stream stays",
    .operands = "STREAM GROUP",
    .examples = "pawl group delete clicks billing",
    .notes = "who consumes by it is told; one of the same name begins anew",
    .options_bytes = sizeof(struct no_options),
    .operands_min = 2,
    .operands_max = 2,
    .run = run_delete,
};

static const struct pawl_verb *const group_verbs[] = {&pawl_verb_group_create, &pawl_verb_group_commit,
                                                      &pawl_verb_group_seek,   &pawl_verb_group_lag,
                                                      &pawl_verb_group_delete, NULL};

const struct pawl_verb pawl_verb_group = {
    .name = "group",
    .summary = "consumer groups of streams: create, commit, seek, lag, delete",
    .operands = "WHAT",
    .examples = "pawl group create clicks billing --from earliest\npawl group lag clicks",
    .subverbs = group_verbs,
};
