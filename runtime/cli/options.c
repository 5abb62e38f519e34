/*
 * options.c - command lines by table.
 *
 * Runs in: the command. Performs no I/O but the printing of help; never exits.
 */
#include "runtime/cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/cli.h"
#include "runtime/suggest.h"
#include "runtime/units.h"
#include "shm/error.h"

const struct pawl_option pawl_global_option_table[] = {
    {0, "state", "DIR", "state directory (default: $PAWL_STATE, else .pawl)", PAWL_OPTION_TEXT,
     offsetof(struct pawl_global_options, state), 0, 0},
    {0, "json", NULL, "answer in JSON", PAWL_OPTION_FLAG, offsetof(struct pawl_global_options, json), 0, 0},
    {0, "color", "WHEN", "auto, always, never", PAWL_OPTION_TEXT, offsetof(struct pawl_global_options, color),
     0, 0},
    {0, "progress", "HOW", "auto, none, plain, json", PAWL_OPTION_TEXT,
     offsetof(struct pawl_global_options, progress), 0, 0},
    {'h', "help", NULL, "this text", PAWL_OPTION_FLAG, offsetof(struct pawl_global_options, help), 0, 0},
    {'V', "version", NULL, "the version", PAWL_OPTION_FLAG, offsetof(struct pawl_global_options, version), 0,
     0},
    {0, NULL, NULL, NULL, PAWL_OPTION_FLAG, 0, 0, 0},
};

/* ---- parsing ---- */

struct parse {
    const struct pawl_verb *verb;
    void *options;
    struct pawl_global_options *global;
    struct pawl_options_error *error;
    int argc, next;
    char **argv;
};

struct found {
    const struct pawl_option *option;
    void *options;
    unsigned bit;
};

static bool find_in(const struct pawl_option *table, void *options, const char *name, size_t bytes,
                    char letter, struct found *found_out)
{
    for (unsigned i = 0; table != NULL && table[i].name != NULL; i++) {
        bool same = letter != 0 ? table[i].letter == letter
                                : strlen(table[i].name) == bytes && memcmp(table[i].name, name, bytes) == 0;
        if (same) {
            *found_out = (struct found){&table[i], options, i};
            return true;
        }
    }
    return false;
}

static bool find_option(struct parse *p, const char *name, size_t bytes, char letter, struct found *found_out)
{
    if (p->verb != NULL && find_in(p->verb->options, p->options, name, bytes, letter, found_out))
        return true;
    return find_in(pawl_global_option_table, p->global, name, bytes, letter, found_out);
}

static const char *value_text(const struct pawl_option *option, uint64_t value,
                              char text[PAWL_UNIT_TEXT_BYTES])
{
    if (option->kind == PAWL_OPTION_DURATION)
        return pawl_duration_text(value, text);
    if (option->kind == PAWL_OPTION_BYTES)
        return pawl_bytes_text(value, text);
    snprintf(text, PAWL_UNIT_TEXT_BYTES, "%llu", (unsigned long long)value);
    return text;
}

/* "a number from 0 to 9", "from 100ms to 1h", "write 64KiB, 10MB or 1GiB". */
static void hint_range(const struct pawl_option *option, char *hint, size_t bytes)
{
    char from[PAWL_UNIT_TEXT_BYTES], to[PAWL_UNIT_TEXT_BYTES];
    const char *what = option->kind == PAWL_OPTION_DURATION ? "write 250ms, 10s, 5m, 1h30m or 2d"
                       : option->kind == PAWL_OPTION_BYTES  ? "write 64KiB, 10MB or 1GiB"
                                                            : "a number";
    const char *comma = option->kind == PAWL_OPTION_DURATION || option->kind == PAWL_OPTION_BYTES ? "," : "";
    value_text(option, option->minimum, from);
    if (option->maximum != 0)
        snprintf(hint, bytes, "%s%s from %s to %s", what, comma, from,
                 value_text(option, option->maximum, to));
    else if (option->minimum != 0 || comma[0] == '\0')
        snprintf(hint, bytes, "%s, at least %s", what, from);
    else
        snprintf(hint, bytes, "%s", what);
}

