#!/usr/bin/env bash
# bus_attack.t.sh - many, large, or stuck clients of the bus: they get what they asked for, or their own error; the
# scheduler serves on.

# end_well: it was the same scheduler all along, and ends well.
end_well() {
    expect_eq "$(grep -c 'the journal failed' "$PAWL_STATE/scheduler.log")" 0
    end_serve
}

# lines COUNT BYTES
lines() {
    local i
    head -c "$2" /dev/zero | tr '\0' x >line
    for ((i = 0; i < $1; i++)); do cat line && echo; done
}

slow test_more_dead_letters_than_a_batch_of_the_journal_holds_are_redriven 120
test_more_dead_letters_than_a_batch_of_the_journal_holds_are_redriven() {
    serve
    pawl queue declare q --topic 't' --max-deliver 1 --max-bytes 4G
    lines 90 900000 | at_most 60 "$PAWL" publish t --lines >ids
    expect_eq "$(wc -l <ids)" 90
    at_most 60 "$PAWL" consume q --count 90 --wait 2m --exec sh -c 'cat >/dev/null; exit 65' || true
    expect_eq "$(pawl queue show q --json | jq '.depth, .dlq_depth' | xargs)" "0 90"
    expect_exit 0 at_most 60 "$PAWL" dlq redrive q
    expect_eq "$(pawl queue show q --json | jq '.depth, .dlq_depth' | xargs)" "90 0"
    end_well
}

