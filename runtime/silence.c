/*
 * silence.c - looks whether a scheduler that does not answer is alive.
 *
 * Runs in: commands.
 */
#include "runtime/silence.h"

#include <errno.h>
#include <stddef.h>

#include "shm/clock.h"
#include "shm/error.h"

static void begin_anew(struct pawl_silence *silence, const struct pawl_wire *wire, uint64_t slices)
{
    silence->due_ns = pawl_clock_monotonic_ns() + slices * PAWL_PATIENCE_SLICE_NS;
    silence->received_count = wire->received_count;
    silence->asks = false;
    silence->patience.idle_count = 0;
}

void pawl_silence_begin(struct pawl_silence *silence, const struct pawl_wire *wire, pid_t pid)
{
    if (pid > 0)
        pawl_patience_of(&silence->patience, pid);
    else
        pawl_patience_init(&silence->patience, wire->fd);
    begin_anew(silence, wire, 1);
}

int pawl_silence_look(struct pawl_silence *silence, struct pawl_wire *wire,
                      struct pawl_error_report *report_out)
{
    if (pawl_clock_monotonic_ns() < silence->due_ns)
        return 0;
    if (wire->received_count != silence->received_count) {
        begin_anew(silence, wire, silence->asks ? PAWL_PATIENCE_SLICES : 1);
        return 0;
    }
    if (!silence->asks) {
        silence->asks = true;
        int error =
            pawl_wire_queue_message(wire, PAWL_WIRE_HEALTH, PAWL_SILENCE_TAG, NULL, 0, NULL, 0, NULL, 0);
        if (error)
            return error;
        (void)pawl_wire_flush(wire); /* a peer that is gone is seen by whoever reads */
    }
    silence->due_ns = pawl_clock_monotonic_ns() + PAWL_PATIENCE_SLICE_NS;
    return pawl_patience_slice(&silence->patience)
               ? pawl_client_report_silence(report_out, &silence->patience)
               : 0;
}
