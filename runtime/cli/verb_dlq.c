/*
 * verb_dlq.c - `pawl dlq`: dead letters of a queue: list, show, redrive, purge.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/bus.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/filter.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"

enum { PAGE = 32 /* letters come with their data */ };

struct dlq_options {
    uint64_t given;
    struct pawl_text_list filters;
    uint64_t count;
    const char *to;
};

static const struct pawl_option list_option_table[] = {
    {0, "filter", "K=V", "only those with reason=, topic=, queue= or group=", PAWL_OPTION_LIST,
     offsetof(struct dlq_options, filters), 0, 0},
    {0, "count", "N", "at most so many", PAWL_OPTION_COUNT, offsetof(struct dlq_options, count), 1, 0},
    {0},
};
static const struct pawl_option redrive_option_table[] = {
    {0, "filter", "K=V", "only those with reason=, topic=, queue= or group=", PAWL_OPTION_LIST,
     offsetof(struct dlq_options, filters), 0, 0},
    {0, "to", "QUEUE", "into this queue (default: where they came from)", PAWL_OPTION_TEXT,
     offsetof(struct dlq_options, to), 0, 0},
    {0},
};
static const struct pawl_option filter_option_table[] = {
    {0, "filter", "K=V", "only those with reason=, topic=, queue= or group=", PAWL_OPTION_LIST,
     offsetof(struct dlq_options, filters), 0, 0},
    {0},
};

/* SEQ... of the command line; 0 or an exit code. */
static int read_seqs(const struct pawl_cli *cli, int count, char **words, json_t *seqs)
{
    for (int i = 0; i < count; i++) {
        char *end;
        errno = 0;
        unsigned long long seq = strtoull(words[i], &end, 10);
        if (words[i][0] < '0' || words[i][0] > '9' || *end != '\0' || errno == ERANGE || seq > INT64_MAX)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "pawl dlq list QUEUE shows them",
                             "'%.40s' is no number of a dead letter", words[i]);
        json_array_append_new(seqs, json_integer((json_int_t)seq));
    }
    return 0;
}

/* ---- list, show ---- */

/* What @op asks of the letters that @filter and @seqs choose, from number @from on. */
static json_t *letters_request(const char *op, const char *queue, uint64_t from, json_t *filter, json_t *seqs)
{
    json_t *request = pawl_cli_request(op, "queue", queue);
    json_object_set_new(request, "from", json_integer((json_int_t)from));
    if (json_array_size(seqs) > 0)
        json_object_set(request, "seqs", seqs);
    if (json_object_size(filter) > 0)
        json_object_set(request, "filter", filter);
    return request;
}

/* A letter as the scheduler gave it, with times as people and other verbs write them. */
static json_t *letter_json(const json_t *given)
{
    static const char *const times[][2] = {
        {"published_at_ns", "published_at"}, {"first_at_ns", "first_at"}, {"last_at_ns", "last_at"}};
    json_t *letter = pawl_json_document();
    json_object_update(letter, (json_t *)(uintptr_t)given);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        json_object_set_new(letter, times[i][1], pawl_json_time(pawl_cli_count(given, times[i][0])));
        json_object_del(letter, times[i][0]);
    }
    return letter;
}

static void print_letter(const json_t *letter)
{
    char time[PAWL_TIME_TEXT_BYTES];
    const char *error = pawl_cli_text(letter, "error"), *topic = pawl_cli_text(letter, "topic");
    printf("%-8" PRIu64 "  %-14s  %-8" PRIu64 "  %-24s  ", pawl_cli_count(letter, "seq"),
           pawl_cli_text(letter, "reason"), pawl_cli_count(letter, "attempts"),
           pawl_format_time(pawl_cli_count(letter, "last_at_ns"), time));
    pawl_print_line(stdout, topic, strlen(topic));
    printf("%s", error[0] != '\0' ? "  " : "");
    pawl_print_line(stdout, error, strnlen(error, 80));
    putchar('\n');
}

static int print_page(const struct pawl_cli *cli, const json_t *letters, bool first)
{
    size_t i;
    const json_t *letter;
    if (first && !cli->json && json_array_size(letters) > 0)
        printf("%-8s  %-14s  %-8s  %-24s  %s\n", "SEQ", "REASON", "ATTEMPTS", "DIED", "TOPIC  LAST ERROR");
    json_array_foreach(letters, i, letter)
    {
        if (!cli->json) {
            print_letter(letter);
            continue;
        }
        json_t *line = letter_json(letter);
        pawl_json_print(line, stdout);
        json_decref(line);
    }
    return ferror(stdout) ? PAWL_EXIT_FAILED : 0;
}

