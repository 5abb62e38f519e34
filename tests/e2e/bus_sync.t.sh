# bus_sync.t.sh - a disk whose syncs fail: nothing more is confirmed, pawl ends, and what was confirmed is there after.

# serve_on_a_bad_disk: until it serves. $T/broken is the fault; the same backend everywhere, since io_uring's own syncs
# cannot be made to fail from outside (the unit tests of the journal do that from inside).
serve_on_a_bad_disk() {
    export PAWL_IO=syscall
    build_failing_disk
    serve_by ./failing_disk sync "$T/broken" "$PAWL" serve
}

# refute_well: the one in the background, whose server has ended, does not say that all is well. It may wait for another.
refute_well() {
    local status=0
    kill -KILL "${BACKGROUND[-1]}" 2>/dev/null || true
    wait "${BACKGROUND[-1]}" || status=$?
    [ "$status" -ne 0 ] || fail 'it says that all is well'
}

depth() { pawl queue show "$1" --json | jq .depth; }
numbers() { jq -r '.data' | sort -n; }

test_after_a_failed_sync_no_publish_is_confirmed_and_none_that_was_is_lost() {
    serve_on_a_bad_disk
    pawl queue declare q --topic t
    seq 1 200 | expect_exit 0 pawl publish t --lines
    expect_lines 200
    touch broken
    seq 201 220 >more.txt
    background sh -c 'exec ./failing_disk sync "$T/broken" "$1" publish t --lines <more.txt' sh "$PAWL"
    expect_end 70 "$SERVE"
    refute_well
    expect_file background.out ''
    grep -q 'the journal could not be synced' serve.err
    # Nor is anything confirmed by who comes after, as long as the disk is so.
    capture at_most 20 ./failing_disk sync "$T/broken" "$PAWL" publish t 221
    [ "$rc" -ne 0 ] || fail 'it says that all is well'
    expect_stdout ''
    rm broken
    expect_exit 0 pawl journal verify
    expect_exit 0 pawl consume q --auto-ack --count "$(depth q)" --wait 2m
    numbers <out >got
    expect_eq "$(head -n 200 got)" "$(seq 1 200)"
    # What was not confirmed may have come or not; nothing came twice, nothing that nobody published.
    expect_eq "$(sort got | uniq -d)" ''
    expect_eq "$(tail -n +201 got | awk '$1 < 201 || $1 > 221')" ''
}

test_after_a_failed_sync_no_ack_is_confirmed_and_what_was_acked_before_does_not_come_again() {
    serve_on_a_bad_disk
    pawl queue declare q --topic t
    seq 1 100 | pawl publish t --lines >/dev/null
    expect_exit 0 pawl consume q --auto-ack --count 30
    numbers <out >acked
    expect_eq "$(wc -l <acked)" 30
    touch broken
    background ./failing_disk sync "$T/broken" "$PAWL" consume q --auto-ack --count 30
    expect_end 70 "$SERVE"
    refute_well
    numbers <background.out >seen
    rm broken
    expect_exit 0 pawl consume q --auto-ack --count "$(depth q)" --wait 2m
    numbers <out >again
    expect_eq "$(sort acked | comm -12 - <(sort again))" ''
    # Acks that were on their way may have happened or not: of what was seen then, no more is said.
    expect_eq "$(sort -nu acked seen again)" "$(seq 1 100)"
    expect_exit 0 pawl journal verify
}

test_a_run_whose_result_could_not_be_synced_ends_with_70_and_goes_on() {
    export PAWL_IO=syscall
    build_failing_disk
    write flow.yaml <<'YAML'
pawl: 1
steps:
  first: {shell: 'echo first >>"$T/ran"'}
  second: {needs: [first], shell: 'echo second >>"$T/ran"; touch "$T/broken"'}
  third: {needs: [second], shell: 'echo third >>"$T/ran"'}
YAML
    expect_exit 70 ./failing_disk sync "$T/broken" "$PAWL" run --run-id r flow.yaml
    expect_eq "$(grep -c third ran)" 0
    rm broken
    expect_exit 0 pawl run --resume --run-id r flow.yaml
    expect_eq "$(step_field third state)" succeeded
    expect_eq "$(grep -c first ran)" 1
    expect_exit 0 pawl journal verify
}

# A command that had not asked anything yet, or whose question was not read any more.
test_a_command_that_is_only_connected_is_told_too_that_a_sync_failed() {
    serve_on_a_bad_disk
    cat >connected.py <<'PY'
import os, socket, struct
wire = socket.socket(socket.AF_UNIX)
wire.connect("state/socket")
def receive():
    size, kind, _, tag = struct.unpack("<IHHQ", wire.recv(16, socket.MSG_WAITALL))
    return kind, tag, wire.recv((size + 7) // 8 * 8, socket.MSG_WAITALL)[:size]
wire.sendall(struct.pack("<IHHQ", 16, 1, 0, 7) + struct.pack("<IIII", VERSION, 1, 1, os.getpid()))
assert receive()[0] == 2
open("connected", "w").close()
kind, tag, body = receive()
assert (kind, tag) == (3, 0), (kind, tag)
_, code, words, hint = struct.unpack("<iiII", body[:16])
print(code, body[16:16 + words].decode())
PY
    sed -i "s/VERSION/$(grep -oP 'PAWL_WIRE_VERSION = \K[0-9]+' "$E2E_TOP/shm/wire.h")/" connected.py
    background /usr/bin/python3 connected.py
    wait_until '[ -e connected ]'
    local connected=${BACKGROUND[-1]}
    touch broken
    capture at_most 60 ./failing_disk sync "$T/broken" "$PAWL" queue declare q --topic t
    expect_end 0 "$connected"
    expect_end 70 "$SERVE"
    grep -q '^70 the journal failed' background.out
}

test_a_start_that_cannot_sync_is_one_that_failed_whoever_starts() {
    export PAWL_IO=syscall
    build_failing_disk
    touch broken
    write flow.yaml <<<'{pawl: 1, steps: {only: {run: ["true"]}}}'
    expect_exit 4 at_most 20 ./failing_disk sync "$T/broken" "$PAWL" serve
    expect_exit 4 at_most 20 ./failing_disk sync "$T/broken" "$PAWL" publish t x
    expect_exit 4 at_most 20 ./failing_disk sync "$T/broken" "$PAWL" run flow.yaml
}