# More than the scheduler keeps in memory, so that the first are read back from the disk.
slow test_an_event_of_which_the_disk_changed_a_byte_is_not_handed_out 120
test_an_event_of_which_the_disk_changed_a_byte_is_not_handed_out() {
    local i segment at
    serve
    pawl queue declare q --topic 't' --max-bytes 1G
    for i in {0..39}; do echo "n$i-$(head -c 900000 /dev/zero | tr '\0' x)"; done |
        at_most 60 "$PAWL" publish t --lines >ids
    segment=$(printf '%s\n' "$PAWL_STATE"/journal/*.seg | head -n 1)
    at=$(LC_ALL=C grep -abo n3-x "$segment" | head -n 1 | cut -d : -f 1)
    printf y | dd of="$segment" bs=1 seek=$((at + 500000)) conv=notrunc status=none
    at_most 60 "$PAWL" consume q --count 39 --exec cut -c 1-3 >got
    expect_eq "$(tr -d - <got | xargs)" "n0 n1 n2 $(seq -f n%g 4 39 | xargs)"
    expect_eq "$(grep -c 'event 4 cannot be read' "$PAWL_STATE/scheduler.log")" 1
    expect_eq "$(pawl queue show q --json | jq .depth)" 1
    expect_exit 7 pawl journal verify
    pawl queue purge q
    expect_eq "$(pawl queue show q --json | jq .depth)" 0
    end_well
}

# Fifty publishers in one process, each with a lane of its own: what fits into it at once, while nobody takes it.
slow test_publishers_that_fill_their_lanes_all_at_once_are_all_served 120
test_publishers_that_fill_their_lanes_all_at_once_are_all_served() {
    local build scheduler publishers
    write many.c <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pawl.h"
enum { PUBLISHERS = 50, EVENTS = 4, DATA_BYTES = 900000 };
static int confirmed;
static void on_confirm(void *context, const struct pawl_confirm *confirm)
{
    (void)context;
    confirmed += confirm->error == 0;
}
int main(void)
{
    static struct pawl *pawl[PUBLISHERS];
    char *data = calloc(1, DATA_BYTES);
    struct pawl_connect_options options = {.bytes = sizeof options};
    struct pawl_message message = {.bytes = sizeof message, .topic = "t", .data = data, .data_bytes = 1};
    for (int i = 0; i < PUBLISHERS; i++)
        if (pawl_connect(&options, &pawl[i]) != 0 || pawl_publish(pawl[i], &message, 30000, NULL) != 0)
            return 1;
    close(creat("attached", 0600));
    while (access("go", F_OK) != 0)
        usleep(10000);
    message.data_bytes = DATA_BYTES;
    for (int i = 0; i < PUBLISHERS; i++) {
        for (int k = 0; k < EVENTS; k++)
            if (pawl_publish_async(pawl[i], &message, 0, on_confirm, NULL, NULL) != 0)
                return 2;
        pawl_kick(pawl[i]);
    }
    close(creat("full", 0600));
    for (int i = 0; i < PUBLISHERS; i++)
        if (pawl_flush(pawl[i], 60000) != 0)
            return 3;
    printf("%d\n", confirmed);
    return 0;
}
C
    build=$(dirname "$PAWL")
    expect_exit 0 cc -std=gnu11 -I "$E2E_TOP/runtime" -o many many.c "$build/libpawl.so.0" -Wl,-rpath,"$build"
    serve
    pawl queue declare q --topic t --max-bytes 4G
    scheduler=$(the_pid_of scheduler)
    ./many >confirmed &
    publishers=$!
    wait_until '[ -e attached ]' 60
    kill -STOP "$scheduler"
    touch go
    wait_until '[ -e full ]' 60
    kill -CONT "$scheduler"
    expect_end 0 "$publishers"
    expect_file confirmed 200
    expect_eq "$(pawl queue show q --json | jq .depth)" 250
    end_well
}

# is_at_rest PID: two seconds cost it next to nothing.
is_at_rest() {
    local before
    before=$(turns "$1")
    sleep 2
    [ $(($(turns "$1") - before)) -le 5 ]
}
turns() { awk '{print $14 + $15}' "/proc/$1/stat"; }

test_a_publisher_that_waits_for_room_costs_no_time() {
    local scheduler publisher
    serve
    pawl queue declare q --topic 't' --max-depth 5 --overflow block
    scheduler=$(the_pid_of scheduler)
    seq 20000 >numbers
    background sh -c 'exec "$1" publish t --lines <numbers >ids' sh "$PAWL"
    publisher=$!
    wait_until '[ "$(pawl queue show q --json | jq .blocked_publishes)" -gt 1000 ]'
    wait_until "is_at_rest $scheduler" 20 # once it has taken in what the lane holds
    # And it goes on when there is room.
    pawl queue declare q --topic 't' --max-depth 100000 --overflow block
    expect_end 0 "$publisher"
    expect_eq "$(wc -l <ids)" 20000
    expect_eq "$(pawl queue show q --json | jq .depth)" 20000
    end_well
}

test_a_dead_letter_with_a_zero_byte_in_it_is_listed_and_shown() {
    serve
    pawl queue declare q --topic t
    printf 'a\0b' | "$PAWL" publish t
    at_most 20 "$PAWL" consume q --count 1 --exec sh -c 'exit 65' || true
    expect_exit 0 pawl dlq list q --json
    expect_eq "$(jq -r '.data | length' "$T/out")" 3
    expect_exit 0 pawl dlq show q 1
    end_well
}

# Each of its 2,000 requests is answered with a descriptor, and it reads none until all have been sent.
slow test_a_client_that_does_not_read_takes_few_descriptors_of_the_scheduler_and_loses_no_answer 60
test_a_client_that_does_not_read_takes_few_descriptors_of_the_scheduler_and_loses_no_answer() {
    local scheduler
    serve
    scheduler=$(the_pid_of scheduler)
    expect_exit 0 python3 - "$PAWL_STATE/socket" "$scheduler" <<'PY'
import array, os, socket, struct, sys, threading
HELLO, METRICS, REQUESTS = 1, 139, 2000
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.settimeout(30)
os.chdir(os.path.dirname(sys.argv[1]))  # the whole path may be longer than an address holds
client.connect("socket")
def message(kind, tag, body=b""):
    return struct.pack("<IHHQ", len(body), kind, 0, tag) + body
client.sendall(message(HELLO, 1, struct.pack("<IIII", 1, 1, 0, os.getpid())))
assert len(client.recv(16 + 32, socket.MSG_WAITALL)) == 48
sender = threading.Thread(target=lambda: client.sendall(b"".join(message(METRICS, n) for n in range(REQUESTS))))
sender.start()
most = answers = 0
rest = b""
while answers < REQUESTS:
    most = max(most, len(os.listdir(f"/proc/{sys.argv[2]}/fd")))
    if answers == 0:
        sender.join()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.connect("socket")  # served after what was there before it
        other.sendall(message(HELLO, 1, struct.pack("<IIII", 1, 1, 0, os.getpid())))
        assert other.recv(48)
        most = max(most, len(os.listdir(f"/proc/{sys.argv[2]}/fd")))
    data, ancillary, _, _ = client.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
    assert data
    for _, _, fds in ancillary:
        for fd in array.array("i", fds):
            os.close(fd)
    rest += data
    while len(rest) >= 16:
        size, kind, fd_count, tag = struct.unpack_from("<IHHQ", rest)
        assert (size, kind, fd_count, tag) == (0, METRICS + 1, 1, answers), (size, kind, fd_count, tag)
        rest = rest[16:]
        answers += 1
assert most < 100, most
PY
    end_well
}

test_who_sends_nonsense_again_and_again_does_not_fill_the_log() {
    serve
    expect_exit 0 python3 - "$PAWL_STATE/socket" <<'PY'
import os, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))  # the whole path may be longer than an address holds
for _ in range(2000):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect("socket")
    client.sendall(b"\xff" * 64)
    while client.recv(4096):  # until it is closed
        pass
PY
    [ "$(grep -c 'sent what does not hold' "$PAWL_STATE/scheduler.log")" -lt 1000 ] || fail "a line for each"
    end_serve
}

# Clients ask for lanes until there is none to be had; then one descriptor after the other goes to a client without.
test_a_lane_that_cannot_be_made_costs_the_scheduler_none_of_its_own_descriptors() {
    local scheduler
    serve_by bash -c 'ulimit -n 100; exec "$0" serve' "$PAWL"
    scheduler=$(the_pid_of scheduler)
    expect_exit 0 python3 - "$PAWL_STATE/socket" "$scheduler" <<'PY'
import os, socket, struct, sys
HELLO, ATTACH, ATTACHED = 1, 130, 131
os.chdir(os.path.dirname(sys.argv[1]))  # the whole path may be longer than an address holds
def standard():
    return [os.readlink(f"/proc/{sys.argv[2]}/fd/{fd}") for fd in range(3)]
before = standard()
def greet():
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect("socket")
    client.sendall(struct.pack("<IHHQ", 16, HELLO, 0, 1) + struct.pack("<IIII", 1, 1, 0, os.getpid()))
    assert client.recv(48, socket.MSG_WAITALL)
    return client
def attach(client):  # whether it got a lane
    client.sendall(struct.pack("<IHHQ", 16, ATTACH, 0, 2) + struct.pack("<QII", client.fileno(), 0, 0))
    answer, ancillary, _, _ = client.recvmsg(4096, socket.CMSG_SPACE(8 * 4))
    for _, _, fds in ancillary:
        for at in range(0, len(fds) - 3, 4):
            os.close(struct.unpack_from("i", fds, at)[0])
    return answer and struct.unpack_from("<IHHQ", answer)[1] == ATTACHED
clients = [greet()]
while attach(clients[-1]):
    clients.append(greet())
clients.pop().close()
try:
    while True:
        client = greet()
        attach(client)
        client.close()
        clients.append(greet())
except (TimeoutError, ConnectionError, AssertionError):
    pass  # there is not even one for a connection
assert standard() == before, (before, standard())
PY
    end_serve
}
