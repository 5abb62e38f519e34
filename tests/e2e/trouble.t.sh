# trouble.t.sh - a machine that is not as it should be: each trouble gets words, and nothing is lost.

slow test_output_beyond_its_limit_ends_the_step_with_reason_output 180

ok_flow() {
    write ok.yaml <<'YAML'
pawl: 1
steps:
  hello: {run: [echo, hello]}
YAML
}

# disk SIZE: ./disk is a small file system from now on. serve_on SIZE: and its state directory is served, by $server.
# shellcheck disable=SC2016
on_disk='
    disk() { mount -t tmpfs -o size=$1 disk disk; }
    serve_on() {
        disk "$1"
        export PAWL_STATE=$PWD/disk/state
        "$PAWL" serve 2>serve.err &
        server=$!
        until grep -q "serving /" serve.err; do kill -0 "$server"; sleep 0.05; done
    }'

# in_namespace SCRIPT: a bash with $PAWL and the helpers of this file, that may mount. As a user it is root in a
# namespace of its own.
in_namespace() {
    local unshare=(unshare -m) body
    [ "$(id -u)" -eq 0 ] || unshare=(unshare -rm)
    # Below a chroot / is no mount point, whose propagation could be changed.
    "${unshare[@]}" true 2>/dev/null || unshare+=(--propagation unchanged)
    body="set -eu; $on_disk; trap 'umount -l disk 2>/dev/null || true' EXIT; $1"
    mkdir -p disk
    PAWL=$PAWL "${unshare[@]}" bash -c "$body"
}

test_a_step_whose_directory_is_gone_fails_and_names_it() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  lost: {run: [pwd], dir: gone/away}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_stderr 'gone/away: No such file or directory'
    expect_eq "$(step_field lost state)" failed
    expect_exit 0 pawl why last lost
    expect_contains 'cannot enter'
    mkdir -p gone/away
    expect_exit 0 pawl resume last
}

test_output_beyond_its_limit_ends_the_step_with_reason_output() {
    # A hole: two gigabytes without writing them.
    write flow.yaml <<'YAML'
pawl: 1
steps:
  flood: {shell: 'truncate -s 2G /dev/stdout; sleep 30'}
  after: {needs: [flood], run: [touch, ran]}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_eq "$(step_field flood reason)" output
    expect_exit 0 pawl why last flood
    expect_contains 'attempt-output): 1073741824 bytes of it are kept'
    [ ! -e ran ] || fail 'its dependent ran'
}

test_last_words_without_line_ends_are_shown_in_part() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  noise: {shell: 'head -c 100000 /dev/zero; echo; echo the end; exit 1'}
YAML
    expect_exit 1 pawl run flow.yaml
    expect_stderr '| the end'
    [ "$(wc -c <"$T/err")" -lt 4000 ] || fail 'too many words'
}

test_arguments_of_a_hundred_thousand_bytes_and_any_kind_pass_unchanged() {
    head -c 100000 /dev/zero | tr '\0' x >long
    printf 'a\nb "c" '\''d'\'' \\ $HOME \377\376 {}' >wild
    expect_exit 0 pawl map printf '%s' ::: "$(cat long)"
    cmp long "$T/out"
    expect_exit 0 pawl map printf '%s' ::: "$(cat wild)"
    cmp wild "$T/out"
}

test_a_state_directory_of_a_newer_format_is_left_alone() {
    local verb
    ok_flow
    mkdir -m 700 state
    printf 'pawl-state 2\nwhatever comes then\n' >state/format
    for verb in 'run ok.yaml' 'map echo ::: a' runs status 'steps last' 'resume last' gc health; do
        # shellcheck disable=SC2086  # words
        expect_exit 4 pawl $verb
        expect_stderr 'newer pawl (format 2, this one reads 1)'
    done
    expect_exit 4 pawl runs --json
    expect_json_err .error.code state
    expect_eq "$(ls -A state)" format
}

