/*
 * map_template.c - the command of `pawl map`.
 *
 * Runs in: the command. Performs no I/O. Words are parsed into pieces once; an expansion writes into one
 * buffer that is used again for the next.
 */
#include "runtime/cli/map_template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum piece_kind { PIECE_TEXT, PIECE_ARGUMENT, PIECE_NUMBER, PIECE_SLOT };
enum piece_part { PART_WHOLE, PART_NO_EXTENSION, PART_BASE, PART_DIRECTORY, PART_BASE_NO_EXTENSION };

struct piece {
    enum piece_kind kind;
    enum piece_part part;
    int32_t position;     /* 0: all arguments; 1..: that one; -1..: from the end */
    size_t offset, bytes; /* TEXT: in the word */
};

struct word {
    char *text;
    struct piece *pieces;
    size_t piece_count;
};

struct pawl_map_template {
    bool shell;
    size_t word_count;
    struct word *words;
    XXH3_state_t *hash;    /* has read the command */
    XXH3_state_t *scratch; /* a copy of it, for one task */
    uint64_t identity;

    /* the last expansion */
    char *text;
    size_t text_bytes, text_room;
    size_t *starts; /* of each word in text: pointers are made at the end, when text no longer moves */
    const char **argv;
    size_t argc, argv_room;
    struct pawl_slot_patch *patches;
    size_t patch_count, patch_room;
};

/* ---- parsing ---- */

static bool parse_part(const char *text, size_t n, enum piece_part *part_out)
{
    static const struct {
        const char *text;
        enum piece_part part;
    } parts[] = {{"", PART_WHOLE},
                 {".", PART_NO_EXTENSION},
                 {"/", PART_BASE},
                 {"//", PART_DIRECTORY},
                 {"/.", PART_BASE_NO_EXTENSION}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strlen(parts[i].text) == n && memcmp(parts[i].text, text, n) == 0) {
            *part_out = parts[i].part;
            return true;
        }
    }
    return false;
}

/* What stands between { and }. false: nothing that we know, so it is text. */
static bool parse_placeholder(const char *text, size_t n, struct piece *piece_out)
{
    *piece_out = (struct piece){.kind = PIECE_ARGUMENT};
    if (n == 1 && (text[0] == '#' || text[0] == '%')) {
        piece_out->kind = text[0] == '#' ? PIECE_NUMBER : PIECE_SLOT;
        return true;
    }
    size_t at = n > 1 && text[0] == '-' ? 1 : 0, digits = at;
    int32_t position = 0;
    while (digits < n && text[digits] >= '0' && text[digits] <= '9' && position < 1000000)
        position = position * 10 + (text[digits++] - '0');
    if (digits > at) {
        if (position == 0)
            return false;
        piece_out->position = at != 0 ? -position : position;
    } else if (at != 0) {
        return false;
    }
    return parse_part(text + digits, n - digits, &piece_out->part);
}

static int add_piece(struct word *word, struct piece piece)
{
    struct piece *pieces = realloc(word->pieces, (word->piece_count + 1) * sizeof *pieces);
    if (pieces == NULL)
        return -ENOMEM;
    word->pieces = pieces;
    pieces[word->piece_count++] = piece;
    return 0;
}

/* Return: 1 if the word has a placeholder, 0 if not, -ENOMEM. */
static int parse_word(struct word *word, const char *text)
{
    size_t length = strlen(text), text_from = 0;
    int found = 0, error = 0;
    word->text = strdup(text);
    if (word->text == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < length && error == 0;) {
        const char *end = text[i] == '{' ? memchr(text + i, '}', length - i) : NULL;
        struct piece piece;
        if (end == NULL || !parse_placeholder(text + i + 1, (size_t)(end - text) - i - 1, &piece)) {
            i++;
            continue;
        }
        if (i > text_from)
            error = add_piece(
                word, (struct piece){.kind = PIECE_TEXT, .offset = text_from, .bytes = i - text_from});
        if (error == 0)
            error = add_piece(word, piece);
        found = 1;
        i = text_from = (size_t)(end - text) + 1;
    }
    if (error == 0 && (text_from < length || length == 0))
        error = add_piece(
            word, (struct piece){.kind = PIECE_TEXT, .offset = text_from, .bytes = length - text_from});
    return error != 0 ? error : found;
}

static int hash_command(struct pawl_map_template *t)
{
    t->hash = XXH3_createState();
    t->scratch = XXH3_createState();
    if (t->hash == NULL || t->scratch == NULL)
        return -ENOMEM;
    XXH3_128bits_reset(t->hash);
    XXH3_128bits_update(t->hash, t->shell ? "pawl map sh" : "pawl map   ", 11);
    for (size_t i = 0; i < t->word_count; i++)
        XXH3_128bits_update(t->hash, t->words[i].text, strlen(t->words[i].text) + 1);
    t->identity = XXH3_128bits_digest(t->hash).low64;
    return 0;
}

