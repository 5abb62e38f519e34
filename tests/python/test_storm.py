"""kill -9 at random among the scheduler, its supervisor, handler processes, publishers and consumers over libpawl
and Python; then the books are compared with the marks that all of them left outside the state directory."""

import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

import pawl

from conftest import processes_naming, wait_until

STORM_SECONDS = float(os.environ.get("STORM_SECONDS", "20"))
HERE = pathlib.Path(__file__).parent
PAWL = pathlib.Path(os.environ.get("PAWL_BIN", "build/pawl")).resolve()

CONFIG = """
queues:
  work: {topic: storm.*, ordering-key: k, ack-wait: 5m, max-deliver: 0, backoff: 10ms}
  handled: {topic: storm.handled, ack-wait: 5m, max-deliver: 0, backoff: 10ms}
handlers:
  - {queue: handled, exec: [sh, -c, 'read -r data; echo "$data" >>"$MARKS/handled"'], processes: 2}
"""


class Storm:
    """Everything that lives, by role; what is dead is there again, as another one."""

    def __init__(self, where):
        self.where = where
        self.state = where + "/state"
        self.random = random.Random()
        self.kills = collections.Counter()
        self.lives = collections.Counter()
        self.members = {}
        self.errors = open(where + "/errors", "ab")
        pathlib.Path(where, "my.yaml").write_text(CONFIG)
        self.environment = dict(os.environ, MARKS=where)

    def spawn(self, *command):
        return subprocess.Popen(command, stdout=self.errors, stderr=self.errors, env=self.environment)

    def serve(self):
        self.members["supervisor"] = self.spawn(PAWL, "--state", self.state, "serve", "--config", self.where + "/my.yaml")

    def join(self, verb, number):
        """One more life of a publisher or consumer; every second is in Python."""
        role = "%s%d" % (verb[0], number)
        self.lives[role] += 1
        name = "%s-%d" % (role, self.lives[role]) if verb == "publish" else "work"
        program = [self.where + "/storm_client"] if number % 2 == 0 else [sys.executable, str(HERE / "storm_client.py")]
        log = "confirmed" if verb == "publish" else "consumed"
        self.members[role] = self.spawn(*program, verb, self.state, name, self.where + "/" + log)

    def keep_alive(self):
        if self.members["supervisor"].poll() is not None:
            self.serve()
        for role, process in list(self.members.items()):
            if role != "supervisor" and process.poll() is not None:
                self.join("publish" if role[0] == "p" else "consume", int(role[1:]))

    def pids(self, title):
        return [pid for pid in processes_naming("pawl: " + title) if self.is_ours(pid)]

    def is_ours(self, pid):
        """A child or grandchild of our supervisor: others may serve on this machine too."""
        try:
            for _ in range(3):
                if pid == self.members["supervisor"].pid:
                    return True
                pid = int(pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
        return False

    def kill(self, role, pids):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                self.kills[role] += 1
            except ProcessLookupError:
                pass

    def strike(self, role):
        if role == "scheduler":
            self.kill(role, self.pids("scheduler"))
        elif role == "worker":
            self.kill(role, self.random.sample(self.pids("worker"), 1) if self.pids("worker") else [])
        elif role == "supervisor":
            self.kill(role, [self.members["supervisor"].pid])
            self.members["supervisor"].wait()
        else:
            victims = [name for name in self.members if name[0] == role[0] and name != "supervisor"]
            process = self.members[self.random.choice(victims)]
            self.kill(role, [process.pid])
            process.wait()

    def end(self, role):
        process = self.members.pop(role)
        process.kill()
        process.wait()

    def lines(self, name):
        path = pathlib.Path(self.where, name)
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def storm():
    where = tempfile.mkdtemp(prefix="pawl-storm.")
    one = Storm(where)
    library = PAWL.parent / "libpawl.so.0"
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-I.", "-o", where + "/storm_client",
                    str(HERE / "storm_client.c"), str(library), "-Wl,-rpath," + str(library.parent)],
                   check=True, cwd=HERE.parent.parent)
    yield one
    for role in [each for each in one.members if each != "supervisor"] + ["supervisor"]:
        one.end(role)
    shutil.rmtree(where, ignore_errors=True)


def depths(state):
    try:
        with pawl.connect(state) as client:
            return [client.queue(name)["depth"] for name in ("work", "handled")]
    except pawl.Error:
        return None


def rage(storm):
    """Kills, until the time is over and each has died often enough."""
    roles = ["scheduler", "consumer", "publisher", "worker", "scheduler", "publisher", "consumer", "supervisor"]
    ends, latest = time.monotonic() + STORM_SECONDS, time.monotonic() + 3 * STORM_SECONDS
    turn = 0
    while time.monotonic() < ends or (min(storm.kills[role] for role in roles) < 2 and time.monotonic() < latest):
        time.sleep(storm.random.uniform(0.05, 0.5))
        storm.strike(roles[turn % len(roles)])
        storm.keep_alive()
        turn += 1
    return roles


def check_books(storm):
    confirmed = set(storm.lines("confirmed"))
    numbers, done, tags = collections.defaultdict(set), set(), collections.Counter()
    first = collections.defaultdict(dict)
    for line in storm.lines("consumed"):
        word, data, *more = line.split()
        if word == "done":
            done.add(data)
            continue
        numbers[data].add(int(more[0]))
        tags[more[1]] += 1
        name, n = data.rsplit(":", 1)
        before = "%s:%d" % (name, int(n) - 4)
        # What was published before it with its key, if it was stored at all, is over.
        if int(n) > 4 and data not in first:
            first[data] = before in done
    assert len(confirmed) > 100, "too little happened"
    assert confirmed - done == set(), "confirmed and never handled"
    handled = {data for data in confirmed if int(data.rsplit(":", 1)[1]) % 8 == 0}
    assert handled - set(storm.lines("handled")) == set(), "confirmed and never handled by a worker"
    assert {data: seqs for data, seqs in numbers.items() if len(seqs) > 1} == {}, "stored twice"
    assert [tag for tag, count in tags.items() if count > 1] == [], "one delivery for two handlers"
    late = [data for data, in_order in first.items() if not in_order]
    assert late == [], "before its predecessor of the same key was over"
    by_seq = sorted((min(seqs), data) for data, seqs in numbers.items())
    last = collections.Counter()
    for _, data in by_seq:
        name, n = data.rsplit(":", 1)
        assert int(n) > last[name], "stored in another order than published: %s" % data
        last[name] = int(n)


def test_a_storm_loses_no_confirmed_event_stores_none_twice_and_keeps_the_order_of_each_key(storm):
    storm.serve()
    wait_until(lambda: depths(storm.state) is not None)
    for number in range(2):
        storm.join("publish", number)
        storm.join("consume", number)
    roles = rage(storm)
    for role in [each for each in storm.members if each[0] == "p"]:
        storm.end(role)

    def is_empty():
        storm.keep_alive()
        return depths(storm.state) == [0, 0]

    wait_until(is_empty)
    check_books(storm)
    assert min(storm.kills[role] for role in roles) >= 2, "too few kills: %s" % storm.kills
    storm.members["supervisor"].terminate()
    assert storm.members["supervisor"].wait(120) == 0
    subprocess.run([PAWL, "--state", storm.state, "journal", "verify"], check=True, stdout=subprocess.DEVNULL)
