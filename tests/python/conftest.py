"""Fixtures: state directories with a scheduler of their own, and a loop for asynchronous tests.

The package is that of PYTHONPATH (build/python); PAWL_BIN is the tool beside it.
"""

import asyncio
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

import pawl
from pawl.keeper import Keeper

# Limits guard against a hang, and are the same for a machine that is busy: a test that passes never waits for one.
TEST_SECONDS = 300


def in_loop(test):
    """An asynchronous test runs to its end in a loop of its own."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TEST_SECONDS))

    return run


async def until(condition, seconds=120):
    """Waits until it holds; fails when it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come about within %s s" % seconds
        await asyncio.sleep(0.01)


def wait_until(condition, seconds=120):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come about within %s s" % seconds
        time.sleep(0.01)


def sleeps(thread_id):
    with open("/proc/self/task/%d/stat" % thread_id, encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


class signal_when_asleep:
    """Sends one signal to this process when the thread that made it sleeps within the block."""

    def __init__(self, number):
        self.number = number
        self.thread_id = threading.get_native_id()
        self.thread = threading.Thread(target=self.send)

    def send(self):
        wait_until(lambda: sleeps(self.thread_id))
        signal.pthread_kill(threading.main_thread().ident, self.number)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.thread.join()


def processes_naming(text):
    """Pids whose command line or environment of a state directory names it."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                command = pathlib.Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def _alarm():
    """A test that hangs is a failure, not a hang."""

    def on_alarm(*_):
        raise AssertionError("the test took longer than %d s" % (TEST_SECONDS + 30))

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(TEST_SECONDS + 30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def state():
    """A directory whose scheduler lives as long as the test."""
    path = tempfile.mkdtemp(prefix="pawl-py.")
    keeper = Keeper("private", path)
    yield path
    keeper.close()


@pytest.fixture
def client(state):
    with pawl.connect(state) as one:
        yield one


class Server:
    """`pawl serve` on a directory of its own."""

    def __init__(self):
        self.state = tempfile.mkdtemp(prefix="pawl-py.")
        self.process = None

    def start(self):
        command = [os.environ.get("PAWL_BIN", "build/pawl"), "--state", self.state, "serve"]
        with tempfile.TemporaryFile() as words:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=words)
            # A socket may be one that was left, and who asks may start a scheduler of its own: its word counts.
            wait_until(lambda: b"serving /" in os.pread(words.fileno(), 65536, 0) or self.process.poll() is not None)
            assert self.process.poll() is None, os.pread(words.fileno(), 65536, 0).decode()

    def scheduler_pid(self):
        with pawl.connect(self.state) as client:
            return [each["pid"] for each in client.health()["processes"] if each["role"] == "scheduler"][0]

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(180)
            self.process = None


@pytest.fixture
def server():
    one = Server()
    one.start()
    yield one
    one.stop()
    shutil.rmtree(one.state, ignore_errors=True)
