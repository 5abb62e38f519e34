"""EventBackend: what a framework asks of a backend, and what pawl adds to that."""

import asyncio
import enum
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import pytest

import pawl

from conftest import in_loop, processes_naming, until, wait_until


class Collector:
    """A handler that keeps what it gets."""

    def __init__(self):
        self.events = []

    async def __call__(self, event):
        self.events.append(event)

    @property
    def data(self):
        return [event.data for event in self.events]


@in_loop
async def test_the_example_runs_as_it_is_written():
    processed = []

    async def process(event):
        processed.append((event.topic, event.data))
        if len(processed) == 1:
            raise RuntimeError("the first time it fails")

    backend = pawl.EventBackend(delivery_guarantee=pawl.DeliveryGuarantee.AT_LEAST_ONCE)
    await backend.connect()
    async def handler(event):
        try:
            await process(event)
            await event.ack()
        except Exception:
            await event.nack(requeue=True)
    await backend.subscribe("tool.*", handler)
    await backend.publish(pawl.MessagingEvent(topic="tool.call", data={"name": "read"}))

    await until(lambda: len(processed) == 2)
    assert processed == [("tool.call", {"name": "read"})] * 2
    await backend.disconnect()


@in_loop
async def test_it_is_what_a_framework_asks_for():
    class BackendType(enum.Enum):
        RABBITMQ = "rabbitmq"

    class Guarantee(enum.Enum):
        AT_LEAST_ONCE = "at_least_once"

    config = types.SimpleNamespace(
        delivery_guarantee=Guarantee.AT_LEAST_ONCE,
        max_retries=1,
        retry_delay_ms=20,
        extra={"queue_maxsize": 7, "queue_overflow_policy": "block_with_timeout", "concurrency": 2},
    )
    backend = pawl.EventBackend.from_config(config, backend_type=BackendType.RABBITMQ)
    assert backend.backend_type is BackendType.RABBITMQ
    assert backend.is_connected is False and backend._is_connected is False
    assert await backend.health_check() is False
    await backend.connect()
    await backend.connect()
    assert backend.is_connected is True and backend._is_connected is True
    assert await backend.health_check() is True
    attempts = []

    async def handler(event):
        attempts.append(event.delivery_count)
        raise RuntimeError

    handle = await backend.subscribe("a.*", handler)
    assert (len(handle.subscription_id), int(handle.subscription_id, 16) >= 0) == (12, True)
    assert (handle.pattern, handle.is_active) == ("a.*", True)
    with backend._lock:
        assert [each.handler for each in backend._subscriptions.values()] == [handler]
        assert backend._subscriptions[handle.subscription_id].is_active
    theirs = types.SimpleNamespace(
        topic="a.b",
        data={"when": Guarantee},
        id="0123456789abcdef",
        timestamp=1.5,
        source="victor",
        correlation_id=None,
        partition_key=None,
        headers={},
        delivery_guarantee=Guarantee.AT_LEAST_ONCE,
    )
    assert await backend.publish(theirs) is True
    await until(lambda: len(attempts) == 2)  # and one retry
    await asyncio.sleep(0.2)
    assert attempts == [1, 2]
    pressure = backend.get_queue_pressure_stats()
    assert (pressure["queue_maxsize"], pressure["overflow_policy"]) == (7, "block")
    for name in "queue_depth topic_overflow_policies per_topic_drops stats".split():
        assert name in pressure
    assert pressure["stats"]["queued"] == 1
    assert await handle.unsubscribe() is True
    assert await backend.unsubscribe(handle) is False
    assert handle.is_active is False and not backend._subscriptions
    await backend.disconnect()
    await backend.disconnect()
    assert backend.is_connected is False


@in_loop
async def test_each_subscription_gets_what_it_matches():
    async with pawl.EventBackend() as backend:
        every, tools, one = Collector(), Collector(), Collector()
        for pattern, handler in (("*", every), ("tool.*", tools), ("tool.call", one)):
            await backend.subscribe(pattern, handler)
        for topic in ("tool.call", "tool.a.b", "other"):
            assert await backend.publish(pawl.MessagingEvent(topic, {"topic": topic}))
        await until(lambda: len(every.events) == 3 and len(tools.events) == 2 and one.events)
        assert sorted(event.topic for event in every.events) == ["other", "tool.a.b", "tool.call"]
        assert sorted(event.topic for event in tools.events) == ["tool.a.b", "tool.call"]
        assert one.data == [{"topic": "tool.call"}]