test_a_directory_with_other_files_never_becomes_a_state_directory() {
    ok_flow
    mkdir -m 700 state
    echo mine >state/notes
    expect_exit 4 pawl run ok.yaml
    expect_stderr 'not a pawl state directory'
    expect_eq "$(ls -A state)" notes
}

test_a_state_directory_that_cannot_be_written_is_named_at_once_and_can_be_read() {
    local as=()
    if [ "$(id -u)" -eq 0 ]; then # whom permissions do not stop
        public_directory
        cd "$PUBLIC"
        install -m 755 "$PAWL" tool
        PAWL=$PUBLIC/tool
        export PAWL_STATE=$PUBLIC/state
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    fi
    ok_flow
    expect_exit 0 pawl run --run-id before ok.yaml
    wait_until '[ -z "$(processes)" ]' # its scheduler, to which the next one would be a stranger
    chmod 500 state
    [ "${#as[@]}" -eq 0 ] || chown -R 65534:65534 state
    expect_exit 4 at_most 5 "${as[@]}" "$PAWL" run ok.yaml
    expect_stderr 'cannot be written: Permission denied'
    expect_stderr 'choose another with --state'
    expect_exit 0 "${as[@]}" "$PAWL" runs --json
    expect_contains '"before"'
    expect_exit 4 "${as[@]}" "$PAWL" run --state state/new ok.yaml
    expect_stderr 'cannot make the state directory state/new: Permission denied'
    chmod 700 state
    expect_exit 0 "${as[@]}" "$PAWL" run ok.yaml
}

test_a_read_only_file_system_is_named_at_once_and_can_be_read() {
    ok_flow
    expect_exit 0 in_namespace '
        disk 64m
        "$PAWL" --state disk/state run --run-id before ok.yaml 2>/dev/null
        # Busy until the scheduler has closed the journal, which is after its command ended. The mount, not what is
        # mounted: its options name an owner whom the namespace of a plain user does not know.
        until mount -o remount,bind,ro disk 2>/dev/null; do sleep 0.02; done
        rc=0
        timeout 60 "$PAWL" --state disk/state run ok.yaml || rc=$?
        [ $rc -eq 4 ]
        "$PAWL" --state disk/state logs before hello'
    expect_stdout hello
    expect_stderr 'cannot be written: Read-only file system'
}

test_a_full_disk_refuses_new_work_until_there_is_room_again() {
    ok_flow
    expect_exit 0 in_namespace '
        export PAWL_STATE=disk/state
        disk 64m
        "$PAWL" run --run-id before ok.yaml 2>/dev/null
        gone() { until flock -n disk/state/lock true; do sleep 0.02; done; }
        gone # it gives space back when it ends
        head -c 100m /dev/zero >disk/fill 2>/dev/null || true
        for verb in "run ok.yaml" "map echo ::: a"; do
            rc=0
            "$PAWL" $verb || rc=$?
            # With no scheduler there and not a byte left, none can start either.
            [ $rc -eq 1 ] || [ $rc -eq 4 ]
        done
        "$PAWL" logs before hello
        gone # it looks for room once a second
        rm disk/fill
        "$PAWL" run --run-id after ok.yaml 2>/dev/null
        "$PAWL" logs after hello'
    expect_stdout "$(printf 'hello\nhello')"
    expect_eq "$(grep -c 'the disk is full\|No space left on device' "$T/err")" 2
    expect_eq "$(grep -c 'free some space' "$T/err")" 2
}

test_a_step_that_fills_the_disk_fails_and_its_failure_is_recorded() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  before: {run: [echo, kept]}
  fill: {needs: [before], shell: 'sleep 0.2; cat /dev/zero >disk/fill'}
YAML
    expect_exit 0 in_namespace '
        export PAWL_STATE=disk/state
        disk 64m
        rc=0
        timeout 120 "$PAWL" run --run-id mine flow.yaml || rc=$?
        [ $rc -eq 1 ]
        rm disk/fill
        "$PAWL" logs mine before
        "$PAWL" steps mine --json'
    expect_contains kept
    expect_contains '"step":"before","index":null,"item":null,"state":"succeeded"'
    expect_contains '"step":"fill","index":null,"item":null,"state":"failed"'
    expect_contains '"exit_code":1'
}

