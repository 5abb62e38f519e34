# resume.t.sh - going on: resume, retry, cancel, wait, signals, and deaths of pawl's own processes.

# A flow whose middle step fails until `fixed` is there. Each step notes that it ran.
fixable() {
    write flow.yaml <<'YAML'
pawl: 1
name: fixable
params: {color: red}
steps:
  first: {shell: 'echo first >>ran; echo made'}
  middle: {needs: [first], shell: 'echo middle >>ran; test -e fixed'}
  last: {needs: [middle], shell: 'echo last >>ran'}
YAML
}

# A flow with a finished step and one that waits for `go`; it notes its attempt.
blocking() {
    write flow.yaml <<'YAML'
pawl: 1
name: blocking
steps:
  before: {shell: 'echo before >>ran'}
  block: {needs: [before], shell: 'echo "block $PAWL_ATTEMPT" >>ran; while [ ! -e go ]; do sleep 0.02; done'}
  after: {needs: [block], shell: 'echo after >>ran'}
YAML
}

test_resume_runs_what_failed_and_what_follows_but_not_what_succeeded() {
    fixable
    expect_exit 1 pawl run flow.yaml
    touch fixed
    expect_exit 0 pawl resume last
    expect_file ran $'first\nmiddle\nmiddle\nlast'
    expect_eq "$(run_state)" succeeded
}

test_retry_reruns_failed_steps() {
    fixable
    expect_exit 1 pawl run flow.yaml
    expect_exit 1 pawl retry last
    touch fixed
    expect_exit 0 pawl retry last
    expect_file ran $'first\nmiddle\nmiddle\nmiddle\nlast'
}

test_a_retry_whose_filter_chooses_nothing_runs_nothing_and_says_so() {
    fixable
    expect_exit 1 pawl run flow.yaml
    touch fixed
    expect_exit 1 pawl retry last --filter exit=99
    expect_stderr 'no failed step'
    expect_exit 2 pawl retry last --filter step=midle
    expect_stderr 'did you mean middle?'
    expect_file ran $'first\nmiddle'
    expect_exit 0 pawl retry last --filter step=middle
}

test_run_resume_goes_on_with_the_newest_unfinished_run_of_the_file() {
    local id
    fixable
    expect_exit 1 pawl run flow.yaml
    id=$(run_id)
    touch fixed
    expect_exit 0 pawl run --resume flow.yaml
    expect_eq "$(run_id)" "$id"
    expect_file ran $'first\nmiddle\nmiddle\nlast'
}

test_run_resume_starts_a_run_when_there_is_none_to_go_on_with() {
    fixable
    touch fixed
    expect_exit 0 pawl run --resume flow.yaml
    expect_exit 0 pawl run --resume flow.yaml
    expect_eq "$(grep -c first ran)" 2
}

test_run_resume_tells_other_parameters_apart() {
    fixable
    expect_exit 1 pawl run flow.yaml --set color=red
    touch fixed
    expect_exit 0 pawl run --resume flow.yaml --set color=blue
    expect_eq "$(grep -c first ran)" 2
}

test_run_resume_of_the_run_that_is_named_goes_on_with_that_one_until_nothing_is_left() {
    write flow.yaml <<'YAML'
pawl: 1
params: {who: me}
steps: {only: {shell: 'echo ran >>ran; [ -e good ]'}}
YAML
    expect_exit 1 pawl run flow.yaml --run-id mine --resume
    expect_exit 1 pawl run flow.yaml --run-id newer
    touch good
    expect_exit 0 pawl run flow.yaml --run-id mine --resume
    expect_eq "$(run_state mine) $(run_state newer)" 'succeeded failed'
    expect_exit 0 pawl run flow.yaml --run-id mine --resume --json
    expect_json .run mine
    expect_json .state succeeded
    expect_exit 0 pawl run flow.yaml --run-id mine --resume --detach
    expect_stdout mine
    expect_stderr 'run mine has succeeded: nothing is left to do'
    expect_exit 0 pawl run flow.yaml --run-id mine --resume -n
    expect_stderr 'nothing is left to do'
    expect_file ran $'ran\nran\nran'
    expect_exit 2 pawl run flow.yaml --run-id mine --set who=you --resume
    expect_stderr 'there is a run mine already'
    expect_exit 2 pawl run flow.yaml --run-id mine
    expect_eq "$(run_state newer)" failed
}

