/*
 * map_live.h - --line-buffer: whole lines of tasks while they run.
 *
 * Asks over a connection of its own what runs, reads the spool files, and asks again: bytes of a task that is
 * no longer the same were another's, and are dropped.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_LIVE_H
#define PAWL_RUNTIME_CLI_MAP_LIVE_H

#include "runtime/cli/map_items.h"
#include "runtime/cli/map_output.h"
#include "runtime/cli/session.h"

struct pawl_map_live {
    const struct pawl_cli *cli;
    const char *run_id;
    struct pawl_map_items *items;
    struct pawl_map_output *output;
    struct pawl_session query;
    bool opened;
    uint64_t next_at_ns;
};

void pawl_map_live_init(struct pawl_map_live *live, const struct pawl_cli *cli, const char *run_id,
                        struct pawl_map_items *items, struct pawl_map_output *output);
void pawl_map_live_fini(struct pawl_map_live *live);

/** pawl_map_live_tick - show what came. @only: number of the only item that may be shown (-k), or UINT64_MAX.
 * Return: when to call again (monotonic). */
uint64_t pawl_map_live_tick(struct pawl_map_live *live, uint64_t only);

#endif
