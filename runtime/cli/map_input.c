/*
 * map_input.c - the arguments of `pawl map`, task by task.
 *
 * Runs in: the command. Reads files and standard input. Sources that are linked form a group; groups are
 * combined like the digits of a number, the last one fastest. Only the first group's only source may be a
 * stream.
 */
#include "runtime/cli/map_input.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/error.h"

enum { READ_BYTES = 64 << 10 };

struct argument {
    const char *bytes;
    size_t n;
};

/* Arguments that are all known. */
struct list {
    struct argument *items;
    size_t count;
    char *memory; /* what the items point into, if it is ours */
};

/* The first source, when it is a file or standard input. */
struct stream {
    int fd;
    bool end;
    char *buffer;
    size_t from, to, room; /* unread bytes */
    size_t scanned;        /* of them, without a separator */
};

struct group {
    size_t first, count; /* of lists */
    size_t length;       /* of the shortest */
    size_t at;
};

struct pawl_map_input {
    char separator;
    uint32_t max_args;
    bool has_colsep;
    regex_t colsep;

    struct list *lists;
    size_t list_count;
    struct group *groups;
    size_t group_count;
    bool streams; /* groups[0] is the stream: one argument at a time */
    struct stream stream;
    struct argument current; /* of the stream */
    bool have_current, started, ended;

    /* the task being made: copies, since the stream's buffer moves */
    char *text;
    size_t text_bytes, text_room;
    size_t *starts, *lengths;
    const char **values;
    uint32_t count, room;
    uint32_t combinations; /* in it so far */
};

/* ---- finding the sources in the command line ---- */

static bool is_separator(const char *word, bool *file_out, bool *linked_out)
{
    size_t colons = strspn(word, ":");
    if (colons != 3 && colons != 4)
        return false;
    bool plus = word[colons] == '+' && word[colons + 1] == '\0';
    if (word[colons] != '\0' && !plus)
        return false;
    *file_out = colons == 4;
    *linked_out = plus;
    return true;
}

int pawl_map_sources_parse(int argc, char *const *argv, const char *const *files, size_t file_count,
                           int *command_count_out, struct pawl_map_source **sources_out, size_t *count_out)
{
    struct pawl_map_source *sources = calloc((size_t)argc + file_count + 1, sizeof *sources);
    if (sources == NULL)
        return -ENOMEM;
    size_t count = 0;
    for (size_t i = 0; i < file_count; i++)
        sources[count++] = (struct pawl_map_source){true, false, &files[i], 1};

    bool file = false, linked = false, next_file, next_linked;
    int at = 0;
    while (at < argc && !is_separator(argv[at], &file, &linked))
        at++;
    *command_count_out = at;
    while (at < argc) {
        int from = ++at;
        while (at < argc && !is_separator(argv[at], &next_file, &next_linked))
            at++;
        const char *const *words = (const char *const *)&argv[from];
        size_t n = (size_t)(at - from);
        /* `:::: a b` is two sources, as in parallel */
        for (size_t i = 0; file && i < n; i++)
            sources[count++] = (struct pawl_map_source){true, linked, &words[i], 1};
        if (!file)
            sources[count++] = (struct pawl_map_source){false, linked, words, n};
        if (at < argc) {
            file = next_file;
            linked = next_linked;
        }
    }
    *sources_out = sources;
    *count_out = count;
    return 0;
}

/* ---- opening ---- */

static int open_file(const char *path, int *fd_out, char why[256])
{
    int fd =
        strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(why, 256, "%.150s: %s", path, strerror(errno));
        return PAWL_E_INVALID;
    }
    *fd_out = fd;
    return 0;
}

