# run.t.sh - running a workflow: what a step gets, what it gives, when it runs.

test_argv_elements_are_exactly_one_argument_each() {
    write flow.yaml <<'YAML'
pawl: 1
params: {odd: "a b  $(c) 'd' \"e\" *"}
steps:
  show: {run: [printf, "<%s>", "${{ params.odd }}", "", "two words", "$HOME"]}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last show
    expect_stdout "<a b  \$(c) 'd' \"e\" *><><two words><\$HOME>"
}

test_steps_run_in_the_order_of_their_needs() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  third: {shell: 'echo third >>order', needs: [second]}
  second: {shell: 'echo second >>order', needs: [first]}
  first: {shell: 'echo first >>order'}
YAML
    expect_exit 0 pawl run -j4 flow.yaml
    expect_file order $'first\nsecond\nthird'
}

test_a_steps_process_gets_its_variables() {
    write flow.yaml <<'YAML'
pawl: 1
env: {SHARED: base, OVER: base}
steps:
  plain:
    shell: 'echo "$PAWL_RUN/$PAWL_STEP/${PAWL_ITEM-unset}/$PAWL_ATTEMPT/$SHARED/$OVER/$MINE"; test -d "$PAWL_DIR"; test -n "$PAWL_OUTPUT"'
    env: {OVER: step, MINE: own}
  many:
    foreach: [x y, z]
    shell: 'echo "$PAWL_ITEM"'
YAML
    expect_exit 0 pawl run --run-id my-run flow.yaml
    expect_exit 0 pawl logs my-run plain
    expect_stdout my-run/plain/unset/1/base/step/own
    expect_exit 0 pawl logs my-run many --item 0
    expect_stdout 'x y'
    expect_exit 0 pawl logs my-run many --item 1
    expect_stdout z
}

test_run_ids_are_unique_and_well_formed() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {run: ["true"]}}
YAML
    expect_exit 0 pawl run --run-id first flow.yaml
    capture pawl run --run-id first flow.yaml
    [ "$rc" -ne 0 ] || fail 'a second run took the same id'
    expect_stderr first
    expect_exit 2 pawl run --run-id 'not a name' flow.yaml
    expect_exit 2 pawl run --run-id .hidden flow.yaml
}

test_a_step_runs_where_the_command_was_given_with_its_umask_and_environment() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  where: {shell: 'pwd; umask; echo "$FROM_CALLER"'}
  there: {run: [pwd], dir: sub}
YAML
    mkdir sub
    umask 027
    FROM_CALLER=yes expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last where
    expect_stdout "$(pwd -P)"$'\n0027\nyes'
    expect_exit 0 pawl logs last there
    expect_stdout "$(pwd -P)/sub"
}

test_foreach_over_lines_runs_one_instance_for_each() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: [printf, 'one\ntwo words\n\nfour'], output: lines}
  each:
    needs: [list]
    foreach: ${{ steps.list.output }}
    run: [printf, "%s:%s", "${{ index }}", "${{ item }}"]
  all:
    needs: [each]
    run: [cat]
    stdin: ${{ steps.each.outputs }}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last all
    expect_stdout $'0:one\n1:two words\n2:\n3:four'
}

test_foreach_over_nothing_succeeds_with_no_outputs() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  list: {run: ["true"], output: lines}
  each: {needs: [list], foreach: "${{ steps.list.output }}", run: [echo, "${{ item }}"]}
  count: {needs: [each], run: [echo, "${{ len(steps.each.outputs) }}"]}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last count
    expect_stdout 0
}

test_matrix_runs_every_combination() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  grid:
    matrix: {os: [linux, bsd], cpu: [arm, x86]}
    run: [echo, "${{ item.os }}-${{ item.cpu }}"]
  all: {needs: [grid], run: [sort], stdin: "${{ steps.grid.outputs }}"}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last all
    expect_stdout $'bsd-arm\nbsd-x86\nlinux-arm\nlinux-x86'
}