@in_loop
async def test_fields_travel():
    async with pawl.EventBackend() as backend:
        got = Collector()
        await backend.subscribe("a", got)
        event = pawl.MessagingEvent(
            "a", {"x": [1]}, source="s", correlation_id="c", partition_key="p", headers={"h": "1"}
        )
        await backend.publish(event)
        await until(lambda: got.events)
        arrived = got.events[0]
        for name in "topic data id timestamp source correlation_id partition_key headers".split():
            assert getattr(arrived, name) == getattr(event, name), name
        assert (arrived.delivery_count, arrived.redelivered) == (1, False)


@in_loop
async def test_a_handler_that_returns_acks_and_one_that_raises_nacks():
    async with pawl.EventBackend(backoff=0.01) as backend:
        seen = []

        async def handler(event):
            seen.append((event.data["n"], event.delivery_count))
            if event.data["n"] == 1 and event.delivery_count < 3:
                raise ValueError("\0 words for the dead letter ä")

        await backend.subscribe("a", handler)
        for number in range(3):
            await backend.publish(pawl.MessagingEvent("a", {"n": number}))
        await until(lambda: len(seen) == 5)
        assert sorted(seen) == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
        await until_empty(backend)


async def until_empty(backend):
    for _ in range(10000):
        stats = await backend.queue_stats()
        if stats and all(each["depth"] == 0 for each in stats.values()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("events are left: %s" % stats)


@in_loop
async def test_an_event_that_always_fails_becomes_a_dead_letter():
    async with pawl.EventBackend(backoff=0.01, max_deliver=3) as backend:
        attempts = []

        async def handler(event):
            attempts.append(event.delivery_count)
            raise ValueError("never")

        await backend.subscribe("a", handler, queue="work")
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: len(attempts) == 3)
        await until_empty(backend)
        assert attempts == [1, 2, 3]
        with pawl.connect(backend.state) as client:
            letters = client.request({"op": "dlq.list", "queue": "work", "count": 10})
        assert "ValueError: never" in str(letters)


@in_loop
async def test_settling_twice_is_stale_and_nothing_is_settled_for_a_handler_that_did():
    async with pawl.EventBackend(backoff=0.01) as backend:
        seen = []

        async def handler(event):
            await event.ack()
            assert event.is_acknowledged()
            try:
                await event.nack()
            except pawl.Stale:
                seen.append("stale")
            raise RuntimeError("after its ack")

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: seen)
        await until_empty(backend)
        assert seen == ["stale"]


@in_loop
async def test_reject_and_nack_without_requeue_end_it():
    async with pawl.EventBackend() as backend:
        seen = []

        async def handler(event):
            seen.append(event.data["how"])
            await (event.reject("bad") if event.data["how"] == "reject" else event.nack(requeue=False))

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a", {"how": "reject"}))
        await backend.publish(pawl.MessagingEvent("a", {"how": "nack"}))
        await until(lambda: len(seen) == 2)
        await until_empty(backend)
        assert sorted(seen) == ["nack", "reject"]


@in_loop
async def test_a_nack_with_a_delay_comes_back_after_it():
    async with pawl.EventBackend() as backend:
        loop, at = asyncio.get_running_loop(), []

        async def handler(event):
            at.append(loop.time())
            if len(at) == 1:
                await event.nack(delay=0.5)

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: len(at) == 2)
        assert 0.45 < at[1] - at[0]


@in_loop
async def test_handlers_run_beside_one_another_up_to_the_limit():
    async with pawl.EventBackend(concurrency=5) as backend:
        running, most, done = 0, 0, 0
        gate = asyncio.Event()

        async def handler(_event):
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            done += 1

        await backend.subscribe("a", handler)
        await backend.publish_batch([pawl.MessagingEvent("a") for _ in range(20)])
        await until(lambda: running == 5)
        await asyncio.sleep(0.1)
        assert running == 5
        assert backend.get_queue_pressure_stats()["in_flight"] == 5  # none is claimed that does not start
        gate.set()
        await until(lambda: done == 20)
        assert most == 5


