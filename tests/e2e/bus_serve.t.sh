# bus_serve.t.sh - serve: owns the directory, drains, reads its configuration again, sockets, service manager.

in_flight_of() { pawl queue show "$1" --json | jq .in_flight; }
ack_wait_of_new() {
    pawl queue declare "$1" --topic never
    pawl queue show "$1" --json | jq .config.ack_wait_ns
}

test_serve_is_the_supervisor_and_ends_clean_at_sigterm_and_at_an_interrupt() {
    local how
    for how in TERM INT; do
        serve
        expect_eq "$(the_pid_of supervisor)" "$SERVE"
        expect_exit 0 pawl health --json
        expect_json .status serving
        end_serve $how
        wait_until '[ -z "$(processes)" ]' 5
        expect_exit 0 pawl journal verify
    done
}

test_a_directory_that_is_served_is_not_served_twice() {
    serve
    expect_exit 4 pawl serve
    expect_stderr "pid $SERVE"
    expect_exit 4 pawl serve --json
    expect_json_err .error.code busy
    end_serve
}

test_a_server_that_was_killed_is_waited_for_until_the_last_of_its_processes_has_ended() {
    serve
    kill -9 "$SERVE"
    wait "$SERVE" || true
    exec 9<>"$PAWL_STATE/lock"
    wait_until 'flock -n 9' # as one of its children that is slow to end
    background pawl serve 9>&-
    SERVE=$!
    local begun # half a second is enough to be refused in, and far from what it waits at most
    # shellcheck disable=SC2034  # for wait_until
    begun=$(now_ms)
    wait_until '[ -s background.err ] || [ $(($(now_ms) - begun)) -gt 500 ]'
    kill -0 "$SERVE" 2>/dev/null || fail "it did not wait: $(cat background.err)"
    exec 9>&-
    wait_until 'grep -q "serving /" background.err'
    kill -TERM "$SERVE"
    expect_end 0 "$SERVE"
}

test_a_served_directory_needs_no_scheduler_of_a_command() {
    serve
    local scheduler
    scheduler=$(the_pid_of scheduler)
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_eq "$(the_pid_of scheduler)" "$scheduler"
    end_serve
}

test_runs_go_through_a_served_directory_too() {
    write flow.yaml <<'YAML'
pawl: 1
steps: {one: {run: [echo, hello]}}
YAML
    serve
    expect_exit 0 pawl run flow.yaml
    expect_exit 0 pawl logs last one
    expect_stdout hello
    end_serve
}

test_serve_restarts_a_scheduler_that_died() {
    serve
    pawl queue declare q --topic a
    pawl publish a kept >/dev/null
    kill_scheduler
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data kept
    end_serve
}

test_a_command_whose_scheduler_died_meanwhile_came_too_late_and_the_exit_code_says_so() {
    serve
    local consumer
    pawl queue declare q --topic a
    pawl publish a one >/dev/null
    background pawl consume q --count 1 --exec sh -c 'touch begun; until [ -e go ]; do sleep 0.02; done'
    consumer=$!
    wait_until '[ -e begun ]'
    kill_scheduler
    wait_until 'pawl queue list'
    touch go
    expect_end 1 "$consumer"
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .failures 0
    end_serve
}

test_a_drain_lets_what_is_in_flight_settle_and_delivers_nothing_new() {
    serve
    pawl queue declare q --topic a
    seq 2 | pawl publish a --lines >/dev/null
    local consumer
    background pawl consume q --exec sh -c 'echo "$PAWL_ATTEMPT" >>began; while [ ! -e go ]; do sleep 0.02; done'
    consumer=$!
    wait_until '[ -e began ]'
    kill -TERM "$SERVE"
    wait_until 'grep -q "asked to stop" state/scheduler.log'
    touch go
    expect_end 0 "$SERVE"
    kill -INT "$consumer"
    wait "$consumer" || true
    expect_eq "$(wc -l <began)" 1
    expect_eq "$(pawl consume q --peek | jq -r .data)" 2
}

