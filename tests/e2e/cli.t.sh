# cli.t.sh - habits that all verbs share: help, typos, exit codes, the state directory, colour.

VERBS='run map check graph runs status steps logs why resume retry cancel wait gc doctor journal health config
    serve queue publish consume ack nack reject extend dlq group metrics top'

test_version_names_the_tool_and_a_number() {
    expect_exit 0 pawl --version
    expect_match '^pawl [0-9]+\.[0-9]+'
    expect_lines 1
}

test_help_lists_every_verb() {
    local verb
    expect_exit 0 pawl help
    for verb in $VERBS; do
        expect_match "(^|[^a-z])$verb([^a-z]|\$)"
    done
}

test_help_has_the_long_name_of_an_option_beside_its_letter() {
    expect_exit 0 pawl help logs
    expect_match '^  -i, --item INDEX +which'
    expect_exit 0 pawl help graph
    expect_contains '-f, --format FORMAT'
    expect_exit 0 pawl help bench
    expect_contains '-n, --events N'
    expect_exit 0 pawl help run
    expect_contains '-j, --jobs N'
}

test_each_verbs_help_is_short_and_the_same_both_ways() {
    local verb first
    for verb in $VERBS; do
        expect_exit 0 pawl "$verb" --help
        first=$(stdout)
        [ "$(wc -l <"$T/out")" -lt 25 ] || fail "help of $verb has 25 lines or more"
        expect_contains "pawl $verb"
        expect_exit 0 pawl help "$verb"
        expect_stdout "$first"
    done
}

test_no_verb_is_wrong_usage() {
    expect_exit 2 pawl
    [ -s "$T/err" ] || fail 'nothing on stderr'
}

test_unknown_verb_gets_the_nearest_right_one() {
    expect_exit 2 pawl stauts
    expect_stderr status
    expect_stdout ''
}

test_unknown_flag_gets_the_nearest_right_one() {
    expect_exit 2 pawl run --kep-going flow.yaml
    expect_stderr --keep-going
}

test_missing_operands_are_wrong_usage() {
    local verb
    for verb in run check graph logs why steps; do
        expect_exit 2 pawl "$verb"
        [ -s "$T/err" ] || fail "$verb says nothing"
    done
}

test_a_flag_without_its_value_is_wrong_usage() {
    expect_exit 2 pawl run flow.yaml -j
    expect_exit 2 pawl run flow.yaml -j many
    expect_exit 2 pawl run flow.yaml -j 0
}

test_errors_under_json_are_json_on_stderr() {
    expect_exit 2 pawl runs --json --nosuchflag
    expect_stdout ''
    jq -e '.error | has("code") and has("message") and has("hint")' "$T/err" >/dev/null || fail 'no error object'
}

test_errors_are_json_wherever_the_flag_stands() {
    local words
    write flow.yaml <<<'pawl: 1'
    while read -r words; do
        # shellcheck disable=SC2086  # several words
        expect_exit 2 pawl $words --json
        expect_json_err .error.code usage
    done <<'ROWS'
frobnicate
queue
queue frobnicate
group list s
publish --nosuchflag
publish
consume q --count 0
map --nosuchflag
run flow.yaml -j 0
help frobnicate
ROWS
    for words in 'publish a --priority 77' 'serve --workers 4097'; do
        # shellcheck disable=SC2086  # several words
        expect_exit 2 pawl $words --json
        expect_json_err .error.code limit
    done
    expect_exit 2 pawl publish --nosuchflag -- --json
    expect_stderr 'pawl publish: no such flag'
}

