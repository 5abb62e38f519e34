/*
 * params.c - where a run's parameters come from.
 *
 * Runs in: the command. Reads the file of --inputs, nothing else.
 */
#include "runtime/cli/params.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/config.h"
#include "runtime/cli/errors.h"
#include "shm/error.h"

enum { JSON_DEPTH_MAX = 32 };

static int fail_memory(const struct pawl_cli *cli)
{
    return pawl_fail(cli, PAWL_EXIT_INTERNAL, "memory", NULL, "out of memory");
}

int pawl_params_parse(const struct pawl_cli *cli, const struct pawl_plan *plan,
                      const struct pawl_text_list *sets, struct pawl_params *params_out)
{
    memset(params_out, 0, sizeof *params_out);
    pawl_arena_init(&params_out->arena, 0);
    params_out->pairs = calloc(sets->count + 1, sizeof *params_out->pairs);
    if (params_out->pairs == NULL)
        return fail_memory(cli);
    for (size_t i = 0; i < sets->count; i++) {
        const char *text = sets->items[i], *equals = strchr(text, '=');
        if (equals == NULL || equals == text)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "usage", "write --set NAME=VALUE",
                             "--set: '%.80s' names no value", text);
        struct pawl_plan_bind_error why = {.text = ""};
        struct pawl_pair pair = {.key = text, .key_bytes = (size_t)(equals - text)};
        int error = pawl_plan_parse_param(plan, text, pair.key_bytes, equals + 1, strlen(equals + 1),
                                          &params_out->arena, &pair.value, &why);
        if (error != 0)
            return pawl_fail(cli, PAWL_EXIT_USAGE, "params", why.hint, "--set %.120s: %s", text,
                             why.text[0] != '\0' ? why.text : pawl_error_text(error));
        params_out->pairs[params_out->count++] = pair;
    }
    return 0;
}

void pawl_params_fini(struct pawl_params *params)
{
    free(params->pairs);
    pawl_arena_fini(&params->arena);
    params->pairs = NULL;
}

static int fail_line(const struct pawl_cli *cli, const char *file, uint32_t line, const char *message,
                     const char *hint)
{
    return pawl_trouble(cli, &(struct pawl_trouble){PAWL_EXIT_USAGE, "inputs", message, hint, file, line, 1});
}

static_assert(PAWL_PLAN_BYTES_MAX == 120 << 20, "the words below say so");

/* Why a plan takes no parameters. */
static const char *why_not(int error, const struct pawl_plan_bind_error *why)
{
    if (why->text[0] != '\0')
        return why->text;
    return error == PAWL_E_LIMIT ? "with these parameters it is larger than a run may be (120 MiB)"
                                 : pawl_error_text(error);
}

int pawl_params_bind(const struct pawl_cli *cli, const struct pawl_plan *plan,
                     const struct pawl_params *params, const char *line, size_t n, const char *file,
                     uint32_t line_number, struct pawl_plan **plan_out)
{
    struct pawl_arena arena;
    struct pawl_value object = {.kind = PAWL_VALUE_MAP};
    struct pawl_plan_bind_error why = {.text = ""};
    struct pawl_pair *pairs = NULL;
    int status = 0;
    pawl_arena_init(&arena, 0);
    if (line != NULL) {
        struct pawl_json_error trouble = {.text = ""};
        int error = pawl_value_parse_params(line, n, JSON_DEPTH_MAX, &arena, &object, &trouble);
        if (error != 0)
            status = fail_line(cli, file, line_number,
                               trouble.text[0] != '\0' ? trouble.text : pawl_error_text(error),
                               "each line is one JSON object with parameters");
        else if (object.kind != PAWL_VALUE_MAP)
            status = fail_line(cli, file, line_number, "not a JSON object",
                               "each line is one JSON object with parameters");
        if (status != 0)
            goto free_arena;
    }
    pairs = calloc(params->count + object.count + 1, sizeof *pairs);
    if (pairs == NULL) {
        status = fail_memory(cli);
        goto free_arena;
    }
    if (params->count != 0)
        memcpy(pairs, params->pairs, params->count * sizeof *pairs);
    if (object.count != 0)
        memcpy(pairs + params->count, object.pairs, object.count * sizeof *pairs);
    struct pawl_value map = {.kind = PAWL_VALUE_MAP, .count = params->count + object.count, .pairs = pairs};
    int error = pawl_plan_bind(plan, &map, plan_out, &why);
    if (error != 0 && line != NULL)
        status = fail_line(cli, file, line_number, why_not(error, &why), why.hint);
    else if (error != 0)
        status = pawl_fail(cli, PAWL_EXIT_USAGE, "params", why.hint, "%s", why_not(error, &why));
    free(pairs);
free_arena:
    pawl_arena_fini(&arena);
    return status;
}

/* ---- --inputs ---- */

static int read_file(const char *file, struct pawl_inputs *inputs)
{
    int fd =
        strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t room = 0;
    int error = 0;
    for (;;) {
        if (room - inputs->n < 65536) {
            room = room * 2 + 131072;
            char *bytes = realloc(inputs->bytes, room);
            if (bytes == NULL) {
                error = -ENOMEM;
                break;
            }
            inputs->bytes = bytes;
        }
        ssize_t got = read(fd, inputs->bytes + inputs->n, room - inputs->n);
        if (got < 0 && errno == EINTR)
            continue;
        error = got < 0 ? -errno : 0;
        if (got <= 0)
            break;
        inputs->n += (size_t)got;
    }
    close(fd);
    return error;
}

bool pawl_inputs_next(struct pawl_inputs *inputs, const char **line_out, size_t *n_out)
{
    while (inputs->at < inputs->n) {
        const char *from = inputs->bytes + inputs->at;
        const char *stop = memchr(from, '\n', inputs->n - inputs->at);
        size_t n = stop != NULL ? (size_t)(stop - from) : inputs->n - inputs->at;
        inputs->at += n + 1;
        inputs->line++;
        for (size_t i = 0; i < n; i++) {
            if (from[i] != ' ' && from[i] != '\t' && from[i] != '\r') {
                *line_out = from;
                *n_out = n;
                return true;
            }
        }
    }
    return false;
}

void pawl_inputs_rewind(struct pawl_inputs *inputs)
{
    inputs->at = 0;
    inputs->line = 0;
}

int pawl_inputs_read(const struct pawl_cli *cli, const char *file, const struct pawl_plan *plan,
                     const struct pawl_params *params, struct pawl_inputs *inputs_out)
{
    memset(inputs_out, 0, sizeof *inputs_out);
    inputs_out->file = file;
    pawl_cli_tell_fifo(cli, file);
    int error = read_file(file, inputs_out);
    if (error != 0)
        return pawl_fail_error(cli, PAWL_EXIT_USAGE, error, NULL, "--inputs: %.200s", file);
    const char *line;
    size_t n;
    while (pawl_inputs_next(inputs_out, &line, &n)) {
        struct pawl_plan *bound = NULL;
        int status = pawl_params_bind(cli, plan, params, line, n, file, inputs_out->line, &bound);
        if (status != 0)
            return status;
        pawl_plan_close(bound);
        inputs_out->count++;
    }
    pawl_inputs_rewind(inputs_out);
    return 0;
}

void pawl_inputs_fini(struct pawl_inputs *inputs)
{
    free(inputs->bytes);
    inputs->bytes = NULL;
}
