"""The plain client, against a scheduler."""

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import pawl
from pawl import _pawl

from conftest import signal_when_asleep, wait_until


def claim_one(consumer, seconds=120):
    (delivery,) = consumer.claim(1, seconds)
    return delivery


def test_what_is_published_is_claimed(client):
    client.declare("q", "a.*")
    confirm = client.publish("a.b", "dätä", headers={"k": "v", "bytes": b"\xff"}, priority=3)
    assert (confirm.routed, confirm.durability, confirm.duplicate) == (1, "fsync", False)
    delivery = claim_one(client.consume("q"))
    assert (delivery.topic, delivery.data, delivery.queue) == ("a.b", "dätä".encode(), "q")
    assert delivery.headers == {"k": "v", "bytes": "\udcff"}
    assert (delivery.attempt, delivery.failures, delivery.priority) == (1, 0, 3)
    assert delivery.event_id == confirm.event_id
    assert abs(delivery.published_at_ns / 1e9 - time.time()) < 60
    assert not delivery.settled
    delivery.ack()
    assert delivery.settled and delivery.data == "dätä".encode()
    client.flush(120)
    assert client.queue("q")["depth"] == 0


def test_events_come_in_the_order_of_their_batch(client):
    client.declare("q", "a", durability="memory")
    count = 30_000
    assert client.publish_batch([("a", b"%d" % i) for i in range(count)]) == count
    consumer, got = client.consume("q", prefetch=1000), []
    while len(got) < count:
        some = consumer.claim(500, 120)
        assert some
        got += [int(each.data) for each in some]
        assert consumer.ack(some) == len(some)
    assert got == list(range(count))
    client.flush(120)
    assert client.queue("q")["depth"] == 0


def test_a_batch_counts_what_was_refused(client):
    client.declare("q", "a", max_depth=3, overflow="reject")
    with pytest.raises(pawl.QueueFull) as caught:
        client.publish_batch([("a", b"x")] * 5)
    assert (caught.value.stored, caught.value.refused) == (3, 2)
    assert "by queue q" in str(caught.value)
    with pytest.raises(pawl.QueueFull, match="queue q refused the event"):
        client.publish("a")
    with pytest.raises(pawl.Invalid) as caught:
        client.publish_batch([("none", b"x"), ("a..b", b"x"), ("none", b"x")])
    assert (caught.value.stored, caught.value.refused) == (2, 1)
    assert "a..b" in str(caught.value)


def test_a_delivery_is_settled_once(client):
    client.declare("q", "a")
    client.publish("a")
    delivery = claim_one(client.consume("q"))
    delivery.ack()
    for settle in (delivery.ack, delivery.nack, delivery.reject, delivery.extend, delivery.release):
        with pytest.raises(pawl.Stale):
            settle()


def test_a_settled_delivery_is_not_taken_for_its_successor(client):
    client.declare("q", "a", durability="memory")
    consumer = client.consume("q", prefetch=1)
    client.publish_batch([("a", b"1"), ("a", b"2"), ("a", b"3")])
    first = claim_one(consumer)
    second_claim = first.ack_up_to
    second_claim()
    others = []
    while len(others) < 2:  # they lie in the memory that the first had
        others.append(claim_one(consumer))
        with pytest.raises(pawl.Stale):
            first.ack()
        assert not others[-1].settled
        others[-1].ack()
    assert [each.data for each in others] == [b"2", b"3"]


def test_ack_up_to_settles_what_came_before(client):
    client.declare("q", "a", durability="memory")
    client.publish_batch([("a", b"%d" % i) for i in range(10)])
    consumer, got = client.consume("q"), []
    while len(got) < 10:
        got += consumer.claim(10, 120)
    got[6].ack_up_to()
    assert [each.settled for each in got] == [True] * 7 + [False] * 3
    client.flush(120)
    assert client.queue("q")["depth"] == 3


def test_nack_gives_it_again_with_the_next_attempt(client):
    client.declare("q", "a")
    client.publish("a", b"x")
    consumer = client.consume("q")
    claim_one(consumer).nack(delay=0.05, reason="not yet")
    client.kick()
    again = claim_one(consumer)
    assert (again.attempt, again.failures) == (2, 1)
    again.release()
    client.kick()
    third = claim_one(consumer)
    assert third.failures == 1  # a release is no failure
    third.ack()


