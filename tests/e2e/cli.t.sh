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
  outer: {shell: '"$TOOL" run -j1 flow.yaml', timeout: 30s}
YAML
    TOOL=$PAWL expect_exit 0 pawl run -j1 outer.yaml
}
