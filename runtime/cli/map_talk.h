/*
 * map_talk.h - the conversation of a map, as the files that lead it share it.
 *
 * map_run.c leads it and receives, map_request.c sends, map_result.c keeps and prints what comes back.
 */
#ifndef PAWL_RUNTIME_CLI_MAP_TALK_H
#define PAWL_RUNTIME_CLI_MAP_TALK_H

#include "runtime/cli/map_feed.h"
#include "runtime/cli/map_input.h"
#include "runtime/cli/map_items.h"
#include "runtime/cli/map_live.h"
#include "runtime/cli/map_output.h"
#include "runtime/cli/session.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/watch.h"

enum { PAWL_MAP_FETCH_COUNT = 128 };

enum pawl_map_tag {
    PAWL_MAP_TAG_ITEMS = 1,
    PAWL_MAP_TAG_ITEMS_END,
    PAWL_MAP_TAG_PULL,
    PAWL_MAP_TAG_FETCH,
    PAWL_MAP_TAG_CANCEL,
    PAWL_MAP_TAG_WAIT,
};

struct pawl_map_early; /* map_result.c */

struct pawl_map_talk {
    struct pawl_session *session;
    const struct pawl_cli *cli;
    const struct pawl_map_options *options;
    struct pawl_map_output *output;
    struct pawl_map_input *input;
    struct pawl_map_items items;
    struct pawl_map_feed feed;
    struct pawl_map_live live;
    struct pawl_watch watch;
    char run_id[PAWL_NAME_BYTES];

    bool items_sent, items_answered; /* under way; answered, but credit is owed */
    uint32_t credit;
    bool end_sent, feeding; /* ITEMS_END is out; more may be fed */
    bool pull_sent, run_ended;
    uint16_t pull_answers; /* that are still to come */
    uint64_t pull_from;
    uint64_t fetch[PAWL_MAP_FETCH_COUNT];         /* instances */
    uint64_t fetch_numbers[PAWL_MAP_FETCH_COUNT]; /* and which items they are */
    uint32_t fetch_count;                         /* under way */
    uint64_t fetch_from;  /* without -k: no item before this number is to be fetched */
    uint64_t next_print;  /* -k: number of the item whose turn it is */
    uint64_t had_waiting; /* without -k: items that had succeeded and are still to be fetched */
    bool catching_up;     /* a resume, and all of the last message had succeeded before */
    bool gaps_skipped;
    struct pawl_map_early *early;
    bool wait_sent, has_summary;
    struct pawl_wire_summary summary;
    enum pawl_signal_level level;
    uint64_t failed, ended;
    int exit_code; /* of a mistake of our own; 0: none */
    bool told_output, stop_told;
    unsigned received; /* messages of this turn */
};

#endif