def test_rejected_and_exhausted_ones_become_dead_letters(client):
    client.declare("q", "a", max_deliver=2, backoff=0.01)
    client.publish("a", b"rejected")
    client.publish("a", b"exhausted")
    consumer = client.consume("q")
    seen = []
    while len(seen) < 3:
        delivery = claim_one(consumer)
        seen.append((delivery.data, delivery.attempt))
        if delivery.data == b"rejected":
            delivery.reject("no good")
        else:
            delivery.nack(handler_error=True, reason="ValueError: it")
        client.kick()
    assert sorted(seen) == [(b"exhausted", 1), (b"exhausted", 2), (b"rejected", 1)]
    client.flush(120)
    wait_until(lambda: client.queue("q")["dlq_depth"] == 2)
    letters = client.request({"op": "dlq.list", "queue": "q", "count": 10})
    text = str(letters)
    assert "no good" in text and "ValueError: it" in text


def test_a_delivery_that_is_not_settled_in_time_is_given_again(client):
    client.declare("q", "a", ack_wait=2, backoff=0.01)
    client.publish("a")
    consumer = client.consume("q")
    first = claim_one(consumer)
    client.declare("q", "a", ack_wait=600)  # the second has time
    second = claim_one(consumer)
    assert (first.attempt, second.attempt) == (1, 2)
    late = client.late_settlements
    first.ack()
    second.ack()
    client.flush(120)
    wait_until(lambda: client.dispatch() == [] and client.late_settlements == late + 1)
    assert client.queue("q")["depth"] == 0


def test_extend_keeps_it(client):
    client.declare("q", "a", ack_wait=2, max_deliver=-1, backoff=0.01)
    client.publish("a")
    consumer = client.consume("q")
    delivery = claim_one(consumer)
    for _ in range(20):
        delivery.extend(300)
        again = consumer.claim(1, 3.0)  # longer than its ack wait
        if not again:
            break
        (delivery,) = again  # on a slow machine it was too late
    assert not again
    delivery.ack()
    client.flush(120)
    assert client.queue("q")["depth"] == 0


def test_a_taken_delivery_is_settled_by_its_tag_from_anywhere(client, state):
    client.declare("q", "a")
    client.publish("a", b"1")
    client.publish("a", b"2")
    one, two = client.take("q", count=2, timeout=120)
    assert (one.data, one.tag.split(":")[:3]) == (b"1", ["q", "1", "1"])
    with pawl.connect(state) as other:
        other.settle(one.tag)
        with pytest.raises(pawl.Stale):
            other.settle(one.tag)
    two.nack(delay=0)
    (again,) = client.take("q", timeout=120)
    assert again.attempt == 2
    again.ack()
    assert client.queue("q")["depth"] == 0
    assert client.take("q", timeout=0) == []


def test_ack_and_publish_are_one(client):
    client.declare("q", "a")
    client.declare("next", "b")
    client.publish("a")
    delivery = claim_one(client.consume("q"))
    delivery.ack_publish([pawl.message("b", "one"), pawl.message("b", "two")], 120)
    assert delivery.settled
    assert (client.queue("q")["depth"], client.queue("next")["depth"]) == (0, 2)


def test_a_key_is_stored_once(client):
    client.declare("q", "a")
    first, second = client.publish("a", key="k"), client.publish("a", key="k")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert client.queue("q")["depth"] == 1


def test_a_delayed_event_comes_later(client):
    client.declare("q", "a")
    client.publish("a", b"later", delay=0.5)
    client.publish("a", b"now")
    consumer = client.consume("q")
    assert [claim_one(consumer).data, claim_one(consumer).data] == [b"now", b"later"]


def test_an_event_that_nobody_wants_is_told(client):
    assert client.publish("nobody").routed == 0
    with pytest.raises(pawl.Unrouted):
        client.publish("nobody", expect_routed=True)