int pawl_map_template_create(int argc, char *const *argv, bool shell, struct pawl_map_template **template_out)
{
    struct pawl_map_template *t = calloc(1, sizeof *t);
    if (t == NULL)
        return -ENOMEM;
    t->shell = shell;
    t->words = calloc((size_t)argc + 1, sizeof *t->words);
    int error = t->words == NULL ? -ENOMEM : 0;
    bool found = false;
    for (int i = 0; i < argc && error == 0; i++) {
        t->word_count++;
        int parsed = parse_word(&t->words[i], argv[i]);
        found = found || parsed > 0;
        error = parsed < 0 ? parsed : 0;
    }
    if (error == 0 && !found) {
        t->word_count++;
        int parsed = parse_word(&t->words[argc], "{}");
        error = parsed < 0 ? parsed : 0;
    }
    if (error == 0)
        error = hash_command(t);
    if (error != 0) {
        pawl_map_template_destroy(t);
        return error;
    }
    *template_out = t;
    return 0;
}

void pawl_map_template_destroy(struct pawl_map_template *map_template)
{
    if (map_template == NULL)
        return;
    for (size_t i = 0; i < map_template->word_count; i++) {
        free(map_template->words[i].text);
        free(map_template->words[i].pieces);
    }
    XXH3_freeState(map_template->hash);
    XXH3_freeState(map_template->scratch);
    free(map_template->words);
    free(map_template->text);
    free(map_template->starts);
    free(map_template->argv);
    free(map_template->patches);
    free(map_template);
}

/* ---- parts of an argument ---- */

struct span {
    const char *bytes;
    size_t n;
};

static struct span base_of(struct span s)
{
    const char *slash = memrchr(s.bytes, '/', s.n);
    if (slash == NULL)
        return s;
    return (struct span){slash + 1, s.n - (size_t)(slash + 1 - s.bytes)};
}

static struct span without_extension(struct span s)
{
    const char *dot = memrchr(s.bytes, '.', s.n);
    const char *slash = memrchr(s.bytes, '/', s.n);
    if (dot == NULL || (slash != NULL && slash > dot))
        return s;
    return (struct span){s.bytes, (size_t)(dot - s.bytes)};
}

/* As dirname(1) has it: "a" -> ".", "/a" -> "/", "a/b/" -> "a". */
static struct span directory_of(struct span s)
{
    size_t n = s.n;
    while (n > 1 && s.bytes[n - 1] == '/')
        n--;
    const char *slash = n == 0 || (n == 1 && s.bytes[0] == '/') ? NULL : memrchr(s.bytes, '/', n);
    if (slash == NULL)
        return n == 1 && s.bytes[0] == '/' ? (struct span){"/", 1} : (struct span){".", 1};
    n = (size_t)(slash - s.bytes);
    while (n > 0 && s.bytes[n - 1] == '/')
        n--;
    return n == 0 ? (struct span){"/", 1} : (struct span){s.bytes, n};
}

static struct span part_of(struct span s, enum piece_part part)
{
    switch (part) {
    case PART_WHOLE:
        return s;
    case PART_NO_EXTENSION:
        return without_extension(s);
    case PART_BASE:
        return base_of(s);
    case PART_DIRECTORY:
        return directory_of(s);
    case PART_BASE_NO_EXTENSION:
        return without_extension(base_of(s));
    }
    return s;
}

/* ---- expanding ---- */

static int append(struct pawl_map_template *t, const char *bytes, size_t n)
{
    if (t->text_room - t->text_bytes < n) {
        size_t room = (t->text_bytes + n) * 2 + 256;
        char *text = realloc(t->text, room);
        if (text == NULL)
            return -ENOMEM;
        t->text = text;
        t->text_room = room;
    }
    if (n != 0)
        memcpy(t->text + t->text_bytes, bytes, n);
    t->text_bytes += n;
    return 0;
}

static int append_quoted(struct pawl_map_template *t, struct span s)
{
    /* always: unquoted, `if` is a keyword and A=b an assignment where a command may stand */
    int error = append(t, "'", 1);
    while (error == 0 && s.n != 0) {
        const char *quote = memchr(s.bytes, '\'', s.n);
        size_t n = quote == NULL ? s.n : (size_t)(quote - s.bytes);
        error = append(t, s.bytes, n);
        if (error == 0 && quote != NULL)
            error = append(t, "'\\''", 4);
        n += quote != NULL;
        s = (struct span){s.bytes + n, s.n - n};
    }
    return error != 0 ? error : append(t, "'", 1);
}

static int begin_word(struct pawl_map_template *t)
{
    if (t->argc + 2 > t->argv_room) {
        size_t room = t->argv_room * 2 + 16;
        size_t *starts = realloc(t->starts, room * sizeof *starts);
        if (starts == NULL)
            return -ENOMEM;
        t->starts = starts;
        const char **argv = realloc(t->argv, room * sizeof *argv);
        if (argv == NULL)
            return -ENOMEM;
        t->argv = argv;
        t->argv_room = room;
    }
    t->starts[t->argc++] = t->text_bytes;
    return 0;
}