test_too_few_descriptors_are_told_before_anything_starts() {
    ok_flow
    expect_exit 4 at_most 5 bash -c 'ulimit -n 32; exec "$0" run ok.yaml' "$PAWL"
    expect_stderr_match 'too few (open files|file descriptors).* 32'
    expect_exit 0 bash -c 'ulimit -n 100; exec "$0" run -j 10 ok.yaml' "$PAWL"
    expect_eq "$(step_field hello attempts)" 1
}

test_too_few_descriptors_of_the_server_are_told_to_who_asks_for_more_slots() {
    ok_flow
    serve_by bash -c 'ulimit -n 100; exec "$0" serve' "$PAWL"
    expect_exit 4 at_most 5 "$PAWL" run -j 20 ok.yaml
    expect_stderr 'too few file descriptors: the limit is 100, 20 slots need 148'
    expect_stderr 'fewer slots with -j'
    expect_exit 0 pawl run -j 10 ok.yaml
}

test_a_low_soft_limit_of_descriptors_is_raised_for_pawl_and_kept_for_jobs() {
    expect_exit 0 bash -c 'ulimit -Sn 70; exec "$0" map -j 30 sh -c "ulimit -Sn; sleep 0.1" ::: $(seq 30)' "$PAWL"
    expect_lines 30
    expect_eq "$(sort -u "$T/out")" 70
}

test_a_soft_limit_of_file_size_binds_jobs_and_does_not_kill_pawl() {
    expect_exit 1 at_most 30 bash -c 'ulimit -Sf 64; exec "$0" map head -c 100000 ::: /dev/zero' "$PAWL"
    expect_stderr 'signal 25'
    expect_exit 0 at_most 30 bash -c 'ulimit -Sf 64; exec "$0" map echo ::: a' "$PAWL"
    expect_stdout a
}

test_a_hard_limit_of_file_size_is_an_error_with_words() {
    expect_exit 4 at_most 30 bash -c 'ulimit -f 64; exec "$0" map echo ::: a' "$PAWL"
    expect_stderr 'File too large'
}

test_without_io_uring_everything_works_and_doctor_says_so() {
    export PAWL_IO=syscall
    ok_flow
    expect_exit 0 pawl run ok.yaml
    expect_exit 0 pawl map -k echo ::: a b c
    expect_stdout "$(printf 'a\nb\nc')"
    capture pawl doctor
    expect_match 'io_uring'
}

# It is the queue itself that fills the disk, and nothing else will make room.
test_a_disk_that_a_backlog_filled_takes_events_again_once_they_are_consumed() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        serve_on 40M
        "$PAWL" queue declare q --topic t --max-bytes 4G
        head -c 20000 /dev/zero | tr "\0" x >line
        for i in {1..2500}; do echo -n "$i " && cat line && echo; done >lines
        ! timeout 240 "$PAWL" publish t --lines <lines >ids 2>refusals
        grep -q "no room for new work (16 MiB are kept back" refusals
        { "$PAWL" health || true; } | grep -q "16 MiB are kept back"
        kept=$(wc -l <ids)
        [ "$kept" -gt 500 ] && [ "$kept" -lt 2500 ]
        timeout 240 "$PAWL" consume q --auto-ack --count "$kept" --wait 2m | jq -r .event | sort -u >got
        [ "$(wc -l <got)" = "$kept" ]
        deadline=$((SECONDS + 120))
        until echo more | "$PAWL" publish t 2>/dev/null; do [ $SECONDS -lt $deadline ]; sleep 0.2; done
        kill "$server" && wait "$server"'
}

