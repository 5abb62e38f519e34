/*
 * progress.c - how far it is.
 *
 * Runs in: the command. Writes to stderr.
 */
#include "runtime/cli/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/cli/copy.h"
#include "runtime/cli/output.h"

#define SECOND_NS UINT64_C(1000000000)

/* How often; the first time comes later, so that what is quick shows nothing. */
static const uint64_t interval_ns[] = {
    [PAWL_PROGRESS_OFF] = 0,
    [PAWL_PROGRESS_BLOCK] = SECOND_NS / 4,
    [PAWL_PROGRESS_LINES] = 10 * SECOND_NS,
    [PAWL_PROGRESS_OBJECTS] = SECOND_NS,
};

/* A block is redrawn by moving the cursor up, which not every terminal can. */
static bool may_redraw(void)
{
    const char *term = getenv("TERM");
    return term != NULL && strcmp(term, "dumb") != 0 && isatty(STDERR_FILENO) == 1;
}

void pawl_progress_init(struct pawl_progress *progress, const struct pawl_cli *cli, uint64_t now_ns)
{
    memset(progress, 0, sizeof *progress);
    progress->color = cli->color_err;
    progress->started_at_ns = now_ns;
    switch (cli->progress) {
    case PAWL_PROGRESS_AUTO:
        if (cli->json)
            progress->kind = PAWL_PROGRESS_OFF;
        else
            progress->kind = may_redraw() ? PAWL_PROGRESS_BLOCK : PAWL_PROGRESS_LINES;
        break;
    case PAWL_PROGRESS_NONE:
        progress->kind = PAWL_PROGRESS_OFF;
        break;
    case PAWL_PROGRESS_PLAIN:
        progress->kind = PAWL_PROGRESS_LINES;
        break;
    case PAWL_PROGRESS_JSON:
        progress->kind = PAWL_PROGRESS_OBJECTS;
        break;
    }
    progress->due_at_ns = now_ns + interval_ns[progress->kind];
    pawl_progress_sample(progress, now_ns, 0);
}

uint64_t pawl_progress_due_ns(const struct pawl_progress *progress)
{
    return progress->kind == PAWL_PROGRESS_OFF ? UINT64_MAX : progress->due_at_ns;
}

/* ---- rates ---- */

void pawl_progress_sample(struct pawl_progress *progress, uint64_t now_ns, uint64_t done)
{
    uint64_t at = progress->sample_count % PAWL_PROGRESS_SAMPLES;
    progress->samples[at].at_ns = now_ns;
    progress->samples[at].done = done;
    progress->sample_count++;
}

/* The rate since the newest sample that is at least @span_ns old (or the oldest that is kept). */
static bool rate_over(const struct pawl_progress *progress, uint64_t span_ns, double *rate_out)
{
    uint64_t count = progress->sample_count;
    uint64_t kept = count < PAWL_PROGRESS_SAMPLES ? count : PAWL_PROGRESS_SAMPLES;
    if (kept < 2)
        return false;
    uint64_t newest = (count - 1) % PAWL_PROGRESS_SAMPLES, at = newest;
    uint64_t now_ns = progress->samples[newest].at_ns;
    for (uint64_t back = 1; back < kept; back++) {
        at = (count - 1 - back) % PAWL_PROGRESS_SAMPLES;
        if (now_ns - progress->samples[at].at_ns >= span_ns)
            break;
    }
    uint64_t took_ns = now_ns - progress->samples[at].at_ns;
    if (took_ns < SECOND_NS / 10)
        return false;
    *rate_out = (double)(progress->samples[newest].done - progress->samples[at].done) * 1e9 / (double)took_ns;
    return true;
}

