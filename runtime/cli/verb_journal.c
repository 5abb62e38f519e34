/*
 * verb_journal.c - `pawl journal verify|dump`: reads a journal without a scheduler, and changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/errors.h"
#include "runtime/cli/output.h"
#include "runtime/cli/verbs.h"
#include "scheduler/bus/bus.h"
#include "scheduler/core.h"
#include "scheduler/journal.h"
#include "shm/error.h"

struct journal_options {
    uint64_t given;
};

/* DIR is a state directory or the journal in it. Return: a descriptor, or minus a printed exit code. */
static int open_journal(const struct pawl_cli *cli, const char *path)
{
    int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return -pawl_fail_error(cli, PAWL_EXIT_USAGE, -errno, "name a state directory, or the journal in one",
                                "no journal here: %.200s", path);
    int journal = openat(dirfd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    if (journal < 0 && (error == ENOENT || error == ENOTDIR))
        return dirfd;
    close(dirfd);
    return journal >= 0 ? journal
                        : -pawl_fail_error(cli, PAWL_EXIT_USAGE, -error, "it belongs to somebody else?",
                                           "the journal in %.200s may not be read", path);
}

/* ---- verify ---- */

struct findings {
    const struct pawl_cli *cli;
    json_t *list;
};

static void on_finding(void *context, const struct pawl_journal_finding *finding)
{
    static const char *const kinds[] = {"note", "torn", "damage"};
    struct findings *findings = context;
    const char *kind = finding->kind <= PAWL_JOURNAL_DAMAGE ? kinds[finding->kind] : "note";
    if (findings->cli->json) {
        json_t *object = json_object();
        json_object_set_new(object, "kind", json_string(kind));
        json_object_set_new(object, "file", pawl_json_text(finding->file != NULL ? finding->file : ""));
        json_object_set_new(object, "offset", json_integer((json_int_t)finding->byte_offset));
        json_object_set_new(object, "lsn", json_integer((json_int_t)finding->lsn));
        json_object_set_new(object, "text", pawl_json_text(finding->text != NULL ? finding->text : ""));
        json_array_append_new(findings->list, object);
        return;
    }
    printf("%s: %s: offset %" PRIu64 ", lsn %" PRIu64 ": %s\n", kind,
           finding->file != NULL ? finding->file : "", finding->byte_offset, finding->lsn,
           finding->text != NULL ? finding->text : "");
}

static int fail_damage(const struct pawl_cli *cli, int error, const struct pawl_journal_report *report)
{
    char message[512];
    bool has_file = report->file[0] != '\0';
    snprintf(message, sizeof message, "%soffset %" PRIu64 ", lsn %" PRIu64 ": %s",
             has_file ? "" : "journal: ", report->byte_offset, report->lsn,
             report->reason[0] != '\0' ? report->reason : pawl_error_text(error));
    bool damaged = error == PAWL_E_DAMAGED || error == PAWL_E_BAD_FORMAT;
    return pawl_trouble(
        cli,
        &(struct pawl_trouble){
            .exit_code = damaged ? PAWL_EXIT_DAMAGED : PAWL_EXIT_FAILED,
            .code = damaged ? "damaged" : "journal",
            .message = message,
            .hint = error == PAWL_E_BAD_FORMAT ? "use that pawl"
                    : damaged ? "restore the state directory from a backup, or start a new one with --state"
                              : NULL,
            .file = has_file ? report->file : NULL,
        });
}

static int verify(const struct pawl_cli *cli, int dirfd, const char *path)
{
    struct findings findings = {.cli = cli, .list = json_array()};
    struct pawl_journal_report report;
    memset(&report, 0, sizeof report);
    int error = pawl_journal_verify(dirfd, on_finding, &findings, &report);
    if (error == 0 && report.fresh) { /* "ok" about nothing misleads who checks a backup */
        json_decref(findings.list);
        return pawl_fail(cli, PAWL_EXIT_USAGE, "not_found", "name a state directory, or the journal in one",
                         "no journal here: %.200s: it holds no segment", path);
    }
    if (cli->json) {
        json_t *document = pawl_json_document();
        json_object_set_new(document, "ok", json_boolean(error == 0));
        json_object_set_new(document, "records", json_integer((json_int_t)report.record_count));
        json_object_set_new(document, "last_lsn", json_integer((json_int_t)report.last_lsn));
        json_object_set_new(document, "clean", json_boolean(report.clean));
        json_object_set(document, "findings", findings.list);
        pawl_json_print(document, stdout);
        json_decref(document);
    } else if (error == 0) {
        printf("ok: %" PRIu64 " records, last lsn %" PRIu64 "%s\n", report.record_count, report.last_lsn,
               report.clean ? ", closed cleanly" : "");
    }
    json_decref(findings.list);
    return error == 0 ? 0 : fail_damage(cli, error, &report);
}

/* ---- dump ---- */

static const char *type_name(uint8_t type)
{
    static const char *const names[256] = {
        [PAWL_RECORD_EPOCH] = "epoch",           [PAWL_RECORD_RUN] = "run",
        [PAWL_RECORD_ITEMS] = "items",           [PAWL_RECORD_ITEMS_END] = "items_end",
        [PAWL_RECORD_CLAIM] = "claim",           [PAWL_RECORD_STEP] = "step",
        [PAWL_RECORD_STEP_STATE] = "step_state", [PAWL_RECORD_RUN_STATE] = "run_state",
        [PAWL_RECORD_SEALED] = "sealed",         [PAWL_RECORD_REOPEN] = "reopen",
        [PAWL_RECORD_WATERMARK] = "watermark",   [PAWL_RECORD_SNAPSHOT] = "snapshot",
        [PAWL_BUS_RECORD_EVENTS] = "events",     [PAWL_BUS_RECORD_CLAIM] = "event_claim",
        [PAWL_BUS_RECORD_ACK] = "ack",           [PAWL_BUS_RECORD_RETRY] = "retry",
        [PAWL_BUS_RECORD_DEAD] = "dead",         [PAWL_BUS_RECORD_EXTEND] = "extend",
        [PAWL_BUS_RECORD_QUEUE] = "queue",       [PAWL_BUS_RECORD_DELETE] = "delete",
        [PAWL_BUS_RECORD_GROUP] = "group",       [PAWL_BUS_RECORD_TRIM] = "trim",
        [PAWL_BUS_RECORD_RELEASE] = "release",   [PAWL_BUS_RECORD_MOVE] = "move",
    };
    return names[type] != NULL ? names[type] : "unknown";
}

static int dump_record(void *context, const struct pawl_record *record, uint64_t place)
{
    const struct pawl_cli *cli = context;
    printf(cli->json ? "{\"schema\":1,\"lsn\":%" PRIu64
                       ",\"type\":\"%s\",\"type_number\":%u,\"version\":%u,\"segment\":%u,"
                       "\"offset\":%u,\"bytes\":%u}\n"
                     : "lsn %" PRIu64 "  %-10s  type %u version %u  segment %u  offset %u  %u bytes\n",
           record->lsn, type_name(record->type), record->type, record->version, (unsigned)(place >> 32),
           (unsigned)place, record->body_bytes);
    return ferror(stdout) ? -EPIPE : 0;
}

static int dump(struct pawl_cli *cli, int dirfd)
{
    struct pawl_journal_report report;
    memset(&report, 0, sizeof report);
    int error = pawl_journal_dump(dirfd, dump_record, cli, &report);
    if (error == -EPIPE)
        return PAWL_EXIT_FAILED;
    return error == 0 ? 0 : fail_damage(cli, error, &report);
}

static int run_journal(struct pawl_cli *cli, const void *options, int operand_count, char **operands)
{
    (void)options;
    bool verifies = strcmp(operands[0], "verify") == 0;
    if (!verifies && strcmp(operands[0], "dump") != 0)
        return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "there are: pawl journal verify, pawl journal dump",
                         "journal cannot '%.40s'", operands[0]);
    const char *path = operand_count > 1 ? operands[1] : cli->state;
    int dirfd = open_journal(cli, path);
    if (dirfd < 0)
        return -dirfd;
    int status = verifies ? verify(cli, dirfd, path) : dump(cli, dirfd);
    close(dirfd);
    return pawl_output_finish(cli, status);
}

const struct pawl_verb pawl_verb_journal = {
    .name = "journal",
    .summary = "verify or dump a journal, without a scheduler",
    .operands = "verify|dump [DIR]",
    .examples = "pawl journal verify\npawl journal dump .pawl --json | jq .type",
    .notes = "DIR is a state directory. Exit 7 on damage, with file, offset and lsn",
    .options_bytes = sizeof(struct journal_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = run_journal,
};
