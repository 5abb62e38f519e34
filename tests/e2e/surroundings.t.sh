#!/usr/bin/env bash
# surroundings.t.sh - what a command is started with: closed streams, few descriptors, a directory that is gone.
# shellcheck disable=SC2016

test_a_closed_standard_stream_is_no_obstacle() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {run: [touch, made]}}
YAML
    expect_exit 0 sh -c '"$1" map echo ::: a <&-' - "$PAWL"
    expect_stdout a
    expect_exit 0 sh -c '"$1" map echo ::: a 2>&-' - "$PAWL"
    expect_stdout a
    expect_exit 0 sh -c 'exec "$1" run flow.yaml <&- >&- 2>&-' - "$PAWL"
    [ -e made ] || fail 'the step did not run'
}

test_what_cannot_be_written_to_a_closed_stdout_is_an_error() {
    expect_exit 1 sh -c '"$1" map echo ::: a >&-' - "$PAWL"
    expect_stderr 'standard output: Bad file descriptor'
    expect_exit 1 sh -c '"$1" runs >&-' - "$PAWL"
    expect_stderr 'standard output: Bad file descriptor'
}

test_a_closed_stdin_holds_no_arguments() {
    expect_exit 1 sh -c '"$1" map echo <&-' - "$PAWL"
    expect_stderr 'reading arguments: Bad file descriptor'
}

test_too_few_open_files_are_said_before_anything_starts() {
    expect_exit 4 bash -c 'ulimit -n 24 && exec "$1" map -j2 echo ::: a' - "$PAWL"
    expect_stderr 'too few open files are allowed: 24'
    expect_stderr 'ulimit -n'
    expect_exit 4 bash -c 'ulimit -n 24 && exec "$1" map --json -j2 echo ::: a' - "$PAWL"
    expect_json_err .error.code limit
    [ ! -e "$PAWL_STATE" ] || fail 'something was started'
}

test_slots_are_as_many_as_the_limit_of_open_files_has_room_for() {
    seq 60 >in
    expect_exit 0 bash -c 'ulimit -n 64 && exec "$1" map -k -j60 -a in echo' - "$PAWL"
    expect_stdout "$(cat in)"
    expect_stderr '3 slots instead of 60: only 64 open files are allowed'
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {matrix: {x: [1, 2, 3, 4, 5, 6], y: [1, 2, 3, 4, 5, 6]}, run: ["true"]}}
YAML
    expect_exit 0 bash -c 'ulimit -n 64 && exec "$1" run -j40 --run-id r flow.yaml' - "$PAWL"
    expect_stderr '3 slots instead of 40'
    expect_eq "$(step_count succeeded)" 36
}

test_a_current_directory_that_is_gone_is_wrong_usage() {
    mkdir gone
    expect_exit 2 sh -c 'cd gone && rmdir ../gone && exec "$1" map echo ::: a' - "$PAWL"
    expect_stderr 'the current directory cannot be named'
    expect_stderr 'cd to a directory that is there'
}

# as_a_user: whom limits and modes hold; AS is how to be that user, PAWL and PAWL_STATE are its own.
as_a_user() {
    AS=()
    if [ "$(id -u)" -eq 0 ]; then # whom they do not stop
        public_directory
        cd "$PUBLIC"
        install -m 755 "$PAWL" tool
        PAWL=$PUBLIC/tool
        export PAWL_STATE=$PUBLIC/state
        install -d -m 700 -o 65534 -g 65534 state
        AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    fi
}

serve_as_a_user() {
    as_a_user
    serve_by "${AS[@]}" "$PAWL" serve
}

scheduler_dies_where_no_process_can_be_made() {
    "${AS[@]}" prlimit --pid "$SERVE" --nproc=1:
    kill -KILL "$(the_pid_of scheduler)"
    wait_until 'grep -q "cannot restart the scheduler yet" "$T/serve.err" "$PAWL_STATE/scheduler.log"'
}

test_a_scheduler_that_dies_where_no_process_can_be_made_is_restarted_once_one_can() {
    serve_as_a_user
    "${AS[@]}" "$PAWL" queue declare q --topic a
    "${AS[@]}" "$PAWL" publish a kept >/dev/null
    scheduler_dies_where_no_process_can_be_made
    "${AS[@]}" prlimit --pid "$SERVE" --nproc="$(ulimit -Hu):"
    expect_exit 0 "${AS[@]}" "$PAWL" consume q --count 1 --auto-ack
    expect_json .data kept
    end_serve
}

test_serve_that_waits_to_restart_its_scheduler_ends_at_sigterm() {
    serve_as_a_user
    scheduler_dies_where_no_process_can_be_made
    end_serve
}

of_r() { "${AS[@]}" "$PAWL" steps r --json | jq -r "select(.step == \"$1\").$2"; }