test_resume_after_an_edit_keeps_unchanged_successes() {
    fixable
    expect_exit 1 pawl run flow.yaml
    sed -i 's/echo middle >>ran; test -e fixed/echo mended >>ran/' flow.yaml
    expect_exit 0 pawl run --resume -n flow.yaml
    expect_contains first
    expect_contains middle
    expect_exit 0 pawl run --resume flow.yaml
    expect_file ran $'first\nmiddle\nmended\nlast'
}

test_resume_after_an_edit_of_a_success_runs_it_and_what_needs_it() {
    fixable
    expect_exit 1 pawl run flow.yaml
    touch fixed
    sed -i 's/echo first >>ran; echo made/echo other >>ran/' flow.yaml
    expect_exit 0 pawl run --resume flow.yaml
    expect_file ran $'first\nmiddle\nother\nmiddle\nlast'
}

test_resume_gives_failed_steps_a_fresh_retry_budget_and_attempts_go_on() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  shaky: {shell: 'echo "$PAWL_ATTEMPT" >>ran; exit 1', retries: {limit: 1, backoff: {initial: 1ms}}}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_exit 1 pawl resume last
    expect_file ran $'1\n2\n3\n4'
    expect_exit 0 pawl logs last shaky --attempt 2
}

test_resume_of_a_success_says_so_and_runs_nothing() {
    fixable
    touch fixed
    expect_exit 0 pawl run flow.yaml
    capture pawl resume last
    expect_file ran $'first\nmiddle\nlast'
    cat "$T/out" "$T/err" >said
    grep -q succeeded said || fail 'it does not say that the run has succeeded'
}

# Whether the command finds the run's end itself or the scheduler tells it: asked at any moment, a success is 0.
test_resume_and_retry_of_a_run_that_is_just_succeeding_never_call_it_an_error() {
    local i verb
    write one.yaml <<<'{pawl: 1, steps: {only: {run: ["true"]}}}'
    serve
    for i in $(seq 20); do
        for verb in resume retry; do
            pawl run --detach --run-id "$verb$i" one.yaml >/dev/null 2>&1
            capture pawl $verb "$verb$i"
            case $rc in
            0) expect_stderr 'nothing is left to do' ;;
            2) expect_stderr 'still running' ;;
            *) fail "exit $rc" ;;
            esac
            pawl wait "$verb$i" 2>/dev/null
            expect_exit 0 pawl $verb "$verb$i" --detach
            expect_stdout "$verb$i"
        done
    done
}

test_resume_of_a_run_that_still_runs_names_how_to_wait_for_it() {
    blocking
    pawl run --detach --run-id b flow.yaml >/dev/null 2>&1
    wait_until 'grep -q block ran'
    expect_exit 2 pawl resume b
    expect_stderr 'run b is still running'
    expect_stderr 'pawl wait b'
    touch go
    expect_exit 0 pawl wait b --timeout 5m
}

test_cancel_ends_a_run_for_good_and_wait_tells() {
    blocking
    pawl run --detach --run-id c flow.yaml >/dev/null 2>&1
    wait_until 'grep -q block ran'
    expect_exit 0 pawl cancel c
    expect_exit 5 pawl wait c --timeout 5m
    expect_eq "$(run_state c)" cancelled
    expect_file ran $'before\nblock 1'
}

