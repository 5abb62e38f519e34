"""^C, and signals of the program's own, while something waits for a scheduler that does not answer."""

import os
import signal

import pytest

import pawl

from conftest import signal_when_asleep


@pytest.fixture
def stopped(server):
    """A client whose scheduler is stopped, with queues, a consumer, and a delivery."""
    pid = server.scheduler_pid()
    with pawl.connect(server.state) as client:
        client.declare("q", "a")
        client.declare("empty", "none")
        client.declare("gone", "gone")
        client.publish("a", b"one")
        client.consumer = client.consume("q")
        (client.delivery,) = client.consumer.claim(1, 120)
        client.server, client.pid = server, pid
        os.kill(pid, signal.SIGSTOP)
        yield client
        os.kill(pid, signal.SIGCONT)


WAITING = {
    "request": lambda client: client.request({"op": "queue.list"}),
    "queue": lambda client: client.queue("q"),
    "declare": lambda client: client.declare("another", "b"),
    "delete": lambda client: client.delete("gone"),
    "consume": lambda client: client.consume("empty"),
    "close a consumer": lambda client: client.consumer.close(),
    "claim": lambda client: client.consumer.claim(1),
    "take": lambda client: client.take("empty", timeout=None),
    "settle": lambda client: client.settle("q:1:1:1"),
    "publish": lambda client: client.publish("a", b"two"),
    "publish_batch": lambda client: client.publish_batch([("a", b"x")] * 100),
    "ack_publish": lambda client: client.delivery.ack_publish([("a", b"three")]),
    "flush": lambda client: (client.delivery.ack(), client.flush()),
    "dispatch": lambda client: client.dispatch(None),
    "metrics": lambda client: client.metrics(),
    "health": lambda client: client.health(),
    "connect": lambda client: pawl.connect(client.server.state, connect_timeout=60),
}


@pytest.mark.parametrize("name", WAITING)
def test_an_interrupt_ends_what_waits_for_a_scheduler_that_does_not_answer(stopped, name):
    with pytest.raises(KeyboardInterrupt), signal_when_asleep(signal.SIGINT):
        WAITING[name](stopped)
    os.kill(stopped.pid, signal.SIGCONT)
    # The client is as good as before, and takes no late answer for another's.
    assert stopped.queue("empty")["name"] == "empty"
    assert {each["name"] for each in stopped.queues()} >= {"q"}
    stopped.publish("a", b"last", timeout=120)


def test_a_signal_whose_handler_returns_lets_the_question_go_on(stopped):
    before = signal.signal(signal.SIGUSR1, lambda *_: os.kill(stopped.pid, signal.SIGCONT))
    try:
        with signal_when_asleep(signal.SIGUSR1):
            assert stopped.queue("q")["name"] == "q"
    finally:
        signal.signal(signal.SIGUSR1, before)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("how", ["each", "consumer"])
def test_a_settlement_that_finds_no_room_is_ended_by_a_signal_and_can_be_made_again(server, how):
    def on_alarm(*_):
        if any(each.settled for each in apart):
            raise Interrupted

    pid = server.scheduler_pid()
    with pawl.connect(server.state) as client:
        client.declare("q", "a", durability="memory")
        client.publish_batch([("a", b"x")] * 4000)
        consumer, got = client.consume("q", prefetch=4000), []
        while len(got) < 4000:
            got += consumer.claim(4000, 120)
        apart = got[::2]  # those that are no neighbours need a place each
        os.kill(pid, signal.SIGSTOP)
        before = signal.signal(signal.SIGALRM, on_alarm)
        left = signal.alarm(0)
        try:
            with pytest.raises(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, 1, 0.1)
                for each in apart if how == "each" else [apart]:
                    if how == "each":
                        each.ack()
                    else:
                        consumer.ack(each)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.alarm(left)
            os.kill(pid, signal.SIGCONT)
        assert 0 < sum(each.settled for each in apart) < len(apart)
        for each in got:
            if not each.settled:
                each.ack()
        client.flush(120)
        assert client.queue("q")["depth"] == 0


def test_what_was_taken_when_the_interrupt_came_is_not_kept_from_others(stopped):
    with pytest.raises(KeyboardInterrupt), signal_when_asleep(signal.SIGINT):
        stopped.take("empty", timeout=None)
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.publish("none", b"x", timeout=120)
    (taken,) = stopped.take("empty", timeout=120)
    assert taken.data == b"x" and taken.attempt == 1