static void print_whole(const json_t *letter)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)letter, key, value)
    {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        if (strcmp(key, "schema") == 0) {
            free(text);
            continue;
        }
        printf("%-14s  ", key);
        if (json_is_string(value))
            pawl_print_line(stdout, json_string_value(value), json_string_length(value));
        else
            printf("%s", text != NULL ? text : "");
        putchar('\n');
        free(text);
    }
}

/* Letters whole, an empty line between two. */
static int print_whole_page(const struct pawl_cli *cli, const json_t *letters, bool first)
{
    size_t i;
    const json_t *letter;
    json_array_foreach(letters, i, letter)
    {
        json_t *whole = letter_json(letter);
        if (cli->json) {
            pawl_json_print(whole, stdout);
        } else {
            fputs(first && i == 0 ? "" : "\n", stdout);
            print_whole(whole);
        }
        json_decref(whole);
    }
    return ferror(stdout) ? PAWL_EXIT_FAILED : 0;
}

typedef int page_function(const struct pawl_cli *cli, const json_t *letters, bool first);

/* Every letter that @o and @seqs choose, page by page. *found_out: how many. 0 or an exit code. */
static int walk(const struct pawl_cli *cli, const struct dlq_options *o, const char *queue, json_t *seqs,
                page_function *print, uint64_t *found_out)
{
    struct pawl *pawl = NULL;
    json_t *filter = json_object();
    uint64_t from = 0, left = o->count != 0 ? o->count : UINT64_MAX;
    int status = pawl_filter_letters(cli, &o->filters, filter);
    *found_out = 0;
    if (status == 0)
        status = pawl_cli_open(cli, false, &pawl);
    while (status == 0 && left > 0) {
        json_t *request = letters_request("dlq.list", queue, from, filter, seqs), *reply = NULL;
        json_object_set_new(request, "count", json_integer((json_int_t)(left < PAGE ? left : PAGE)));
        status = pawl_cli_ask(cli, pawl, request, &reply);
        if (status != 0)
            break;
        const json_t *letters = json_object_get(reply, "events");
        uint64_t next = pawl_cli_count(reply, "next");
        left -= json_array_size(letters);
        status = print(cli, letters, *found_out == 0);
        *found_out += json_array_size(letters);
        json_decref(reply);
        if (next <= from)
            break;
        from = next;
    }
    if (pawl != NULL)
        pawl_close(pawl);
    json_decref(filter);
    return status;
}

static int run_list(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)operand_count;
    uint64_t found = 0;
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0)
        status = walk(cli, options, operands[0], NULL, print_page, &found);
    if (status == 0 && found == 0)
        pawl_note(cli, "no dead letters of %s", operands[0]);
    return pawl_output_finish(cli, status);
}

static const struct pawl_verb pawl_verb_dlq_list = {
    .name = "dlq list",
    .summary = "the dead letters of a queue, oldest first",
    .operands = "QUEUE",
    .examples = "pawl dlq list orders\npawl dlq list orders --filter reason=rejected --json | jq .seq",
    .notes = "QUEUE is the queue whose events died; with --json a stream, one letter a line",
    .options = list_option_table,
    .options_bytes = sizeof(struct dlq_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = run_list,
};

/* Not as many as there are numbers: some of them are of no letter. */
static int tell_missing(const struct pawl_cli *cli, const char *queue, const json_t *seqs, uint64_t found)
{
    if (found >= json_array_size(seqs))
        return 0;
    return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "pawl dlq list shows what there is",
                     json_array_size(seqs) == 1 ? "%s: no dead letter has that number"
                                                : "%s: not every number is of a dead letter",
                     queue);
}

static int run_show(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    json_t *seqs = json_array();
    uint64_t found = 0;
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0)
        status = read_seqs(cli, operand_count - 1, operands + 1, seqs);
    if (status == 0)
        status = walk(cli, options, operands[0], seqs, print_whole_page, &found);
    if (status == 0)
        status = tell_missing(cli, operands[0], seqs, found);
    if (status == 0 && found == 0)
        pawl_note(cli, "no dead letters of %s", operands[0]);
    json_decref(seqs);
    return pawl_output_finish(cli, status);
}