test_cancelling_the_last_step_of_a_run_cancels_the_run() {
    write one.yaml <<'YAML'
pawl: 1
steps: {only: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done'}}
YAML
    background pawl run --run-id c one.yaml
    local running=$!
    wait_until '[ -e live ]'
    expect_exit 0 pawl cancel c
    expect_exit 5 pawl wait c --timeout 5m
    expect_end 5 "$running"
    expect_eq "$(run_state c)" cancelled
    expect_eq "$(step_count cancelled)" 1
}

# deaf_flow: its step hears no SIGTERM: it ends within a test only if a shorter grace reaches it.
deaf_flow() {
    write deaf.yaml <<'YAML'
pawl: 1
steps: {deaf: {shell: "trap '' TERM; touch began; while :; do sleep 0.05; done"}}
YAML
}

test_a_second_cancel_with_a_shorter_grace_ends_what_ignores_sigterm() {
    deaf_flow
    background pawl run --run-id c deaf.yaml
    local running=$!
    wait_until '[ -e began ]'
    expect_exit 0 pawl cancel c --grace 1d
    expect_eq "$(run_state c)" running
    expect_exit 0 pawl cancel c --grace 1ms
    expect_end 5 "$running"
    expect_eq "$(run_state c)" cancelled
}

test_wait_times_out_with_124_and_leaves_the_run_alone() {
    blocking
    pawl run --detach --run-id w flow.yaml >/dev/null 2>&1
    expect_exit 124 pawl wait w --timeout 200ms
    touch go
    expect_exit 0 pawl wait w --timeout 5m
    expect_eq "$(run_state w)" succeeded
}

test_wait_exits_as_the_run_ended() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {bad: {run: ["false"]}}
YAML
    expect_exit 1 pawl run --run-id f flow.yaml
    expect_exit 1 pawl wait f
}

test_one_interrupt_lets_running_steps_end_and_starts_nothing_new() {
    blocking
    background pawl run --run-id i flow.yaml
    local running=$!
    wait_until 'grep -q block ran'
    kill -INT "$running"
    wait_until 'grep -q "nothing new starts" background.err' # said when it is so
    sleep 0.3                                                # time for a wrong pawl to end the step
    touch go
    expect_end 5 "$running"
    expect_file ran $'before\nblock 1'
    grep -q "pawl'\\? resume" background.err || grep -q -- --resume background.err || fail 'the command to resume is not printed'
    expect_eq "$(run_state i)" interrupted
    expect_exit 0 pawl resume i
    expect_file ran $'before\nblock 1\nafter'
}

test_a_run_that_ended_and_could_not_be_sealed_before_a_crash_still_counts_the_instances_that_did_not_begin() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: [seq, "5"], output: lines}
  each: {needs: list, foreach: "${{ steps.list.output }}", shell: '[ "$N" != 2 ]', env: {N: "${{ item }}"}}
  after: {needs: each, run: [echo, after]}
YAML
    mkdir -p state/runs/mine/image.tmp # in its way
    serve
    expect_exit 1 pawl run flow.yaml -j1 --run-id mine
    expect_exit 0 pawl status mine --json
    expect_json '.steps | "\(.total) \(.succeeded) \(.failed) \(.cancelled) \(.skipped)"' '7 2 1 3 1'
    kill -KILL "$SERVE"
    wait_until '[ -z "$(processes)" ]'
    rmdir state/runs/mine/image.tmp
    expect_exit 0 pawl status mine --json
    expect_json '.steps | "\(.total) \(.succeeded) \(.failed) \(.cancelled) \(.skipped)"' '7 2 1 3 1'
    expect_exit 0 pawl steps mine --filter state=cancelled --json
    expect_eq "$(json '"\(.step) \(.index) \(.item) \(.reason)"')" $'each 2 3 stopped\neach 3 4 stopped\neach 4 5 stopped'
    wait_until '[ -z "$(processes)" ]'
    expect_exit 1 pawl resume mine -j1 --keep-going
    expect_eq "$(step_count succeeded) $(step_count failed)" '5 1'
}