test_text_output_loses_one_newline_and_json_output_keeps_its_types() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  text: {run: [printf, 'a\n\n']}
  data: {run: [echo, '{"n": 41, "names": ["x", "y"]}'], output: json}
  show:
    needs: [text, data]
    run: [printf, "<%s>", "${{ steps.text.output }}", "${{ steps.data.output.n + 1 }}", "${{ join(steps.data.output.names, '+') }}"]
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last show
    expect_stdout $'<a\n><42><x+y>'
}

test_output_that_is_not_the_promised_json_fails_the_step() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  data: {run: [echo, 'not json'], output: json}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_eq "$(step_field data state)" failed
}

test_named_outputs_come_from_the_output_file() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  lines: {shell: 'echo "size=12" >>"$PAWL_OUTPUT"; echo "name=a b=c" >>"$PAWL_OUTPUT"'}
  json: {shell: 'echo "{\"deep\": {\"n\": 7}}" >"$PAWL_OUTPUT"'}
  show:
    needs: [lines, json]
    run: [printf, "<%s>", "${{ steps.lines.size }}", "${{ steps.lines.name }}", "${{ steps.json.deep.n }}"]
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last show
    expect_stdout '<12><a b=c><7>'
}

test_set_overrides_a_parameter_and_an_unknown_one_is_an_error() {
    write flow.yaml <<'YAML'
pawl: 1
params: {who: world, n: 1}
steps:
  greet: {run: [echo, "hello ${{ params.who }} ${{ params.n + 1 }}"]}
YAML
    expect_exit 0 pawl run flow.yaml --set who='a b' --set n=5
    expect_exit 0 pawl logs last greet
    expect_stdout 'hello a b 6'
    capture pawl run flow.yaml --set whom=x
    [ "$rc" -eq 2 ] || [ "$rc" -eq 3 ] || fail "exit $rc for an unknown parameter"
    expect_stderr who
}

test_inputs_start_one_run_for_each_line() {
    write flow.yaml <<'YAML'
pawl: 1
params: {n: 0}
steps:
  save: {shell: 'echo "got $N" >"out.$N"', env: {N: "${{ params.n }}"}}
YAML
    printf '{"n": 1}\n{"n": 2}\n{"n": 3}\n' >inputs.jsonl
    expect_exit 0 pawl run flow.yaml --inputs inputs.jsonl
    expect_file out.1 'got 1'
    expect_file out.3 'got 3'
    expect_exit 0 pawl runs --json
    expect_json '[.. | objects | select(has("workflow"))] | length' 3
}

test_inputs_without_a_line_start_nothing_and_say_so() {
    write flow.yaml <<<'{pawl: 1, steps: {only: {run: ["true"]}}}'
    expect_exit 0 pawl run --inputs /dev/null flow.yaml
    expect_stderr 'no run: /dev/null holds no line'
    [ ! -e state ] || fail 'a scheduler was started for nothing'
    expect_exit 0 pawl run --inputs /dev/null --json flow.yaml
    expect_json .runs 0
}

test_a_bad_line_of_inputs_is_named_and_starts_nothing() {
    write flow.yaml <<'YAML'
pawl: 1
params: {n: 0}
steps:
  save: {run: [touch, "out.${{ params.n }}"]}
YAML
    printf '{"n": 1}\nnot json\n' >inputs.jsonl
    capture pawl run flow.yaml --inputs inputs.jsonl
    [ "$rc" -eq 2 ] || [ "$rc" -eq 3 ] || fail "exit $rc"
    expect_stderr inputs.jsonl:2
    [ ! -e out.1 ] || fail 'the first line ran'
}

test_when_false_skips_and_what_needs_it_still_decides() {
    write flow.yaml <<'YAML'
pawl: 1
params: {go: false}
steps:
  maybe: {run: [touch, ran], when: "${{ params.go }}"}
  other: {run: [touch, other]}
YAML
    expect_exit 0 pawl run flow.yaml
    [ ! -e ran ] || fail 'a skipped step ran'
    expect_eq "$(step_field maybe state)" skipped
    expect_eq "$(step_field other state)" succeeded
    expect_exit 0 pawl run flow.yaml --set go=true
    [ -e ran ] || fail 'it did not run'
}