# The few that wait for longer do not keep the space of all that was consumed.
test_a_few_events_that_stay_do_not_keep_a_disk_full_that_a_backlog_filled() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        serve_on 40M
        "$PAWL" queue declare q --topic t --max-bytes 4G
        "$PAWL" queue declare later --topic later
        head -c 20000 /dev/zero | tr "\0" x >line
        for i in {1..100}; do echo -n "$i " && cat line && echo; done >lines
        : >kept
        stay=0
        while timeout 60 "$PAWL" publish later "stays $stay" >/dev/null 2>>refusals; do
            stay=$((stay + 1))
            timeout 240 "$PAWL" publish t --lines <lines >>kept 2>>refusals || break
        done
        grep -q "no room for new work (16 MiB are kept back" refusals
        [ "$stay" -ge 5 ]
        kept=$(wc -l <kept)
        timeout 240 "$PAWL" consume q --auto-ack --count "$kept" --wait 2m >/dev/null
        deadline=$((SECONDS + 120))
        until echo more | "$PAWL" publish t 2>/dev/null; do [ $SECONDS -lt $deadline ]; sleep 0.2; done
        timeout 60 "$PAWL" consume later --auto-ack --count "$stay" --wait 60s | jq -r .data >got
        for i in $(seq 0 $((stay - 1))); do echo "stays $i"; done | cmp - got
        kill "$server" && wait "$server"
        "$PAWL" journal verify'
}

# So much that is not synced yet when space ends: what was taken up must not eat what settlements live on.
test_publishers_of_large_events_leave_room_to_consume_all_that_was_confirmed() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        serve_on 48M
        "$PAWL" queue declare q --topic t --max-bytes 4G
        head -c 1000000 /dev/zero | tr "\0" x >line
        for i in {1..30}; do echo -n "$i " && cat line && echo; done >lines
        for p in {1..4}; do
            timeout 240 "$PAWL" publish t --lines <lines >ids$p 2>/dev/null &
            publishers+=($!)
        done
        for p in "${publishers[@]}"; do ! wait "$p"; done
        kept=$(cat ids? | wc -l)
        [ "$kept" -gt 20 ]
        timeout 240 "$PAWL" consume q --auto-ack --count "$kept" --wait 2m | jq -r .event | sort -u >got
        [ "$(wc -l <got)" = "$kept" ]
        deadline=$((SECONDS + 120))
        until echo more | "$PAWL" publish t 2>/dev/null; do [ $SECONDS -lt $deadline ]; sleep 0.2; done
        ! grep "reserve of 16 MiB is used" disk/state/scheduler.log
        kill %1 && wait %1'
}

# FILL takes the last byte of the disk; who serves is killed there.
killed_on_a_full_disk='
    export PAWL_STATE=$PWD/disk/state
    serve() {
        : >serve.err
        "$PAWL" serve 2>serve.err &
        served=$!
        until grep -q "serving /" serve.err; do kill -0 $served; sleep 0.05; done
    }
    fill() { for _ in 1 2; do head -c 100m /dev/zero >>disk/fill 2>/dev/null || true; done; }
    disk 32m
    serve
    "$PAWL" queue declare q --topic t
    printf "%s\n" one two three | "$PAWL" publish t --lines >ids
    kill -9 $served
    wait $served || true
    until flock -n disk/state/lock true; do sleep 0.02; done'

test_a_server_killed_on_a_disk_without_a_byte_left_starts_and_settles() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace "$killed_on_a_full_disk"'
        fill
        serve
        rc=0
        echo four | timeout 60 "$PAWL" publish t 2>refusal || rc=$?
        [ $rc = 1 ] && grep -q "no room for new work" refusal
        "$PAWL" consume q --auto-ack --count 2 --wait 60s | jq -r .data
        kill -9 $served
        wait $served || true
        until flock -n disk/state/lock true; do sleep 0.02; done
        fill
        serve
        "$PAWL" consume q --auto-ack --count 1 --wait 60s | jq -r .data
        rm disk/fill
        deadline=$((SECONDS + 120))
        until echo five | "$PAWL" publish t >/dev/null 2>&1; do [ $SECONDS -lt $deadline ]; sleep 0.2; done
        "$PAWL" consume q --auto-ack --count 1 --wait 60s | jq -r .data
        kill $served && wait $served
        "$PAWL" journal verify'
    expect_contains "$(printf 'one\ntwo\nthree\nfive\n')"
}