test_a_scheduler_that_dies_while_a_run_is_waited_for_to_be_sealed_is_started_again() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  fail: {shell: 'test -e "$GATE"'}
YAML
    export GATE=$T/gate
    mkdir -p state/runs/mine/image.tmp # in the way of its seal
    serve
    expect_exit 1 pawl run flow.yaml --run-id mine
    local scheduler resume
    scheduler=$(the_pid_of scheduler)
    background pawl resume mine
    resume=$!
    sleep 0.3 # it asks every 5 ms now, for 5 s; if it has not begun, it has less to bear
    kill -KILL "$SERVE" "$scheduler"
    rmdir state/runs/mine/image.tmp
    : >"$GATE"
    expect_end 0 "$resume"
    expect_eq "$(run_state mine)" succeeded
}

test_two_interrupts_end_running_steps() {
    blocking
    background pawl run --run-id i flow.yaml
    local running=$!
    wait_until 'grep -q block ran'
    kill -INT "$running"
    wait_until 'grep -q "nothing new starts" background.err' # two signals at once would be one
    kill -INT "$running"
    expect_end 5 "$running"
    expect_eq "$(run_state i)" interrupted
    touch go
    expect_exit 0 pawl resume i
    expect_file ran $'before\nblock 1\nblock 2\nafter'
}

test_an_interrupted_run_still_counts_the_instances_that_did_not_begin() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: [seq, "5"], output: lines}
  each:
    needs: list
    foreach: ${{ steps.list.output }}
    shell: 'echo "$N" >>ran; [ "$N" = 1 ] || while [ ! -e go ]; do sleep 0.02; done'
    env: {N: "${{ item }}"}
  skipped: {needs: list, when: "${{ steps.list.exit_code != 0 }}", foreach: [a, b], use: noop}
  last: {needs: each, foreach: [a, b], use: noop}
YAML
    background pawl run --run-id i -j1 flow.yaml
    local running=$!
    wait_until 'grep -q 2 ran'
    kill -INT "$running"
    wait_until 'grep -q "nothing new starts" background.err'
    touch go
    expect_end 5 "$running"
    wait_until '[ "$(pawl health --json | jq -r .status)" = stopped ]'
    expect_exit 0 pawl status i --json
    expect_json .steps.total 8
    expect_json .steps.succeeded 3
    expect_json .steps.waiting 5
    expect_exit 0 pawl steps i --json
    expect_json 'select(.step == "each" and .state == "waiting") | .item' $'3\n4\n5'
    expect_exit 0 pawl run flow.yaml --resume -n
    expect_match '^ +each +2 of 5 succeeded and are kept'
    expect_match '^ +last +it was waiting'
    expect_exit 0 pawl resume i
    expect_file ran $'1\n2\n3\n4\n5'
    expect_eq "$(step_count total)" 9
}

test_a_command_that_dies_interrupts_its_run_but_not_a_detached_one() {
    blocking
    background pawl run --run-id gone flow.yaml
    local running=$!
    wait_until 'grep -q block ran'
    kill -KILL "$running"
    wait_until '[ "$(run_state gone)" = interrupted ]' 20
    rm ran
    pawl run --detach --run-id stays flow.yaml >/dev/null 2>&1
    wait_until 'grep -q block ran'
    expect_eq "$(run_state stays)" running
    touch go
    expect_exit 0 pawl wait stays --timeout 5m
}

test_the_same_command_with_resume_waits_while_the_killed_ones_steps_have_their_grace() {
    write slow.sh <<'SH'
[ "$PAWL_ATTEMPT" = 1 ] || exit 0
trap 'sleep 1; exit 1' TERM
touch "live.$1"
while :; do sleep 0.02; done
SH
    write flow.yaml <<'YAML'
pawl: 1
steps: {slow: {run: [sh, slow.sh, run]}}
YAML
    background pawl run flow.yaml
    local running=$!
    wait_until '[ -e live.run ]'
    kill -KILL "$running"
    expect_exit 0 pawl run --resume flow.yaml
    expect_eq "$(step_field slow attempts)" 2
    background pawl map sh slow.sh ::: map
    running=$!
    wait_until '[ -e live.map ]'
    kill -KILL "$running"
    expect_exit 0 pawl map --resume sh slow.sh ::: map
}