bool pawl_progress_rates(const struct pawl_progress *progress, double *now_out, double *low_out,
                         double *high_out)
{
    static const uint64_t spans_ns[] = {3 * SECOND_NS, 6 * SECOND_NS, 15 * SECOND_NS};
    double rate, low = 0, high = 0;
    bool known = false;
    for (unsigned i = 0; i < sizeof spans_ns / sizeof spans_ns[0]; i++) {
        if (!rate_over(progress, spans_ns[i], &rate))
            return false;
        if (i == 0)
            *now_out = rate;
        if (rate > 0 && (!known || rate < low))
            low = rate;
        if (rate > 0 && (!known || rate > high))
            high = rate;
        known = known || rate > 0;
    }
    *low_out = low;
    *high_out = high;
    return known;
}

/* ---- the block ---- */

struct text {
    char *bytes;
    size_t used, width;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text->bytes + text->used, PAWL_PROGRESS_TEXT_BYTES - text->used, format, arguments);
    va_end(arguments);
    if (n > 0)
        text->used += (size_t)n;
    if (text->used >= PAWL_PROGRESS_TEXT_BYTES)
        text->used = PAWL_PROGRESS_TEXT_BYTES - 1;
}

static void add_eta(struct text *text, const struct pawl_progress *progress,
                    const struct pawl_progress_facts *facts)
{
    double now = 0, low = 0, high = 0;
    char soon[PAWL_DURATION_TEXT_BYTES], late[PAWL_DURATION_TEXT_BYTES];
    if (!pawl_progress_rates(progress, &now, &low, &high))
        return;
    add(text, now >= 10 ? "  %.0f/s" : "  %.1f/s", now);
    if (facts->total <= facts->done || facts->total == 0)
        return;
    double left = (double)(facts->total - facts->done);
    if (left / low > 3e8)
        return;
    pawl_format_duration((uint64_t)(left / high * 1e9), soon);
    pawl_format_duration((uint64_t)(left / low * 1e9), late);
    if (strcmp(soon, late) == 0)
        add(text, "  ETA %s", soon);
    else
        add(text, "  ETA %s to %s", soon, late);
}

static void add_counts(struct text *text, const struct pawl_progress_facts *facts)
{
    if (facts->runs_total != 0)
        add(text, "run %" PRIu64 "/%" PRIu64 "  ", facts->runs_done, facts->runs_total);
    if (facts->total != 0)
        add(text, "%" PRIu64 "/%" PRIu64, facts->done, facts->total);
    else
        add(text, "%" PRIu64 " of %" PRIu64 " so far", facts->done, facts->read);
    add(text, "  %" PRIu64 " running", facts->running);
    if (facts->failed != 0)
        add(text, "  %" PRIu64 " failed", facts->failed);
    if (facts->retrying != 0)
        add(text, "  %" PRIu64 " retrying", facts->retrying);
}

static void add_bar(struct text *text, const struct pawl_progress_facts *facts)
{
    enum { CELLS = 20 };
    if (facts->total == 0)
        return;
    unsigned full = (unsigned)((double)facts->done / (double)facts->total * CELLS);
    if (full > CELLS)
        full = CELLS;
    add(text, "[%.*s%.*s] ", (int)full, "####################", (int)(CELLS - full), "....................");
}

/* Cut the line that begins at @from to the width, and drop what could move the cursor. */
static void end_line(struct text *text, size_t from)
{
    size_t columns = 0, to = from;
    for (size_t i = from; i < text->used; i++) {
        unsigned char byte = (unsigned char)text->bytes[i];
        bool begins = (byte & 0xc0) != 0x80;
        if (begins && columns == text->width)
            break;
        columns += begins;
        text->bytes[to++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    text->used = to;
    text->bytes[to] = '\0';
}

void pawl_progress_text(const struct pawl_progress *progress, const struct pawl_progress_facts *facts,
                        unsigned width, char text_out[PAWL_PROGRESS_TEXT_BYTES])
{
    struct text text = {.bytes = text_out, .width = width};
    char took[PAWL_DURATION_TEXT_BYTES];
    text_out[0] = '\0';
    if (progress->kind == PAWL_PROGRESS_BLOCK)
        add_bar(&text, facts);
    add_counts(&text, facts);
    add_eta(&text, progress, facts);
    add(&text, "  %s", pawl_format_duration(facts->elapsed_ns, took));
    end_line(&text, 0);
    for (unsigned i = 0; progress->kind == PAWL_PROGRESS_BLOCK && i < facts->slowest_count; i++) {
        add(&text, "\n");
        size_t from = text.used;
        add(&text, "  %8s  %s", pawl_format_duration(facts->slowest[i].elapsed_ns, took),
            facts->slowest[i].name);
        end_line(&text, from);
    }
}

/* ---- showing ---- */

static unsigned terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20)
        return 79;
    return size.ws_col - 1u;
}