static const struct pawl_verb pawl_verb_dlq_show = {
    .name = "dlq show",
    .summary = "dead letters with all that is known of them",
    .operands = "QUEUE [SEQ...]",
    .examples = "pawl dlq show orders 12\npawl dlq show orders 12 --json | jq -r .data\n"
                "pawl dlq show orders --filter reason=rejected",
    .notes = "all of them unless SEQ or --filter choose",
    .options = filter_option_table,
    .options_bytes = sizeof(struct dlq_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = run_show,
};

/* ---- redrive, purge ---- */

static void print_change(const struct pawl_cli *cli, const char *count_of, uint64_t changed, uint64_t skipped)
{
    if (!cli->json) {
        printf("%" PRIu64 "\n", changed);
        return;
    }
    json_t *document = pawl_json_document();
    json_object_set_new(document, count_of, json_integer((json_int_t)changed));
    json_object_set_new(document, "skipped", json_integer((json_int_t)skipped));
    pawl_json_print(document, stdout);
    json_decref(document);
}

static int change(struct pawl_cli *cli, const struct dlq_options *o, const char *op, int operand_count,
                  char **operands, const char *count_of)
{
    json_t *filter = json_object(), *seqs = json_array();
    struct pawl *pawl = NULL;
    uint64_t changed = 0, skipped = 0;
    int status = pawl_cli_check_name(cli, operands[0]);
    if (status == 0 && o->to != NULL)
        status = pawl_cli_check_name(cli, o->to);
    if (status == 0)
        status = pawl_filter_letters(cli, &o->filters, filter);
    if (status == 0)
        status = read_seqs(cli, operand_count - 1, operands + 1, seqs);
    if (status == 0)
        status = pawl_cli_open(cli, false, &pawl);
    /* A bounded number at a time: `next` says where the scheduler stopped. */
    for (uint64_t from = 0; status == 0;) {
        json_t *request = letters_request(op, operands[0], from, filter, seqs), *reply = NULL;
        if (o->to != NULL)
            json_object_set_new(request, "to", json_string(o->to));
        status = pawl_cli_ask(cli, pawl, request, &reply);
        if (status != 0)
            break;
        uint64_t next = pawl_cli_count(reply, "next");
        changed += pawl_cli_count(reply, count_of);
        skipped += pawl_cli_count(reply, "skipped");
        json_decref(reply);
        if (next <= from)
            break;
        from = next;
    }
    if (pawl != NULL)
        pawl_close(pawl);
    if (status == 0)
        print_change(cli, count_of, changed, skipped);
    if (status == 0 && skipped > 0)
        status = pawl_fail(cli, PAWL_EXIT_FAILED, "skipped",
                           strcmp(op, "dlq.purge") == 0
                               ? "settle them first: pawl queue show says how many are in flight"
                               : "name a queue: --to QUEUE",
                           "%" PRIu64 " stay: their queue is gone, full, or they are in flight", skipped);
    if (status == 0)
        status = tell_missing(cli, operands[0], seqs, changed + skipped);
    json_decref(seqs);
    json_decref(filter);
    return pawl_output_finish(cli, status);
}

static int run_redrive(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    return change(cli, options, "dlq.redrive", operand_count, operands, "redriven");
}

static int run_purge(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    return change(cli, options, "dlq.purge", operand_count, operands, "purged");
}

static const struct pawl_verb pawl_verb_dlq_redrive = {
    .name = "dlq redrive",
    .summary = "give dead letters to a queue again; prints how many",
    .operands = "QUEUE [SEQ...]",
    .examples = "pawl dlq redrive orders\npawl dlq redrive orders 12 13 --to orders-by-hand\n"
                "pawl dlq redrive orders --filter reason=expired",
    .notes = "their failures are counted from 0 again; all of them unless SEQ or --filter choose",
    .options = redrive_option_table,
    .options_bytes = sizeof(struct dlq_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = run_redrive,
};

static const struct pawl_verb pawl_verb_dlq_purge = {
    .name = "dlq purge",
    .summary = "drop dead letters; prints how many",
    .operands = "QUEUE [SEQ...]",
    .examples = "pawl dlq purge orders\npawl dlq purge orders --filter reason=rejected",
    .options = filter_option_table,
    .options_bytes = sizeof(struct dlq_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = run_purge,
};

static const struct pawl_verb *const dlq_verbs[] = {&pawl_verb_dlq_list, &pawl_verb_dlq_show,
                                                    &pawl_verb_dlq_redrive, &pawl_verb_dlq_purge, NULL};

const struct pawl_verb pawl_verb_dlq = {
    .name = "dlq",
    .summary = "dead letters: list, show, redrive, purge",
    .operands = "WHAT",
    .examples = "pawl dlq list orders\npawl dlq redrive orders",
    .subverbs = dlq_verbs,
};
