/*
 * silence.c - a scheduler that does not answer: waits it, or hangs it?
 *
 * Runs in: the program that uses pawl.h. An answer may wait for the disk, a confirm for room in a queue: for
 * as long as that takes. So another question is asked beside it, whose answer waits for nothing. One that
 * leaves that open too, and does nothing, is given up (runtime/patience.h).
 */
#include "runtime/lib/lib.h"

#include <errno.h>

void pawl_lib_silence_begin(struct pawl *pawl, struct pawl_lib_silence *silence)
{
    *silence = (struct pawl_lib_silence){.due_ns = pawl_lib_deadline_ns(PAWL_PATIENCE_SLICE_NS)};
    pawl_patience_of(&silence->patience, (pid_t)pawl->welcome.scheduler_pid);
}

int pawl_lib_silence_look(struct pawl *pawl, struct pawl_lib_silence *silence)
{
    struct pawl_error_report report;
    if (pawl_lib_now_ns() < silence->due_ns)
        return 0;
    if (pawl->phase != PAWL_LIB_UP) { /* nobody is there to answer: how long that may last is another limit */
        pawl_lib_silence_begin(pawl, silence);
        return 0;
    }
    if (silence->asks && pawl->beside_tag == 0) {
        pawl_lib_silence_begin(pawl, silence);
        silence->due_ns = pawl_lib_deadline_ns(PAWL_PATIENCE_SLICES * PAWL_PATIENCE_SLICE_NS);
        return 0;
    }
    if (!silence->asks) {
        silence->asks = true;
        pawl->beside_tag = ++pawl->next_tag;
        int error = pawl_wire_queue_message(&pawl->wire, PAWL_WIRE_HEALTH, pawl->beside_tag, NULL, 0, NULL, 0,
                                            NULL, 0);
        if (error)
            return pawl_lib_fail(pawl, error, "no memory for a question");
        (void)pawl_wire_flush(&pawl->wire);
    }
    silence->due_ns = pawl_lib_deadline_ns(PAWL_PATIENCE_SLICE_NS);
    if (!pawl_patience_slice(&silence->patience))
        return 0;
    pawl_client_report_silence(&report, &silence->patience);
    return pawl_lib_fail_report(pawl, &report);
}