@in_loop
async def test_one_at_a_time_keeps_the_order():
    async with pawl.EventBackend() as backend:
        got = []

        async def handler(event):
            await asyncio.sleep(0)
            got.append(event.data["n"])

        await backend.subscribe("a", handler, concurrency=1)
        await backend.publish_batch([pawl.MessagingEvent("a", {"n": n}) for n in range(200)])
        await until(lambda: len(got) == 200)
        assert got == list(range(200))


@in_loop
async def test_handlers_that_never_wait_leave_the_loop_its_turns():
    async with pawl.EventBackend(concurrency=256) as backend:
        handled = at_last_turn = most = 0

        async def handler(_event):
            nonlocal handled
            handled += 1
            ends = time.perf_counter() + 0.001
            while time.perf_counter() < ends:
                pass

        with pawl.connect(backend.state) as client:
            client.declare("work", "a")
        assert await backend.publish_batch([pawl.MessagingEvent("a") for _ in range(500)]) == 500
        await backend.subscribe("a", handler, queue="work")
        while handled < 500:
            await asyncio.sleep(0)
            most, at_last_turn = max(most, handled - at_last_turn), handled
        assert most < 50  # of 256 that were claimed at once, a millisecond each


@in_loop
async def test_a_handler_that_waits_keeps_no_other_event_from_its_own():
    async with pawl.EventBackend(concurrency=500) as backend:
        gate, begun = asyncio.Event(), 0

        async def handler(event):
            nonlocal begun
            begun += 1
            if event.data["n"] % 7 == 0:
                await gate.wait()
            elif event.data["n"] % 5 == 0:
                await asyncio.sleep(0)
            else:
                time.sleep(0.0005)

        await backend.subscribe("a", handler)
        for first in range(0, 2000, 100):
            await backend.publish_batch([pawl.MessagingEvent("a", {"n": first + n}) for n in range(100)])
        await until(lambda: begun == 2000)  # 286 of them wait
        gate.set()
        await until_empty(backend)


@in_loop
async def test_a_handler_that_never_returns_harms_nobody_and_ends_with_disconnect():
    backend = pawl.EventBackend(ack_wait=0.3, backoff=0.01)
    await backend.connect()
    state, attempts, cancelled, other = backend.state, [], [], Collector()

    async def handler(event):
        attempts.append(event.delivery_count)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.delivery_count)
            raise

    await backend.subscribe("a", handler)
    await backend.subscribe("a", other, ack_wait=600)
    await backend.publish(pawl.MessagingEvent("a"))
    await until(lambda: len(attempts) >= 2 and other.events)  # its deadline passed: it is given again
    assert attempts[:2] == [1, 2]
    assert len(other.events) == 1
    await backend.disconnect()
    assert sorted(cancelled) == sorted(attempts)
    assert not os.path.exists(state)


@in_loop
async def test_a_late_ack_is_counted_and_changes_nothing():
    async with pawl.EventBackend(ack_wait=2, backoff=0.01) as backend:
        attempts, gate = [], asyncio.Event()

        async def handler(event):
            attempts.append(event.delivery_count)
            if event.delivery_count == 1:
                await gate.wait()

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: len(attempts) >= 2)
        await until_empty(backend)
        # A slow machine may have been late with the second one too: it has its own ack, and a third.
        others = backend.get_queue_pressure_stats()["stats"]["late_settlements"]
        gate.set()
        await until(lambda: backend.get_queue_pressure_stats()["stats"]["late_settlements"] > others)


@in_loop
async def test_what_a_handler_cancels_is_not_our_end():
    async with pawl.EventBackend(backoff=0.01) as backend:
        seen = []

        async def handler(event):
            seen.append(event.delivery_count)
            if len(seen) == 1:
                task = asyncio.ensure_future(asyncio.sleep(60))
                task.cancel()
                await task  # raises CancelledError

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: seen == [1, 2])
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: seen == [1, 2, 1])


@in_loop
async def test_extend_keeps_a_slow_handler_its_event():
    async with pawl.EventBackend(ack_wait=4) as backend:
        attempts = []

        async def handler(event):
            attempts.append(event.delivery_count)
            await event.extend(600)
            await asyncio.sleep(5)

        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await until_empty(backend)
        assert attempts == [1]


