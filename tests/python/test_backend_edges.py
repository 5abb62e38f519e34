"""EventBackend at its edges: ends that overlap, handlers that do what none should, loops that it is not of, figures."""

import asyncio
import atexit
import gc
import os
import select
import signal
import subprocess
import sys
import textwrap
import types

import pytest

import pawl

from conftest import in_loop, processes_naming, until


class Collector:
    """A handler that keeps what it gets."""

    def __init__(self):
        self.events = []

    async def __call__(self, event):
        self.events.append(event)


@in_loop
async def test_two_disconnects_at_once_are_one():
    backend = pawl.EventBackend()
    await backend.connect()
    state = backend.state
    await asyncio.gather(backend.disconnect(), backend.disconnect())
    assert not backend.is_connected and not os.path.exists(state)


@in_loop
async def test_a_disconnect_that_nobody_waits_for_any_more_goes_on():
    backend = pawl.EventBackend()
    await backend.connect()
    state = backend.state
    first = asyncio.ensure_future(backend.disconnect())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await backend.disconnect()
    assert not os.path.exists(state)
    await backend.connect()
    assert await backend.publish(pawl.MessagingEvent("a"))
    await backend.disconnect()


@in_loop
async def test_a_handler_that_raises_what_is_no_exception_fails_like_any_other():
    class Odd(BaseException):
        pass

    async def handler(event):
        events.append(event.delivery_count)
        raise Odd("so")

    events, told = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    async with pawl.EventBackend(max_deliver=3, backoff="1ms") as backend:
        await backend.subscribe("a", handler, queue="work")
        await backend.publish(pawl.MessagingEvent("a"))
        with pawl.connect(backend.state) as client:
            await until(lambda: client.queue("work")["dlq_depth"] == 1)
    assert events == [1, 2, 3]
    assert [str(each) for each in told] == ["so"] * 3


@in_loop
async def test_a_handler_that_raises_generator_exit_has_failed_and_is_called_again():
    async def handler(event):
        events.append(event.delivery_count)
        if len(events) < 3:
            raise GeneratorExit("of a generator within")

    events = []
    async with pawl.EventBackend(max_deliver=5, backoff="1ms") as backend:
        await backend.subscribe("a", handler, queue="work", concurrency=1)
        await backend.publish(pawl.MessagingEvent("a"))
        with pawl.connect(backend.state) as client:
            await until(lambda: len(events) == 3 and client.queue("work")["depth"] == 0)
    assert events == [1, 2, 3]


def test_a_loop_that_is_closed_under_a_handler_hands_its_event_back(state):
    called = []

    async def main():
        async def handler(_event):
            called.append(1)
            await asyncio.sleep(240)

        backend = pawl.EventBackend(state)
        await backend.connect()
        await backend.subscribe("a", handler, queue="work")
        await backend.publish(pawl.MessagingEvent("a"))
        await until(lambda: called)
        return backend

    loop = asyncio.new_event_loop()
    backend = loop.run_until_complete(main())
    loop.close()
    del backend
    gc.collect()
    with pawl.connect(state) as client:
        (delivery,) = client.consume("work").claim(1, 120)
        assert delivery.failures == 0


def test_a_handler_that_ends_the_program_ends_it_and_is_no_failure(state):
    async def main():
        async def handler(_event):
            raise KeyboardInterrupt

        async with pawl.EventBackend(state) as backend:
            await backend.subscribe("a", handler, queue="work")
            await backend.publish(pawl.MessagingEvent("a"))
            await asyncio.sleep(240)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    with pawl.connect(state) as client:
        (delivery,) = client.consume("work").claim(1, 120)
        assert delivery.failures == 0


def test_an_event_whose_handler_ends_the_program_is_not_given_to_it_again(state):
    calls = []

    async def main():
        async def handler(_event):
            calls.append(1)
            raise KeyboardInterrupt

        async with pawl.EventBackend(state) as backend:
            await backend.subscribe("a", handler, queue="work")
            try:
                await backend.publish(pawl.MessagingEvent("a"))
                await asyncio.sleep(240)
            finally:
                await asyncio.sleep(0.5)  # the program tidies up, and its loop runs: time to be given it again

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert len(calls) == 1


@in_loop
async def test_a_backend_is_of_one_loop():
    async with pawl.EventBackend() as backend:

        def elsewhere(what):
            async def use():
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    await what()

            asyncio.run(use())

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, elsewhere, lambda: backend.publish(pawl.MessagingEvent("a")))
        await loop.run_in_executor(None, elsewhere, lambda: backend.subscribe("a", Collector()))
        assert await backend.publish(pawl.MessagingEvent("a"))


@in_loop
async def test_what_can_never_handle_anything_is_refused():
    async with pawl.EventBackend() as backend:
        with pytest.raises(TypeError, match="handler"):
            await backend.subscribe("a", None)
        for concurrency in (0, -1):
            with pytest.raises(ValueError):
                await backend.subscribe("a", Collector(), concurrency=concurrency)
            with pytest.raises(ValueError, match="prefetch is at least 1"):
                await backend.subscribe("a", Collector(), prefetch=-1)
        with pytest.raises(ValueError, match="prefetch is at least 1"):
            pawl.EventBackend(prefetch=-1)
        with pytest.raises(pawl.Invalid, match="dlq"):
            await backend.subscribe("a", Collector(), dlq="no name")
        assert backend.subscription_count == 0