def test_what_does_not_hold_is_refused_with_its_own_error(client):
    client.declare("q", "a")
    for topic in ("", "a..b", ".", "a.b."):
        with pytest.raises(pawl.Invalid):
            client.publish(topic)
    with pytest.raises(pawl.Invalid):
        client.publish("a\0b")
    with pytest.raises(pawl.Limit):
        client.publish("t" * 256)
    with pytest.raises(pawl.Limit):
        client.publish("a", b"x" * (2 << 20))
    with pytest.raises(pawl.Limit):
        client.publish("a", headers={"k": "v" * 30_000})
    with pytest.raises(pawl.Invalid):
        client.publish("a", priority=10)
    with pytest.raises(ValueError, match="priority is a number from 0 to 255"):
        client.publish("a", priority=-1)
    for prefetch in (-1, -(2**40)):
        with pytest.raises(ValueError, match="prefetch is a number from 1 to 16384, or 0 for the default"):
            client.consume("q", prefetch=prefetch)
    for prefetch in (16385, 2**32, 2**40):
        with pytest.raises(pawl.Limit, match="at most 16384"):
            client.consume("q", prefetch=prefetch)
    with pytest.raises(pawl.Invalid):
        client.declare("../q", "a")
    with pytest.raises(pawl.Invalid):
        client.declare("r", "a..b")
    with pytest.raises(pawl.NotFound):
        client.consume("none")
    with pytest.raises(pawl.NotFound):
        client.take("none")
    with pytest.raises(pawl.Incompatible):
        client.declare("q", "a", stream=True)
    for wrong in ((), ("a",), ("a", 1), ("a", b"", []), ("a", b"", {"k": 1}), ("a", b"", None, 5), "ab"):
        with pytest.raises(TypeError):
            client.publish_batch([wrong])
    assert client.queue("q")["depth"] == 0
    assert client.publish("a").routed == 1  # and it goes on


def test_a_message_may_have_many_headers(client):
    client.declare("q", "a")
    headers = {"name-%d" % i: "value-%d" % i for i in range(200)}
    client.publish("a", headers=headers)
    assert claim_one(client.consume("q")).headers == headers


def test_auto_acked_ones_need_no_settlement(client):
    client.declare("q", "a", durability="memory")
    client.publish_batch([("a", b"x")] * 100)
    consumer, count = client.consume("q", auto_ack=True), 0
    while count < 100:
        some = consumer.claim(10, 120)
        assert some and all(each.settled for each in some)
        count += len(some)
    assert consumer.claim(1, 0) == []
    client.flush(120)
    wait_until(lambda: client.queue("q")["depth"] == 0)


def test_a_closed_consumer_hands_back(client, state):
    client.declare("q", "a")
    client.publish_batch([("a", b"%d" % i) for i in range(5)])
    consumer = client.consume("q")
    held = claim_one(consumer)
    consumer.close()
    with pytest.raises(pawl.Stale):
        held.ack()
    with pytest.raises(pawl.Closed):
        consumer.claim(1, 0)
    with pawl.connect(state) as other:
        again, got = other.consume("q"), []
        while len(got) < 5:
            got += again.claim(10, 120)
        assert sorted(each.data for each in got) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_consumer_whose_queue_is_deleted_is_told(client):
    client.declare("q", "a")
    consumer = client.consume("q")
    client.delete("q")
    with pytest.raises(pawl.NotFound, match="deleted"):
        consumer.claim(1, 120)


def test_everything_of_a_closed_client_says_so(client, state):
    client.declare("q", "a")
    client.publish("a")
    other = pawl.connect(state)
    consumer = other.consume("q")
    delivery = claim_one(consumer)
    other.close()
    other.close()
    assert other.closed and delivery.settled
    for use in (
        delivery.ack,
        consumer.claim,
        other.fileno,
        other.flush,
        lambda: other.publish("a"),
        lambda: other.consume("q"),
    ):
        with pytest.raises(pawl.Closed):
            use()
    consumer.close()


def test_a_poll_loop_needs_no_waiting_call(client):
    client.declare("q", "a", durability="memory")
    consumer = client.consume("q")
    batch = client.submit([("a", b"%d" % i) for i in range(500)])
    told, got, ends = [], [], time.monotonic() + 120
    while len(got) < 500 or not told:
        assert time.monotonic() < ends
        client.kick()
        assert select.select([client.fileno()], [], [], 120)[0]
        told += client.dispatch()
        while True:
            some = consumer.claim(64, 0)
            if not some:
                break
            consumer.ack(some)
            got += some
    assert told == [batch] and batch.done and (batch.stored, batch.refused, batch.error) == (500, 0, 0)


