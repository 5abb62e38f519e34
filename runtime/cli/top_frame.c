/*
 * top_frame.c - lines of text. Runs in: `pawl top`. No I/O.
 */
#include "runtime/cli/top_frame.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cli/output.h"

enum { COLUMNS_WIDTH = 65 /* of all columns but the name, and the spaces before them */ };

/* ---- numbers ---- */

const char *pawl_top_number(double value, char text[16])
{
    static const char units[] = " kMGTP";
    unsigned unit = 0;
    if (value < 9999.5) {
        snprintf(text, 16, "%.0f", value < 0 ? 0 : value);
        return text;
    }
    while (value >= 999.5 && unit < sizeof units - 2) {
        value /= 1000;
        unit++;
    }
    if (value >= 1e6)
        snprintf(text, 16, "lots");
    else
        snprintf(text, 16, "%.*f%c", value < 99.95 ? 1 : 0, value, units[unit]);
    return text;
}

const char *pawl_top_rate(double per_second, char text[16])
{
    if (per_second > 0 && per_second < 9.95)
        snprintf(text, 16, "%.1f", per_second < 0.1 ? 0.1 : per_second);
    else
        pawl_top_number(per_second, text);
    return text;
}

static const char *time_text(uint64_t ns, char text[16])
{
    if (ns == 0)
        return "-";
    if (ns == UINT64_MAX)
        return "long";
    if (ns < 1000000)
        snprintf(text, 16, "%.0f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(text, 16, "%.1f ms", (double)ns / 1e6);
    else
        snprintf(text, 16, "%.1f s", (double)ns / 1e9);
    return text;
}

/* At most 8 characters. */
static const char *bytes_text(double bytes, char text[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;
    while (bytes >= 1023.5 && unit < 5) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, 16, "%.*f %s", unit > 0 && bytes < 99.95 ? 1 : 0, bytes < 9999 ? bytes : 9999,
             units[unit]);
    return text;
}

static int sane_width(int width)
{
    return width < PAWL_TOP_WIDTH_MIN   ? PAWL_TOP_WIDTH_MIN
           : width > PAWL_TOP_WIDTH_MAX ? PAWL_TOP_WIDTH_MAX
                                        : width;
}

/* ---- the head ---- */

__attribute__((format(printf, 3, 4))) static void put(struct pawl_top_line *line, int width,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line->text, sizeof line->text, format, arguments);
    va_end(arguments);
    if (width >= 0 && (size_t)width < sizeof line->text)
        line->text[width] = 0;
}

static void put_title(const struct pawl_top *top, const char *where, int width, struct pawl_top_line *line)
{
    char up[PAWL_DURATION_TEXT_BYTES], order[64], filter[PAWL_METRICS_NAME_BYTES + 16] = "";
    snprintf(order, sizeof order, "%s%s", pawl_top_column_name(top->sort), top->reverse ? " reversed" : "");
    if (top->filter[0])
        snprintf(filter, sizeof filter, "  filter /%s", top->filter);
    line->look = PAWL_TOP_TITLE;
    put(line, width, "pawl top  %.*s  epoch %" PRIu64 "  up %s  queues %zu  by %s%s", width > 110 ? 60 : 24,
        where, top->epoch, pawl_format_duration(top->up_ns, up), top->all_count, order, filter);
}

static void put_names(int width, struct pawl_top_line *line)
{
    line->look = PAWL_TOP_NAMES;
    put(line, width, "%-*s %6s %6s %6s %5s %5s %5s %6s %5s %7s %4s", width - COLUMNS_WIDTH, "QUEUE", "DEPTH",
        "READY", "FLIGHT", "IN/S", "OUT/S", "ACK/S", "NACK/S", "DEAD", "STATE", "CONS");
}

static void put_events(const struct pawl_top *top, int width, struct pawl_top_line *line)
{
    char in[16], out[16], ack[16], nack[16], unrouted[16], lost[40] = "", p50[16], p99[16];
    if (top->unrouted > 0)
        snprintf(lost, sizeof lost, "  unrouted %s", pawl_top_rate(top->unrouted, unrouted));
    put(line, width, "events/s  in %-5s  out %-5s  ack %-5s  nack %-5s  p50 %s  p99 %s%s",
        pawl_top_rate(top->rates.published, in), pawl_top_rate(top->rates.delivered, out),
        pawl_top_rate(top->rates.acked, ack), pawl_top_rate(top->rates.nacked, nack),
        time_text(top->latency_p50_ns, p50), time_text(top->latency_p99_ns, p99), lost);
}