@in_loop
async def test_after_unsubscribe_nothing_comes():
    async with pawl.EventBackend() as backend:
        got, still = Collector(), Collector()
        handle = await backend.subscribe("a", got)
        await backend.subscribe("a", still)
        await backend.publish(pawl.MessagingEvent("a", 1))
        await until(lambda: got.events and still.events)
        await handle.unsubscribe()
        await backend.publish(pawl.MessagingEvent("a", 2))
        await until(lambda: len(still.events) == 2)
        assert got.data == [1]
        with pawl.connect(backend.state) as client:
            await until(lambda: len([each for each in client.queues() if each["name"].startswith("sub.")]) == 1)


@in_loop
async def test_a_handler_may_end_its_own_subscription():
    async with pawl.EventBackend(concurrency=1) as backend:
        got = []

        async def handler(event):
            got.append(event.data)
            await handle.unsubscribe()

        handle = await backend.subscribe("a", handler, queue="kept")
        await backend.publish_batch([pawl.MessagingEvent("a", n) for n in range(3)])
        await until(lambda: not handle.is_active)
        again = Collector()
        await backend.subscribe("a", again, queue="kept")
        await until(lambda: len(again.events) == 2)
        assert (got, sorted(again.data)) == ([0], [1, 2])


@in_loop
async def test_what_was_claimed_and_not_begun_goes_back_without_a_failure():
    async with pawl.EventBackend(concurrency=3) as backend:
        got, again = [], Collector()
        with pawl.connect(backend.state) as client:
            client.declare("kept", "a")
        await backend.publish_batch([pawl.MessagingEvent("a", n) for n in range(3)])

        async def handler(event):
            got.append(event.data)
            await handle.unsubscribe()

        handle = await backend.subscribe("a", handler, queue="kept")
        await until(lambda: not handle.is_active)
        await backend.subscribe("a", again, queue="kept")
        await until(lambda: len(got) + len(again.events) == 3)
        assert sorted(got + again.data) == [0, 1, 2]
        assert [event.delivery.failures for event in again.events] == [0] * len(again.events)


@in_loop
async def test_a_named_queue_keeps_events_for_who_is_away(state):
    async with pawl.EventBackend(state) as backend:
        first = Collector()
        await backend.subscribe("a", first, queue="mine", durable=True)
        await backend.publish(pawl.MessagingEvent("a", 1))
        await until(lambda: first.events)
    async with pawl.EventBackend(state) as backend:
        await backend.publish_batch([pawl.MessagingEvent("a", n) for n in (2, 3)])
    async with pawl.EventBackend(state) as backend:
        second = Collector()
        await backend.subscribe("a", second, queue="mine")
        await until(lambda: len(second.events) == 2)
        assert sorted(second.data) == [2, 3]  # what was acked before the disconnect does not come again
        assert [event.delivery_count for event in second.events] == [1, 1]
        with pytest.raises(pawl.Invalid):
            await backend.subscribe("a", second, durable=True)


@in_loop
async def test_those_who_name_one_queue_share_its_work(state):
    async with pawl.EventBackend(state) as one, pawl.EventBackend(state) as other:
        first, second = Collector(), Collector()
        await one.subscribe("a", first, queue="work", concurrency=1)
        await other.subscribe("a", second, queue="work", concurrency=1)
        await one.publish_batch([pawl.MessagingEvent("a", n) for n in range(500)])
        await until(lambda: len(first.events) + len(second.events) == 500)
        assert sorted(first.data + second.data) == list(range(500))
        assert first.events and second.events


@in_loop
async def test_a_full_queue_refuses_by_its_policy():
    alerts = []
    async with pawl.EventBackend(concurrency=1, prefetch=1, max_depth=2, overflow="reject") as backend:
        gate = asyncio.Event()

        async def handler(_event):
            await gate.wait()

        backend._drop_alert_threshold = 2
        backend._drop_alert_callback = lambda total, topics: alerts.append((total, topics))
        await backend.subscribe("a", handler)
        results = [await backend.publish(pawl.MessagingEvent("a", n)) for n in range(5)]
        assert results == [True, True, False, False, False]
        assert await backend.publish_batch([pawl.MessagingEvent("a"), pawl.MessagingEvent("other")]) == 1
        pressure = backend.get_queue_pressure_stats()
        assert pressure["stats"]["dropped_newest"] == 4
        assert pressure["per_topic_drops"] == {"a": 4}
        assert alerts == [(2, {"a": 2}), (4, {"a": 4})]
        gate.set()