test_killed_supervisor_takes_everything_along_and_finished_steps_are_never_run_again() {
    blocking
    background pawl run --run-id k flow.yaml
    local running=$! pid
    wait_until 'grep -q block ran'
    pid=$(the_pid_of supervisor)
    kill -KILL "$pid"
    wait "$running" || true
    wait_until '[ -z "$(processes)" ]' 20
    touch go
    expect_exit 0 pawl resume k
    expect_file ran $'before\nblock 1\nblock 2\nafter'
    expect_eq "$(step_field before attempts k)" 1
    expect_eq "$(step_field block attempts k)" 2
    expect_exit 0 pawl why k block
    expect_contains 'Attempt 1: interrupted, pawl itself went down'
}

test_a_run_that_succeeds_after_everything_was_killed_leaves_no_empty_directory_of_an_attempt() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  keeps: {shell: 'echo kept >"$PAWL_DIR/kept"'}
  block: {needs: keeps, foreach: [1, 2], shell: 'echo "$PAWL_DIR" >>ran; while [ ! -e go ]; do sleep 0.02; done'}
YAML
    local first running
    background pawl run flow.yaml --run-id mine -j2
    running=$!
    wait_until '[ -e ran ] && [ "$(wc -l <ran)" = 2 ]'
    first=$(cat ran)
    kill -KILL "$(the_pid_of supervisor)" "$running"
    wait_until '[ -z "$(processes)" ]'
    for dir in $first; do [ -d "$dir" ] || fail "$dir is not there"; done
    touch go
    expect_exit 0 pawl resume mine
    expect_eq "$(wc -l <ran)" 4
    wait_until '[ -z "$(processes)" ]'
    for dir in $first; do [ ! -e "$dir" ] || fail "$dir is still there"; done
    expect_eq "$(find state/runs/mine/work -type d | wc -l)" 2
    expect_file state/runs/mine/work/keeps.1/kept kept
}

test_killed_scheduler_is_restarted_and_the_running_step_goes_on() {
    blocking
    background pawl run --run-id s flow.yaml
    local running=$!
    wait_until 'grep -q block ran'
    kill_scheduler
    touch go
    expect_end 0 "$running"
    expect_file ran $'before\nblock 1\nafter'
}

test_killed_worker_costs_an_attempt_and_a_retry() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  block:
    shell: 'echo "$PAWL_ATTEMPT" >>ran; while [ ! -e go ]; do sleep 0.02; done'
    retries: {limit: 1, backoff: {initial: 1ms}}
YAML
    background pawl run --run-id w -j1 flow.yaml
    local running=$!
    wait_until '[ -e ran ]'
    kill -KILL "$(the_pid_of worker)"
    wait_until '[ "$(wc -l <ran)" -eq 2 ]' 20
    touch go
    expect_end 0 "$running"
    expect_file ran $'1\n2'
    expect_exit 0 pawl why w block
    expect_contains 'Attempt 1: the worker that ran it died'
}

test_a_killed_workers_step_goes_again_without_retries_and_why_says_so() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {block: {shell: 'echo "$PAWL_ATTEMPT" >>ran; while [ ! -e go ]; do sleep 0.02; done'}}
YAML
    background pawl run --run-id w -j1 flow.yaml
    local running=$! n
    for n in 1 2 3 4; do
        wait_until "[ -e ran ] && [ \$(wc -l <ran) -eq $n ]" 20
        kill -KILL "$(the_pid_of worker)"
    done
    expect_end 1 "$running"
    expect_exit 0 pawl why w block
    expect_contains 'block is failed (worker-lost)'
    expect_contains 'Attempt 3: the worker that ran it died'
    expect_contains 'tried again up to 3 times, though its `retries` are 0'
}