static int read_whole(int fd, char **bytes_out, size_t *n_out)
{
    char *bytes = NULL;
    size_t n = 0, room = 0;
    for (;;) {
        if (room - n < READ_BYTES) {
            room = room * 2 + 2 * READ_BYTES;
            char *more = realloc(bytes, room);
            if (more == NULL) {
                free(bytes);
                return -ENOMEM;
            }
            bytes = more;
        }
        ssize_t got = read(fd, bytes + n, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = -errno;
            free(bytes);
            return error;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    *bytes_out = bytes;
    *n_out = n;
    return 0;
}

static int split_whole(struct list *list, const char *bytes, size_t n, char separator)
{
    size_t count = 0;
    for (const char *at = bytes, *end = bytes + n; at < end; count++) {
        const char *stop = memchr(at, separator, (size_t)(end - at));
        at = stop == NULL ? end : stop + 1;
    }
    list->items = calloc(count + 1, sizeof *list->items);
    if (list->items == NULL)
        return -ENOMEM;
    for (const char *at = bytes, *end = bytes + n; at < end;) {
        const char *stop = memchr(at, separator, (size_t)(end - at));
        size_t length = stop == NULL ? (size_t)(end - at) : (size_t)(stop - at);
        list->items[list->count++] = (struct argument){at, length};
        at = stop == NULL ? end : stop + 1;
    }
    return 0;
}

static int load_list(struct pawl_map_input *input, struct list *list, const struct pawl_map_source *source,
                     char why[256])
{
    if (!source->is_file) {
        list->items = calloc(source->word_count + 1, sizeof *list->items);
        if (list->items == NULL)
            return -ENOMEM;
        for (size_t i = 0; i < source->word_count; i++)
            list->items[list->count++] = (struct argument){source->words[i], strlen(source->words[i])};
        return 0;
    }
    int fd;
    size_t n = 0;
    int error = open_file(source->words[0], &fd, why);
    if (error != 0)
        return error;
    error = read_whole(fd, &list->memory, &n);
    close(fd);
    if (error != 0) {
        snprintf(why, 256, "%.150s: %s", source->words[0], pawl_error_text(error));
        return PAWL_E_INVALID;
    }
    return split_whole(list, list->memory, n, input->separator);
}

/* Perl's and people's \t and \n into the characters themselves; \s and \w are known to regcomp. */
static int compile_colsep(struct pawl_map_input *input, const char *text, char why[256])
{
    char *pattern = malloc(strlen(text) + 1), *out = pattern;
    if (pattern == NULL)
        return -ENOMEM;
    for (const char *at = text; *at != '\0'; at++) {
        if (at[0] == '\\' && (at[1] == 't' || at[1] == 'n')) {
            *out++ = at[1] == 't' ? '\t' : '\n';
            at++;
        } else {
            *out++ = *at;
            if (at[0] == '\\' && at[1] != '\0')
                *out++ = *++at;
        }
    }
    *out = '\0';
    int status = regcomp(&input->colsep, pattern, REG_EXTENDED);
    free(pattern);
    if (status != 0) {
        char words[128];
        regerror(status, &input->colsep, words, sizeof words);
        snprintf(why, 256, "--colsep '%.80s': %s", text, words);
        return PAWL_E_INVALID;
    }
    input->has_colsep = true;
    return 0;
}

static int open_stream(struct pawl_map_input *input, const char *path, char why[256])
{
    struct stream *stream = &input->stream;
    int error = open_file(path, &stream->fd, why);
    if (error != 0)
        return error;
    input->streams = true;
    stream->room = READ_BYTES;
    stream->buffer = malloc(stream->room);
    return stream->buffer == NULL ? -ENOMEM : 0;
}

static int open_sources(struct pawl_map_input *input, const struct pawl_map_source *sources, size_t count,
                        char why[256])
{
    static const char *const standard_input[] = {"-"};
    static const struct pawl_map_source only_stdin = {true, false, standard_input, 1};
    if (count == 0) {
        sources = &only_stdin;
        count = 1;
    }
    input->lists = calloc(count, sizeof *input->lists);
    input->groups = calloc(count, sizeof *input->groups);
    if (input->lists == NULL || input->groups == NULL)
        return -ENOMEM;
    input->list_count = count;
    for (size_t i = 0; i < count; i++) {
        bool linked = i != 0 && sources[i].linked;
        bool streams = i == 0 && sources[0].is_file && (count == 1 || !sources[1].linked);
        int error = streams ? open_stream(input, sources[0].words[0], why)
                            : load_list(input, &input->lists[i], &sources[i], why);
        if (error != 0)
            return error;
        if (!linked)
            input->groups[input->group_count++] = (struct group){.first = i, .length = SIZE_MAX};
        struct group *group = &input->groups[input->group_count - 1];
        group->count++;
        if (!streams && input->lists[i].count < group->length)
            group->length = input->lists[i].count;
    }
    return 0;
}

int pawl_map_input_open(const struct pawl_map_input_options *options, struct pawl_map_input **input_out,
                        char why[256])
{
    struct pawl_map_input *input = calloc(1, sizeof *input);
    why[0] = '\0';
    if (input == NULL)
        return -ENOMEM;
    input->stream.fd = -1;
    input->separator = options->null_separated ? '\0' : '\n';
    input->max_args = options->max_args != 0 ? options->max_args : 1;
    int error = options->colsep != NULL ? compile_colsep(input, options->colsep, why) : 0;
    if (error == 0)
        error = open_sources(input, options->sources, options->source_count, why);
    if (error != 0) {
        pawl_map_input_close(input);
        return error;
    }
    *input_out = input;
    return 0;
}

void pawl_map_input_close(struct pawl_map_input *input)
{
    if (input == NULL)
        return;
    for (size_t i = 0; i < input->list_count && input->lists != NULL; i++) {
        free(input->lists[i].items);
        free(input->lists[i].memory);
    }
    if (input->has_colsep)
        regfree(&input->colsep);
    if (input->stream.fd >= 0)
        close(input->stream.fd);
    free(input->stream.buffer);
    free(input->lists);
    free(input->groups);
    free(input->text);
    free(input->starts);
    free(input->lengths);
    free(input->values);
    free(input);
}

/* ---- the stream ---- */

int pawl_map_input_fd(const struct pawl_map_input *input)
{
    return input->streams && !input->stream.end ? input->stream.fd : -1;
}

int pawl_map_input_fill(struct pawl_map_input *input)
{
    struct stream *stream = &input->stream;
    if (stream->from != 0) {
        memmove(stream->buffer, stream->buffer + stream->from, stream->to - stream->from);
        stream->to -= stream->from;
        stream->from = 0;
    }
    if (stream->room - stream->to < READ_BYTES / 2) {
        size_t room = stream->room * 2;
        char *buffer = realloc(stream->buffer, room);
        if (buffer == NULL)
            return -ENOMEM;
        stream->buffer = buffer;
        stream->room = room;
    }
    ssize_t got = read(stream->fd, stream->buffer + stream->to, stream->room - stream->to);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : -errno;
    stream->end = got == 0;
    stream->to += (size_t)got;
    return 0;
}

/* 1, 0 at the end, -EAGAIN, PAWL_E_LIMIT */
static int stream_next(struct pawl_map_input *input, struct argument *argument_out)
{
    struct stream *stream = &input->stream;
    char *from = stream->buffer + stream->from;
    size_t n = stream->to - stream->from;
    char *stop = memchr(from + stream->scanned, input->separator, n - stream->scanned);
    if (stop == NULL) {
        stream->scanned = n;
        if (n > PAWL_MAP_ARGUMENT_BYTES_MAX)
            return PAWL_E_LIMIT;
        if (!stream->end)
            return -EAGAIN;
        if (n == 0)
            return 0;
        stop = from + n;
    }
    *argument_out = (struct argument){from, (size_t)(stop - from)};
    stream->from += argument_out->n + (stop < from + n);
    stream->scanned = 0;
    return argument_out->n > PAWL_MAP_ARGUMENT_BYTES_MAX ? PAWL_E_LIMIT : 1;
}

/* ---- making a task ---- */

static int add_value(struct pawl_map_input *input, const char *bytes, size_t n)
{
    if (memchr(bytes, '\0', n) != NULL)
        return PAWL_E_INVALID;
    if (input->count == input->room) {
        uint32_t room = input->room * 2 + 8;
        size_t *starts = realloc(input->starts, room * sizeof *starts);
        if (starts == NULL)
            return -ENOMEM;
        input->starts = starts;
        size_t *lengths = realloc(input->lengths, room * sizeof *lengths);
        if (lengths == NULL)
            return -ENOMEM;
        input->lengths = lengths;
        const char **values = realloc(input->values, room * sizeof *values);
        if (values == NULL)
            return -ENOMEM;
        input->values = values;
        input->room = room;
    }
    if (input->text_room - input->text_bytes < n + 1) {
        size_t room = (input->text_bytes + n + 1) * 2;
        char *text = realloc(input->text, room);
        if (text == NULL)
            return -ENOMEM;
        input->text = text;
        input->text_room = room;
    }
    if (n != 0)
        memcpy(input->text + input->text_bytes, bytes, n);
    input->starts[input->count] = input->text_bytes;
    input->lengths[input->count++] = n;
    input->text_bytes += n;
    return 0;
}

static int add_argument(struct pawl_map_input *input, const struct argument *argument)
{
    if (!input->has_colsep)
        return add_value(input, argument->bytes, argument->n);
    const char *bytes = argument->bytes;
    size_t from = 0, search = 0;
    while (search <= argument->n) {
        regmatch_t match = {.rm_so = (regoff_t)search, .rm_eo = (regoff_t)argument->n};
        if (regexec(&input->colsep, bytes, 1, &match, REG_STARTEND | (search != 0 ? REG_NOTBOL : 0)) != 0)
            break;
        if (match.rm_eo == match.rm_so) { /* an empty match separates nothing */
            search = (size_t)match.rm_eo + 1;
            continue;
        }
        int error = add_value(input, bytes + from, (size_t)match.rm_so - from);
        if (error != 0)
            return error;
        from = search = (size_t)match.rm_eo;
    }
    return add_value(input, bytes + from, argument->n - from);
}

/* Step to the next combination. 1, 0 at the end, or an error; -EAGAIN leaves all as it was. */
static int advance(struct pawl_map_input *input)
{
    size_t lowest = input->streams ? 1 : 0;
    for (size_t g = lowest; g < input->group_count; g++)
        if (input->groups[g].length == 0)
            return 0;
    if (input->started) {
        for (size_t g = input->group_count; g-- > lowest;) {
            if (++input->groups[g].at < input->groups[g].length)
                return 1;
            input->groups[g].at = 0;
        }
        if (!input->streams)
            return 0;
    }
    if (input->streams) {
        struct argument next;
        int status = stream_next(input, &next);
        if (status == -EAGAIN && input->started) /* tried again: the counters must wrap again */
            for (size_t g = lowest; g < input->group_count; g++)
                input->groups[g].at = input->groups[g].length - 1;
        if (status != 1)
            return status;
        input->current = next;
    }
    input->started = true;
    return 1;
}

static int add_combination(struct pawl_map_input *input)
{
    int error = 0;
    if (input->streams)
        error = add_argument(input, &input->current);
    for (size_t g = input->streams ? 1 : 0; g < input->group_count && error == 0; g++)
        for (size_t i = 0; i < input->groups[g].count && error == 0; i++)
            error = add_argument(input, &input->lists[input->groups[g].first + i].items[input->groups[g].at]);
    return error;
}

int pawl_map_input_next(struct pawl_map_input *input, struct pawl_map_args *args_out)
{
    while (!input->ended && input->combinations < input->max_args) {
        int status = advance(input);
        if (status < 0)
            return status;
        if (status == 0) {
            input->ended = true;
            break;
        }
        status = add_combination(input);
        if (status != 0)
            return status;
        input->combinations++;
    }
    if (input->combinations == 0)
        return 0;
    for (uint32_t i = 0; i < input->count; i++)
        input->values[i] = input->text + input->starts[i];
    *args_out = (struct pawl_map_args){input->count, input->values, input->lengths};
    input->count = input->combinations = 0;
    input->text_bytes = 0;
    return 1;
}

uint64_t pawl_map_input_total(const struct pawl_map_input *input)
{
    if (input->streams)
        return UINT64_MAX;
    uint64_t total = 1;
    for (size_t g = 0; g < input->group_count; g++)
        if (__builtin_mul_overflow(total, (uint64_t)input->groups[g].length, &total))
            return UINT64_MAX;
    return (total + input->max_args - 1) / input->max_args;
}