test_a_failed_step_fails_the_run_and_skips_what_needs_it() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {run: [sh, -c, 'exit 3']}
  after: {run: [touch, ran], needs: [bad]}
YAML
    expect_exit 1 pawl run flow.yaml
    [ ! -e ran ] || fail 'it ran'
    expect_eq "$(run_state)" failed
    expect_eq "$(step_field bad state)" failed
    expect_eq "$(step_field bad exit_code)" 3
    expect_eq "$(step_field after state)" skipped
}

test_nothing_new_starts_after_the_first_final_failure() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {run: ["false"], priority: 10}
  good: {foreach: [1, 2, 3, 4], run: [touch, "ran.${{ item }}"]}
YAML
    expect_exit 1 pawl run -j1 flow.yaml
    expect_eq "$(find . -name 'ran.*' | wc -l)" 0
}

test_keep_going_runs_all_that_can_run() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {foreach: [1, 2], run: ["false"], priority: 10}
  good: {foreach: [1, 2, 3, 4], run: [touch, "ran.${{ item }}"]}
  after: {needs: [bad], run: [touch, ran.after]}
YAML
    expect_exit 1 pawl run -j1 --keep-going flow.yaml
    expect_eq "$(find . -name 'ran.*' | wc -l)" 4
    [ ! -e ran.after ] || fail 'a step ran though what it needs failed'
}

test_keep_going_n_stops_after_n_failures() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {foreach: [1, 2, 3, 4, 5], shell: 'echo x >>tries; exit 1'}
YAML
    expect_exit 1 pawl run -j1 --keep-going=2 flow.yaml
    expect_eq "$(wc -l <tries)" 2
}

test_continue_on_error_lets_the_run_succeed() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  shaky: {run: ["false"], continue_on_error: true}
  after: {run: [echo, "${{ steps.shaky.state }} ${{ steps.shaky.exit_code }}"], needs: [shaky]}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last after
    expect_stdout 'failed 1'
}

test_always_runs_also_after_failure() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {run: ["false"]}
  cleanup: {run: [touch, cleaned], needs: [bad], always: true}
YAML
    expect_exit 1 pawl run flow.yaml
    [ -e cleaned ] || fail 'the always step did not run'
}

test_a_when_that_asks_how_the_needs_ended_decides_alone() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  bad: {run: ["false"]}
  at_all_events: {run: ["true"], needs: bad, when: "${{ always() }}"}
  after_failure: {run: ["true"], needs: bad, when: "${{ failed() }}"}
  after_success: {run: ["true"], needs: bad, when: "${{ success() }}"}
  only_true: {run: ["true"], needs: bad, when: true}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_exit 0 pawl steps last --json
    expect_json 'select(.state == "succeeded") | .step' $'at_all_events\nafter_failure'
    expect_json 'select(.state == "skipped") | .step' $'after_success\nonly_true'
}

test_retries_run_again_until_success_with_rising_attempts() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  third_time:
    shell: 'echo "$PAWL_ATTEMPT" >>attempts; echo "try $PAWL_ATTEMPT"; test "$PAWL_ATTEMPT" -ge 3'
    retries: {limit: 5, backoff: {initial: 10ms, factor: 1, max: 10ms}}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_file attempts $'1\n2\n3'
    expect_eq "$(step_field third_time attempts)" 3
    expect_exit 0 pawl logs last third_time --attempt 1
    expect_stdout 'try 1'
    expect_exit 0 pawl logs last third_time
    expect_stdout 'try 3'
}

test_retries_stop_at_the_limit() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  hopeless: {shell: 'echo x >>attempts; exit 1', retries: {limit: 2, backoff: {initial: 1ms}}}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_eq "$(wc -l <attempts)" 3
}