static int add_patch(struct pawl_map_template *t)
{
    if (t->patch_count == t->patch_room) {
        size_t room = t->patch_room * 2 + 4;
        struct pawl_slot_patch *patches = realloc(t->patches, room * sizeof *patches);
        if (patches == NULL)
            return -ENOMEM;
        t->patches = patches;
        t->patch_room = room;
    }
    t->patches[t->patch_count++] =
        (struct pawl_slot_patch){(uint32_t)t->argc - 1, (uint32_t)(t->text_bytes - t->starts[t->argc - 1])};
    return 0;
}

static int append_argument(struct pawl_map_template *t, const struct piece *piece,
                           const struct pawl_map_args *args, uint32_t index)
{
    struct span s = part_of((struct span){args->values[index], args->lengths[index]}, piece->part);
    return t->shell ? append_quoted(t, s) : append(t, s.bytes, s.n);
}

static int append_piece(struct pawl_map_template *t, const struct word *word, const struct piece *piece,
                        const struct pawl_map_args *args, uint64_t number)
{
    char digits[24];
    int error = 0;
    switch (piece->kind) {
    case PIECE_TEXT:
        return append(t, word->text + piece->offset, piece->bytes);
    case PIECE_NUMBER:
        return append(t, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)number));
    case PIECE_SLOT:
        return add_patch(t);
    case PIECE_ARGUMENT:
        break;
    }
    if (piece->position != 0) {
        int64_t index = piece->position > 0 ? piece->position - 1 : (int64_t)args->count + piece->position;
        return index >= 0 && index < args->count ? append_argument(t, piece, args, (uint32_t)index) : 0;
    }
    for (uint32_t i = 0; i < args->count && error == 0; i++) {
        if (i != 0)
            error = append(t, " ", 1);
        if (error == 0)
            error = append_argument(t, piece, args, i);
    }
    return error;
}

static int expand_word(struct pawl_map_template *t, const struct word *word, const struct pawl_map_args *args,
                       uint64_t number)
{
    const struct piece *only = &word->pieces[0];
    bool spreads = word->piece_count == 1 && only->kind == PIECE_ARGUMENT && only->position == 0;
    int error = 0;
    if (spreads) {
        for (uint32_t i = 0; i < args->count && error == 0; i++) {
            error = begin_word(t);
            if (error == 0)
                error = append_argument(t, only, args, i);
            if (error == 0)
                error = append(t, "", 1);
        }
        return error;
    }
    error = begin_word(t);
    for (size_t i = 0; i < word->piece_count && error == 0; i++)
        error = append_piece(t, word, &word->pieces[i], args, number);
    return error != 0 ? error : append(t, "", 1);
}

static int expand_shell(struct pawl_map_template *t, const struct pawl_map_args *args, uint64_t number)
{
    static const char *const shell[] = {"/bin/sh", "-c"};
    int error = 0;
    for (int i = 0; i < 2 && error == 0; i++) {
        error = begin_word(t);
        if (error == 0)
            error = append(t, shell[i], strlen(shell[i]) + 1);
    }
    if (error == 0)
        error = begin_word(t);
    for (size_t w = 0; w < t->word_count && error == 0; w++) {
        const struct word *word = &t->words[w];
        if (w != 0)
            error = append(t, " ", 1);
        for (size_t i = 0; i < word->piece_count && error == 0; i++)
            error = append_piece(t, word, &word->pieces[i], args, number);
    }
    return error != 0 ? error : append(t, "", 1);
}

int pawl_map_template_expand(struct pawl_map_template *map_template, const struct pawl_map_args *args,
                             uint64_t number, struct pawl_map_command *command_out)
{
    struct pawl_map_template *t = map_template;
    int error = 0;
    t->text_bytes = t->argc = t->patch_count = 0;
    if (t->shell)
        error = expand_shell(t, args, number);
    for (size_t i = 0; !t->shell && i < t->word_count && error == 0; i++)
        error = expand_word(t, &t->words[i], args, number);
    if (error != 0)
        return error;
    for (size_t i = 0; i < t->argc; i++)
        t->argv[i] = t->text + t->starts[i];
    if (t->argc == 0)
        return -EINVAL; /* `pawl map {}` of no argument: cannot be, tasks have at least one */
    t->argv[t->argc] = NULL;
    *command_out =
        (struct pawl_map_command){t->argv, (uint32_t)t->argc, t->patches, (uint32_t)t->patch_count};
    return 0;
}

uint64_t pawl_map_template_hash(const struct pawl_map_template *map_template)
{
    return map_template->identity;
}

void pawl_map_template_task_hash(const struct pawl_map_template *map_template,
                                 const struct pawl_map_args *args, uint64_t hash_out[2])
{
    XXH3_state_t *state = map_template->scratch;
    XXH3_copyState(state, map_template->hash);
    XXH3_128bits_update(state, &args->count, sizeof args->count);
    for (uint32_t i = 0; i < args->count; i++) {
        uint64_t length = args->lengths[i];
        XXH3_128bits_update(state, &length, sizeof length);
        XXH3_128bits_update(state, args->values[i], args->lengths[i]);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    hash_out[0] = hash.low64;
    hash_out[1] = hash.high64;
}