static void put_journal(const struct pawl_top *top, int width, struct pawl_top_line *line)
{
    static const char *const rooms[] = {"", "  DISK FULL: new work is refused", "  DISK FULL"};
    char bytes[16], disk[16], syncs[16], p50[16], p99[16];
    line->look = top->journal_room ? PAWL_TOP_WARNING : PAWL_TOP_PLAIN;
    put(line, width, "journal   %s/s  %s syncs/s  sync p50 %s p99 %s  disk %s%s",
        bytes_text(top->journal_bytes, bytes), pawl_top_rate(top->syncs, syncs),
        time_text(top->sync_p50_ns, p50), time_text(top->sync_p99_ns, p99),
        bytes_text((double)top->disk_bytes, disk), rooms[top->journal_room < 3 ? top->journal_room : 2]);
}

static void put_memory(const struct pawl_top *top, int width, struct pawl_top_line lines[2])
{
    char text[PAWL_MEMORY_KINDS][16];
    for (int kind = 0; kind < PAWL_MEMORY_KINDS; kind++)
        bytes_text((double)top->memory[kind], text[kind]);
    put(&lines[0], width, "memory    scheduler %s  supervisor %s  workers %s", text[PAWL_MEMORY_SCHEDULER],
        text[PAWL_MEMORY_SUPERVISOR], text[PAWL_MEMORY_WORKERS]);
    put(&lines[1], width, "          allocated %s  shared %s  kept %s  cache %s",
        text[PAWL_MEMORY_ALLOCATED], text[PAWL_MEMORY_SHARED], text[PAWL_MEMORY_KEPT],
        text[PAWL_MEMORY_CACHE]);
}

void pawl_top_head(const struct pawl_top *top, const char *where, int width,
                   struct pawl_top_line lines[PAWL_TOP_HEAD_LINES])
{
    memset(lines, 0, PAWL_TOP_HEAD_LINES * sizeof *lines);
    width = sane_width(width);
    put_title(top, where, width, &lines[0]);
    put_events(top, width, &lines[1]);
    put_journal(top, width, &lines[2]);
    put(&lines[3], width,
        "workers   %" PRIu64 " busy  %" PRIu64 " idle  %" PRIu64 " starting  %" PRIu64
        " restarted     clients %" PRIu64,
        top->workers_busy, top->workers_idle, top->workers_starting, top->restarts, top->clients);
    put_memory(top, width, &lines[4]);
    put_names(width, &lines[6]);
}

/* ---- rows ---- */

void pawl_top_line(const struct pawl_top *top, size_t index, int width, struct pawl_top_line *line)
{
    static const char *const states[] = {"ok", "half", "open", "paused"};
    const struct pawl_top_row *row = &top->rows[index];
    char depth[16], ready[16], flight[16], in[16], out[16], ack[16], nack[16], dead[16], consumers[16];
    width = sane_width(width);
    int name_width = width - COLUMNS_WIDTH;
    bool cut = strlen(row->name) > (size_t)name_width;
    line->look = row->state == PAWL_TOP_OPEN || row->at_limit ? PAWL_TOP_WARNING : PAWL_TOP_PLAIN;
    put(line, width, "%-*.*s%s %6s %6s %6s %5s %5s %5s %6s %5s %7s %4s", cut ? name_width - 1 : name_width,
        cut ? name_width - 1 : name_width, row->name, cut ? "~" : "",
        pawl_top_number((double)row->depth, depth), pawl_top_number((double)row->ready, ready),
        pawl_top_number((double)row->in_flight, flight), pawl_top_rate(row->in, in),
        pawl_top_rate(row->out, out), pawl_top_rate(row->ack, ack), pawl_top_rate(row->nack, nack),
        row->is_dlq ? "-" : pawl_top_number((double)row->dead, dead),
        row->state == PAWL_TOP_OK && row->at_limit ? "full" : states[row->state],
        pawl_top_number((double)row->consumers, consumers));
}