# step_without_process: run r's worker has begun its step b, for which no process can be made; RUN is the command.
step_without_process() {
    as_a_user
    write flow.yaml <<'YAML'
pawl: 1
steps:
  a: {shell: 'while [ ! -e "$GATE" ]; do sleep 0.02; done'}
  b: {needs: [a], run: [echo, there]}
YAML
    export GATE=$PWD/gate
    background "${AS[@]}" "$PAWL" run -j 1 --run-id r flow.yaml
    RUN=$!
    wait_until '[ "$(of_r a state)" = running ]'
    "${AS[@]}" prlimit --pid "$(the_pid_of 'worker 1')" --nproc=1:
    : >"$GATE"
    wait_until 'grep -q "no process can be made for step b of run r" "$PAWL_STATE/scheduler.log"'
}

test_a_step_for_which_no_process_can_be_made_waits_until_one_can() {
    step_without_process
    wait_until '[ "$(of_r b state)" = running ]'
    "${AS[@]}" prlimit --pid "$(the_pid_of 'worker 1')" --nproc="$(ulimit -Hu):"
    expect_end 0 "$RUN"
    expect_eq "$(of_r b attempts)" 1
    expect_eq "$("${AS[@]}" "$PAWL" logs r b)" there
}

test_a_step_for_which_no_process_can_be_made_is_interrupted_like_any_other() {
    step_without_process
    kill -INT "$RUN"
    wait_until 'grep -q stopping "$T/background.err"'
    kill -INT "$RUN"
    expect_end 5 "$RUN"
    wait_until '[ -z "$(processes)" ]' # the worker that has the limit is not to go on with it
    expect_exit 0 "${AS[@]}" "$PAWL" resume r
    expect_eq "$("${AS[@]}" "$PAWL" logs r b)" there
}

test_a_kind_of_io_that_is_none_is_refused_by_its_variable() {
    expect_exit 4 env PAWL_IO=nonsense "$PAWL" serve
    expect_stderr 'PAWL_IO is none of auto, uring and syscall'
    expect_exit 4 env PAWL_IO=nonsense "$PAWL" publish t x
    expect_stderr 'PAWL_IO is none of auto, uring and syscall'
}

# Wherever an allocation of a starting scheduler fails: it starts all the same, or says that memory is wanting.
slow test_a_scheduler_that_starts_without_memory_says_so_and_calls_nothing_damaged 120
test_a_scheduler_that_starts_without_memory_says_so_and_calls_nothing_damaged() {
    gcc -std=gnu11 -Wall -Wextra -shared -fPIC -o failing_memory.so "$E2E_TOP/tests/e2e/failing_memory.c"
    expect_exit 0 pawl queue declare q --topic 'a.*' --topic b --retry nack=2,1s
    expect_exit 0 pawl publish a.b one
    expect_exit 0 pawl map echo ::: a b c
    local at=2 # the first ends it before it can say anything
    while :; do
        rm -f told
        wait_until 'flock -n "$PAWL_STATE/lock" true' # the one before has gone: it would be asked, and none started
        capture env FAIL_IN='pawl: scheduler' FAIL_AT=$at FAIL_TOLD="$T/told" LD_PRELOAD="$T/failing_memory.so" \
            "$PAWL" queue list
        [ -e told ] || break
        case $rc in
        0 | 1) ;;
        4 | 70) expect_stderr_match 'Cannot allocate memory|out of memory|does not answer|not understood' ;;
        *) fail "allocation $at: exit $rc" ;;
        esac
        at=$((at + 3))
    done
    [ $at -gt 100 ] || fail "only $at allocations"
    wait_until 'flock -n "$PAWL_STATE/lock" true' # in the last one an allocation may still fail
    expect_exit 0 pawl queue list --json
    expect_json '.queues[0].depth' 1
    expect_exit 0 pawl journal verify
}
once test_a_scheduler_that_starts_without_memory_says_so_and_calls_nothing_damaged

# Where it reads its configuration, and where it has words for its supervisor, with which it would begin to serve.
slow test_a_service_that_never_served_for_want_of_memory_ends_neither_well_nor_by_a_fault_of_its_configuration 120
test_a_service_that_never_served_for_want_of_memory_ends_neither_well_nor_by_a_fault_of_its_configuration() {
    gcc -std=gnu11 -Wall -Wextra -shared -fPIC -o failing_memory.so "$E2E_TOP/tests/e2e/failing_memory.c"
    local at=0 pid status served=0 failed=0
    while :; do
        at=$((at + 1))
        rm -rf told "$PAWL_STATE"
        mkdir -m 700 "$PAWL_STATE"
        echo 'queue-patterns: 8' >"$PAWL_STATE/pawl.yaml"
        background env FAIL_IN='pawl: scheduler' FAIL_AT=$at FAIL_TOLD="$T/told" LD_PRELOAD="$T/failing_memory.so" \
            "$PAWL" serve
        pid=$!
        wait_until "grep -q 'serving /' background.err || ! kill -0 $pid"
        if grep -q 'serving /' background.err; then
            kill "$pid" 2>/dev/null || true
            wait "$pid" || true
            served=$((served + 1))
        else
            status=0
            wait "$pid" || status=$?
            [ "$status" -eq 4 ] || [ "$status" -eq 70 ] || fail "allocation $at: exit $status: $(cat background.err)"
            failed=$((failed + 1))
        fi
        [ -e told ] || break
    done
    if [ $served -le 1 ] || [ $failed -le 30 ]; then fail "$served served, $failed did not"; fi
}