@in_loop
async def test_what_a_full_queue_drops_is_told_to_its_publisher_and_what_is_a_dead_letter_is_stored():
    for overflow, stored in (("drop_newest", False), ("dead_letter", True)):
        async with pawl.EventBackend(concurrency=1, prefetch=1, max_depth=1, overflow=overflow) as backend:
            gate = asyncio.Event()

            async def handler(_event, gate=gate):
                await gate.wait()

            await backend.subscribe("a", handler)
            assert await backend.publish(pawl.MessagingEvent("a", 0))
            assert await backend.publish(pawl.MessagingEvent("a", 1)) is stored
            assert await backend.publish_batch([pawl.MessagingEvent("a"), pawl.MessagingEvent("other")]) == 1 + stored
            assert backend.get_queue_pressure_stats()["stats"]["unrouted"] == 0
            gate.set()


@in_loop
async def test_what_cannot_be_published_is_told():
    backend = pawl.EventBackend()
    with pytest.raises(pawl.NotConnected) as caught:
        await backend.publish(pawl.MessagingEvent("a"))
    assert caught.value.retryable
    with pytest.raises(pawl.NotConnected):
        await backend.subscribe("a", Collector())
    async with backend:
        with pytest.raises(pawl.Invalid):
            await backend.publish(pawl.MessagingEvent("a..b"))
        with pytest.raises(TypeError):
            await backend.publish(pawl.MessagingEvent("a", {"x": object()}))
        with pytest.raises(pawl.Limit):
            await backend.publish(pawl.MessagingEvent("a", "x" * (2 << 20)))
        with pytest.raises(pawl.Invalid):
            await backend.subscribe("a..b", Collector())
        assert await backend.publish_batch([]) == 0
        assert await backend.publish(pawl.MessagingEvent("nobody")) is True
        assert backend.get_queue_pressure_stats()["stats"]["unrouted"] == 1
    with pytest.raises(pawl.NotConnected):
        await backend.publish(pawl.MessagingEvent("a"))
    with pytest.raises(TypeError):
        pawl.EventBackend(max_depht=1)
    with pytest.raises(ValueError):
        pawl.EventBackend(delivery_guarantee="twice")


@in_loop
async def test_exactly_once_stores_an_id_once():
    async with pawl.EventBackend(delivery_guarantee=pawl.DeliveryGuarantee.EXACTLY_ONCE) as backend:
        got, marks = Collector(), Collector()
        await backend.subscribe("a", got)
        await backend.subscribe("mark", marks)
        event = pawl.MessagingEvent("a", 1)
        assert await backend.publish(event) is True
        assert await backend.publish(event) is True
        await backend.publish(pawl.MessagingEvent("a", 2))
        await until(lambda: len(got.events) == 2)
        assert sorted(got.data) == [1, 2]


@in_loop
async def test_many_publishes_at_once_are_all_confirmed():
    async with pawl.EventBackend() as backend:
        got = Collector()
        await backend.subscribe("a", got)
        results = await asyncio.gather(
            *(backend.publish(pawl.MessagingEvent("a", {"n": n, "text": "x" * 200})) for n in range(20_000))
        )
        assert results == [True] * 20_000
        await until(lambda: len(got.events) == 20_000)
        assert sorted(event["n"] for event in got.data) == list(range(20_000))