static int refuse_value(struct parse *p, const struct pawl_option *option, const char *value, const char *why)
{
    snprintf(p->error->text, sizeof p->error->text, "--%s: '%.80s' %s", option->name, value, why);
    switch (option->kind) {
    case PAWL_OPTION_DURATION:
    case PAWL_OPTION_BYTES:
    case PAWL_OPTION_COUNT:
    case PAWL_OPTION_MAYBE_COUNT:
        hint_range(option, p->error->hint, sizeof p->error->hint);
        break;
    case PAWL_OPTION_SWITCH:
        snprintf(p->error->hint, sizeof p->error->hint, "--%s, or --%s=false to take it back", option->name,
                 option->name);
        break;
    case PAWL_OPTION_FLAG:
    case PAWL_OPTION_TEXT:
    case PAWL_OPTION_LIST:
    case PAWL_OPTION_REST:
        break;
    }
    return PAWL_E_INVALID;
}

static int parse_count(const char *value, uint64_t *number_out)
{
    char *end;
    if (value[0] < '0' || value[0] > '9')
        return PAWL_E_INVALID;
    errno = 0;
    *number_out = strtoull(value, &end, 10);
    return *end != '\0' ? PAWL_E_INVALID : errno == ERANGE ? PAWL_E_LIMIT : 0;
}

/* A number, a duration or a size, within its range. */
static int store_amount(struct parse *p, const struct pawl_option *option, const char *value, uint64_t *slot)
{
    bool duration = option->kind == PAWL_OPTION_DURATION, bytes = option->kind == PAWL_OPTION_BYTES;
    uint64_t amount = 0;
    int error = duration ? pawl_parse_duration_ns(value, strlen(value), &amount)
                : bytes  ? pawl_parse_bytes(value, strlen(value), &amount)
                         : parse_count(value, &amount);
    if (error == PAWL_E_LIMIT || (error == 0 && option->maximum != 0 && amount > option->maximum)) {
        (void)refuse_value(p, option, value, "is above the limit");
        return PAWL_E_LIMIT;
    }
    if (error != 0)
        return refuse_value(p, option, value,
                            duration ? "is not a duration"
                            : bytes  ? "is not a size"
                                     : "is not a number");
    if (amount < option->minimum)
        return refuse_value(p, option, value, "is too small");
    *slot = amount;
    return 0;
}

static int store(struct parse *p, const struct found *found, const char *value)
{
    const struct pawl_option *option = found->option;
    void *slot = (char *)found->options + option->offset;
    *(uint64_t *)found->options |= UINT64_C(1) << found->bit;

    switch (option->kind) {
    case PAWL_OPTION_FLAG:
        *(bool *)slot = true;
        return 0;
    case PAWL_OPTION_SWITCH:
        *(bool *)slot = value == NULL || strcmp(value, "true") == 0;
        return *(bool *)slot || strcmp(value, "false") == 0
                   ? 0
                   : refuse_value(p, option, value, "is neither true nor false");
    case PAWL_OPTION_TEXT:
        *(const char **)slot = value;
        return 0;
    case PAWL_OPTION_LIST:
    case PAWL_OPTION_REST: {
        struct pawl_text_list *list = slot;
        const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
        if (items == NULL)
            return refuse_value(p, option, value, "is one too many: out of memory");
        list->items = items;
        items[list->count++] = value;
        return 0;
    }
    case PAWL_OPTION_COUNT:
    case PAWL_OPTION_MAYBE_COUNT:
    case PAWL_OPTION_DURATION:
    case PAWL_OPTION_BYTES:
        return value == NULL ? 0 : store_amount(p, option, value, slot);
    }
    return 0;
}

static void suggest_option(struct parse *p, const char *flag, size_t bytes)
{
    struct pawl_suggest suggest;
    pawl_suggest_init(&suggest, flag + 2, bytes - 2);
    const struct pawl_option *tables[2] = {p->verb != NULL ? p->verb->options : NULL,
                                           pawl_global_option_table};
    for (int t = 0; t < 2; t++)
        for (const struct pawl_option *o = tables[t]; o != NULL && o->name != NULL; o++)
            pawl_suggest_offer(&suggest, o->name, strlen(o->name));
    if (suggest.best != NULL)
        snprintf(p->error->hint, sizeof p->error->hint, "did you mean --%.*s?", (int)suggest.best_bytes,
                 suggest.best);
}