test_a_drain_ends_when_its_grace_is_over() {
    write pawl.yaml <<<'grace: 1d' # it would not end in this test's time
    PAWL_GRACE=300ms serve --config pawl.yaml
    pawl queue declare q --topic a --ack-wait 1h
    pawl publish a x >/dev/null
    background pawl consume q --exec sh -c 'touch begun; exec sleep 3000' # and it does not end by itself
    wait_until '[ -e begun ]'
    end_serve
    grep -q 'asked to stop' serve.err
}

test_the_configuration_is_read_at_the_start_and_again_at_sighup() {
    mkdir -m 700 state
    echo 'ack-wait: 41s' >state/pawl.yaml
    serve
    expect_eq "$(ack_wait_of_new one)" 41000000000
    echo 'ack-wait: 42s' >state/pawl.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "read again" state/scheduler.log'
    expect_eq "$(ack_wait_of_new two)" 42000000000
    end_serve
}

test_a_mistake_in_the_configuration_changes_nothing_and_is_logged_with_its_place() {
    mkdir -m 700 state
    echo 'ack-wait: 41s' >state/pawl.yaml
    serve
    printf 'max-deliver: 3\nack-wiat: 42s\n' >state/pawl.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "not taken up" state/scheduler.log'
    grep -q 'pawl.yaml:2:1: .*ack-wiat.*ack-wait' state/scheduler.log || fail 'no place, or no hint'
    expect_eq "$(ack_wait_of_new two)" 41000000000
    expect_eq "$(pawl queue show two --json | jq .config.retry.limit)" 5
    end_serve
}

test_a_queue_that_cannot_be_changed_so_is_such_a_mistake() {
    mkdir -m 700 state
    echo 'ack-wait: 41s' >state/pawl.yaml
    serve
    pawl queue declare q --topic a
    printf 'ack-wait: 42s\nqueues:\n  new: {topic: b}\n  q: {topic: a, stream: true}\n' >state/pawl.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "not taken up" state/scheduler.log'
    grep -q 'line 4, column 3: queue q: .*stream' state/scheduler.log || fail 'no place'
    expect_eq "$(pawl queue list --json | jq -r '[.queues[].name] | join(" ")')" q
    expect_eq "$(ack_wait_of_new two)" 41000000000
    end_serve
}

test_a_scheduler_that_is_restarted_with_a_broken_configuration_keeps_the_one_before() {
    mkdir -m 700 state
    echo 'ack-wait: 41s' >state/pawl.yaml
    serve
    echo 'ack-wiat: 42s' >state/pawl.yaml
    kill_scheduler
    expect_eq "$(ack_wait_of_new two)" 41000000000
    end_serve
}

test_serve_does_not_start_with_a_mistake_in_its_configuration() {
    printf 'queues:\n  orders: {topic: "a..b"}\n' >my.yaml
    expect_exit 3 pawl serve --config my.yaml
    expect_stderr_match '^.*my.yaml:2:19: '
    expect_exit 3 pawl serve --config nosuch.yaml
    expect_stderr nosuch.yaml
}

test_queues_of_the_configuration_are_declared_and_changed_by_a_reload() {
    cat >my.yaml <<'YAML'
queues:
  orders: {topic: 'order.*', ack-wait: 1m, retry: [deadline=2], stream: false}
  clicks:
    topics: ['click.#', view.*]
    stream: true
    retain: 7d
YAML
    serve --config my.yaml
    expect_exit 0 pawl queue list --json
    expect_json '[.queues[] | .name] | sort | join(" ")' 'clicks orders'
    expect_eq "$(pawl queue show orders --json | jq -c .config.ack_wait_ns)" 60000000000
    expect_eq "$(pawl queue show clicks --json | jq -c '[.config.stream, .config.topics]')" '[true,["click.#","view.*"]]'
    sed -i 's/ack-wait: 1m/ack-wait: 2m/' my.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "read again" state/scheduler.log'
    expect_eq "$(pawl queue show orders --json | jq -c .config.ack_wait_ns)" 120000000000
    end_serve
}