test_a_value_out_of_its_range_is_wrong_usage_and_told_the_range() {
    local words range
    while IFS='|' read -r words range; do
        # shellcheck disable=SC2086  # several words
        expect_exit 2 pawl $words
        expect_stderr "${words##*[ =]}"
        expect_stderr "$range"
    done <<'ROWS'
run flow.yaml -j 4097|from 1 to 4096
run flow.yaml --keep-going=0|from 1 to 4294967295
map -j 0|from 1 to 4096
map --max-args 100001|from 1 to 100000
map --retries 1000001|from 0 to 1000000
resume last -j 4097|from 1 to 4096
retry last -j 0|from 1 to 4096
logs last a --attempt 0|from 1 to 4294967295
serve --workers 4097|from 0 to 4096
serve --workers 99999999999999999999|from 0 to 4096
publish a x --priority 10|from 0 to 9
publish a x --delay 3651d|from 0s to 3650d
publish a x --ttl 3651d|from 0s to 3650d
consume q --count 0|at least 1
consume q --concurrency 4097|from 1 to 4096
nack q:1:1:1 --delay 3651d|from 0s to 3650d
extend q:1:1:1 --by 169h|from 0s to 7d
dlq list q --count 0|at least 1
metrics --over 61m|from 0s to 1h
top --interval 99ms|from 100ms to 1h
top --interval 3601s|from 100ms to 1h
bench bus --workers 4097|from 1 to 4096
bench bus --payload 1048577|from 0 to 1MiB
bench bus --events 0|from 1 to 10000000000
bench bus --rate 0|1 to 1,000,000 a second
bench bus --seconds 86401|at most 86,400
queue declare q --topic a --ack-wait 169h|from 1ms to 7d
queue declare q --topic a --ack-wait 0|from 1ms to 7d
queue declare q --topic a --max-deliver 4096|from 0 (no limit) to 4095
queue declare q --topic a --max-in-flight 1000001|from 0 to 1000000
queue declare q --topic a --max-depth 0|from 1 to what the disk takes
queue declare q --topic a --max-bytes 0|from 1 to what the disk takes
queue declare q --topic a --ttl 3651d|from 0s to 3650d
queue declare q --topic a --rate 1000000001/s|from 1 to 1000000000
queue declare q --topic a --breaker 1000001|at most 1000000 failures
ROWS
}

# What each verb prints, for a state directory with a run r, a queue q with two dead letters, a stream s.
PRINTING='--version
help
help run
run --help
queue --help
run --json flow.yaml
run -n flow.yaml
map echo ::: 1 2
map -n echo ::: 1
check flow.yaml
graph flow.yaml
runs
status r
steps r
logs r one
why r one
resume r --json
retry r --json
cancel c --json
wait r --json
gc --json --keep-runs 100
doctor
journal verify
journal dump
health
config show
queue declare q --topic a --json
queue list
queue show q
queue purge empty
publish a x
consume q --peek
consume q --count 1 --wait 2m
consume q --count 1 --wait 2m --auto-ack
dlq list q
dlq show q
dlq redrive q 1
dlq purge q
group create s g --json
group lag s
group seek s g earliest
group commit s g 1 --json
metrics
metrics --format json --over 0s
top --once
bench ring --events 1000'

something_of_everything() {
    flow
    pawl run --run-id r flow.yaml
    serve
    echo '{pawl: 1, steps: {s: {run: [sleep, 300]}}}' >long.yaml
    pawl run long.yaml --run-id c --detach
    pawl queue declare q --topic a
    pawl queue declare empty --topic b
    pawl queue declare s --topic st --stream
    pawl publish a --lines < <(seq 9)
    pawl publish st x
    pawl reject "$(pawl consume q --count 1 | jq -r .delivery)" "$(pawl consume q --count 1 | jq -r .delivery)"
}

slow test_a_verb_that_cannot_write_its_output_says_so_and_fails 120
test_a_verb_that_cannot_write_its_output_says_so_and_fails() {
    local words verb tried=
    something_of_everything >/dev/null
    while read -r words; do
        # shellcheck disable=SC2086  # several words
        expect_exit 1 sh -c '"$@" >/dev/full' sh "$PAWL" $words
        [ "$(grep -c 'standard output: \(No space left\|not all\)' err)" = 1 ] || fail "does not say it once: $words"
        tried="$tried ${words%% *}"
    done <<<"$PRINTING"
    # Without --json these have nothing to say; top draws on a terminal; serve only logs.
    for verb in $(pawl help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
        case " $tried serve ack nack reject extend version " in *" $verb "*) ;; *) fail "not tried: $verb" ;; esac
    done
    for verb in ack nack reject extend; do
        words=$(pawl consume q --count 1 | jq -r .delivery)
        expect_exit 1 sh -c '"$@" >/dev/full' sh "$PAWL" $verb "$words" --json
        expect_json_err .error.code stdout
    done
    end_serve
}

flow() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  one:
    run: [echo, hello]
YAML
}

test_state_directory_is_private_and_where_it_was_told() {
    flow
    expect_exit 0 pawl run flow.yaml
    expect_eq "$(stat -c %a "$PAWL_STATE")" 700
    expect_exit 0 pawl run --state "$T/other" flow.yaml
    expect_eq "$(stat -c %a "$T/other")" 700
    unset PAWL_STATE
    mkdir here
    (cd here && pawl run ../flow.yaml 2>/dev/null)
    expect_eq "$(stat -c %a here/.pawl)" 700
}

