/*
 * map_output.c - where the results of a map go.
 *
 * Runs in: the command. Large outputs are copied from the run's files without passing through memory.
 */
#include "runtime/cli/map_output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/cli/copy.h"
#include "runtime/cli/errors.h"
#include "runtime/cli/quote.h"
#include "shm/error.h"
#include "shm/task.h"

int pawl_map_output_init(struct pawl_map_output *output)
{
    output->buffer = malloc(PAWL_MAP_OUT_BYTES);
    return output->buffer == NULL ? -ENOMEM : 0;
}

void pawl_map_output_fini(struct pawl_map_output *output)
{
    pawl_map_output_flush(output);
    free(output->buffer);
    if (output->joblog != NULL && fclose(output->joblog) != 0 && output->joblog_error == 0)
        output->joblog_error = -errno;
    output->buffer = NULL;
    output->joblog = NULL;
}

void pawl_map_output_flush(struct pawl_map_output *output)
{
    if (output->buffered != 0 && output->error == 0)
        output->error = pawl_write_all(STDOUT_FILENO, output->buffer, output->buffered);
    output->buffered = 0;
    if (output->joblog != NULL && output->joblog_error == 0 && fflush(output->joblog) != 0)
        output->joblog_error = -errno;
}

/* ---- streams ---- */

static void write_stream(struct pawl_map_output *output, int stream, const char *bytes, size_t n)
{
    if (stream == 2) {
        pawl_write_all(STDERR_FILENO, bytes, n); /* nobody left to tell */
        return;
    }
    if (output->error != 0)
        return;
    if (n > PAWL_MAP_OUT_BYTES - output->buffered)
        pawl_map_output_flush(output);
    if (n > PAWL_MAP_OUT_BYTES) {
        if (output->error == 0)
            output->error = pawl_write_all(STDOUT_FILENO, bytes, n);
        return;
    }
    memcpy(output->buffer + output->buffered, bytes, n);
    output->buffered += n;
}

/* Each line with the tag in front. @at_start: a line begins here; returns whether one begins after the bytes.
 */
static bool write_tagged(struct pawl_map_output *output, int stream, const char *tag, size_t tag_bytes,
                         const char *bytes, size_t n, bool at_start)
{
    while (n != 0) {
        const char *newline = memchr(bytes, '\n', n);
        size_t length = newline != NULL ? (size_t)(newline - bytes) + 1 : n;
        if (at_start) {
            write_stream(output, stream, tag, tag_bytes);
            write_stream(output, stream, "\t", 1);
        }
        write_stream(output, stream, bytes, length);
        at_start = newline != NULL;
        bytes += length;
        n -= length;
    }
    return at_start;
}

static void write_file(struct pawl_map_output *output, int stream, const char *tag, size_t tag_bytes, int fd,
                       uint64_t from)
{
    if (tag == NULL) {
        if (stream == 1)
            pawl_map_output_flush(output);
        int64_t copied =
            stream == 1 && output->error != 0
                ? 0
                : pawl_copy_file(fd, from, UINT64_MAX, stream == 1 ? STDOUT_FILENO : STDERR_FILENO);
        if (stream == 1 && copied < 0)
            output->error = (int)copied;
        return;
    }
    char buffer[64 << 10];
    bool at_start = true;
    ssize_t got;
    while ((got = pread(fd, buffer, sizeof buffer, (off_t)from)) > 0) {
        at_start = write_tagged(output, stream, tag, tag_bytes, buffer, (size_t)got, at_start);
        from += (uint64_t)got;
    }
}

struct part {
    const char *bytes; /* or a path */
    size_t n;
    bool is_file;
    struct pawl_output_file mark; /* what the file held; bytes 0: told by a scheduler of before, not known */
};

static struct part part_of(const struct pawl_map_result *result, int stream)
{
    const struct pawl_wire_result *fixed = &result->fixed;
    const struct pawl_wire_files *files = &result->files;
    if (stream == 1)
        return (struct part){result->bytes,
                             fixed->stdout_bytes,
                             (fixed->flags & PAWL_RESULT_STDOUT_FILE) != 0,
                             {files->stdout_bytes, files->stdout_xxh3}};
    return (struct part){result->bytes + fixed->stdout_bytes,
                         fixed->stderr_bytes,
                         (fixed->flags & PAWL_RESULT_STDERR_FILE) != 0,
                         {files->stderr_bytes, files->stderr_xxh3}};
}

/* A file that holds what its task printed. Return: a descriptor, or a negative error. */
static int open_part(const struct pawl_map_output *output, const struct part *part)
{
    int fd = pawl_open_output(output->runs_dirfd, output->run_id, part->bytes, part->n);
    int error = fd >= 0 && part->mark.bytes != 0 ? pawl_check_output(fd, &part->mark) : 0;
    if (error == 0)
        return fd;
    close(fd);
    return error;
}

