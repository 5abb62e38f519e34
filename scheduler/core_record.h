/*
 * core_record.h - bodies of the core's journal records, version 1 each.
 *
 * Fixed part first, then the variable parts in the order of their lengths. All offsets 8-aligned where a
 * struct starts. A run is named by its number, given once and never again in a journal.
 */
#ifndef PAWL_SCHEDULER_CORE_RECORD_H
#define PAWL_SCHEDULER_CORE_RECORD_H

#include <assert.h>
#include <stdint.h>

#include "shm/wire.h"

enum { PAWL_CORE_RECORD_VERSION = 1 };

struct pawl_epoch_record {
    uint64_t epoch;
    uint64_t realtime_ns;
};

/* RUN: then plan, context (each padded to 8), file. RESUME uses the same body: lengths of 0 keep what the run
 * has. */
struct pawl_run_record {
    uint64_t run;
    uint64_t batch;
    uint64_t realtime_ns;
    uint64_t plan_bytes, context_bytes;
    struct pawl_wire_submit request; /* file_bytes and filter_bytes as they follow */
};

/* ITEMS: then matched_count instance numbers (as uint64_t: they run again), then new items as on the wire
 * (pawl_wire_item + task, 8-aligned), then fed_count instance numbers: what each fed item came to. */
struct pawl_items_record {
    uint64_t run;
    uint64_t first_fed;      /* the client's number of the first */
    uint64_t first_instance; /* of the new ones */
    uint32_t fed_count, matched_count, new_count;
    uint32_t items_bytes; /* of the new items */
};

struct pawl_run_ref_record { /* ITEMS_END, SEALED */
    uint64_t run;
    uint64_t realtime_ns;
};

enum { PAWL_CLAIM_ADOPTED = 1 };

struct pawl_claim_record {
    uint64_t run;
    uint64_t instance;
    uint64_t started_at_ns;
    uint32_t step;
    uint32_t attempt;
    uint32_t worker;
    uint32_t flags;
};

/* STEP: then, when state is DELAYED, struct pawl_due; then stdout, stderr, named. */
struct pawl_step_record {
    uint64_t run;
    uint64_t instance;
    uint64_t previous; /* place of the record of the attempt before, 0: none */
    uint64_t started_at_ns;
    uint64_t duration_ns;
    uint32_t step;
    uint32_t attempt;
    int32_t exit_code;
    uint16_t worker;
    uint16_t failures; /* after this one */
    uint8_t outcome;
    uint8_t state;  /* enum pawl_step_state that the instance is in now */
    uint8_t reason; /* enum pawl_reason */
    uint8_t flags;  /* PAWL_SETTLE_* */
    uint32_t stdout_bytes, stderr_bytes, named_bytes;
};

struct pawl_due {
    uint64_t due_realtime_ns;
    uint64_t delay_ns;
};

/* RUN_STATE: the run ended, was interrupted, or was stopped for good. */
struct pawl_run_state_record {
    uint64_t run;
    uint64_t realtime_ns;
    uint32_t state;
    uint32_t reserved;
};

/* REOPEN: then, as uint64_t, which image it was (the checksum in its header). The image is runs/ID/image; a
 * RESUME follows in the same batch. */
struct pawl_reopen_record {
    uint64_t run;
    char run_id[PAWL_NAME_BYTES];
};

static_assert(sizeof(struct pawl_epoch_record) == 16, "journal format");
static_assert(sizeof(struct pawl_items_record) == 40, "journal format");
static_assert(sizeof(struct pawl_claim_record) == 40, "journal format");
static_assert(sizeof(struct pawl_step_record) == 72, "journal format");
static_assert(sizeof(struct pawl_run_state_record) == 24, "journal format");
static_assert(sizeof(struct pawl_reopen_record) == 80, "journal format");

#endif
