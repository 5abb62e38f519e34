# requests.t.sh - requests over the control socket that wait for their answers: pulls and waits, as a program that
# speaks to the scheduler by itself sees them.

# serve_gated N: a server, and a map `mine` of N tasks, of which task I ends when the file go.I is there.
serve_gated() {
    serve
    # shellcheck disable=SC2046
    background pawl map --run-id mine -j "$1" --shell 'until [ -e go.{} ]; do sleep 0.01; done; echo {}' ::: $(seq 0 $(($1 - 1)))
    mapping=$!
    wait_until '[ "$(pawl status mine --json | jq .steps.running)" = '"$1"' ]'
    cat >client.py <<'PY'
import os, socket, struct, subprocess, sys
PULL, RESULTS, STATUS, SUMMARY, WAIT, ERROR = 21, 23, 25, 26, 36, 3
class Client:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect("state/socket")
        self.send(1, 1, struct.pack("<IIII", 1, 1, 0, os.getpid()))
        assert self.receive()[:2] == (2, 1)
    def send(self, kind, tag, body=b""):
        self.socket.sendall(struct.pack("<IHHQ", len(body), kind, 0, tag) + body + bytes(-len(body) % 8))
    def receive(self):
        size, kind, _, tag = struct.unpack("<IHHQ", self.socket.recv(16, socket.MSG_WAITALL))
        whole = (size + 7) // 8 * 8
        return kind, tag, (self.socket.recv(whole, socket.MSG_WAITALL) if whole else b"")[:size]
    def pull(self, tag, first, answers, bytes_max=1 << 20, run=b"mine"):
        self.send(PULL, tag, struct.pack("<72sQIHH", run, first, bytes_max, 1, answers))
    def wait(self, tag, run=b"mine"):
        self.send(WAIT, tag, struct.pack("<72s", run))
    def answers_next(self, tag):
        """nothing comes before the answer to a question that need not wait: there is no run `nobody`"""
        self.wait(tag, b"nobody")
        same(self.receive()[:2], (ERROR, tag))
    def results(self):
        """tag, how many, whether the run has ended, where to go on, what the first printed"""
        kind, tag, body = self.receive()
        assert kind == RESULTS, kind
        count, ended, following = struct.unpack_from("<IIQ", body)
        first = body[16 + 64:16 + 66].decode().strip() if count else ""
        return tag, count, ended, following, first
    def summary(self):
        """tag, and state: 2 is succeeded"""
        kind, tag, body = self.receive()
        assert kind == SUMMARY, kind
        return tag, struct.unpack_from("<I", body, 144)[0]
def let(number):
    open(f"go.{number}", "w").close()
def same(got, wanted):
    assert got == wanted, (got, wanted)
PY
}
end_gated() {
    expect_end 0 "$mapping"
    end_serve
}

test_a_pull_is_answered_as_often_as_it_says_as_results_come() {
    local mapping
    serve_gated 3
    expect_exit 0 python3 - <<'PY'
from client import *
client, other = Client(), Client()
client.pull(5, 0, 2)  # the run does not leave before this client
let(0)
same(client.results(), (5, 1, 0, 1, "0"))
let(1)
same(client.results(), (5, 1, 0, 2, "1"))
other.wait(6)
let(2)
same(other.summary(), (6, 2))
client.answers_next(7)  # were the pull answered once more, that would come before
client.pull(8, 2, 9)
same(client.results(), (8, 1, 1, 3, "2"))  # with the end of the run there are no more answers
client.answers_next(9)
PY
    end_gated
}

test_a_pull_whose_page_is_small_goes_on_where_it_was() {
    local mapping
    serve_gated 3
    expect_exit 0 python3 - <<'PY'
from client import *
client, other = Client(), Client()
client.pull(5, 0, 1)  # the run does not leave before this client
other.wait(6)
client.answers_next(6)
for i in range(3):
    let(i)
same(client.results()[0], 5)
same(other.summary(), (6, 2))
client.pull(7, 0, 5, bytes_max=1)
got = [client.results() for _ in range(3)]
same([answer[:4] for answer in got], [(7, 1, 0, 1), (7, 1, 0, 2), (7, 1, 1, 3)])
same(sorted(answer[4] for answer in got), ["0", "1", "2"])
client.answers_next(8)
PY
    end_gated
}

test_everybody_who_waits_for_a_run_is_told_once_and_who_asks_again_by_the_newest_question() {
    local mapping
    serve_gated 1
    expect_exit 0 python3 - <<'PY'
from client import *
twice, other, gone = Client(), Client(), Client()
for client, tag in ((twice, 1), (twice, 2), (other, 9), (gone, 3)):
    client.wait(tag)
    client.answers_next(50)  # it is parked by now
gone.socket.close()
let(0)
same(twice.summary(), (2, 2))
same(other.summary(), (9, 2))
twice.answers_next(5)  # an answer to the first question would come before
PY
    end_gated
}

# 1,024 requests of a client may wait; it is not listened to while there are so many.
test_requests_beyond_those_that_may_wait_are_answered_when_there_is_room() {
    local mapping
    serve_gated 1
    expect_exit 0 python3 - "$PAWL" <<'PY'
from client import *
client = Client()
for tag in range(1, 1101):
    client.pull(tag, 0, 1)
other = Client()
other.send(STATUS, 50, struct.pack("<72s", b"mine"))
same(other.summary()[0], 50)
assert subprocess.run([sys.argv[1], "health"], stdout=subprocess.DEVNULL).returncode == 0
let(0)
same(sorted(client.results()[0] for _ in range(1100)), list(range(1, 1101)))
PY
    end_gated
}
