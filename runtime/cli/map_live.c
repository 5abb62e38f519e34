/*
 * map_live.c - --line-buffer.
 *
 * Runs in: the command. Reads spool files; every failure of a question is silent, since the results bring
 * all.
 */
#include "runtime/cli/map_live.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/spool.h"
#include "runtime/cli/submit.h"

enum { CHUNK_BYTES = 64 << 10, PIECES_MAX = 64 };
#define INTERVAL_NS UINT64_C(50000000)

/* Bytes that were read and wait for the second look. */
struct piece {
    struct pawl_spool spool;
    int stream;
    size_t n;
    char *bytes;
};

void pawl_map_live_init(struct pawl_map_live *live, const struct pawl_cli *cli, const char *run_id,
                        struct pawl_map_items *items, struct pawl_map_output *output)
{
    *live = (struct pawl_map_live){.cli = cli, .run_id = run_id, .items = items, .output = output};
}

void pawl_map_live_fini(struct pawl_map_live *live)
{
    if (live->opened)
        pawl_session_close(&live->query);
    live->opened = false;
}

static bool can_ask(struct pawl_map_live *live)
{
    struct pawl_error_report report;
    char why[PAWL_STATE_WHY_BYTES];
    if (!live->opened) {
        memset(&live->query, 0, sizeof live->query);
        live->query.cli = live->cli;
        if (pawl_state_open(live->cli->state, PAWL_STATE_EXISTING, &live->query.state, why) != 0)
            return false;
        live->query.has_state = live->opened = true;
    }
    if (!live->query.connected)
        live->query.connected = pawl_client_open(&live->query.state, false, &live->query.wire,
                                                 &live->query.welcome, &report) == 0;
    return live->query.connected;
}

static bool ask_running(struct pawl_map_live *live, struct pawl_wire_message *reply)
{
    struct pawl_wire_run request;
    struct pawl_error_report report;
    pawl_session_copy_name(request.run_id, live->run_id);
    return pawl_session_ask(&live->query, PAWL_WIRE_RUNNING, &request, sizeof request, NULL, 0,
                            PAWL_WIRE_RESULTS, sizeof(struct pawl_wire_results), reply, &report) == 0;
}

/* Read the whole lines that follow what has been shown. */
static void read_piece(struct pawl_map_live *live, const struct pawl_spool *spool,
                       const struct pawl_map_item *item, int stream, struct piece *piece_out)
{
    const char *path = stream == 1 ? spool->out : spool->err;
    uint64_t from = item->live_attempt == spool->attempt ? item->live_bytes[stream - 1] : 0;
    piece_out->n = 0;
    piece_out->bytes = NULL;
    int fd = path[0] != '\0' ? openat(live->query.state.dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0)
        return;
    char *bytes = malloc(CHUNK_BYTES);
    ssize_t got = bytes != NULL ? pread(fd, bytes, CHUNK_BYTES, (off_t)from) : 0;
    close(fd);
    const char *newline = got > 0 ? memrchr(bytes, '\n', (size_t)got) : NULL;
    if (newline == NULL) {
        free(bytes);
        return;
    }
    *piece_out = (struct piece){*spool, stream, (size_t)(newline - bytes) + 1, bytes};
}

static unsigned read_pieces(struct pawl_map_live *live, const struct pawl_wire_message *reply, uint64_t only,
                            struct piece *pieces)
{
    const char *at = (const char *)reply->body + sizeof(struct pawl_wire_results);
    size_t left = reply->header.bytes - sizeof(struct pawl_wire_results), bytes;
    struct pawl_spool spool;
    unsigned count = 0;
    for (; (bytes = pawl_spool_next(at, left, &spool)) != 0; at += bytes, left -= bytes) {
        const struct pawl_map_item *item = pawl_map_items_find(live->items, spool.instance);
        if (item == NULL || item->state != PAWL_MAP_ITEM_OPEN || (only != UINT64_MAX && item->number != only))
            continue;
        for (int stream = 1; stream <= 2 && count < PIECES_MAX; stream++) {
            read_piece(live, &spool, item, stream, &pieces[count]);
            count += pieces[count].n != 0;
        }
    }
    return count;
}

static bool still_runs(const struct pawl_wire_message *reply, const struct pawl_spool *was)
{
    const char *at = (const char *)reply->body + sizeof(struct pawl_wire_results);
    size_t left = reply->header.bytes - sizeof(struct pawl_wire_results), bytes;
    struct pawl_spool now;
    for (; (bytes = pawl_spool_next(at, left, &now)) != 0; at += bytes, left -= bytes)
        if (now.instance == was->instance)
            return now.attempt == was->attempt && now.worker == was->worker &&
                   now.started_at_ns == was->started_at_ns;
    return false;
}

static void show_piece(struct pawl_map_live *live, const struct piece *piece)
{
    struct pawl_map_item *item = pawl_map_items_find(live->items, piece->spool.instance);
    if (item == NULL)
        return;
    if (item->live_attempt != piece->spool.attempt) {
        item->live_attempt = piece->spool.attempt;
        item->live_bytes[0] = item->live_bytes[1] = 0;
    }
    pawl_map_output_lines(live->output, item, piece->stream, piece->bytes, piece->n);
    item->live_bytes[piece->stream - 1] += piece->n;
}

uint64_t pawl_map_live_tick(struct pawl_map_live *live, uint64_t only)
{
    uint64_t now_ns = pawl_monotonic_ns();
    if (now_ns < live->next_at_ns)
        return live->next_at_ns;
    live->next_at_ns = now_ns + INTERVAL_NS;
    struct piece pieces[PIECES_MAX + 2];
    struct pawl_wire_message reply;
    if (!can_ask(live) || !ask_running(live, &reply))
        return live->next_at_ns;
    unsigned count = read_pieces(live, &reply, only, pieces);
    bool known = count != 0 && ask_running(live, &reply);
    for (unsigned i = 0; i < count; i++) {
        if (known && still_runs(&reply, &pieces[i].spool))
            show_piece(live, &pieces[i]);
        free(pieces[i].bytes);
    }
    return live->next_at_ns;
}