test_a_killed_map_resumes_with_the_output_of_an_uninterrupted_one() {
    background pawl map -k -j2 --resume sh -c 'echo "$0" >>ran; [ "$0" -lt 5 ] || until [ -e go ]; do sleep 0.02; done; echo "out $0"' \
        ::: 1 2 3 4 5 6 7 8
    local running=$!
    wait_until '[ "$(wc -l <ran)" -ge 6 ]'
    kill -KILL "$running" "$(the_pid_of supervisor)"
    wait_until '[ -z "$(processes)" ]' 20
    touch go
    expect_exit 0 pawl map -k -j2 --resume sh -c 'echo "$0" >>ran; [ "$0" -lt 5 ] || until [ -e go ]; do sleep 0.02; done; echo "out $0"' \
        ::: 1 2 3 4 5 6 7 8
    expect_stdout "$(printf 'out %s\n' 1 2 3 4 5 6 7 8)"
    expect_eq "$(grep -c '^[1-4]$' ran)" 4
}

test_large_finished_run_leaves_next_to_nothing_in_the_journal() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {shell: 'seq 1 200000', output: lines}
  each: {needs: [list], foreach: "${{ steps.list.output }}", use: noop}
YAML
    expect_exit 0 pawl run flow.yaml
    flock -w 120 "$PAWL_STATE/lock" true # free when the scheduler has left
    local kib
    kib=$(du -sk "$PAWL_STATE/journal" | cut -f1)
    [ "$kib" -lt 1024 ] || fail "the journal takes $kib KiB"
    expect_exit 0 pawl journal verify
}

test_what_status_told_survives_kill_of_everything() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: [seq, 600000], output: lines}
  each: {needs: [list], foreach: "${{ steps.list.output }}", use: noop}
YAML
    local round said victims
    for round in 1 2 3 4 5 6; do
        "$PAWL" run --run-id "r$round" --progress=none flow.yaml >/dev/null 2>&1 &
        wait_until "[ \"\$(pawl status r$round --json | jq .steps.succeeded)\" -gt 1 ]"
        victims="$! $(pid_of supervisor) $(pid_of scheduler) $(pid_of worker)"
        pawl status "r$round" --json >said
        # shellcheck disable=SC2086
        kill -KILL $victims 2>/dev/null || true
        wait "$!" 2>/dev/null || true
        said=$(jq .steps.succeeded said)
        expect_exit 0 pawl status "r$round" --json
        [ "$(json .steps.succeeded)" -ge "$said" ] || fail "it had told of $said, now of $(json .steps.succeeded)"
    done
}
slow test_what_status_told_survives_kill_of_everything 120

# A run that has ended (its first step fails until `ok` is there), goes on, and is stopped at its fourth instance.
# $1: how it goes on, $2: the signal by which it stops, KILL: all of pawl.
goes_on_and_is_stopped() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  first: {shell: 'test -e ok'}
  each: {needs: [first], foreach: [1, 2, 3, 4, 5], env: {I: "${{ item }}"}, shell: 'echo "$I" | tee -a ran; test "$I" != 4 || while [ ! -e go ]; do sleep 0.02; done'}
YAML
    expect_exit 1 pawl run --run-id f -j1 flow.yaml
    wait_until '[ -z "$(processes)" ]' 20
    expect_eq "$(run_state f)" failed
    touch ok
    # shellcheck disable=SC2086
    background pawl $1 -j1
    local running=$!
    wait_until 'grep -q 4 ran'
    if [ "$2" = KILL ]; then
        # shellcheck disable=SC2046
        kill -KILL "$running" $(pid_of supervisor) $(pid_of scheduler) $(pid_of worker)
        wait "$running" || true
    else
        kill -"$2" "$running"
        expect_end 5 "$running"
    fi
    wait_until '[ -z "$(processes)" ]' 20
}

is_told_as_it_is() {
    expect_exit 0 pawl status f --json
    expect_json .state interrupted
    expect_json .steps.total 6
    expect_json .steps.succeeded 4
    expect_exit 5 pawl wait f
    expect_exit 0 pawl logs f each --item 2
    expect_stdout 3
    expect_exit 0 pawl runs --json
    expect_json '.runs[0].state' interrupted
    expect_exit 0 pawl run --resume -n flow.yaml
    expect_match '^ +each +3 of 5 succeeded and are kept'
    expect_exit 0 pawl why f each --item 2
    expect_contains succeeded
}