test_exit_codes_decide_what_is_retried() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  only: {shell: 'echo x >>only; exit 1', retries: {limit: 3, backoff: {initial: 1ms}, on_exit: [75]}}
  never: {shell: 'echo x >>never; exit 2', retries: {limit: 3, backoff: {initial: 1ms}, never_on_exit: [2]}}
  yes: {shell: 'echo x >>yes; exit 75', retries: {limit: 3, backoff: {initial: 1ms}, on_exit: [75]}}
YAML
    expect_exit 1 pawl run --keep-going flow.yaml
    expect_eq "$(wc -l <only)" 1
    expect_eq "$(wc -l <never)" 1
    expect_eq "$(wc -l <yes)" 4
}

test_each_attempt_has_a_directory_of_its_own_empty_at_first() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  litter:
    shell: 'ls -A "$PAWL_DIR" | wc -l >>seen; echo "$PAWL_DIR" >>dirs; touch "$PAWL_DIR/x"; test "$PAWL_ATTEMPT" -ge 2'
    retries: {limit: 2, backoff: {initial: 1ms}}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_eq "$(sort -u seen | tr -d ' ')" 0
    expect_eq "$(sort -u dirs | wc -l)" 2
}

test_a_step_that_takes_too_long_is_ended_with_its_children() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  slow: {shell: 'sleep 300 & sleep 300', timeout: 200ms, grace: 1s}
YAML
    expect_exit 1 at_most 20 "$PAWL" run flow.yaml
    expect_eq "$(step_field slow state)" failed
    expect_exit 0 pawl steps last
    expect_match 'time'
}

test_a_step_that_ignores_sigterm_is_killed_after_its_grace() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  stubborn: {shell: "trap '' TERM; while :; do sleep 0.05; done", timeout: 100ms, grace: 200ms}
YAML
    expect_exit 1 at_most 20 "$PAWL" run flow.yaml
    expect_eq "$(step_field stubborn state)" failed
}

test_a_program_that_is_not_there_fails_the_step_with_its_name() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  ghost: {run: [no-such-program-here]}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_exit 0 pawl why last ghost
    expect_contains no-such-program-here
}

test_a_step_killed_by_a_signal_reports_the_signal() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  dies: {shell: 'kill -KILL $$'}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_eq "$(step_field dies signal)" 9
    expect_eq "$(step_field dies exit_code)" null
}

test_max_parallel_holds_for_the_instances_of_a_step() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  few:
    foreach: [1, 2, 3, 4, 5, 6]
    max_parallel: 2
    shell: 'mkdir -p live; touch "live/$PAWL_ITEM"; ls live | wc -l >>seen; sleep 0.05; rm "live/$PAWL_ITEM"'
YAML
    expect_exit 0 pawl run -j6 flow.yaml
    expect_eq "$(wc -l <seen)" 6
    [ "$(sort -n seen | tail -n 1)" -le 2 ] || fail "up to $(sort -n seen | tail -n 1) at a time"
}

test_slots_bound_what_runs_at_a_time_and_are_used() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  meet:
    foreach: [1, 2, 3]
    timeout: 5m
    shell: 'touch "here.$PAWL_ITEM"; while [ "$(ls here.* | wc -l)" -lt 3 ]; do sleep 0.02; done'
YAML
    expect_exit 0 pawl run -j3 flow.yaml
}

test_dry_run_says_what_would_run_and_runs_nothing() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  first: {run: [touch, ran]}
  second: {run: [touch, ran2], needs: [first]}
YAML
    expect_exit 0 pawl run -n flow.yaml
    expect_contains first
    expect_contains second
    [ ! -e ran ] || fail 'it ran'
}

test_stdin_of_a_step_is_empty_unless_given() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  none: {run: [wc, -c]}
  text: {run: [cat], stdin: 'given'}
