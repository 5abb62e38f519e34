#!/usr/bin/env bash
# attack.t.sh - what a hostile or unlucky neighbour does must cost him, and nobody else.

test_a_run_too_large_for_a_record_is_refused_and_others_go_on() {
    write nap.yaml <<'YAML'
pawl: 1
name: nap
steps:
  a: {shell: 'until [ -e go ]; do sleep 0.02; done'}
  b: {needs: [a], run: ["true"]}
YAML
    write one.yaml <<'YAML'
pawl: 1
name: one
params: {text: ""}
steps:
  a: {run: ["true"]}
YAML
    { printf '{"text": "' && head -c 130000000 /dev/zero | tr '\0' z && echo '"}'; } >huge.jsonl
    background pawl run nap.yaml
    local nap=$!
    wait_until '[ "$(step_states running)" = 1 ]'
    expect_exit 2 at_most 20 "$PAWL" run one.yaml --inputs huge.jsonl
    expect_stderr "huge.jsonl:1:1: with these parameters it is larger than a run may be (120 MiB)"
    touch go
    expect_end 0 "$nap"
}

step_states() { pawl status last --json 2>/dev/null | jq -r ".steps.$1 // 0"; }

# Every open memfd of this test's workers whose name holds $1, as /proc/PID/fd/N.
shared_memory() {
    local pid fd
    for pid in $(pid_of worker); do
        for fd in "/proc/$pid/fd"/*; do
            case $(readlink "$fd" || true) in *"memfd:$1"*) echo "$fd" ;; esac
        done
    done
}

# spoil FILE OFFSET BYTES: ones.
spoil() { head -c "$3" /dev/zero | tr '\0' '\377' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

test_a_task_whose_claim_word_was_overwritten_goes_again() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  work:
    foreach: ${{ [1, 2, 3, 4, 5, 6] }}
    shell: |
      echo "$PAWL_INDEX" >>"$MARKS"
      while [ ! -e "$GATE" ]; do sleep 0.02; done
YAML
    export MARKS=$T/marks GATE=$T/gate
    background pawl run flow.yaml -j 1
    local run=$! words
    wait_until '[ -s "$MARKS" ]'
    words=$(shared_memory pawl-claims)
    spoil "${words%%$'\n'*}" 0 512
    : >"$GATE"
    expect_end 0 "$run"
    expect_eq "$(run_state)" succeeded
    expect_eq "$(sort -u "$MARKS" | wc -l)" 6
}

test_a_lane_full_of_ones_costs_its_worker_and_nothing_else() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  work:
    foreach: ${{ [1, 2, 3, 4] }}
    shell: |
      echo "$PAWL_INDEX" >>"$MARKS"
      while [ ! -e "$GATE" ]; do sleep 0.02; done
YAML
    export MARKS=$T/marks GATE=$T/gate
    background pawl run flow.yaml -j 2
    local run=$! lanes lane
    wait_until '[ "$(wc -l <"$MARKS")" -ge 2 ]'
    lanes=$(shared_memory pawl-lane)
    [ -n "$lanes" ] || fail "no lane was found"
    for lane in $lanes; do
        spoil "$lane" 128 4096
    done
    : >"$GATE"
    expect_end 0 "$run"
    expect_eq "$(run_state)" succeeded
    refute_log "the scheduler"
}

damage_flow() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  small: {run: [echo, small]}
  large: {run: [seq, "1", "9000"], output: lines}
  gate: {needs: [small, large], shell: 'test -e "$GATE"'}
  sum: {needs: [gate, large], run: [sort, -n], stdin: "${{ steps.large.output }}"}
  copy: {needs: [gate, small], run: [cat], stdin: "${{ steps.small.output }}"}
YAML
    export GATE=$T/gate
    expect_exit 1 pawl run flow.yaml --run-id r
    wait_until 'flock -n "$T/state/lock" true' 60 # sealed, and its scheduler gone: what is on disk is what is read
}

test_an_altered_output_file_is_neither_shown_nor_computed_with() {
    damage_flow
    printf '?' | dd of="$T/state/runs/r/out/large.1.out" bs=1 seek=20000 conv=notrunc status=none
    expect_exit 7 pawl logs r large
    expect_stdout ""
    : >"$GATE"
    expect_exit 1 pawl resume r
    expect_eq "$(step_field sum state r)" failed
}

test_an_altered_output_file_of_a_run_that_goes_on_is_not_shown() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  large: {shell: 'seq 1 9000; seq 1 9000 >&2'}
  hold: {needs: [large], shell: 'while [ ! -e "$GATE" ]; do sleep 0.02; done'}
YAML
    export GATE=$T/gate
    background pawl run flow.yaml --run-id r
    local run=$! stream
    wait_until '[ "$(step_states running)" = 1 ] && [ "$(step_states succeeded)" = 1 ]'
    for stream in out err; do
        local flag=()
        [ $stream = out ] || flag=(--stderr)
        expect_exit 0 pawl logs r large "${flag[@]}"
        seq 1 9000 | cmp -s - "$T/out" || fail "bytes of std$stream changed"
        printf '?' | dd of="$T/state/runs/r/out/large.1.$stream" bs=1 seek=20000 conv=notrunc status=none
        expect_exit 7 pawl logs r large "${flag[@]}"
        expect_stdout ""
    done
    : >"$GATE"
    expect_end 0 "$run"
}

test_map_prints_all_but_an_altered_output_file_and_names_it() {
    local task=(sh -c 'if [ "$0" = b ]; then seq 1 9000; else echo "$0"; fi' ::: a b c) file=out/map.1.1.out
    expect_exit 0 pawl map -k --resume --run-id m "${task[@]}"
    expect_exit 0 pawl map -k --resume "${task[@]}"
    expect_lines 9002
    printf '?' | dd of="$T/state/runs/m/$file" bs=1 seek=20000 conv=notrunc status=none
    for form in -k --tag --json; do
        expect_exit 7 pawl map $form --resume "${task[@]}"
        expect_lines 2
        expect_stderr "what task 2 printed cannot be shown: runs/m/$file: it has been changed since"
    done
    expect_eq "$(json_err .error.code)" damaged
    rm "$T/state/runs/m/$file"
    expect_exit 1 pawl map -k --resume "${task[@]}"
    expect_stdout $'a\nc'
    expect_stderr "what task 2 printed cannot be shown: runs/m/$file: No such file"
}

test_map_compares_an_output_file_that_waited_for_its_turn() {
    export GATE=$T/gate
    background pawl map -k -j 2 --run-id m --results saved sh -c \
        'if [ "$0" = b ]; then seq 1 9000; else while [ ! -e "$GATE" ]; do sleep 0.02; done; echo "$0"; fi' ::: a b
    local run=$! file=out/map.1.1.out
    wait_until '[ "$(step_states succeeded)" = 1 ]'
    printf '?' | dd of="$T/state/runs/m/$file" bs=1 seek=20000 conv=notrunc status=none
    : >"$GATE"
    expect_end 7 "$run"
    expect_file background.out a
    grep -F "what task 2 printed cannot be shown: runs/m/$file" background.err
}

test_an_altered_output_in_an_image_is_neither_shown_nor_computed_with() {
    damage_flow
    expect_exit 0 pawl logs r small
    expect_stdout small
    local image=$T/state/runs/r/image at
    at=$(LC_ALL=C grep -abo small "$image" | head -n 1 | cut -d: -f1) # outputs come first
    printf 'smell' | dd of="$image" bs=1 seek="$at" conv=notrunc status=none
    expect_exit 7 pawl logs r small
    expect_stdout ""
    : >"$GATE"
    expect_exit 7 pawl resume r
}

refute_log() { ! grep -F -e "$1" "$T/state/scheduler.log" || fail "scheduler.log says: $1"; }

# A limit of 64 KiB: less than the journal's first segment and shared memory need.
test_a_limit_of_file_sizes_holds_for_steps_and_does_not_end_pawl() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  small: {shell: 'head -c 1000 /dev/zero >small'}
  large: {needs: [small], shell: 'exec head -c 1000000 /dev/zero >large'}
YAML
    (
        ulimit -Sf 64
        expect_exit 1 pawl run flow.yaml --run-id r
    )
    expect_eq "$(step_field small state r)" succeeded
    expect_eq "$(step_field large signal r)" 25
    refute_log "killed by signal"
}

test_a_hard_limit_of_file_sizes_is_an_error_with_words() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps: {a: {run: ["true"]}}
YAML
    (
        ulimit -f 64
        expect_exit 4 pawl run flow.yaml
        expect_stderr "File too large"
    )
    expect_exit 0 pawl run flow.yaml
}

# The supervisor is stopped, so that no scheduler comes before the jobs have ended.
test_jobs_that_end_while_no_scheduler_is_there_count_and_are_not_run_again() {
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  work:
    foreach: ${{ [1, 2, 3] }}
    shell: |
      echo "start $PAWL_INDEX" >>"$MARKS"
      while [ ! -e "$GATE" ]; do sleep 0.02; done
      echo "end $PAWL_INDEX" >>"$MARKS"
      echo "out $PAWL_INDEX"
YAML
    export MARKS=$T/marks GATE=$T/gate
    background pawl run flow.yaml -j 2 --run-id r
    local run=$! supervisor
    wait_until '[ "$(grep -c start "$MARKS")" = 2 ]'
    supervisor=$(the_pid_of supervisor)
    kill -STOP "$supervisor"
    kill -KILL "$(the_pid_of scheduler)"
    : >"$GATE"
    wait_until '[ "$(grep -c end "$MARKS")" -ge 2 ]'
    kill -CONT "$supervisor"
    wait_until "! kill -0 $run" 20
    expect_end 0 "$run"
    expect_eq "$(grep -c start "$MARKS")" 3
    expect_exit 0 pawl logs r work --item 0
    expect_stdout "out 0"
}

# The command is stopped, its scheduler dies, and all is done before the command looks again.
ends_without_its_command() {
    local supervisor
    supervisor=$(the_pid_of supervisor)
    kill -STOP "$1"
    kill -KILL "$(the_pid_of scheduler)"
    : >"$GATE"
    wait_until '[ "$(run_state r)" = succeeded ]' 20
    "${@:2}" "$supervisor"
    kill -CONT "$1"
}

write_gated() {
    export GATE=$T/gate
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  work: {shell: 'until [ -e "$GATE" ]; do sleep 0.02; done; echo out'}
YAML
}

# its_run_succeeds COMMAND: as ends_without_its_command; the command of the run says that it succeeded.
its_run_succeeds() {
    write_gated
    background pawl run flow.yaml --run-id r
    local run=$!
    wait_until '[ "$(run_state r)" = running ]'
    ends_without_its_command "$run" "$1"
    expect_end 0 "$run"
    grep -q "run r succeeded" background.err || fail "it does not say that its run succeeded"
}

test_a_run_that_ends_before_its_command_is_back_has_succeeded() {
    its_run_succeeds true
    wait_until '[ -z "$(pid_of scheduler)" ]'
}

leave() { kill -TERM "$1" && wait_until '[ -z "$(pid_of supervisor)" ]'; }

test_a_run_that_was_sealed_before_its_command_is_back_has_succeeded() {
    its_run_succeeds leave
}

test_a_resumed_run_whose_supervisor_is_killed_does_not_count_by_how_it_ended_before() {
    export GATE=$T/gate OK=$T/ok
    write flow.yaml <<'YAML'
pawl: 1
name: flow
steps:
  work: {shell: '[ -e "$OK" ] || exit 1; until [ -e "$GATE" ]; do sleep 0.02; done'}
YAML
    expect_exit 1 pawl run flow.yaml --run-id r
    : >"$OK"
    background pawl resume r
    local run=$!
    wait_until '[ "$(run_state r)" = running ]'
    kill -KILL "$(the_pid_of supervisor)"
    expect_end 5 "$run"
    grep -q "another is waited for" background.err || fail "it does not say what it waits for"
    grep -q "supervisor is gone" background.err || fail "it does not say that the supervisor is gone"
}

test_a_map_that_ends_before_its_command_is_back_prints_all_its_results() {
    export GATE=$T/gate
    background pawl map --run-id r -j 2 sh -c 'until [ -e "$GATE" ]; do sleep 0.02; done; echo "out $0"' ::: a b c
    local map=$!
    wait_until '[ "$(pawl status r --json | jq .steps.running)" = 2 ]'
    wait_until '! pawl status r | grep "so far"'
    ends_without_its_command "$map" true
    expect_end 0 "$map"
    expect_eq "$(sort background.out)" "$(printf 'out a\nout b\nout c')"
}

test_what_comes_after_a_restart_does_not_wait_for_an_adopted_job_while_a_slot_is_free() {
    mkfifo items
    exec 9<>items
    # shellcheck disable=SC2016
    background pawl map -j 2 -a items sh -c ': >"began.$0"; while [ ! -e go ]; do sleep 0.02; done' 9>&-
    echo 1 >&9
    wait_until '[ -e began.1 ]'
    kill_scheduler
    echo 2 >&9
    wait_until '[ -e began.2 ]'
    : >go
    exec 9>&-
    expect_end 0 "$BACKGROUND"
}