def test_a_batch_larger_than_the_window_goes_on_when_there_is_room(client):
    client.declare("q", "a", durability="memory")
    data, count, told = b"x" * 1000, 100_000, []
    batch = client.submit([("a", data)] * count)
    assert batch.pending
    ends = time.monotonic() + 240
    while not batch.done:
        assert time.monotonic() < ends
        told += client.dispatch(1)
        batch.resume()
    told += client.dispatch()
    assert told == [batch] and batch.stored == count
    assert client.queue("q")["depth"] == count


def is_in_use(client):
    try:
        client.kick()
    except pawl.State:
        return True
    return False


def test_the_interpreter_goes_on_while_a_thread_waits(client, state):
    client.declare("q", "a")
    consumer, result = client.consume("q"), []
    thread = threading.Thread(target=lambda: result.append(consumer.claim(1, 120)))
    thread.start()
    wait_until(lambda: is_in_use(client))
    count, ends = 0, time.monotonic() + 0.2
    while time.monotonic() < ends:
        count += 1
    refused = []
    for use in (client.kick, client.dispatch, lambda: client.publish("a"), client.close):
        try:
            use()
        except pawl.State as error:
            refused.append(str(error))
    with pawl.connect(state) as other:
        other.publish("a")
    thread.join()
    assert count > 100
    assert len(refused) == 4 and "one client for each thread" in refused[0]
    ((delivery,),) = result
    delivery.ack()
    assert client.publish("a").routed == 1


def test_threads_with_a_client_each(client, state):
    client.declare("q", "a", durability="memory")
    failures = []

    def publish():
        try:
            with pawl.connect(state) as mine:
                for _ in range(10):
                    assert mine.publish_batch([("a", b"x")] * 100, 120) == 100
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert client.queue("q")["depth"] == 4000


class Interrupted(Exception):
    pass


