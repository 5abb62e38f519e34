/*
 * verb_health.c - `pawl health`: is all well, part by part, and which processes there are.
 *
 * Runs in: the command. A scheduler that does not answer is waited for 5 s, no longer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "runtime/health.h"
#include "runtime/observer.h"
#include "runtime/state.h"
#include "shm/error.h"

struct no_options {
    uint64_t given;
};

static void print_components(const struct pawl_health *health, bool color)
{
    static const char *const colors[] = {"\033[2m", "\033[32m", "\033[33m", "\033[31m"};
    printf("%-10s  %-9s  %s\n", "PART", "STATUS", "WHY");
    for (int i = 0; i < PAWL_HEALTH_PARTS; i++) {
        const struct pawl_health_component *part = &health->part[i];
        printf("%-10s  %s%-9s%s  %s\n", part->name, color ? colors[part->status] : "",
               pawl_health_status_name(part->status), color ? "\033[0m" : "", part->message);
    }
}

static void print_processes(json_t *list)
{
    size_t index;
    json_t *process;
    printf("%-12s  %8s  %s\n", "ROLE", "PID", "STATE");
    json_array_foreach(list, index, process)
    {
        char role[40];
        json_t *number = json_object_get(process, "number");
        if (json_is_integer(number))
            snprintf(role, sizeof role, "%s %d", json_string_value(json_object_get(process, "role")),
                     (int)json_integer_value(number));
        else
            snprintf(role, sizeof role, "%s", json_string_value(json_object_get(process, "role")));
        printf("%-12s  %8d  %s\n", role, (int)json_integer_value(json_object_get(process, "pid")),
               json_string_value(json_object_get(process, "state")));
    }
}

/* Nobody serves: programs get the document all the same. */
static int stopped(const struct pawl_cli *cli)
{
    if (!cli->json)
        return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "enoent",
                         "start it: pawl serve; or name another directory: --state DIR", "nothing runs in %s",
                         cli->state);
    json_t *document = pawl_json_document();
    json_object_set_new(document, "status", json_string("stopped"));
    json_object_set_new(document, "state", pawl_json_text(cli->state));
    json_object_set_new(document, "processes", json_array());
    json_object_set_new(document, "overall", json_string("unknown"));
    json_object_set_new(document, "ready", json_false());
    json_object_set_new(document, "components", json_array());
    pawl_json_print(document, stdout);
    json_decref(document);
    return pawl_output_finish(cli, PAWL_EXIT_UNREACHABLE);
}

static int show(const struct pawl_cli *cli, const struct pawl_observer *observer,
                const struct pawl_health *health, bool answers)
{
    enum pawl_health_status overall = pawl_health_overall(health->part, PAWL_HEALTH_PARTS);
    json_t *document = pawl_json_document(), *list = json_array();
    if (answers) {
        pawl_processes_json(list, observer->welcome.scheduler_pid, observer->processes,
                            observer->process_count);
        json_object_set_new(document, "epoch", json_integer((json_int_t)observer->welcome.epoch));
        json_object_set_new(document, "io", pawl_json_text(observer->welcome.io));
    }
    json_object_set_new(document, "status", json_string(answers ? "serving" : "silent"));
    json_object_set_new(document, "state", pawl_json_text(cli->state));
    json_object_set(document, "processes", list);
    pawl_health_put(health, document);
    if (cli->json) {
        pawl_json_print(document, stdout);
    } else {
        print_components(health, cli->color_out);
        if (answers) {
            putchar('\n');
            print_processes(list);
        }
    }
    json_decref(list);
    json_decref(document);
    return overall == PAWL_HEALTH_UNHEALTHY ? PAWL_EXIT_FAILED : PAWL_EXIT_OK;
}

static int run_health(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    (void)operand_count;
    (void)operands;
    char why[PAWL_STATE_WHY_BYTES] = "";
    struct pawl_observer observer;
    struct pawl_health health = {0};
    int error = pawl_observer_open(&observer, cli->state, why);
    if (error == -ENOENT)
        return stopped(cli);
    if (error)
        return pawl_fail_state(cli, error, why);
    int answer = pawl_health_look(&observer, PAWL_HEALTH_CHECK_NS, &health), status;
    if (answer == -ENOENT)
        status = stopped(cli);
    else if (answer != 0 && observer.report.text[0]) /* it said why it does not serve */
        status = pawl_fail_report(cli, &observer.report);
    else
        status = show(cli, &observer, &health, answer == 0);
    pawl_observer_fini(&observer);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_health = {
    .name = "health",
    .summary = "is all well? each part, and pawl's processes",
    .operands = "",
    .examples = "pawl health\npawl health --json | jq -r '.processes[].pid'",
    .notes = "exit 0: healthy, or degraded; 1: unhealthy; 4: nobody serves",
    .options_bytes = sizeof(struct no_options),
    .run = run_health,
};
