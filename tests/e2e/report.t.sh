# report.t.sh - what pawl says of runs: runs, status, steps, logs, why.

finished() {
    write flow.yaml <<'YAML'
pawl: 1
name: mixed
steps:
  good: {run: [echo, fine]}
  fan: {foreach: [a, b, c], run: [echo, "item ${{ item }}"]}
  bad: {run: [sh, -c, 'echo oh >&2; exit 3'], needs: [fan, good]}
  never: {run: [echo], needs: [bad]}
YAML
    capture pawl run --run-id mixed-1 flow.yaml
    [ "$rc" -eq 1 ] || fail "exit $rc"
}

test_status_has_the_promised_keys_and_counts() {
    finished
    expect_exit 0 pawl status mixed-1 --json
    expect_keys . 'schema run workflow state steps started_at finished_at elapsed_ms attempts'
    expect_keys .steps 'total waiting ready running succeeded failed skipped cancelled cached'
    expect_json .schema 1
    expect_json .run mixed-1
    expect_json .workflow mixed
    expect_json .state failed
    expect_json .steps.total 6
    expect_json .steps.succeeded 4
    expect_json .steps.failed 1
    expect_json .steps.skipped 1
    expect_json .attempts 5
}

test_status_without_an_id_is_the_newest_run() {
    finished
    pawl run --run-id newer flow.yaml 2>/dev/null || true
    expect_exit 0 pawl status --json
    expect_json .run newer
    expect_exit 0 pawl status last --json
    expect_json .run newer
}

test_status_for_people_names_run_and_state() {
    finished
    expect_exit 0 pawl status
    expect_contains mixed-1
    expect_contains failed
}

test_an_unknown_run_is_an_error_that_names_it() {
    finished
    local verb
    for verb in status steps resume retry wait cancel; do
        capture pawl "$verb" no-such-run
        [ "$rc" -ne 0 ] || fail "$verb of an unknown run: exit 0"
        expect_stderr no-such-run
    done
}

test_runs_lists_newest_and_all_with_their_columns() {
    finished
    expect_exit 0 pawl runs
    expect_contains mixed-1
    expect_contains failed
    expect_match '4/6|5/6|6/6'
    expect_exit 0 pawl runs --json
    expect_json .schema 1
    expect_json '[.. | objects | select(.run? == "mixed-1")] | length' 1
    expect_json '[.. | objects | select(.run? == "mixed-1")][0].state' failed
    expect_json '[.. | objects | select(.run? == "mixed-1")][0].workflow' mixed
}

test_runs_of_an_empty_state_directory_is_an_empty_list() {
    expect_exit 0 pawl runs
    expect_exit 0 pawl runs --json
    expect_json .schema 1
}

test_steps_streams_one_line_for_each_instance() {
    finished
    expect_exit 0 pawl steps mixed-1 --json
    expect_lines 6
    jq -s -e 'all(has("step") and has("index") and has("state") and has("attempts") and has("exit_code") and
        has("signal") and has("reason") and has("started_at") and has("duration_ms") and has("worker"))' \
        "$T/out" >/dev/null || fail 'keys are missing'
    expect_eq "$(jq -rs 'map(select(.step == "fan")) | map("\(.index)=\(.item)") | sort | join(" ")' "$T/out")" '0=a 1=b 2=c'
    expect_eq "$(jq -rs 'map(select(.step == "bad"))[0] | "\(.state) \(.exit_code) \(.attempts)"' "$T/out")" 'failed 3 1'
}

test_steps_can_be_filtered_by_state() {
    finished
    expect_exit 0 pawl steps mixed-1 --json --filter state=failed
    expect_lines 1
    expect_json .step bad
    expect_exit 2 pawl steps mixed-1 --filter state=sideways
    expect_stderr sideways
}

test_items_that_are_no_utf8_come_as_base64() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {shell: "printf '\\377x\\n'", output: lines}
  each: {needs: [list], foreach: "${{ steps.list.output }}", run: [printf, "%s", "${{ item }}"]}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl steps last --json
    expect_eq "$(jq -rs 'map(select(.step == "each"))[0].item_base64' "$T/out")" "$(printf '\377x' | base64)"
    expect_exit 0 pawl logs last each --item 0
    printf '\377x' | cmp -s - "$T/out" || fail 'bytes changed on their way'
}

test_logs_gives_exactly_what_was_printed() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bytes: {run: [printf, 'no newline\0\377']}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last bytes
    printf 'no newline\0\377' | cmp -s - "$T/out" || fail 'bytes changed'
}

test_logs_of_an_unknown_step_suggests_the_nearest() {
    finished
    capture pawl logs mixed-1 god
    [ "$rc" -ne 0 ] || fail 'exit 0'
    expect_stderr good
}

test_logs_follow_shows_output_while_the_step_runs_and_ends_with_it() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  talk: {shell: 'echo first; while [ ! -e go ]; do sleep 0.02; done; echo last'}
YAML
    pawl run --detach --run-id talk flow.yaml >/dev/null 2>&1
    background pawl logs talk talk -f
    local follower=$!
    wait_until 'grep -q first background.out'
    touch go
    expect_end 0 "$follower"
    expect_file background.out $'first\nlast'
    wait_until '[ "$(run_state talk)" = succeeded ]'
}