YAML
    pawl run flow.yaml <<<'from the caller' 2>/dev/null
    expect_exit 0 pawl logs last none
    expect_stdout 0
    expect_exit 0 pawl logs last text
    expect_stdout given
}

test_large_output_goes_through_whole() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  big: {shell: 'seq 1 300000'}
  count: {needs: [big], run: [wc, -l], stdin: "${{ steps.big.output }}"}
YAML
    expect_exit 0 pawl run flow.yaml
    seq 1 300000 >want
    expect_exit 0 pawl logs last big
    cmp -s "$T/out" want || fail 'logs differ from what the step printed'
    expect_exit 0 pawl logs last count
    # One trailing newline of a text output is dropped, and text is given as it is.
    [ "$(stdout)" -ge 299999 ] || fail "only $(stdout) lines arrived"
}

test_a_value_above_1_mib_may_not_become_an_argument() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  big: {shell: 'head -c 1100000 /dev/zero | tr "\0" x'}
  use: {needs: [big], run: [echo, "${{ steps.big.output }}"]}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_eq "$(step_field use state)" failed
}

test_stderr_is_kept_apart() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  both: {shell: 'echo out; echo err >&2'}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last both
    expect_stdout out
    expect_exit 0 pawl logs last both --stderr
    expect_stdout err
}

test_noop_joins_steps_without_a_process() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [touch, a]}
  b: {run: [touch, b]}
  joined: {use: noop, needs: [a, b]}
  after: {run: [ls, a, b], needs: [joined]}
YAML
    expect_exit 0 pawl run flow.yaml
    expect_eq "$(step_field joined state)" succeeded
}

test_detach_returns_at_once_and_the_run_goes_on() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  slow: {shell: 'while [ ! -e go ]; do sleep 0.02; done; touch finished'}
YAML
    expect_exit 0 at_most 20 "$PAWL" run --detach --run-id away flow.yaml
    expect_eq "$(run_state away)" running
    touch go
    expect_exit 0 pawl wait away --timeout 5m
    [ -e finished ] || fail 'it was not finished'
    wait_until '[ -z "$(processes)" ]' 10
}

test_progress_does_not_reach_stdout() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {run: [echo, to-the-log]}}
YAML
    expect_exit 0 pawl run --progress=none flow.yaml
    expect_exit 0 pawl run --progress=plain flow.yaml
    expect_exit 2 pawl run --progress=fancy flow.yaml
}

test_why_says_when_a_delayed_step_is_due() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {shell: 'exit 1', retries: {limit: 2, backoff: {initial: 1h, jitter: 0}}}}
YAML
    pawl run --detach --run-id mine flow.yaml >/dev/null
    wait_until '[ "$(step_count delayed)" = 1 ]'
    expect_exit 0 pawl why mine a
    expect_match '^Attempt 2 is due in 3[56][0-9][0-9]\.[0-9] s, 3600\.0 s after the one before'
    pawl cancel mine
    wait_until '[ "$(run_state mine)" = cancelled ]'
}

test_why_tells_of_an_output_file_that_makes_no_named_outputs() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  json: {shell: 'echo "{bad" >"$PAWL_OUTPUT"'}
  line: {shell: 'echo bad >"$PAWL_OUTPUT"'}
  fine: {shell: 'echo key=value >"$PAWL_OUTPUT"'}
  each: {foreach: [1, 2], shell: '[ "$PAWL_ITEM" = 1 ] || echo "{" >"$PAWL_OUTPUT"'}
  none: {run: ["true"]}
YAML
    expect_exit 0 pawl run --run-id mine flow.yaml
    local step
    for step in json line 'each --item 1'; do
        # shellcheck disable=SC2086  # words
        expect_exit 0 pawl why mine $step
        expect_contains 'What it wrote to PAWL_OUTPUT makes no named outputs'
    done
    for step in fine none 'each --item 0'; do
        # shellcheck disable=SC2086  # words
        expect_exit 0 pawl why mine $step
        refute_contains PAWL_OUTPUT
    done
}