static int refuse_unknown(struct parse *p, const char *flag)
{
    size_t bytes = flag[1] == '-' ? strcspn(flag, "=") : 2;
    const char *hint = pawl_options_foreign(p->verb != NULL ? p->verb->name : NULL, flag);
    snprintf(p->error->text, sizeof p->error->text, "no such flag: %.*s", (int)(bytes > 80 ? 80 : bytes),
             flag);
    if (hint != NULL)
        snprintf(p->error->hint, sizeof p->error->hint, "%s", hint);
    else if (flag[1] == '-')
        suggest_option(p, flag, bytes);
    if (p->error->hint[0] == '\0')
        snprintf(p->error->hint, sizeof p->error->hint, "see pawl help%s%s", p->verb != NULL ? " " : "",
                 p->verb != NULL ? p->verb->name : "");
    return PAWL_E_INVALID;
}

static int need_value(struct parse *p, const struct found *found, const char *attached)
{
    if (attached != NULL)
        return store(p, found, attached);
    if (p->next >= p->argc) {
        snprintf(p->error->text, sizeof p->error->text, "--%s needs a value: --%s %s", found->option->name,
                 found->option->name, found->option->value);
        return PAWL_E_INVALID;
    }
    return store(p, found, p->argv[p->next++]);
}

static int need_rest(struct parse *p, const struct found *found, const char *attached)
{
    int error = need_value(p, found, attached);
    while (error == 0 && p->next < p->argc)
        error = store(p, found, p->argv[p->next++]);
    return error;
}

static int parse_long(struct parse *p, const char *flag)
{
    size_t bytes = strcspn(flag, "=");
    const char *attached = flag[bytes] == '=' ? flag + bytes + 1 : NULL;
    struct found found;
    if (!find_option(p, flag + 2, bytes - 2, 0, &found))
        return refuse_unknown(p, flag);
    switch (found.option->kind) {
    case PAWL_OPTION_FLAG:
        if (attached != NULL) {
            snprintf(p->error->text, sizeof p->error->text, "--%s takes no value", found.option->name);
            return PAWL_E_INVALID;
        }
        return store(p, &found, NULL);
    case PAWL_OPTION_MAYBE_COUNT:
    case PAWL_OPTION_SWITCH:
        return store(p, &found, attached);
    case PAWL_OPTION_REST:
        return need_rest(p, &found, attached);
    case PAWL_OPTION_TEXT:
    case PAWL_OPTION_LIST:
    case PAWL_OPTION_COUNT:
    case PAWL_OPTION_DURATION:
    case PAWL_OPTION_BYTES:
        return need_value(p, &found, attached);
    }
    return PAWL_E_INVALID;
}

/* -k, -kj4, -j4, -j 4 */
static int parse_letters(struct parse *p, const char *flag)
{
    for (const char *at = flag + 1; *at != '\0'; at++) {
        struct found found;
        if (!find_option(p, NULL, 0, *at, &found)) {
            const char wrong[3] = {'-', *at, '\0'};
            return refuse_unknown(p, wrong);
        }
        if (found.option->kind != PAWL_OPTION_FLAG && found.option->kind != PAWL_OPTION_MAYBE_COUNT &&
            found.option->kind != PAWL_OPTION_SWITCH)
            return need_value(p, &found, at[1] != '\0' ? at + 1 : NULL);
        int error = store(p, &found, NULL);
        if (error != 0)
            return error;
    }
    return 0;
}

static int check_operands(struct parse *p, int operands)
{
    const struct pawl_verb *verb = p->verb;
    if (verb == NULL || p->global->help || p->global->version)
        return 0;
    if (operands < verb->operands_min) {
        snprintf(p->error->text, sizeof p->error->text, "something is missing: pawl %s %s", verb->name,
                 verb->operands);
        snprintf(p->error->hint, sizeof p->error->hint, "see pawl help %s", verb->name);
        return PAWL_E_INVALID;
    }
    if (verb->operands_max >= 0 && operands > verb->operands_max) {
        snprintf(p->error->text, sizeof p->error->text, "one too many: '%.80s'", p->argv[verb->operands_max]);
        snprintf(p->error->hint, sizeof p->error->hint, "usage: pawl %s%s%s", verb->name,
                 verb->operands[0] != '\0' ? " " : "", verb->operands);
        return PAWL_E_INVALID;
    }
    return 0;
}

int pawl_options_parse(const struct pawl_verb *verb, int argc, char **argv, void *options,
                       struct pawl_global_options *global, int *operands_out,
                       struct pawl_options_error *error_out)
{
    struct parse p = {
        .verb = verb, .options = options, .global = global, .error = error_out, .argc = argc, .argv = argv};
    int operands = 0;
    bool stop = false;
    error_out->text[0] = error_out->hint[0] = '\0';