test_an_additional_socket_is_served_and_goes_with_the_server() {
    local verb
    mkdir run
    serve --socket run/pawl.sock
    [ -S run/pawl.sock ] || fail 'no socket'
    expect_eq "$(stat -c %a run/pawl.sock)" 600
    python3 - run/pawl.sock <<'PY'
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
body = struct.pack("<IIII", 1, 1, 0, 0)
s.sendall(struct.pack("<IHHQ", len(body), 1, 0, 7) + body)
size, kind, fds, tag = struct.unpack("<IHHQ", s.recv(16, socket.MSG_WAITALL))
assert (kind, tag) == (2, 7), (kind, tag)
PY
    expect_exit 0 pawl queue list
    expect_exit 0 pawl --state run/pawl.sock queue list
    expect_exit 4 pawl --state run/pawl.sock runs
    expect_stderr 'run/pawl.sock is a socket: this needs the state directory that it serves'
    end_serve
    [ ! -e run/pawl.sock ] || fail 'the socket was left'
}

test_a_socket_is_found_however_long_its_path_is() {
    local deep
    deep=$T/$(printf 'deep/%.0s' {1..40})
    mkdir -p "$deep"
    serve --socket "$deep/pawl.sock"
    expect_exit 0 pawl queue declare q --topic a --state "$deep/pawl.sock"
    expect_exit 0 pawl publish --state "$deep/pawl.sock" a one
    expect_exit 0 pawl consume q --state "$deep/pawl.sock" --count 1 --wait 2m
    expect_json .data one
    end_serve
}

test_a_path_that_is_no_socket_is_not_replaced() {
    echo precious >file
    expect_exit 2 pawl serve --socket file
    expect_file file precious
}

