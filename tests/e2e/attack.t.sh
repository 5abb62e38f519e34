#!/usr/bin/env bash
# attack.t.sh - what a hostile or unlucky neighbour does must cost him, and nobody else.

test_a_run_too_large_for_a_record_is_refused_and_others_go_on() {
    write nap.yaml <<'YAML'
pawl: 1
name: nap
steps:
  a: {run: [sleep, "1"]}
  b: {needs: [a], run: ["true"]}
YAML
    write one.yaml <<'YAML'
pawl: 1
name: one
params: {text: ""}
steps:
  a: {run: ["true"]}
YAML
    { printf '{"text": "' && head -c 20000000 /dev/zero | tr '\0' z && echo '"}'; } >huge.jsonl
    background pawl run nap.yaml
    local nap=$!
    wait_until '[ "$(step_states running)" = 1 ]'
    expect_exit 3 timeout 20 "$PAWL" run one.yaml --inputs huge.jsonl
    expect_stderr "a run of"
    expect_end 0 "$nap"
}

step_states() { timeout 10 "$PAWL" status last --json 2>/dev/null | jq -r ".steps.$1 // 0"; }
