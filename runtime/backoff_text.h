/*
 * backoff_text.h - retry policies as people write them on a command line.
 */
#ifndef PAWL_RUNTIME_BACKOFF_TEXT_H
#define PAWL_RUNTIME_BACKOFF_TEXT_H

#include "scheduler/bus/retry.h"

/**
 * pawl_backoff_parse - a backoff into @policy; its limit is left alone
 *
 *   "1s,5s,30s"             an explicit list (every element has a unit); so is a single "5s"
 *   "200ms,2,10s,0.1"       initial,factor[,max[,jitter]]: told by the second element, which has no unit
 *   "fixed:5s[,jitter]"     "linear:initial,increment[,max[,jitter]]"     "exponential:..."    "list:..."
 *
 * Return: 0; PAWL_E_INVALID; PAWL_E_LIMIT (too many delays). @why says it; @policy is then as it was.
 */
int pawl_backoff_parse(const char *text, struct pawl_retry_policy *policy, char why[PAWL_RETRY_WHY_BYTES]);

/**
 * pawl_retry_rule_parse - "CAUSE=LIMIT[,BACKOFF]" or "CAUSE=never" into @rules: "deadline=2,1s,5s",
 * "exit:100-120=0,200ms,2,10s"
 *
 * Return: 0; PAWL_E_INVALID; PAWL_E_LIMIT; -ENOMEM. @why says it; @rules are then as they were.
 */
int pawl_retry_rule_parse(const char *text, struct pawl_retry_rules *rules, char why[PAWL_RETRY_WHY_BYTES]);

#endif
