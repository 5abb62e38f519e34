# check.t.sh - workflow files: what is refused, with which words and at which place.

# refused PLACE WORD...: flow.yaml is invalid; the place and each word are named.
refused() {
    local place=$1 word
    shift
    expect_exit 3 pawl check flow.yaml
    cat "$T/out" "$T/err" >"$T/said"
    grep -qF -e "$place" "$T/said" || fail "the place $place is not named"
    for word in "$@"; do
        grep -qiF -e "$word" "$T/said" || fail "not said: $word"
    done
}

test_a_good_file_is_accepted() {
    write flow.yaml <<'YAML'
pawl: 1
name: good
params: {dir: /tmp, n: 3}
env: {LC_ALL: C}
defaults: {timeout: 5m, retries: 2}
steps:
  list:
    run: [ls, "${{ params.dir }}"]
    output: lines
  each:
    needs: [list]
    foreach: ${{ steps.list.output }}
    shell: 'echo "$ITEM"'
    env: {ITEM: "${{ item }}"}
    max_parallel: 8
    timeout: 30s
    retries: {limit: 3, backoff: {initial: 200ms, factor: 2, max: 10s, jitter: 0.1}, on_exit: [75, 111], never_on_exit: [2]}
  total:
    needs: [each]
    when: ${{ len(steps.each.outputs) > 0 }}
    run: [wc, -l]
    stdin: ${{ steps.each.outputs }}
YAML
    expect_exit 0 pawl check flow.yaml
}

test_unknown_key_is_named_with_place_and_nearest_key() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a:
    runn: [echo, hi]
YAML
    refused flow.yaml:4:5 runn "run"
}

test_unknown_top_level_key_is_named() {
    write flow.yaml <<'YAML'
pawl: 1
step:
  a: {run: [echo]}
YAML
    refused flow.yaml:2:1 step steps
}

test_duplicate_key_is_named_at_its_second_place() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a:
    run: [echo, hi]
    run: [echo, ho]
YAML
    refused flow.yaml:5:5 run twice
}

test_duplicate_step_is_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo, hi]}
  a: {run: [echo, ho]}
YAML
    refused flow.yaml:4:3 twice
}

test_cycle_names_its_steps() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  alpha: {run: [echo], needs: [gamma]}
  beta: {run: [echo], needs: [alpha]}
  gamma: {run: [echo], needs: [beta]}
YAML
    refused flow.yaml: circle alpha beta gamma
}

test_missing_step_in_needs_is_named_with_the_nearest() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  build: {run: [echo]}
  use: {run: [echo], needs: [biuld]}
YAML
    refused flow.yaml:4 biuld build
}

test_step_without_work_is_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  idle:
    timeout: 3s
YAML
    refused flow.yaml:3 idle
}

test_step_with_two_kinds_of_work_is_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  both:
    run: [echo]
    shell: echo
YAML
    refused flow.yaml: run shell
}

test_wrong_types_are_refused_with_their_place() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a:
    run: [echo]
    timeout: soon
YAML
    refused flow.yaml:5:14 timeout soon
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a:
    run: {echo: hi}
YAML
    refused flow.yaml:4 run
}

test_bare_expression_in_shell_is_refused_unless_unsafe() {
    write flow.yaml <<'YAML'
pawl: 1
params: {who: world}
steps:
  a:
    shell: 'echo ${{ params.who }}'
YAML
    refused flow.yaml:5 shell unsafe_shell
    write flow.yaml <<'YAML'
pawl: 1
params: {who: world}
steps:
  a:
    shell: 'echo ${{ params.who }}'
    unsafe_shell: true
YAML
    expect_exit 0 pawl check flow.yaml
}

test_unknown_parameter_in_an_expression_is_named() {
    write flow.yaml <<'YAML'
pawl: 1
params: {folder: /tmp}
steps:
  a: {run: [ls, "${{ params.foldr }}"]}
YAML
    refused flow.yaml:4 foldr folder
}

test_unknown_function_is_named() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo, "${{ lenn('x') }}"]}
YAML
    refused flow.yaml:3 lenn len
}

test_a_steps_output_needs_the_step_in_needs() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo]}
  b: {run: [echo, "${{ steps.a.output }}"]}