@in_loop
async def test_pressure_has_the_figures_that_frameworks_look_for():
    names = "queued dropped_newest dropped_oldest blocked_success blocked_timeout durable_sink_success"
    names += " durable_sink_failures max_queue_depth topic_policy_override_hits"
    gate = asyncio.Event()

    async def handler(_event):
        await gate.wait()

    for policy, dropped in (("drop_oldest", "dropped_oldest"), ("drop_newest", "dropped_newest")):
        async with pawl.EventBackend(concurrency=1, prefetch=1, max_depth=2, overflow=policy) as backend:
            assert set(names.split()) <= set(backend.get_queue_pressure_stats()["stats"])
            await backend.subscribe("a", handler)
            stored = [await backend.publish(pawl.MessagingEvent("a")) for _ in range(5)]
            assert stored == [True, True] + [policy == "drop_oldest"] * 3
            await backend.queue_stats()
            stats = backend.get_queue_pressure_stats()["stats"]
            assert (stats[dropped], stats["max_queue_depth"]) == (3, 2)


@in_loop
async def test_a_frameworks_drop_newest_is_told_to_the_publisher():
    config = types.SimpleNamespace(extra={"queue_maxsize": 1, "queue_overflow_policy": "drop_newest", "concurrency": 1})
    gate = asyncio.Event()

    async def handler(_event):
        await gate.wait()

    async with pawl.EventBackend.from_config(config) as backend:
        await backend.subscribe("a", handler)
        assert await backend.publish(pawl.MessagingEvent("a"))
        assert not await backend.publish(pawl.MessagingEvent("a"))
        assert backend.get_queue_pressure_stats()["stats"]["dropped_newest"] == 1


def test_a_keeper_that_is_killed_leaves_no_directory():
    async def main():
        backend = pawl.EventBackend()
        await backend.connect()
        state = backend.state
        backend._keeper._process.kill()
        await backend.disconnect()
        return state

    assert not os.path.exists(asyncio.run(main()))


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(9)"])
def test_a_program_that_ends_with_a_live_backend_has_ended_its_scheduler(end):
    program = """
        import asyncio, os, pawl, signal, sys
        async def main():
            backend = pawl.EventBackend()
            await backend.connect()
            print(backend.state, flush=True)
            %s
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born without
        asyncio.run(main())
    """ % end
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    state = ran.stdout.strip()
    assert state and not os.path.exists(state) and not processes_naming(state)
    assert "ResourceWarning" not in ran.stderr


@in_loop
async def test_a_forked_child_that_ends_ends_nothing_of_its_parent():
    async with pawl.EventBackend() as backend:
        child = os.fork()
        if child == 0:
            try:
                atexit._run_exitfuncs()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.path.isdir(backend.state)
        assert await backend.publish(pawl.MessagingEvent("a"))


@in_loop
async def test_a_forked_child_that_lives_on_keeps_no_scheduler_from_its_end():
    gate = os.pipe()
    backend = pawl.EventBackend()
    await backend.connect()
    state = backend.state
    child = os.fork()
    if child == 0:
        os.read(gate[0], 1)
        os._exit(0)
    try:
        await backend.disconnect()
        assert not os.path.exists(state)
    finally:
        os.write(gate[1], b"x")
        os.waitpid(child, 0)


@pytest.mark.parametrize("what", ["subscribe('b', print)", "queue_stats()", "health_check()", "disconnect()"])
def test_a_program_ends_though_its_scheduler_does_not_answer(server, what):
    program = """
        import asyncio, os, pawl, signal, sys
        async def main():
            backend = pawl.EventBackend(%r)
            await backend.connect()
            await backend.subscribe("a", print)
            stats = asyncio.ensure_future(backend.queue_stats())
            await stats
            print("ready", flush=True)
            sys.stdin.readline()
            backend.get_queue_pressure_stats()
            await asyncio.sleep(0)  # the thread asks
            await asyncio.wait_for(backend.%s, 1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asyncio.run(main())
    """ % (server.state, what)
    pid = server.scheduler_pid()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(pid, signal.SIGSTOP)
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            process.wait(240)
        finally:
            os.kill(pid, signal.SIGCONT)
            process.kill()


@in_loop
async def test_an_idle_backend_lets_its_loop_rest():
    async with pawl.EventBackend(reconnect_timeout=1) as backend:
        await backend.subscribe("a", Collector())
        assert await backend.publish(pawl.MessagingEvent("a"))
        await asyncio.sleep(1.2)  # the time at which a lost scheduler would be given up
        links = [backend._link, *(each._link for each in backend._subscriptions.values())]
        for link in links:
            link.client.dispatch()
        assert not select.select([link.client.fileno() for link in links], [], [], 0)[0]


@in_loop
async def test_a_forked_child_that_disconnects_takes_nothing_from_its_parents_loop():
    collector = Collector()
    async with pawl.EventBackend() as backend:
        await backend.subscribe("a", collector)
        child = os.fork()
        if child == 0:
            try:
                asyncio._set_running_loop(None)  # pylint: disable=protected-access
                asyncio.run(backend.disconnect())
                os._exit(0 if not backend.is_connected else 2)
            finally:
                os._exit(1)
        await until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
        assert os.waitpid(child, 0)[1] == 0
        assert await asyncio.wait_for(backend.publish(pawl.MessagingEvent("a")), 120)
        await until(lambda: collector.events)


def test_a_backend_whose_loop_was_closed_amid_a_handler_can_be_disconnected():
    backend = pawl.EventBackend()
    loop = asyncio.new_event_loop()

    async def leave_a_handler():
        runs = asyncio.Event()

        async def handler(_event):
            runs.set()
            await asyncio.Event().wait()

        await backend.connect()
        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a"))
        await runs.wait()

    loop.run_until_complete(leave_a_handler())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # pylint: disable=protected-access
    loop.close()
    state = backend.state

    async def use_it_here():
        await backend.disconnect()
        assert not backend.is_connected and not os.path.exists(state)
        async with backend:
            assert await backend.publish(pawl.MessagingEvent("a"))

    asyncio.run(use_it_here())