test_an_ended_run_that_went_on_and_was_interrupted_is_told_as_it_is_when_nobody_serves() {
    goes_on_and_is_stopped 'resume f' TERM
    is_told_as_it_is
    touch go
    expect_exit 0 pawl resume f
    expect_file ran $'1\n2\n3\n4\n4\n5'
    expect_eq "$(run_state f)" succeeded
    expect_exit 0 pawl wait f
}

test_an_ended_run_that_went_on_and_was_killed_is_told_as_it_is_when_nobody_serves() {
    goes_on_and_is_stopped 'run --resume flow.yaml' KILL
    is_told_as_it_is
    touch go
    expect_exit 0 pawl retry f
    expect_eq "$(run_state f)" succeeded
}

test_a_mark_that_a_run_is_open_again_is_not_believed_against_the_journal() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {only: {shell: 'test -e ok'}}
YAML
    expect_exit 1 pawl run --run-id f flow.yaml
    wait_until '[ -z "$(processes)" ]' 20
    touch "$PAWL_STATE/runs/f/reopened" # as of a scheduler that died before its journal had a word of it
    expect_exit 1 pawl wait f
    expect_eq "$(run_state f)" failed
    expect_exit 0 pawl runs --json
    expect_json '.runs[0].state' failed
    expect_exit 0 pawl gc --older-than 1d
    [ ! -e "$PAWL_STATE/runs/f/reopened" ] || fail "it stays there for good"
    touch ok "$PAWL_STATE/runs/f/reopened"
    expect_exit 0 pawl resume f
    expect_eq "$(run_state f)" succeeded
    wait_until '[ -z "$(processes)" ]' 20
    [ ! -e "$PAWL_STATE/runs/f/reopened" ] || fail "a sealed run is marked as open"
}

# A scheduler that says a run has succeeded, and is sure of it, as of what is on disk, when the file "durable" is there.
slow_disk() {
    cat >slow_disk.py <<'PY'
import os, socket, struct, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("state/socket.new")
listener.listen()
os.rename("state/socket.new", "state/socket") # nobody may meet it before it listens
client, _ = listener.accept()
def receive():
    size, kind, _, tag = struct.unpack("<IHHQ", client.recv(16, socket.MSG_WAITALL))
    return kind, tag, client.recv((size + 7) // 8 * 8, socket.MSG_WAITALL)[:size]
def answer(kind, tag, body):
    client.sendall(struct.pack("<IHHQ", len(body), kind, 0, tag) + body + bytes(-len(body) % 8))
_, tag, _ = receive()
answer(2, tag, struct.pack("<IIQ16s", 1, os.getpid(), 1, b"syscall"))
asked, tag, run = receive()
summary = run + b"flow".ljust(len(run), b"\0") + struct.pack("<II18QIIQ", SUCCEEDED, 1, *[1] * 18, 0, 0, 0)
answer(asked + 1, tag, summary)
_, tag, _ = receive()
open("asked", "w").close()
while not os.path.exists("durable"):
    time.sleep(0.01)
answer(asked + 1, tag, summary)
client.recv(1)
PY
    sed -i "s/SUCCEEDED/$(grep -oP 'PAWL_RUN_SUCCEEDED = \K[0-9]+' "$E2E_TOP/scheduler/run.h")/" slow_disk.py
    rm -rf asked durable
    expect_exit 0 pawl map true ::: x # it makes the directory
    wait_until '[ -z "$(processes)" ]'
    rm -f state/socket
    /usr/bin/python3 slow_disk.py &
    server=$!
    BACKGROUND+=("$server")
    wait_until '[ -S state/socket ]'
}

test_a_run_is_said_to_have_succeeded_when_that_is_on_disk() {
    local words server
    for words in 'resume --detach' retry wait; do
        slow_disk
        # shellcheck disable=SC2086
        background pawl $words mine
        wait_until '[ -e asked ]'
        expect_eq "$(cat background.out background.err)" ''
        touch durable
        expect_end 0 "${BACKGROUND[-1]}"
        grep -q 'run mine .*succeeded' background.err
        wait "$server"
    done
}