def test_a_signal_ends_a_wait(client):
    def on_signal(*_):
        raise Interrupted

    client.declare("q", "a")
    consumer = client.consume("q")
    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        with pytest.raises(Interrupted), signal_when_asleep(signal.SIGUSR1):
            consumer.claim(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    client.publish("a")
    claim_one(consumer).ack()


def voluntary_switches():
    with open("/proc/thread-self/status", encoding="ascii") as status:
        return int(status.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_waiting_without_events_costs_no_wake_ups(client):
    client.declare("q", "a")
    consumer = client.consume("q")
    consumer.claim(1, 0.1)
    before = voluntary_switches()
    consumer.claim(1, 1.0)
    assert voluntary_switches() - before < 20


def test_a_timeout_is_told(client):
    client.declare("q", "a", max_depth=1, overflow="block")
    client.publish("a")
    with pytest.raises(pawl.Timeout):
        client.publish("a", timeout=0.2)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError):
            client.publish("a", timeout=wrong)
    with pytest.raises(TypeError):
        client.publish("a", timeout="soon")


def test_what_is_forgotten_is_freed(state):
    client = pawl.connect(state)
    client.declare("q", "a", durability="memory")

    class Topic(str):
        pass

    topic = Topic("a")
    gone = weakref.ref(topic)
    client.publish(topic, b"x")
    del topic
    before = len(gc.get_objects())
    references = sys.getrefcount(None)
    for _ in range(200):
        client.publish("a", b"y", headers={"k": "v"})
        client.submit([("a", b"z")] * 3)
    client.flush(120)
    client.dispatch()
    consumer = client.consume("q")
    count = 0
    while count < 801:
        some = consumer.claim(100, 120)
        count += len(some)
        for each in some:
            assert each.headers is each.headers
            each.ack()
    del some, each, consumer
    client.submit([("a", b"in flight")] * 10)
    client.close()
    assert abs(sys.getrefcount(None) - references) < 50
    assert len(gc.get_objects()) - before < 200
    del client
    assert gone() is None


def test_a_batch_ends_with_its_client(client, state):
    other = pawl.connect(state)
    batch = other.submit([("a", b"x")] * 1000)
    other.close()
    assert batch.resume() in (True, False)
    assert batch.stored < 1000 or batch.done


def test_a_client_without_references_is_closed(state):
    script = (
        "import pawl, gc, sys\n"
        "c = pawl.connect(sys.argv[1]); c.declare('q', 'a'); q = c.consume('q'); c.publish('a')\n"
        "d = q.claim(1, 120); del c, q; d[0].ack(); del d; gc.collect()\n"
        "c = pawl.connect(sys.argv[1]); print(c.queue('q')['consumers'], c.queue('q')['depth'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, state], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "0 0\n"), ran.stderr


def test_a_forked_child_cannot_use_it(client):
    pid = os.fork()
    if pid == 0:
        try:
            client.publish("a")
            os._exit(1)
        except pawl.State:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.publish("a").routed == 0


def test_unconfirmed_ones_are_sent_again_after_a_kill_and_not_twice(server):
    with pawl.connect(server.state) as client:
        client.declare("q", "a")
        consumer, got, sent = client.consume("q", prefetch=100), set(), 0
        for round_number in range(3):
            messages = [("a", b"%d" % (sent + i)) for i in range(2000)]
            pid = server.scheduler_pid()
            batch = client.submit(messages)
            client.kick()
            sent += 2000
            os.kill(pid, signal.SIGKILL)
            ends = time.monotonic() + 240
            while not batch.done:
                assert time.monotonic() < ends
                client.dispatch(1)
                batch.resume()
            assert (batch.stored, batch.refused) == (2000, 0), round_number
        # The last kill may come after all was confirmed, and before this client has seen it.
        with pawl.connect(server.state) as other:
            assert other.queue("q")["next_seq"] == sent + 1
        while len(got) < sent:
            for each in consumer.claim(100, 120):
                got.add(int(each.data))
                each.ack()
        assert got == set(range(sent))


def test_a_client_of_a_socket_does_not_know_of_the_disk(server):
    server.scheduler_pid()  # it serves
    with pawl.connect(socket=os.path.join(server.state, "socket")) as client:
        disk = [each for each in client.health()["components"] if each["name"] == "disk"]
        assert [each["status"] for each in disk] == ["unknown"]
        assert client.metrics()["queues"] == []


def test_the_library_and_the_package_are_of_one_version():
    assert pawl.__version__ == pawl.LIBRARY_VERSION == _pawl.LIBRARY_VERSION


def test_a_settled_delivery_still_says_what_it_was(client):
    client.declare("q", "a")
    client.declare("s", "a", stream=True)
    client.publish("a", b"1")
    for consumer, start in ((client.consume("q"), "q:1:1:"), (client.consume("s", group="g", start=0), "s/g:1:1:")):
        delivery = claim_one(consumer)
        delivery.ack()
        known = delivery.tag
        assert known.startswith(start) and int(known[len(start) :]) == delivery.epoch
        with pytest.raises(pawl.Stale):
            client.settle(known)


def test_arguments_have_the_names_that_the_documentation_gives_them(client):
    client.declare("q", "a", backoff=0.001)
    client.publish_batch([("a", b"%d" % number) for number in range(3)])
    consumer = client.consume(queue="q", group=None, prefetch=3, auto_ack=False, start=None)
    got = []
    wait_until(lambda: got.extend(consumer.claim(max=3, timeout=1)) or len(got) >= 3)
    got[0].extend(seconds=5)
    got[0].nack(requeue=True, delay=0, reason="once more")
    got[1].reject(reason="never")
    got[2].ack_publish(messages=[("a", b"next")], timeout=120)
    client.flush(timeout=120)
    assert client.dispatch(timeout=0) == []
    (taken,) = client.take(queue="q", count=1, timeout=120, group=None)
    client.settle(tag=taken.tag, op="ack", value=None, reason=None)


def test_what_a_client_can_do_is_told_by_its_class():
    for name in "close consume dispatch fileno flush kick submit take publish publish_batch settle declare".split():
        assert callable(getattr(pawl.Client, name)), name
    for cls in (pawl.Client, pawl.EventBackend, pawl.MessagingEvent, pawl.DeliveryGuarantee):
        for name in (name for name in vars(cls) if name[0] != "_" and name[0].islower()):
            member = getattr(cls, name)
            assert not (callable(member) or isinstance(member, property)) or member.__doc__, (cls, name)