# The next one would take the same epoch, and give the same deliveries again.
test_without_a_byte_for_its_epoch_a_server_delivers_nothing() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace "$killed_on_a_full_disk"'
        serve
        kill $served && wait $served # all is on disk, and no reserve
        fill
        serve
        consume() { timeout 60 "$PAWL" consume q --count 1 --wait "$1" --exec sh -c "echo \$PAWL_DELIVERY >>given"; }
        consume 1s
        [ ! -e given ]
        rm disk/fill
        consume 60s
        [ "$(wc -l <given)" = 1 ]
        kill $served && wait $served'
}

# As it is where a temporary scheduler was killed, or the disk had no room for a reserve.
test_without_a_byte_and_without_a_reserve_all_can_be_read_and_goes_on_with_some_room() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace "$killed_on_a_full_disk"'
        rm -f disk/state/journal/reserve.* # the server may have been killed before it made them
        fill
        if ! "$PAWL" queue list --json >list 2>words; then
            grep -q "[0-9] bytes are needed" words # a file system without O_DIRECT
            rm disk/fill
            "$PAWL" queue list --json >list
            fill
        fi
        [ "$(jq ".queues[] | select(.name == \"q\") | .depth" list)" = 3 ]
        if serve; then
            rc=0
            echo four | timeout 60 "$PAWL" publish t 2>refusal || rc=$?
            [ $rc = 1 ]
            rm disk/fill
            "$PAWL" consume q --auto-ack --count 3 --wait 60s | jq -r .data
            kill $served && wait $served
        fi
        "$PAWL" journal verify'
    expect_contains "$(printf 'one\ntwo\nthree\n')"
}

test_who_waits_for_a_full_disk_is_told_once_and_once_more_when_it_goes_on() {
    write flow.yaml <<'YAML'
pawl: 1
steps:
  work: {foreach: "${{ [1, 2, 3] }}", shell: 'echo $PAWL_INDEX >>begun; until [ -e gate$PAWL_INDEX ]; do sleep 0.02; done'}
YAML
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        export PAWL_STATE=disk/state
        wait_for() { for _ in {1..9000}; do ! eval "$1" || return 0; sleep 0.02; done; return 1; }
        disk 32m
        "$PAWL" run --run-id mine -j 1 flow.yaml 2>run.err &
        run=$!
        wait_for "grep -qs 0 begun"
        "$PAWL" wait mine 2>wait.err &
        waiting=$!
        head -c 100m /dev/zero >disk/fill 2>/dev/null || true
        : >gate0
        wait_for "grep -q \"is full\" run.err"
        wait_for "grep -q \"pawl wait: the disk of .* is full\" wait.err"
        : >gate1
        rm disk/fill
        wait_for "grep -q \"has room again\" run.err"
        wait_for "grep -q \"pawl wait: the disk of .* has room again\" wait.err"
        : >gate2
        wait "$run" && wait "$waiting"
        cat run.err'
    expect_eq "$(grep -c 'the disk of .* is full: what cannot be recorded waits' "$T/out")" 1
    expect_eq "$(grep -c 'has room again: it goes on' "$T/out")" 1
}

