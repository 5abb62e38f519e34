/*
 * verbs.h - the verbs of the tool, one file each (verb_NAME.c).
 */
#ifndef PAWL_RUNTIME_CLI_VERBS_H
#define PAWL_RUNTIME_CLI_VERBS_H

#include "runtime/cli/cli.h"

extern const struct pawl_verb pawl_verb_run, pawl_verb_map, pawl_verb_check, pawl_verb_graph;
extern const struct pawl_verb pawl_verb_runs, pawl_verb_status, pawl_verb_steps, pawl_verb_logs,
    pawl_verb_why;
extern const struct pawl_verb pawl_verb_resume, pawl_verb_retry, pawl_verb_cancel, pawl_verb_wait;
extern const struct pawl_verb pawl_verb_gc, pawl_verb_doctor, pawl_verb_journal, pawl_verb_health;
extern const struct pawl_verb pawl_verb_bench, pawl_verb_config, pawl_verb_help, pawl_verb_version;

/* the event bus; the subverbs of queue, dlq and group are in those */
extern const struct pawl_verb pawl_verb_serve, pawl_verb_queue, pawl_verb_queue_declare, pawl_verb_publish,
    pawl_verb_consume;
extern const struct pawl_verb pawl_verb_ack, pawl_verb_nack, pawl_verb_reject, pawl_verb_extend;
extern const struct pawl_verb pawl_verb_dlq, pawl_verb_group, pawl_verb_metrics, pawl_verb_top;

#endif
