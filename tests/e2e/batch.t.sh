# batch.t.sh - `pawl run --inputs`: a batch goes on where it was, by what has succeeded of each line.

# Ten lines; line 3 fails until `ok` is there, and 8 waits for `go`. Each notes that it ran.
ten() {
    write flow.yaml <<'YAML'
pawl: 1
params: {n: 0}
steps:
  work:
    env: {N: "${{ params.n }}"}
    shell: 'echo "$N" >>ran; test "$N" != 3 || test -e ok || exit 1; test "$N" != 8 || while [ ! -e go ]; do sleep 0.02; done'
YAML
    seq 10 | sed 's/.*/{"n": &}/' >lines.jsonl
}

ran() { sort -n ran | tr '\n' ' '; }

# The last line that says how to go on, as it stands there.
printed_command() { sed -n 's/^pawl: go on with: //p' "$T/err" | tail -n 1; }

test_the_same_command_with_resume_runs_no_line_again_that_has_succeeded() {
    ten
    touch go
    expect_exit 1 pawl run flow.yaml --inputs lines.jsonl -j1 --keep-going
    expect_eq "$(ran)" '1 2 3 4 5 6 7 8 9 10 '
    touch ok
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --keep-going --resume --json
    expect_eq "$(ran)" '1 2 3 3 4 5 6 7 8 9 10 '
    expect_json .runs 1
    expect_json .succeeded 1
    expect_json .succeeded_before 9
    expect_exit 0 pawl runs --json
    expect_json '.runs | length' 10
}

test_a_key_that_is_twice_in_a_line_is_refused_with_line_and_key_and_nothing_runs() {
    ten
    printf '{"n": 1}\n\n{"n": 2, "n": 3}\n' >lines.jsonl
    expect_exit 2 pawl run flow.yaml --inputs lines.jsonl
    expect_stderr 'lines.jsonl:3:1: key "n" is there twice'
    [ ! -e ran ] || fail 'a line has run'
    write flow.yaml <<'YAML'
pawl: 1
params: {deep: {}}
steps: {a: {use: noop}}
YAML
    echo '{"deep": {"a": [{"b c": 1, "\u0062 c": 2}]}}' >lines.jsonl
    expect_exit 2 pawl run flow.yaml --inputs lines.jsonl
    expect_stderr 'lines.jsonl:1:1: key "\u0062 c" is there twice'
    expect_exit 2 pawl run flow.yaml --set 'deep={"a": 1, "a": 2}'
    expect_stderr 'key "a" is there twice'
    expect_exit 0 pawl run flow.yaml --set 'deep={"a": {"a": 1}, "b": {"a": 1}}'
}

test_a_batch_of_which_everything_has_succeeded_says_so_and_runs_nothing() {
    ten
    touch go ok
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl --run-id all
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl --run-id all --resume
    expect_stderr 'all 10 runs of batch all have succeeded: nothing is left to do'
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl --resume --json
    expect_json .runs 0
    expect_json .succeeded_before 10
    expect_eq "$(ran)" '1 2 3 4 5 6 7 8 9 10 '
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl --resume -n
    expect_stderr 'nothing is left to do'
}

test_the_printed_command_goes_on_with_a_killed_batch_that_has_a_name() {
    ten
    touch ok
    background pawl run flow.yaml --inputs lines.jsonl -j1 --run-id night
    local running=$!
    wait_until 'grep -q 8 ran'
    expect_exit 0 pawl wait night-7 # a success that is not on disk yet would be run again
    # shellcheck disable=SC2046
    kill -KILL "$running" $(pid_of supervisor) $(pid_of scheduler) $(pid_of worker)
    wait "$running" || true
    wait_until '[ -z "$(processes)" ]' 20
    touch go
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --run-id night --resume -n
    expect_stderr '7 of 10 runs have succeeded and are kept'
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --run-id night --resume
    expect_stderr 'batch night goes on: 7 of 10 runs have succeeded and are kept'
    expect_eq "$(ran)" '1 2 3 4 5 6 7 8 8 9 10 '
    expect_exit 0 pawl runs --json
    expect_json '[.runs[].run] | sort | join(" ")' "$(seq -f 'night-%g' 10 | LC_ALL=C sort | paste -sd' ')"
    expect_json '[.runs[].state] | unique | join(" ")' succeeded
}

test_the_command_that_a_failed_batch_prints_is_the_one_that_goes_on_with_it() {
    ten
    touch go
    expect_exit 1 pawl run flow.yaml --inputs lines.jsonl -j1 --run-id b
    local command
    command=$(printed_command)
    expect_eq "${command#* }" 'run flow.yaml --inputs lines.jsonl -j1 --run-id b --resume'
    touch ok
    # shellcheck disable=SC2086
    expect_exit 0 pawl ${command#* }
    expect_eq "$(ran)" '1 2 3 3 4 5 6 7 8 9 10 '
}

test_equal_lines_of_a_batch_are_as_many_runs() {
    ten
    touch go
    printf '{"n": 5}\n{"n": 3}\n{"n": 5}\n{"n": 3}\n' >lines.jsonl
    expect_exit 1 pawl run flow.yaml --inputs lines.jsonl -j1 --keep-going
    echo '{"n": 5}' >>lines.jsonl
    touch ok
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --resume
    expect_eq "$(ran)" '3 3 3 3 5 5 5 '
}

test_successes_of_an_earlier_batch_do_not_count_for_a_newer_one() {
    ten
    touch go ok
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --run-id old
    rm ran ok
    expect_exit 1 pawl run flow.yaml --inputs lines.jsonl -j1 --run-id new
    touch ok
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --resume
    expect_eq "$(ran)" '1 2 3 3 4 5 6 7 8 9 10 '
    rm ran
    expect_exit 0 pawl run flow.yaml --inputs lines.jsonl -j1 --resume --run-id old
    [ ! -e ran ] || fail "of a batch that had succeeded there ran: $(ran)"
}