test_no_limit_of_memory_that_may_be_mapped_ends_a_command_by_a_signal() {
    local kib json told=no
    for kib in $(seq 9000 1000 34000); do
        for json in '' --json; do
            export PAWL_STATE=$T/state$json.$kib
            capture bash -c "ulimit -v $kib && exec \"\$1\" map $json echo ::: a" - "$PAWL"
            [ "$rc" -lt 128 ] || fail "$kib KiB: exit $rc"
            [ "$rc" -ne 127 ] || continue # the loader's
            [ "$rc" -eq 0 ] || expect_stderr_match 'too little memory may be mapped|Cannot allocate memory|out of memory'
            [ "$rc" -eq 0 ] || [ -z "$json" ] || json_err .error.message >message
            ! grep -q 'too little memory may be mapped' "$T/err" || told=yes
        done
    done
    expect_eq $told yes
}

test_a_publish_whose_lane_cannot_be_mapped_says_what_the_machine_has_not_enough_of() {
    local publisher
    serve
    pawl queue declare q --topic t
    mkfifo lines
    background sh -c 'exec "$1" publish t --lines <lines' - "$PAWL"
    publisher=$!
    exec 7>lines
    # It is connected and waits, without a bound, for lines, signals or the scheduler; the first line wants a lane.
    wait_until 'grep -qE "^[0-9]+ 0x[0-9a-f]+ 0x3 0x(ffffffff|0) " "/proc/$publisher/syscall"'
    prlimit --pid "$publisher" --as="$(awk '{print $1 * 4096}' "/proc/$publisher/statm")"
    echo line >&7
    exec 7>&-
    expect_end 4 "$publisher"
    grep -q 'the machine has not enough memory to map its lane' background.err
    grep -q 'ulimit -v' background.err
    expect_eq "$(pawl queue show q --json | jq .depth)" 0
    end_serve
}

# without_proc COMMAND...: in a mount namespace whose /proc is empty; as a user in a user namespace of its own.
without_proc() {
    local unshare=(unshare -m)
    [ "$(id -u)" -eq 0 ] || unshare=(unshare -rm)
    "${unshare[@]}" true 2>/dev/null || unshare+=(--propagation unchanged)
    "${unshare[@]}" bash -c 'mount -t tmpfs none /proc && exec "$@"' - "$@"
}

test_without_proc_every_command_says_that_it_is_not_mounted() {
    local verb
    expect_exit 0 pawl queue declare q --topic a
    write flow.yaml <<'YAML'
pawl: 1
steps: {a: {run: ["true"]}}
YAML
    for verb in 'map echo ::: a' 'run flow.yaml' serve 'publish a x' 'consume q --count 1 --auto-ack' 'queue list' \
        runs status health metrics; do
        # shellcheck disable=SC2086
        expect_exit 4 without_proc "$PAWL" $verb
        expect_stderr '/proc is not mounted'
        refute_stderr 'choose another'
    done
    expect_exit 4 without_proc env PAWL_STATE="$T/new" "$PAWL" map echo ::: a
    [ ! -e new ] || fail 'a state directory was made'
    expect_exit 1 without_proc "$PAWL" doctor --json
    expect_json '.checks[] | select(.check == "proc") | .result' fail
}

test_who_has_shut_himself_out_is_not_told_to_let_himself_in() {
    as_a_user
    expect_exit 0 "${AS[@]}" "$PAWL" queue declare q --topic a
    wait_until '[ -z "$(processes)" ]' # else the scheduler that has it open goes on with it
    chmod 000 "$PAWL_STATE/journal/00000001.seg"
    expect_exit 4 "${AS[@]}" "$PAWL" publish a x
    expect_stderr 'journal/00000001.seg: Permission denied'
    refute_stderr allow-uids
    chmod 600 "$PAWL_STATE/journal/00000001.seg"
    chmod 000 "$PAWL_STATE"
    expect_exit 4 "${AS[@]}" "$PAWL" queue list
    expect_stderr 'it is yours'
    refute_stderr 'pawl serve --socket'
    chmod 700 "$PAWL_STATE"
    serve_by "${AS[@]}" "$PAWL" serve --socket "$PAWL_STATE/other.sock"
    chmod 000 "$PAWL_STATE/other.sock"
    local verb
    for verb in 'publish a x' health; do
        # shellcheck disable=SC2086
        expect_exit 4 "${AS[@]}" "$PAWL" $verb --state "$PAWL_STATE/other.sock"
        expect_stderr 'it is yours'
        refute_stderr allow-uids
    done
    end_serve
}