test_why_explains_success_failure_and_skipping() {
    finished
    expect_exit 0 pawl why mixed-1 bad
    expect_contains 3
    expect_exit 0 pawl why mixed-1 never
    expect_contains bad
    expect_exit 0 pawl why mixed-1 good
    [ -s "$T/out" ] || fail 'nothing said'
}

test_why_names_what_a_waiting_step_waits_for() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  blocker: {shell: 'while [ ! -e go ]; do sleep 0.02; done'}
  blocked: {run: [echo], needs: [blocker]}
YAML
    pawl run --detach --run-id w flow.yaml >/dev/null 2>&1
    wait_until '[ "$(step_field blocker state w)" = running ]'
    expect_exit 0 pawl why w blocked
    expect_contains blocker
    touch go
    expect_exit 0 pawl wait w
}

test_a_run_may_be_read_at_the_very_moment_when_it_is_put_away() {
    local i
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {run: [echo, said]}}
YAML
    for ((i = 0; i < 60; i++)); do
        expect_exit 0 pawl run flow.yaml
        expect_exit 0 pawl logs last a
        expect_stdout said
        expect_exit 0 pawl run flow.yaml
        expect_exit 0 pawl why last a
    done
}

test_finished_runs_are_read_without_starting_anything() {
    finished
    wait_until '[ -z "$(processes)" ]' 5
    expect_exit 0 pawl status --json
    expect_exit 0 pawl steps last --json
    expect_exit 0 pawl logs last good
    expect_stdout fine
    [ -z "$(processes)" ] || fail 'a reader started a scheduler'
}

test_steps_of_a_run_that_is_sealed_between_two_pages_are_all_there() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: [seq, 20000], output: lines}
  each: {needs: [list], foreach: "${{ steps.list.output }}", use: noop}
  gate: {needs: [each], shell: 'until [ -e go ]; do sleep 0.02; done'}
YAML
    expect_exit 0 pawl run --detach --run-id big flow.yaml
    wait_until '[ "$(step_field gate state big)" = running ]'
    # Its first page is more than a pipe holds: it cannot ask for the second before the run is sealed.
    pawl steps big --json | {
        read -r first
        echo "$first"
        touch go
        pawl wait big >/dev/null
        wait_until '[ -e "$PAWL_STATE/runs/big/image" ] && pawl journal dump | grep sealed'
        cat
    } >lines
    expect_eq "$(wc -l <lines)" 20002
}

failing_each() {
    write each.yaml <<'YAML'
pawl: 1
params: {count: 1, where: here}
steps:
  each: {foreach: [a, b, c], run: [sh, -c, 'echo "words of $0" >&2; [ "$0" != b ]', "${{ item }}"]}
  after: {needs: each, run: [echo, "${{ params.count }}"]}
YAML
    expect_exit 1 pawl run --run-id e -j1 --keep-going each.yaml
}

test_why_takes_the_first_instance_that_failed_and_says_what_to_do() {
    failing_each
    expect_exit 0 pawl why e each
    expect_contains 'each [1] is failed (exit 1).'
    expect_contains 'words of b'
    expect_contains 'pawl logs e each --item 1 --stderr'
    expect_contains 'pawl retry e'
    expect_exit 0 pawl why e each --item 0
    expect_contains 'each [0] is succeeded.'
}

test_each_line_of_steps_has_the_schema() {
    failing_each
    expect_exit 0 pawl steps e --json
    expect_lines 4
    expect_json '.schema' $'1\n1\n1\n1'
}

test_an_error_says_what_to_do_next() {
    failing_each
    expect_exit 1 pawl logs e after
    expect_stderr 'see pawl why e after'
    expect_exit 2 pawl run --run-id e each.yaml
    expect_stderr 'choose another, or go on with it'
    expect_exit 2 pawl run --set zzz=1 each.yaml
    expect_stderr 'there are count where'
    expect_exit 2 pawl run --set count=x each.yaml
    expect_stderr 'is an int by its default'
    expect_exit 2 pawl journal verify nowhere
    mkdir elsewhere
    expect_exit 2 pawl journal verify elsewhere
    expect_stderr 'no journal here: elsewhere'
    expect_stderr 'name a state directory'
    expect_exit 4 env PAWL_STATE=/proc/nowhere "$PAWL" run each.yaml
    expect_stderr 'choose another: --state DIR'
    expect_exit 2 pawl check nowhere.yaml --json
    expect_json '.errors[0].line' null
}

test_cancel_reports_as_json() {
    write block.yaml <<'YAML'
pawl: 1
steps: {block: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done'}}
YAML
    pawl run --detach --run-id c block.yaml >/dev/null 2>&1
    wait_until '[ -e live ]'
    expect_exit 0 pawl cancel c --json
    expect_json .schema 1
    expect_json .run c
    expect_exit 5 pawl wait c --timeout 5m
}