@in_loop
async def test_a_publish_that_is_cancelled_leaves_nothing_behind():
    async with pawl.EventBackend() as backend:
        task = asyncio.ensure_future(backend.publish(pawl.MessagingEvent("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await backend.publish(pawl.MessagingEvent("a"))
        assert not backend._waiting  # confirms come in order


@in_loop
async def test_a_killed_scheduler_is_waited_for(server):
    async with pawl.EventBackend(server.state, backoff=0.05) as backend:
        named, own = Collector(), Collector()
        await backend.subscribe("a", named, queue="named")
        await backend.subscribe("a", own)
        for round_number in range(2):
            loop = asyncio.get_running_loop()
            pid = await loop.run_in_executor(None, server.scheduler_pid)
            await backend.publish(pawl.MessagingEvent("a", "before %d" % round_number))
            os.kill(pid, signal.SIGKILL)
            assert await backend.publish(pawl.MessagingEvent("a", "after %d" % round_number))
            await until(lambda: "after %d" % round_number in named.data)
        assert set(named.data) == {"before 0", "after 0", "before 1", "after 1"}
        # One of its own goes with the scheduler, and what it held too, and is made again.
        await until_delivered(backend, own)


async def until_delivered(backend, collector):
    for number in range(2000):
        await backend.publish(pawl.MessagingEvent("a", "probe %d" % number))
        await asyncio.sleep(0.05)
        if any(str(data).startswith("probe") for data in collector.data):
            return
    raise AssertionError("the subscription did not come back")


@in_loop
async def test_a_server_that_is_stopped_is_told(server):
    backend = pawl.EventBackend(server.state, reconnect_timeout=0.5)
    await backend.connect()
    got = Collector()
    await backend.subscribe("a", got)
    await asyncio.get_running_loop().run_in_executor(None, server.stop)
    with pytest.raises(ConnectionError):
        await backend.publish(pawl.MessagingEvent("a"))
    await until(lambda: not backend.is_connected)
    assert await backend.health_check() is False
    await backend.disconnect()


@in_loop
async def test_figures_of_a_scheduler_that_is_gone_are_not_made_up(server):
    async with pawl.EventBackend(server.state, reconnect_timeout=0.2) as backend:
        await backend.subscribe("a", Collector(), queue="work")
        assert (await backend.queue_stats())["work"]["depth"] == 0
        server.stop()
        with pytest.raises(pawl.Error):
            await backend.queue_stats()
        backend.get_queue_pressure_stats()  # those of the look before; its own look fails quietly
        await asyncio.sleep(0.1)


@in_loop
async def test_a_path_where_nobody_serves_gets_a_temporary_scheduler(tmp_path):
    path = tmp_path / "state"
    async with pawl.EventBackend(path) as one:
        async with pawl.EventBackend(path) as other:
            got = Collector()
            await one.subscribe("a", got)
            await other.publish(pawl.MessagingEvent("a", 1))
            await until(lambda: got.events)
    await until(lambda: not processes_naming(str(path)))
    assert os.path.isdir(path)


@in_loop
async def test_a_program_with_threads_can_connect():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        async with pawl.EventBackend() as backend:
            assert await backend.publish(pawl.MessagingEvent("a"))
    finally:
        gate.set()
        thread.join()


PROGRAM = """
    import asyncio, pawl, signal, sys
    async def main():
        backend = pawl.EventBackend()
        await backend.connect()
        print(backend.state, flush=True)
        await backend.publish(pawl.MessagingEvent("a"))
        await asyncio.sleep(3600)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born without
    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_private_scheduler_ends_with_its_program_however_that_ends(number):
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            state = process.stdout.readline().strip()
            assert os.path.isdir(state) and processes_naming(state)
            os.kill(process.pid, number)
            process.wait(120)
        finally:
            process.kill()
    wait_until(lambda: not os.path.exists(state) and not processes_naming(state))


def test_a_loop_that_ends_without_disconnect_ends_quietly():
    program = """
        import asyncio, pawl
        async def handler(event):
            await asyncio.sleep(3600)
        async def main():
            backend = pawl.EventBackend()
            await backend.connect()
            await backend.subscribe("a", handler)
            await backend.publish_batch([pawl.MessagingEvent("a")] * 10)
            await asyncio.sleep(0.2)
        asyncio.run(main())
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_backend_serves_one_loop_after_another():
    backend, got = pawl.EventBackend(), Collector()

    async def once(number):
        async with backend:
            await backend.subscribe("a", got)
            await backend.publish(pawl.MessagingEvent("a", number))
            await until(lambda: number in got.data)

    asyncio.run(once(1))
    asyncio.run(once(2))
    assert got.data == [1, 2]