# A scheduler without a reserve has nothing to write to there, and nothing to do either.
slow test_who_waits_for_a_full_disk_gives_up_a_scheduler_that_is_stopped_and_no_other 240
once test_who_waits_for_a_full_disk_gives_up_a_scheduler_that_is_stopped_and_no_other # what waits are commands
test_who_waits_for_a_full_disk_gives_up_a_scheduler_that_is_stopped_and_no_other() {
    local submit cancel scheduler pid try
    ok_flow
    build_failing_disk
    serve_by env PAWL_IO=syscall ./failing_disk full "$T/full" "$PAWL" serve
    scheduler=$(the_pid_of scheduler)
    # One that comes when the scheduler has just found out by itself is refused: once more then.
    for try in {1..20}; do
        touch "$T/full"
        "$PAWL" run --run-id "mine-$try" ok.yaml 2>submit.err &
        submit=$!
        wait_until 'grep -qs "is full" submit.err'
        grep -q 'nothing new is accepted' submit.err || break
        wait "$submit" || true
        rm "$T/full"
        wait_until 'pawl run ok.yaml 2>/dev/null'
    done
    "$PAWL" cancel "mine-$try" 2>cancel.err &
    cancel=$!
    wait_until 'grep -qs "the disk of .* is full: what cannot be recorded waits" cancel.err'
    sleep 45 # longer than anybody who says nothing is waited for
    kill -0 "$submit" || fail "run gave it up: $(cat submit.err)"
    kill -0 "$cancel" || fail "cancel gave it up: $(cat cancel.err)"
    kill -STOP "$scheduler"
    for pid in "$submit" "$cancel"; do
        capture wait "$pid"
        expect_eq "$rc" 4
    done
    expect_eq "$(grep -c 'does not answer' submit.err cancel.err | xargs)" 'submit.err:1 cancel.err:1'
    rm "$T/full"
    kill -CONT "$scheduler"
    end_serve
}

test_a_publisher_whose_disk_is_full_is_told_once_and_once_more_when_it_goes_on() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        export PAWL_STATE=$PWD/disk/state
        wait_for() { for _ in {1..9000}; do ! eval "$1" || return 0; sleep 0.02; done; return 1; }
        disk 32m
        "$PAWL" serve 2>serve.err &
        server=$!
        wait_for "grep -q \"serving /\" serve.err"
        "$PAWL" queue declare q --topic t
        mkfifo lines
        "$PAWL" publish t --lines <lines >ids 2>said &
        publisher=$!
        exec 3>lines
        echo one >&3
        wait_for "[ -s ids ]"
        head -c 100m /dev/zero >disk/fill 2>/dev/null || true
        echo two >&3
        wait_for "grep -q \"is full\" said"
        rm disk/fill
        wait_for "grep -q \"has room again\" said"
        echo three >&3
        exec 3>&-
        wait "$publisher"
        [ "$(wc -l <ids)" = 3 ]
        kill "$server" && wait "$server"
        cat said'
    expect_eq "$(grep -c 'the disk of .* is full: what cannot be recorded waits' "$T/out")" 1
    expect_eq "$(grep -c 'has room again: it goes on' "$T/out")" 1
}

# Without a reserve, which a scheduler of a verb's own does not have yet, nothing at all can be recorded.
test_a_consume_that_is_ended_on_a_full_disk_ends_at_once_and_what_it_was_not_shown_goes_back() {
    # shellcheck disable=SC2016
    expect_exit 0 in_namespace '
        export PAWL_STATE=$PWD/disk/state
        wait_for() { for _ in {1..3000}; do ! eval "$1" || return 0; sleep 0.02; done; return 1; }
        disk 32m
        "$PAWL" queue declare q --topic t
        printf "%s\n" one two three | "$PAWL" publish t --lines >ids
        "$PAWL" queue pause q
        "$PAWL" consume q >shown 2>said &
        consumer=$!
        "$PAWL" consume q --wait 2h >other 2>said2 & # who keeps the scheduler
        other=$!
        wait_for "grep -q paused said && grep -q paused said2"
        for _ in 1 2; do head -c 100m /dev/zero >>disk/fill 2>/dev/null || true; done
        "$PAWL" queue resume q &
        resume=$!
        wait_for "grep -q \"is full\" said"
        kill "$consumer"
        rc=0
        wait "$consumer" || rc=$?
        [ $rc = 5 ] && [ ! -s shown ]
        kill "$other"
        rc=0
        wait "$other" || rc=$?
        [ $rc = 5 ] && [ ! -s other ]
        rm disk/fill
        wait "$resume"
        "$PAWL" consume q --auto-ack --count 3 --wait 60s | jq -r "[.data, .failures] | join(\" \")" | sort'
    expect_stdout "$(printf 'one 0\nthree 0\ntwo 0')"
}