    while (p.next < argc) {
        char *word = argv[p.next++];
        int error = 0;
        if (stop || word[0] != '-' || word[1] == '\0') {
            argv[operands++] = word;
            stop = stop || verb == NULL || verb->stops_at_operand;
        } else if (strcmp(word, "--") == 0) {
            stop = true;
        } else {
            error = word[1] == '-' ? parse_long(&p, word) : parse_letters(&p, word);
        }
        if (error != 0) {
            global->json |= pawl_options_say_json(argc - p.next, argv + p.next);
            return error;
        }
    }
    *operands_out = operands;
    return check_operands(&p, operands);
}

bool pawl_options_say_json(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

bool pawl_option_given(const struct pawl_verb *verb, const void *options, const char *name)
{
    struct found found;
    return find_in(verb->options, NULL, name, strlen(name), 0, &found) &&
           (*(const uint64_t *)options >> found.bit & 1) != 0;
}

/* ---- help ---- */

/* Both names where @room columns hold them, else the short one. */
static void flag_text(const struct pawl_option *option, size_t room, char *buffer, size_t bytes)
{
    const char *joint = option->kind == PAWL_OPTION_MAYBE_COUNT ? "" : option->value != NULL ? " " : "";
    const char *value = option->value != NULL ? option->value : "";
    if (option->letter == 0)
        snprintf(buffer, bytes, "--%s%s%s", option->name, joint, value);
    else if ((size_t)snprintf(buffer, bytes, "-%c, --%s%s%s", option->letter, option->name, joint, value) >
             room)
        snprintf(buffer, bytes, "-%c%s%s", option->letter, joint, value);
}

static void print_indented(const char *lines, FILE *stream)
{
    while (*lines != '\0') {
        size_t bytes = strcspn(lines, "\n");
        fprintf(stream, "  %.*s\n", (int)bytes, lines);
        lines += bytes + (lines[bytes] == '\n');
    }
}

static void help_of_several(const struct pawl_verb *verb, FILE *stream)
{
    fprintf(stream, "pawl %s: %s\n", verb->name, verb->summary);
    print_indented(verb->examples, stream);
    fprintf(stream, "usage: pawl %s WHAT ...\n", verb->name);
    size_t skip = strlen(verb->name) + 1;
    for (size_t i = 0; verb->subverbs[i] != NULL; i++)
        fprintf(stream, "  %-9s %s\n", verb->subverbs[i]->name + skip, verb->subverbs[i]->summary);
    if (verb->notes != NULL)
        print_indented(verb->notes, stream);
    fprintf(stream, "pawl help %s WHAT says more. everywhere: --state DIR  --json  --color WHEN  --help\n",
            verb->name);
}

/* One option a line; many options stand in two columns, so that the text stays on one screen. */
void pawl_options_help(const struct pawl_verb *verb, FILE *stream)
{
    size_t count = 0;
    if (verb->subverbs != NULL) {
        help_of_several(verb, stream);
        return;
    }
    while (verb->options != NULL && verb->options[count].name != NULL)
        count++;
    size_t columns = count > 11 ? 2 : 1;
    size_t rows = (count + columns - 1) / columns;

    fprintf(stream, "pawl %s: %s\n", verb->name, verb->summary);
    print_indented(verb->examples, stream);
    bool first = verb->stops_at_operand; /* where options may stand */
    fprintf(stream, "usage: pawl %s%s%s%s%s\n", verb->name, first ? " [OPTIONS]" : "",
            verb->operands[0] != '\0' ? " " : "", verb->operands, first || count == 0 ? "" : " [OPTIONS]");
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++) {
            size_t i = column * rows + row;
            if (i >= count)
                continue;
            const struct pawl_option *option = &verb->options[i];
            char flag[64], cell[160];
            flag_text(option, columns == 2 ? 18 : 20, flag, sizeof flag);
            snprintf(cell, sizeof cell, columns == 2 ? "%-18s %s" : "%-20s %s", flag, option->help);
            bool last = column + 1 == columns || i + rows >= count;
            fprintf(stream, last ? "  %s" : "  %-50s", cell);
        }
        fputc('\n', stream);
    }
    if (verb->notes != NULL)
        print_indented(verb->notes, stream);
    fprintf(stream, "everywhere: --state DIR  --json  --color WHEN  --progress HOW  --help\n");
}