test_flag_for_the_state_directory_beats_the_environment() {
    flow
    PAWL_STATE=$T/loser expect_exit 0 pawl run --state "$T/winner" flow.yaml
    [ -d winner ] || fail 'winner was not made'
    [ ! -e loser ] || fail 'loser was made'
}

test_no_colour_reaches_a_pipe_unless_asked_for() {
    flow
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl runs
    refute_contains $'\033'
    expect_exit 0 pawl status --color=never
    refute_contains $'\033'
    expect_exit 2 pawl status --color=sometimes
}

test_nothing_of_pawl_lives_when_a_command_has_ended() {
    flow
    expect_exit 0 pawl run flow.yaml
    wait_until '[ -z "$(processes)" ]' 5
}

test_two_commands_may_use_one_state_directory_at_once() {
    write slow.yaml <<'YAML'
pawl: 1
steps:
  slow: {shell: 'touch started; while [ ! -e go ]; do sleep 0.02; done'}
YAML
    flow
    background pawl run slow.yaml
    local first=$!
    wait_until '[ -e started ]'
    expect_exit 0 pawl run flow.yaml
    touch go
    expect_end 0 "$first"
}

test_a_nested_run_does_not_wait_for_its_own_steps_slot() {
    flow
    write outer.yaml <<'YAML'
pawl: 1
steps:
  outer: {shell: '"$TOOL" run -j1 flow.yaml', timeout: 5m}
YAML
    TOOL=$PAWL expect_exit 0 pawl run -j1 outer.yaml
}

test_a_variable_of_a_command_with_a_bad_value_is_wrong_usage_and_named() {
    local value
    for value in 0 -1 4097 2x ' 3' 99999999999999999999; do
        PAWL_JOBS=$value expect_exit 2 pawl runs
        expect_stderr "PAWL_JOBS: '$value' is no number of slots"
        expect_stderr 'from 1 to 4096'
    done
    PAWL_COLOR=yes expect_exit 2 pawl runs
    expect_stderr "PAWL_COLOR: 'yes' is not known"
    PAWL_PROGRESS=loud expect_exit 2 pawl runs
    expect_stderr "PAWL_PROGRESS: 'loud' is not known"
}

test_a_variable_of_a_command_counts_where_its_flag_is_not_given() {
    export PAWL_JOBS=3 PAWL_COLOR=always PAWL_PROGRESS=none NO_COLOR=1
    expect_exit 0 pawl config show --json
    expect_json '.settings[] | select(.name == "jobs") | "\(.value) \(.origin)"' '3 environment'
    expect_json '.settings[] | select(.name == "color") | "\(.value) \(.origin)"' 'always environment'
    expect_json '.settings[] | select(.name == "progress") | "\(.value) \(.origin)"' 'none environment'
    expect_exit 0 pawl config show --json --color=never --progress=json
    expect_json '.settings[] | select(.name == "color") | "\(.value) \(.origin)"' 'never flag'
    expect_json '.settings[] | select(.name == "progress") | "\(.value) \(.origin)"' 'json flag'
    # shellcheck disable=SC2016
    write slots.sh <<<'[ "$(ls running | wc -l)" -le "$1" ] || echo many; touch running/$$; sleep 0.05; rm running/$$'
    mkdir running
    PAWL_JOBS=1 expect_exit 0 pawl map sh slots.sh 0 {} ::: 1 2 3 4
    expect_stdout ''
}

test_what_is_no_setting_of_the_file_is_refused_with_where_it_is_said() {
    mkdir -m 700 state
    write state/pawl.yaml <<<'jobs: 4'
    expect_exit 3 pawl config show
    expect_stderr 'write `workers`'
    write state/pawl.yaml <<<'workers: 7'
    expect_exit 0 pawl config show --json
    expect_json '.settings[] | select(.name == "jobs") | "\(.value) \(.origin)"' '7 workers'
}

# on_terminal TERM: a run on a terminal of this kind, whose step ends when the screen shows how far it is.
on_terminal() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  wait: {shell: 'until grep -q "0/1" screen; do sleep 0.05; done', timeout: 5m}
YAML
    : >screen
    TERM=$1 script -qefc "'$PAWL' run --color never flow.yaml" screen </dev/null >/dev/null
}

once test_progress_is_redrawn_only_on_a_terminal_that_can_move_its_cursor # the command draws, and waits for 5 s first
test_progress_is_redrawn_only_on_a_terminal_that_can_move_its_cursor() {
    on_terminal xterm
    grep -q $'\e\\[J' screen
    on_terminal dumb
    ! grep $'\e' screen || fail "escapes on a dumb terminal"
}
