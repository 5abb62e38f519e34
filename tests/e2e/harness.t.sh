# harness.t.sh - the runner of these tests itself, on a small tree of its own.
# shellcheck disable=SC2016  # expansions in quotes are for the small tests

# tree DIR: a tree with the runner and one test file.
tree() {
    mkdir -p "$1/tests/e2e"
    cp "$E2E_TOP"/tests/e2e/run.sh "$E2E_TOP"/tests/e2e/lib.sh "$1/tests/e2e"
    printf '%s\n' \
        'test_right() { [ "$PWD" = "$T" ] && [ -e "$E2E_TOP/tests/e2e/small.t.sh" ]; }' \
        'test_wrong() { false; }' >"$1/tests/e2e/small.t.sh"
}
# As the tests are run by hand: nothing of the runner around this one is known.
by_hand() { env -u PAWL_TESTS_SIGNALS -u E2E_MARK "$@"; }

test_tests_run_where_the_path_holds_spaces() {
    tree 'two words'
    mkdir 'two more'
    TMPDIR="$T/two more" expect_exit 1 by_hand bash 'two words/tests/e2e/run.sh'
    expect_match '^ok +small: right'
    expect_match '^FAILED +small: wrong'
    expect_match '^1 passed, 1 failed$'
    expect_eq "$(ls -A 'two more')" ''
}

test_with_kinds_of_io_each_test_runs_with_each_and_one_that_does_not_depend_on_it_with_the_first() {
    tree .
    printf '%s\n' 'test_asks() { echo "asks $PAWL_IO" >>"$E2E_TOP/ran"; }' 'test_other() { echo "other $PAWL_IO" >>"$E2E_TOP/ran"; }' \
        'once test_other' >tests/e2e/small.t.sh
    expect_exit 0 by_hand bash tests/e2e/run.sh --io 'uring syscall' --sum sum
    expect_match '^ok +small: asks \([0-9]+ ms, uring\)$'
    expect_match '^ok +small: asks \([0-9]+ ms, syscall\)$'
    expect_file sum '3 0'
    expect_eq "$(sort ran)" $'asks syscall\nasks uring\nother uring'
    rm ran
    PAWL_IO=syscall expect_exit 0 by_hand bash tests/e2e/run.sh
    expect_eq "$(sort ran)" $'asks syscall\nother syscall'
}

test_a_role_that_nobody_has_or_several_have_fails_the_test_that_counts_on_one() {
    ! (PATIENCE=0 the_pid_of guest) 2>said || fail "there is one: $(the_pid_of guest)"
    grep -q "not one process calls itself 'pawl: guest', but: none" said
    background bash -c 'exec -a "pawl: guest" sleep 300'
    wait_until '[ -n "$(pid_of guest)" ]'
    expect_eq "$(the_pid_of guest)" "$!"
    background bash -c 'exec -a "pawl: guest 2" sleep 300'
    wait_until '[ "$(pid_of guest | wc -l)" = 2 ]'
    ! (PATIENCE=0 the_pid_of guest) 2>said || fail "it chose one of two"
    grep -q "not one process calls itself" said
}

test_a_server_that_does_not_serve_fails_the_test_with_its_words() {
    ! (serve --config nosuch.yaml) 2>said || fail 'it is said to serve'
    grep -q 'it does not serve: .*nosuch.yaml' said
}