test_a_run_whose_workers_cannot_start_is_interrupted_with_the_reason_and_resumed_later() {
    ok_flow
    mkdir -p state/spool/w1.out
    expect_exit 5 at_most 50 "$PAWL" run --run-id mine -j 1 ok.yaml
    expect_stderr "no worker can be started (the last of 10: it ended with exit code 70)"
    expect_stderr "pawl: go on with: "
    expect_eq "$(grep -c 'supervisor\[[0-9]*\] warning: worker 1 ended with exit code 70' state/scheduler.log)" 10
    rmdir state/spool/w1.out
    expect_exit 0 pawl resume mine
    expect_eq "$(step_field hello attempts mine)" 1
}

# deaths NAME: the scheduler and a worker of a run are killed, and it goes on.
deaths() {
    rm -f live go
    background pawl run --run-id "$1" wait.yaml
    wait_until '[ -e live ]'
    kill -KILL "$(the_pid_of 'worker 1')"
    wait_until 'grep -q "worker 1 was killed by signal 9" state/scheduler.log'
    kill -KILL "$(the_pid_of scheduler)"
    wait_until 'grep -q "the scheduler was killed by signal 9" state/scheduler.log'
    touch go
    expect_end 0 "${BACKGROUND[-1]}"
}

test_every_line_of_the_log_has_the_time_the_process_and_how_bad_it_is() {
    write wait.yaml <<'YAML'
pawl: 1
steps: {wait: {shell: 'touch live; while [ ! -e go ]; do sleep 0.02; done', retries: 2}}
YAML
    deaths by-itself
    wait_until '[ -z "$(processes)" ]'
    mv state/scheduler.log one.log
    serve
    deaths served
    end_serve
    cat one.log state/scheduler.log >both.log
    expect_eq "$(grep -c 'supervisor\[[0-9]*\] warning: the scheduler was killed by signal 9' both.log)" 2
    expect_eq "$(grep -vE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z [a-z][a-z0-9 ]*\[[0-9]+\] (info|warning|error): ' both.log)" ''
}

unhealthy() { capture pawl health --json && [ "$rc" = 1 ] && [[ $(json '.components[] | select(.name == "workers") | .message') == *"in a row ended before they did anything"* ]]; }

test_health_tells_of_workers_that_cannot_start() {
    ok_flow
    mkdir -p state/spool/w1.out
    background pawl run --run-id mine -j 1 ok.yaml
    local run=$!
    wait_until unhealthy 30
    rmdir state/spool/w1.out
    expect_end 0 "$run"
}

slow test_who_asks_a_scheduler_that_is_stopped_gives_up_with_exit_4 120
once test_who_asks_a_scheduler_that_is_stopped_gives_up_with_exit_4 # what waits is the command, which does no such I/O
test_who_asks_a_scheduler_that_is_stopped_gives_up_with_exit_4() {
    ok_flow
    serve
    expect_exit 0 pawl run --run-id mine ok.yaml
    pawl queue declare q --topic a
    mkdir said
    local scheduler verb pid pids=()
    scheduler=$(the_pid_of scheduler)
    kill -STOP "$scheduler"
    # At once: each of them waits for half a minute.
    for verb in 'status' 'runs --json' 'steps last' 'cancel last' 'gc' 'wait last' 'run ok.yaml' 'queue list'; do
        # shellcheck disable=SC2086  # words
        at_most 100 "$PAWL" $verb >"said/$verb.out" 2>"said/$verb.err" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do expect_end 4 "$pid"; done
    for verb in said/*.err; do
        grep -q 'does not answer' "$verb" || fail "$verb: $(cat "$verb")"
    done
    expect_file 'said/runs --json.out' ''
    expect_eq "$(jq -r .error.hint 'said/runs --json.err')" "if it was stopped it goes on with: kill -CONT $scheduler; pawl health says more"
    kill -CONT "$scheduler"
    expect_exit 0 pawl status --json
    end_serve
}