test_a_service_manager_passes_sockets_and_is_told() {
    leave_running
    public_directory # a service manager's own socket has a short path
    cat >manager.py <<'PY'
import os, socket, sys
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind("passed.sock")
listener.listen()
pid = os.fork()
if pid == 0:
    os.dup2(listener.fileno(), 3)
    os.environ.update(NOTIFY_SOCKET=sys.argv[2], LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(sys.argv[1], ["pawl", "serve"])
open("pid", "w").write(str(pid))
said = open("said", "w", buffering=1)
client = None
while True:
    text = notify.recv(4096).decode()
    said.write(text.split("\n")[0] + "\n")
    if text == "READY=1" and client is None:
        client = socket.socket(socket.AF_UNIX)
        client.connect("passed.sock")
        client.sendall(bytes([16, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]) + bytes([1, 0, 0, 0, 1, 0, 0, 0] + [0] * 8))
        said.write("WELCOME\n" if client.recv(6)[4] == 2 else "WHAT?\n")
    if text == "STOPPING=1":
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
    background python3 manager.py "$PAWL" "$PUBLIC/notify"
    local manager=$!
    wait_until 'grep -q WELCOME said'
    kill -HUP "$(cat pid)"
    wait_until '[ "$(grep -c READY said)" = 2 ]'
    kill -TERM "$(cat pid)"
    expect_end 0 "$manager"
    expect_eq "$(tr '\n' ' ' <said)" 'READY=1 WELCOME RELOADING=1 READY=1 STOPPING=1 '
}

test_logs_go_to_standard_error_and_to_the_directory() {
    serve
    end_serve
    grep -q 'asked to stop' serve.err || fail 'nothing on standard error'
    grep -q 'asked to stop' state/scheduler.log || fail 'nothing in scheduler.log'
}

# As root the guest is somebody else; as a user there is nobody else to be, and the socket's mode has to do.
test_guests_may_use_the_bus_and_start_no_runs_and_strangers_nothing() {
    mkdir -m 700 state
    echo 'allow-uids: [65534]' >state/pawl.yaml
    local guest
    public_directory
    serve --socket "$PUBLIC/pawl.sock"
    expect_eq "$(stat -c %a "$PUBLIC/pawl.sock")" 666
    guest=$(
        cat <<'PY'
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
def call(kind, body):
    s.sendall(struct.pack("<IHHQ", len(body), kind, 0, 7) + body + bytes(-len(body) % 8))
    head = s.recv(16, socket.MSG_WAITALL)
    size, kind, _, _ = struct.unpack("<IHHQ", head)
    s.recv((size + 7) // 8 * 8, socket.MSG_WAITALL)
    return kind
try:
    said = [call(1, struct.pack("<IIII", 1, 1, 0, 0)), call(128, b'{"op":"queue.list"}'), call(int(sys.argv[1]), b"")]
except (OSError, struct.error):
    said = "closed"
print(said)
PY
    )
    local runs=27
    if [ "$(id -u)" = 0 ]; then
        expect_exit 0 setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c "$guest" $runs "$PUBLIC/pawl.sock"
        expect_stdout '[2, 129, 3]'
        expect_exit 0 setpriv --reuid 65533 --regid 65533 --clear-groups /usr/bin/python3 -c "$guest" $runs "$PUBLIC/pawl.sock"
        expect_stdout closed
    fi
    expect_exit 0 /usr/bin/python3 -c "$guest" $runs "$PUBLIC/pawl.sock"
    expect_stdout '[2, 129, 28]'
    end_serve
    rmdir "$PUBLIC"
}

test_a_reload_lets_guests_in_and_shuts_them_out() {
    mkdir -m 700 state
    : >state/pawl.yaml
    public_directory
    serve --socket "$PUBLIC/pawl.sock"
    expect_eq "$(stat -c %a "$PUBLIC/pawl.sock")" 600
    echo 'allow-uids: [65534]' >state/pawl.yaml
    kill -HUP "$SERVE"
    wait_until 'grep -q "read again" state/scheduler.log' # the mode is changed before that
    expect_eq "$(stat -c %a "$PUBLIC/pawl.sock")" 666
    if [ "$(id -u)" = 0 ]; then
        install -m 755 "$PAWL" "$PUBLIC/pawl"
        (cd "$PUBLIC" && setpriv --reuid=65534 --regid=65534 --clear-groups ./pawl queue list --state "$PUBLIC/pawl.sock")
        rm "$PUBLIC/pawl"
    fi
    echo 'allow-uids: {}' >state/pawl.yaml # a mistake changes nothing
    kill -HUP "$SERVE"
    wait_until 'grep -q "allow-uids" state/scheduler.log'
    expect_eq "$(stat -c %a "$PUBLIC/pawl.sock")" 666
    : >state/pawl.yaml
    kill -HUP "$SERVE"
    wait_until '[ "$(stat -c %a "$PUBLIC/pawl.sock")" = 600 ]'
    end_serve
    rmdir "$PUBLIC"
}

test_the_verbs_of_the_bus_take_a_socket_and_strangers_are_told_at_once() {
    mkdir -m 700 state
    echo 'allow-uids: [65534]' >state/pawl.yaml
    local as=() stranger=()
    public_directory
    install -m 755 "$PAWL" "$PUBLIC/pawl"
    serve --socket "$PUBLIC/socket"
    pawl queue declare q --topic a
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
        stranger=(setpriv --reuid=65533 --regid=65533 --clear-groups)
    fi
    cd "$PUBLIC" # where somebody else may be
    capture "${as[@]}" "$PUBLIC/pawl" publish --state "$PUBLIC/socket" a one
    expect_eq "$rc" 0
    capture "${as[@]}" "$PUBLIC/pawl" consume q --state "$PUBLIC/socket" --count 1 --wait 2m
    expect_json .data one
    capture "${as[@]}" "$PUBLIC/pawl" ack --state "$PUBLIC/socket" "$(json .delivery)"
    expect_eq "$rc $(in_flight_of q)" '0 0'
    if [ "$(id -u)" = 0 ]; then
        local before
        before=$(now_ms)
        capture "${stranger[@]}" "$PUBLIC/pawl" publish --state "$PUBLIC/socket" a two
        expect_eq "$rc" 4
        expect_stderr allow-uids
        [ $(($(now_ms) - before)) -lt 25000 ] || fail 'it tried again and again'
    fi
    cd "$T"
    end_serve
}

test_metrics_health_and_top_see_through_a_socket_whatever_is_not_the_owners_alone() {
    mkdir -m 700 state
    echo 'allow-uids: [65534]' >state/pawl.yaml
    local as=() stranger=() verb
    public_directory
    install -m 755 "$PAWL" "$PUBLIC/pawl"
    serve --socket "$PUBLIC/socket"
    pawl queue declare q --topic a
    pawl publish a x >/dev/null
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
        stranger=(setpriv --reuid=65533 --regid=65533 --clear-groups)
    fi
    cd "$PUBLIC"
    capture "${as[@]}" "$PUBLIC/pawl" metrics --state "$PUBLIC/socket"
    expect_eq "$rc" 0
    expect_match '^pawl_queue_depth\{queue="q"\} 1$'
    capture "${as[@]}" "$PUBLIC/pawl" metrics --state "$PUBLIC/socket" --format json --over 10ms
    expect_json '.queues[0].depth' 1
    capture "${as[@]}" "$PUBLIC/pawl" top --state "$PUBLIC/socket" --once --interval 100ms
    expect_eq "$rc" 0
    expect_match '^q +1 '
    capture "${as[@]}" "$PUBLIC/pawl" health --state "$PUBLIC/socket" --json
    expect_eq "$rc" 0
    expect_json '.ready, (.components[] | select(.name == "disk") | .status, .message)' \
        $'true\nunknown\nonly who may open the state directory can tell'
    expect_json '[.processes[].role] | index("scheduler") != null' true
    if [ "$(id -u)" = 0 ]; then
        mkdir -m 700 "$PUBLIC/closed"
        for verb in metrics health 'top --once'; do
            # shellcheck disable=SC2086  # several words
            capture "${stranger[@]}" "$PUBLIC/pawl" $verb --state "$PUBLIC/socket"
            expect_eq "$rc" 4
            expect_stderr allow-uids
            # shellcheck disable=SC2086
            capture "${as[@]}" "$PUBLIC/pawl" $verb --state "$PUBLIC/closed"
            expect_eq "$rc" 4
            expect_stderr 'pawl serve --socket'
        done
        chmod 600 "$PUBLIC/socket"
        for verb in metrics health 'top --once'; do
            # shellcheck disable=SC2086
            capture "${as[@]}" "$PUBLIC/pawl" $verb --state "$PUBLIC/socket"
            expect_eq "$rc" 4
            expect_stderr 'is not yours to use'
        done
    fi
    cd "$T"
    end_serve
}

test_who_looks_through_a_socket_is_told_that_nobody_serves_and_waits_for_a_restart() {
    serve --socket "$T/pawl.sock"
    pawl queue declare q --topic a
    kill -KILL "$(the_pid_of scheduler)"
    expect_exit 0 pawl --state pawl.sock metrics
    expect_match '^pawl_queue_depth\{queue="q"\} 0$'
    cp -a pawl.sock left.sock # the same inode's name, when nobody listens any more
    end_serve
    for verb in metrics health 'top --once'; do
        # shellcheck disable=SC2086  # several words
        expect_exit 4 pawl --state left.sock $verb
    done
}

test_what_was_served_is_served_again_though_its_consumers_wait() {
    serve
    pawl queue declare q --topic a
    "$PAWL" consume q --auto-ack >seen 2>consumer.err &
    local consumer=$!
    BACKGROUND+=("$consumer")
    wait_until '[ "$(pawl queue show q --json | jq .consumers)" = 1 ]'
    end_serve
    serve
    pawl publish a hello >/dev/null
    wait_until 'grep -q hello seen'
    kill -TERM "$consumer"
    expect_end 5 "$consumer"
    end_serve
}

test_a_count_takes_no_more_of_an_at_most_once_queue_than_it_gives() {
    serve
    pawl queue declare q --topic a --guarantee at_most_once
    seq 8 | pawl publish a --lines >/dev/null
    pawl consume q --count 1 --auto-ack | jq -r .data >seen
    pawl consume q --count 1 --exec cat >>seen
    echo >>seen
    expect_exit 1 pawl consume q --count 1 --exec false # failed, not tried again
    pawl consume q --count 2 --concurrency 3 --exec sh -c 'echo "$(cat)"' | sort >>seen
    pawl consume q --count 3 --auto-ack | jq -r .data >>seen
    expect_eq "$(paste -sd ' ' seen)" '1 2 4 5 6 7 8'
    expect_eq "$(pawl queue show q --json | jq .depth)" 0
    end_serve
}

# How often each of these processes went to sleep, and so was woken, since it began.
naps() {
    local pid
    for pid in "$@"; do
        echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline"): $(grep '^voluntary' "/proc/$pid/status")"
    done
}

test_nobody_wakes_up_while_nothing_happens() {
    local q pids=() before
    serve
    for q in plain patient acked run; do pawl queue declare $q --topic "$q.*"; done
    pawl queue declare log --topic 'log.*' --stream
    pawl group create log g
    consumer() {
        "$PAWL" consume "$@" >"$T/$1.out" 2>"$T/$1.err" &
        pids+=($!)
    }
    consumer plain
    consumer patient --wait 1h
    consumer acked --auto-ack
    consumer run --exec cat
    consumer log --group g --auto-ack
    for q in plain patient acked run log; do pawl publish $q.x hello; done
    for q in plain patient acked run log; do wait_until "grep -q hello $q.out"; done
    pids+=("$SERVE" "$(the_pid_of scheduler)")
    # What follows a beginning (a record of idleness, looks that become rarer) has its end.
    wait_until 'before=$(naps "${pids[@]}"); sleep 5; [ "$before" = "$(naps "${pids[@]}")" ]' 30
    kill -TERM "${pids[@]:0:5}"
    wait_until '! kill -0 "${pids[@]:0:5}"'
    end_serve
}

test_serve_waits_for_who_only_looks_at_the_lock() {
    mkdir -m 700 state
    serve
    end_serve
    ! grep -q interrupted serve.err || fail 'it speaks of runs where there are none'
    # Its pid is still in the file, and for a moment somebody else holds the lock.
    grep -q serve state/lock
    flock state/lock sh -c 'touch held; until [ -e go ]; do sleep 0.02; done' &
    local holder=$!
    wait_until '[ -e held ]'
    background pawl serve
    server=$!
    sleep 0.2
    touch go
    wait "$holder"
    wait_until 'grep -q "serving /" background.err'
    kill -TERM "$server"
    expect_end 0 "$server"
}

test_where_nothing_is_the_words_name_the_flag_for_another_directory() {
    expect_exit 4 pawl health
    expect_stderr '--state DIR'
    expect_exit 2 pawl consume q
    expect_stderr '--state DIR'
    touch file
    expect_exit 4 pawl --state file/below publish t x
    expect_stderr '--state DIR'
    expect_exit 4 pawl --state file/below serve
    expect_stderr '--state DIR'
}

# Each of them has its answer to wait for half a minute, all at once; the one that had shown that it waits for room, a minute.
slow test_who_is_connected_to_a_scheduler_that_is_stopped_gives_up_with_exit_4 90
test_who_is_connected_to_a_scheduler_that_is_stopped_gives_up_with_exit_4() {
    local build scheduler asker lines waiting taker acker
    build=$(dirname "$PAWL")
    write ask.c <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "pawl.h"
int main(void)
{
    struct pawl *pawl;
    char *reply = NULL;
    struct pawl_connect_options options = {.bytes = sizeof options};
    if (pawl_connect(&options, &pawl) != 0 || pawl_request(pawl, "{\"op\":\"queue.list\"}", &reply) != 0)
        return 1;
    free(reply);
    close(creat("connected", 0600));
    while (access("go", F_OK) != 0)
        usleep(10000);
    int error = pawl_request(pawl, "{\"op\":\"queue.list\"}", &reply);
    printf("%d %s\n", error, pawl_last_error(pawl));
    pawl_close(pawl);
    return 0;
}
C
    expect_exit 0 cc -std=gnu11 -I "$E2E_TOP/runtime" -o ask ask.c "$build/libpawl.so.0" -Wl,-rpath,"$build"
    serve
    scheduler=$(the_pid_of scheduler)
    pawl queue declare q --topic a
    pawl queue declare paused --topic p
    pawl queue pause paused
    pawl queue declare tight --topic t --max-depth 1 --overflow block
    pawl publish t x >/dev/null
    mkfifo lines
    ./ask >answer &
    asker=$!
    "$PAWL" publish a --lines <lines >ids 2>lines.err &
    lines=$!
    exec 3>lines
    echo one >&3
    "$PAWL" publish t y >told 2>waiting.err &
    waiting=$!
    "$PAWL" consume paused >taken 2>taker.err &
    taker=$!
    "$PAWL" consume paused --auto-ack >acked 2>acker.err &
    acker=$!
    wait_until '[ -e connected ] && [ -s ids ] && grep -q "waits for room" waiting.err'
    wait_until 'grep -q paused taker.err && grep -q paused acker.err'
    kill -STOP "$scheduler"
    touch go
    echo two >&3
    kill "$taker" "$acker"
    expect_end 5 "$taker"
    expect_end 5 "$acker"
    expect_end 4 "$lines"
    exec 3>&-
    grep -q 'does not answer' lines.err || fail "$(cat lines.err)"
    grep -q '1 events confirmed, 1 unknown' lines.err || fail "$(cat lines.err)"
    expect_end 0 "$asker"
    grep -q "^-110 the scheduler (pid $scheduler) does not answer: .*kill -CONT $scheduler" answer || fail "$(cat answer)"
    expect_end 4 "$waiting"
    grep -q 'it may be stored or not: the scheduler .* does not answer' waiting.err || fail "$(cat waiting.err)"
    kill -CONT "$scheduler"
    wait_until '[ "$(pawl queue show q --json | jq .depth)" = 2 ]'
    end_serve
}

# How long something waits is decided before the clock is set and the server ends.
delay_goes_on_though_the_clock_was_set() {
    local begin
    gcc -std=gnu11 -Wall -Wextra -shared -fPIC -o set_clock.so "$E2E_TOP/tests/e2e/set_clock.c"
    begin=$(now_ms)
    pawl publish a later --delay 4s
    "$@"
    serve_by env CLOCK_STEP=86400 LD_PRELOAD="$T/set_clock.so" "$PAWL" serve
    end_serve
    serve_by env CLOCK_STEP=86400 LD_PRELOAD="$T/set_clock.so" "$PAWL" serve
    expect_exit 0 pawl consume q --count 1 --wait 2m --auto-ack
    expect_json .data later
    [ $(($(now_ms) - begin)) -ge 4000 ] || fail 'too early'
    end_serve
}

test_a_delay_goes_on_in_the_next_server_though_the_clock_was_set_forward() {
    serve
    pawl queue declare q --topic a
    delay_goes_on_though_the_clock_was_set kill -KILL "$SERVE"
    ! compgen -G "$PAWL_STATE/journal/snapshot.*" || fail "it was to be read from records"
}

end_with_a_snapshot() {
    seq -f %01000g 16000 | pawl publish b --lines >/dev/null
    end_serve
    compgen -G "$PAWL_STATE/journal/snapshot.*"
}

test_a_delay_that_a_snapshot_holds_goes_on_though_the_clock_was_set_forward() {
    serve
    pawl queue declare q --topic a
    pawl queue declare other --topic b
    delay_goes_on_though_the_clock_was_set end_with_a_snapshot
}