void pawl_map_output_lose(struct pawl_map_output *output, const struct pawl_map_item *item, const char *path,
                          size_t path_bytes, int error)
{
    bool damaged = error == PAWL_E_DAMAGED || error == -EIO;
    output->lost = true;
    output->damaged |= damaged;
    pawl_map_output_flush(output);
    pawl_fail(output->cli, damaged ? PAWL_EXIT_DAMAGED : PAWL_EXIT_FAILED, damaged ? "damaged" : "lost",
              "the others are printed; without --resume all tasks run again",
              "what task %" PRIu64 " printed cannot be shown: runs/%s%s%.*s: %s", item->number + 1,
              output->run_id, path_bytes != 0 ? "/" : "", (int)path_bytes, path != NULL ? path : "",
              error == PAWL_E_DAMAGED ? "it has been changed since" : pawl_error_text(error));
}

void pawl_map_output_print(struct pawl_map_output *output, const struct pawl_map_item *item,
                           const struct pawl_map_result *result)
{
    size_t tag_bytes = 0;
    struct pawl_map_args args = pawl_map_item_args(item);
    char *tag = output->tag ? pawl_map_label(&args, &tag_bytes) : NULL;
    for (int stream = 1; stream <= 2; stream++) {
        struct part part = part_of(result, stream);
        uint64_t from = item->live_attempt == result->fixed.attempt ? item->live_bytes[stream - 1] : 0;
        if (part.n == 0)
            continue;
        if (stream == 2)
            pawl_map_output_flush(
                output); /* on a terminal both appear in the order in which they were written */
        if (part.is_file) {
            int fd = open_part(output, &part);
            if (fd < 0) {
                pawl_map_output_lose(output, item, part.bytes, part.n, fd);
                continue;
            }
            write_file(output, stream, tag, tag_bytes, fd, from);
            close(fd);
        } else if (from < part.n && tag != NULL) {
            write_tagged(output, stream, tag, tag_bytes, part.bytes + from, part.n - (size_t)from, true);
        } else if (from < part.n) {
            write_stream(output, stream, part.bytes + from, part.n - (size_t)from);
        }
    }
    free(tag);
}

void pawl_map_output_lines(struct pawl_map_output *output, const struct pawl_map_item *item, int stream,
                           const char *bytes, size_t n)
{
    size_t tag_bytes = 0;
    struct pawl_map_args args = pawl_map_item_args(item);
    char *tag = output->tag ? pawl_map_label(&args, &tag_bytes) : NULL;
    if (tag != NULL)
        write_tagged(output, stream, tag, tag_bytes, bytes, n, true);
    else
        write_stream(output, stream, bytes, n);
    free(tag);
}

/* ---- --results ---- */

void pawl_map_results_name(const char *arg, size_t n, char name[256])
{
    size_t used = 0;
    bool only_dots = n != 0 && n <= 2 && memcmp(arg, "..", n) == 0;
    if (n == 0 || only_dots)
        name[used++] = '\\'; /* a name that a directory can have */
    for (size_t i = 0; i < n && used < 250; i++) {
        if (arg[i] == '/' || arg[i] == '\\')
            name[used++] = '\\';
        name[used++] = arg[i] == '/' ? '_' : arg[i];
    }
    if (used >= 250) /* too long for a name: its beginning, and what tells it apart */
        used = 220 + (size_t)snprintf(name + 220, 36, "\\%016" PRIx64, (uint64_t)XXH3_64bits(arg, n));
    name[used] = '\0';
}

static int make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        int failed = mkdir(path, 0777) != 0 && errno != EEXIST;
        int error = -errno;
        if (slash != NULL)
            *slash = '/';
        if (failed)
            return error;
        if (slash == NULL)
            return 0;
    }
}

static int write_result_file(struct pawl_map_output *output, const char *dir, const char *name,
                             struct part part, char where[512])
{
    char path[PATH_MAX];
    snprintf(where, 512, "%.480s/%s", dir, name);
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int source = part.is_file ? open_part(output, &part) : -1;
    if (part.is_file && source < 0)
        return 0; /* told when it is to be printed */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int error = fd < 0 ? -errno : 0;
    if (error == 0 && part.is_file) {
        int64_t copied = pawl_copy_file(source, 0, UINT64_MAX, fd);
        error = copied < 0 ? (int)copied : 0;
    } else if (error == 0) {
        error = pawl_write_all(fd, part.bytes, part.n);
    }
    if (source >= 0)
        close(source);
    if (fd >= 0 && close(fd) != 0 && error == 0)
        error = -errno;
    return error;
}