void pawl_progress_clear(struct pawl_progress *progress)
{
    char escape[32];
    if (progress->lines == 0)
        return;
    int n = progress->lines == 1 ? snprintf(escape, sizeof escape, "\r\033[J")
                                 : snprintf(escape, sizeof escape, "\r\033[%uA\033[J", progress->lines - 1);
    pawl_write_all(STDERR_FILENO, escape, (size_t)n);
    progress->lines = 0;
}

static void show_block(struct pawl_progress *progress, const struct pawl_progress_facts *facts)
{
    char text[PAWL_PROGRESS_TEXT_BYTES], out[PAWL_PROGRESS_TEXT_BYTES + 64];
    int n = 0;
    if (progress->lines > 1)
        n = snprintf(out, sizeof out, "\033[%uA", progress->lines - 1);
    pawl_progress_text(progress, facts, terminal_width(), text);
    n += snprintf(out + n, sizeof out - (size_t)n, "\r\033[J%s", text);
    progress->lines = 1;
    for (const char *at = text; *at != '\0'; at++)
        progress->lines += *at == '\n';
    pawl_write_all(STDERR_FILENO, out, (size_t)n);
}

static void show_object(const struct pawl_progress *progress, const struct pawl_progress_facts *facts)
{
    double now = 0, low = 0, high = 0;
    bool known = pawl_progress_rates(progress, &now, &low, &high);
    double left = facts->total > facts->done ? (double)(facts->total - facts->done) : 0;
    json_t *document = pawl_json_document();
    json_object_set_new(document, "event", json_string("progress"));
    json_object_set_new(document, "run", pawl_json_text(facts->run_id));
    json_object_set_new(document, "done", json_integer((json_int_t)facts->done));
    json_object_set_new(document, "total",
                        facts->total != 0 ? json_integer((json_int_t)facts->total) : json_null());
    json_object_set_new(document, "running", json_integer((json_int_t)facts->running));
    json_object_set_new(document, "failed", json_integer((json_int_t)facts->failed));
    json_object_set_new(document, "retrying", json_integer((json_int_t)facts->retrying));
    json_object_set_new(document, "elapsed_ms", json_integer((json_int_t)(facts->elapsed_ns / 1000000)));
    json_object_set_new(document, "per_second", known ? json_real(now) : json_null());
    bool eta = known && facts->total != 0;
    json_object_set_new(document, "eta_ms_low",
                        eta ? json_integer((json_int_t)(left / high * 1e3)) : json_null());
    json_object_set_new(document, "eta_ms_high",
                        eta ? json_integer((json_int_t)(left / low * 1e3)) : json_null());
    pawl_json_print(document, stderr);
    json_decref(document);
}

void pawl_progress_show(struct pawl_progress *progress, uint64_t now_ns,
                        const struct pawl_progress_facts *facts)
{
    char text[PAWL_PROGRESS_TEXT_BYTES];
    progress->due_at_ns = now_ns + interval_ns[progress->kind];
    pawl_progress_sample(progress, now_ns, facts->done);
    switch (progress->kind) {
    case PAWL_PROGRESS_OFF:
        return;
    case PAWL_PROGRESS_BLOCK:
        show_block(progress, facts);
        return;
    case PAWL_PROGRESS_LINES:
        pawl_progress_text(progress, facts, 200, text);
        fprintf(stderr, "pawl: %s: %s\n", facts->run_id, text);
        return;
    case PAWL_PROGRESS_OBJECTS:
        show_object(progress, facts);
        return;
    }
}
