/*
 * errors.c - how the tool says what went wrong.
 *
 * Runs in: the command. Writes to stderr only.
 */
#include "runtime/cli/errors.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "runtime/cli/output.h"
#include "shm/error.h"

static json_t *trouble_json(const struct pawl_trouble *trouble)
{
    json_t *error = json_object();
    json_object_set_new(error, "code", pawl_json_text(trouble->code));
    json_object_set_new(error, "message", pawl_json_text(trouble->message));
    json_object_set_new(error, "hint",
                        trouble->hint != NULL && trouble->hint[0] != '\0' ? pawl_json_text(trouble->hint)
                                                                          : json_null());
    json_object_set_new(error, "file", trouble->file != NULL ? pawl_json_text(trouble->file) : json_null());
    json_object_set_new(error, "line", trouble->line != 0 ? json_integer(trouble->line) : json_null());
    json_object_set_new(error, "column", trouble->column != 0 ? json_integer(trouble->column) : json_null());
    return error;
}

static void print_hint(const char *hint)
{
    if (hint != NULL && hint[0] != '\0')
        fprintf(stderr, "  %s\n", hint);
}

int pawl_trouble(const struct pawl_cli *cli, const struct pawl_trouble *trouble)
{
    fflush(stdout);
    if (cli->json) {
        json_t *document = json_object();
        json_object_set_new(document, "error", trouble_json(trouble));
        pawl_json_print(document, stderr);
        json_decref(document);
        return trouble->exit_code;
    }
    const char *red = cli->color_err ? "\033[31m" : "", *off = cli->color_err ? "\033[0m" : "";
    if (trouble->file != NULL && trouble->line != 0)
        fprintf(stderr, "%s:%u:%u: ", trouble->file, trouble->line, trouble->column);
    else if (trouble->file != NULL)
        fprintf(stderr, "%s: ", trouble->file);
    else
        fprintf(stderr, "pawl%s%s: ", cli->verb != NULL ? " " : "", cli->verb != NULL ? cli->verb->name : "");
    fprintf(stderr, "%s", red);
    pawl_print_safe(stderr, trouble->message, strlen(trouble->message));
    fprintf(stderr, "%s\n", off);
    print_hint(trouble->hint);
    return trouble->exit_code;
}

int pawl_fail(const struct pawl_cli *cli, int exit_code, const char *code, const char *hint,
              const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return pawl_trouble(cli, &(struct pawl_trouble){exit_code, code, message, hint, NULL, 0, 0});
}

/* PAWL_E_NOT_FOUND -> "not_found", ENOENT -> "enoent" */
static void code_of(int error, char *code, size_t bytes)
{
    const char *name = pawl_error_name(error);
    if (strncmp(name, "PAWL_E_", 7) == 0)
        name += 7;
    size_t i = 0;
    for (; name[i] != '\0' && i + 1 < bytes; i++)
        code[i] = (char)tolower((unsigned char)name[i]);
    code[i] = '\0';
}

int pawl_fail_error(const struct pawl_cli *cli, int exit_code, int error, const char *hint,
                    const char *format, ...)
{
    char what[768], message[1024], code[48];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(message, sizeof message, "%s: %s", what, pawl_error_text(error));
    code_of(error, code, sizeof code);
    return pawl_trouble(cli, &(struct pawl_trouble){exit_code, code, message, hint, NULL, 0, 0});
}

int pawl_fail_report(const struct pawl_cli *cli, const struct pawl_error_report *report)
{
    char code[48];
    code_of(report->error, code, sizeof code);
    return pawl_trouble(
        cli, &(struct pawl_trouble){report->exit_code > 0 ? report->exit_code : PAWL_EXIT_INTERNAL, code,
                                    report->text[0] != '\0' ? report->text : pawl_error_text(report->error),
                                    report->hint, NULL, 0, 0});
}

static struct pawl_trouble load_trouble(const char *file, int exit_code, const struct pawl_load_error *error,
                                        bool only_placed)
{
    if (only_placed && error->line == 0 && strcmp(error->code, "unreadable") != 0)
        file = NULL;
    return (struct pawl_trouble){exit_code, error->code, error->text,  error->hint,
                                 file,      error->line, error->column};
}

/* @only_placed: a mistake without a place in the file is not the file's, but it could not be read. */
static int fail_load(const struct pawl_cli *cli, const char *file, int error,
                     const struct pawl_load_errors *errors, bool only_placed)
{
    bool unreadable = error != PAWL_E_INVALID && error != PAWL_E_LIMIT;
    int exit_code = unreadable ? PAWL_EXIT_USAGE : PAWL_EXIT_INVALID;
    if (errors->count == 0) {
        char text[256];
        snprintf(text, sizeof text, "cannot be loaded: %s", pawl_error_text(error));
        return pawl_trouble(cli, &(struct pawl_trouble){exit_code, "load", text, NULL, file, 0, 0});
    }
    if (cli->json) {
        json_t *document = json_object(), *all = json_array();
        struct pawl_trouble first = load_trouble(file, exit_code, &errors->errors[0], only_placed);
        json_object_set_new(document, "error", trouble_json(&first));
        for (uint32_t i = 0; i < errors->count; i++) {
            struct pawl_trouble each = load_trouble(file, exit_code, &errors->errors[i], only_placed);
            json_array_append_new(all, trouble_json(&each));
        }
        json_object_set_new(document, "errors", all);
        pawl_json_print(document, stderr);
        json_decref(document);
        return exit_code;
    }
    for (uint32_t i = 0; i < errors->count; i++) {
        struct pawl_trouble each = load_trouble(file, exit_code, &errors->errors[i], only_placed);
        pawl_trouble(cli, &each);
    }
    if (errors->dropped != 0)
        fprintf(stderr, "%s: %u more\n", file, errors->dropped);
    return exit_code;
}

int pawl_fail_load(const struct pawl_cli *cli, const char *file, int error,
                   const struct pawl_load_errors *errors)
{
    return fail_load(cli, file, error, errors, false);
}

int pawl_fail_config(const struct pawl_cli *cli, const struct pawl_config_source *source, int error,
                     const struct pawl_load_errors *errors)
{
    (void)fail_load(cli, pawl_config_file_name(source), error, errors, true);
    return PAWL_EXIT_INVALID;
}

int pawl_fail_no_state(const struct pawl_cli *cli)
{
    return pawl_fail(cli, PAWL_EXIT_FAILED, "not_found",
                     "start one: pawl run FILE; or name another directory: --state DIR",
                     "no runs here: there is no state directory %s", cli->state);
}

int pawl_fail_state(const struct pawl_cli *cli, int error, const char *why)
{
    return pawl_fail(cli, PAWL_EXIT_UNREACHABLE, "state",
                     error == -ENOSYS ? "pawl doctor looks at the machine"
                     : error == -EACCES && !pawl_state_is_anothers(cli->state) ? PAWL_STATE_OWN_HINT
                     : error == -EACCES
                         ? "its owner may let you in by a socket: pawl serve --socket, then --state SOCKET"
                         : "choose another: --state DIR, or PAWL_STATE=DIR",
                     "%s", why[0] != '\0' ? why : pawl_error_text(error));
}

void pawl_note(const struct pawl_cli *cli, const char *format, ...)
{
    if (cli->json)
        return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "pawl %s: ", cli->verb->name);
    pawl_print_safe(stderr, text, strlen(text));
    fputc('\n', stderr);
}