static int record_files(struct pawl_map_output *output, const struct pawl_map_item *item,
                        const struct pawl_map_result *result, char where[512])
{
    char dir[PATH_MAX], name[256], seq[24];
    int used = snprintf(dir, sizeof dir, "%s", output->results_dir);
    for (uint32_t i = 0; i < item->arg_count && used < PATH_MAX; i++) {
        pawl_map_results_name(item->args[i], item->arg_lengths[i], name);
        used += snprintf(dir + used, sizeof dir - (size_t)used, "/%u/%s", i + 1, name);
    }
    snprintf(where, 512, "%.500s", dir);
    if (used >= PATH_MAX - 8)
        return -ENAMETOOLONG;
    int error = make_directories(dir);
    size_t n = (size_t)snprintf(seq, sizeof seq, "%" PRIu64, item->number + 1);
    if (error == 0)
        error = write_result_file(output, dir, "seq", (struct part){.bytes = seq, .n = n}, where);
    if (error == 0)
        error = write_result_file(output, dir, "stdout", part_of(result, 1), where);
    if (error == 0)
        error = write_result_file(output, dir, "stderr", part_of(result, 2), where);
    return error;
}

/* ---- --joblog ---- */

int pawl_map_joblog_open(const char *path, bool append, FILE **joblog_out)
{
    FILE *joblog = fopen(path, append ? "ae" : "we");
    if (joblog == NULL)
        return -errno;
    struct stat about;
    if (fstat(fileno(joblog), &about) != 0 || about.st_size == 0)
        fputs("Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n", joblog);
    *joblog_out = joblog;
    return 0;
}

int pawl_map_print_command(FILE *stream, struct pawl_map_template *map_template, bool shell,
                           const struct pawl_map_args *args, uint64_t number, const char *slot)
{
    struct pawl_map_command command;
    int error = pawl_map_template_expand(map_template, args, number, &command);
    if (error != 0)
        return error;
    uint32_t patch = 0;
    for (uint32_t i = shell ? 2 : 0; i < command.argc; i++) {
        char *word = NULL;
        size_t n = 0, from = 0;
        FILE *gather = open_memstream(&word, &n);
        if (gather == NULL)
            return -ENOMEM;
        for (; patch < command.patch_count && command.patches[patch].arg_index == i; patch++) {
            size_t to = command.patches[patch].byte_offset;
            fwrite(command.argv[i] + from, 1, to - from, gather);
            fputs(slot, gather);
            from = to;
        }
        fputs(command.argv[i] + from, gather);
        fclose(gather);
        const char *words[1] = {word};
        if (i > (shell ? 2u : 0u))
            fputc(' ', stream);
        if (shell)
            fwrite(word, 1, n, stream);
        else if (i == 0)
            pawl_quote_command(stream, words, 1);
        else
            pawl_quote_shell(stream, word, n);
        free(word);
    }
    return 0;
}

static uint64_t size_of_part(struct pawl_map_output *output, struct part part)
{
    struct stat about;
    if (!part.is_file)
        return part.n;
    int fd = pawl_open_output(output->runs_dirfd, output->run_id, part.bytes, part.n);
    uint64_t bytes = fd >= 0 && fstat(fd, &about) == 0 ? (uint64_t)about.st_size : 0;
    if (fd >= 0)
        close(fd);
    return bytes;
}

static void record_job(struct pawl_map_output *output, const struct pawl_map_item *item,
                       const struct pawl_map_result *result)
{
    const struct pawl_wire_result *fixed = &result->fixed;
    struct pawl_map_args args = pawl_map_item_args(item);
    int exit_code = 0, number = 0;
    switch ((enum pawl_outcome)fixed->outcome) {
    case PAWL_OUTCOME_EXITED:
        exit_code = fixed->exit_code;
        break;
    case PAWL_OUTCOME_SIGNALED:
        number = fixed->exit_code;
        break;
    case PAWL_OUTCOME_TIMED_OUT:
    case PAWL_OUTCOME_KILLED:
    case PAWL_OUTCOME_OUTPUT_LIMIT:
        exit_code = -1;
        number = fixed->exit_code;
        break;
    case PAWL_OUTCOME_SPAWN_FAILED:
        exit_code = fixed->exit_code == ENOENT ? 127 : 126;
        break;
    case PAWL_OUTCOME_CAPTURE:
    case PAWL_OUTCOME_WORKER_LOST:
        exit_code = -1;
        break;
    }
    char *command = NULL;
    size_t n = 0;
    FILE *gather = open_memstream(&command, &n);
    if (gather == NULL)
        return;
    pawl_map_print_command(gather, output->map_template, output->shell, &args, item->number + 1, "{%}");
    fclose(gather);
    for (size_t i = 0; i < n; i++) /* one line a job */
        command[i] = command[i] == '\n' ? ' ' : command[i];
    fprintf(output->joblog, "%" PRIu64 "\t:\t%.3f\t%10.3f\t0\t%" PRIu64 "\t%d\t%d\t%s\n", item->number + 1,
            (double)fixed->started_at_ns / 1e9, (double)fixed->duration_ns / 1e9,
            size_of_part(output, part_of(result, 1)), exit_code, number, command);
    free(command);
}

int pawl_map_output_record(struct pawl_map_output *output, const struct pawl_map_item *item,
                           const struct pawl_map_result *result, char where[512])
{
    if (output->joblog != NULL)
        record_job(output, item, result);
    return output->results_dir != NULL ? record_files(output, item, result, where) : 0;
}