YAML
    refused flow.yaml:4 needs
}

test_item_outside_of_foreach_is_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo, "${{ item }}"]}
YAML
    refused flow.yaml:3 item
}

test_unclosed_expression_is_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo, "${{ 1 + "]}
YAML
    refused flow.yaml:3
}

test_bad_yaml_is_told_with_its_line() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {run: [echo
YAML
    refused flow.yaml:
}

test_alias_bomb_is_refused_quickly() {
    {
        echo 'pawl: 1'
        echo 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]'
        for i in 1 2 3 4 5 6 7 8; do
            p="*a$((i - 1))"
            echo "a$i: &a$i [$p, $p, $p, $p, $p, $p, $p, $p, $p, $p]"
        done
        echo 'steps: {s: {run: [echo], env: {X: *a8}}}'
    } >flow.yaml
    expect_exit 3 at_most 10 "$PAWL" check flow.yaml
}

test_file_above_1_mib_is_refused() {
    {
        printf 'pawl: 1\nsteps:\n  a: {run: [echo]}\n'
        head -c 1100000 /dev/zero | tr '\0' '#'
        echo
    } >flow.yaml
    refused flow.yaml
}

test_nesting_beyond_the_depth_limit_is_refused() {
    {
        printf 'pawl: 1\nparams:\n  deep: '
        head -c 40 /dev/zero | tr '\0' '['
        head -c 40 /dev/zero | tr '\0' ']'
        printf '\nsteps:\n  a: {run: [echo]}\n'
    } >flow.yaml
    refused flow.yaml: deep
}

test_every_mistake_is_told_not_only_the_first() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {runn: [echo]}
  b: {run: [echo], needs: [nosuch]}
  c: {run: [echo], timeout: soon}
YAML
    refused flow.yaml:3 runn
    refused flow.yaml:4 nosuch
    refused flow.yaml:5 soon
}

test_version_of_the_form_must_be_known() {
    write flow.yaml <<'YAML'
pawl: 2
steps:
  a: {run: [echo]}
YAML
    refused flow.yaml:1 pawl
    write flow.yaml <<'YAML'
steps:
  a: {run: [echo]}
YAML
    refused flow.yaml pawl
}

test_no_steps_and_an_empty_file_are_refused() {
    printf 'pawl: 1\n' >flow.yaml
    refused flow.yaml steps
    : >flow.yaml
    refused flow.yaml
}

test_bad_step_names_are_refused() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  .hidden: {run: [echo]}
YAML
    refused flow.yaml:3:3 .hidden
    write flow.yaml <<'YAML'
pawl: 1
steps:
  "with space": {run: [echo]}
YAML
    refused flow.yaml:3:3 'with space'
}

test_error_object_under_json_has_file_line_and_column() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a:
    runn: [echo, hi]
    run: [echo]
YAML
    expect_exit 3 pawl check --json flow.yaml
    expect_json_err .error.line 4
    expect_json_err .error.column 5
    expect_json_err '.error.file | endswith("flow.yaml")' true
    jq -e '.error | has("code") and has("message") and has("hint")' "$T/err" >/dev/null || fail 'keys are missing'
}

test_run_of_an_invalid_file_exits_3_and_starts_nothing() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  first: {run: [touch, ran]}
  second: {run: [echo], needs: [nosuch]}
YAML
    expect_exit 3 pawl run flow.yaml
    expect_stderr flow.yaml:4
    [ ! -e ran ] || fail 'a step ran'
}

test_a_file_that_is_not_there_is_named() {
    capture pawl check nowhere.yaml
    [ "$rc" -ne 0 ] || fail 'exit 0'
    expect_stderr nowhere.yaml
}

test_a_fifo_is_read_and_who_waits_for_its_writer_is_told() {
    mkfifo flow
    background pawl check flow
    wait_until 'grep -q "flow is a FIFO: waiting" background.err'
    echo '{pawl: 1, steps: {only: {run: ["true"]}}}' >flow
    expect_end 0 $!
    grep -q 'workflow flow, 1 step' background.out || fail "$(cat background.out)"
    expect_exit 0 pawl check <(echo '{pawl: 1, steps: {only: {run: ["true"]}}}')
    refute_stderr FIFO
}
