"""What a framework's backend must be, name by name: properties, coroutines, their arguments and what they return."""

import inspect

import pytest

import pawl

from conftest import in_loop, until

COROUTINES = {
    "connect": [],
    "disconnect": [],
    "health_check": [],
    "publish": ["event"],
    "publish_batch": ["events"],
    "subscribe": ["pattern", "handler"],
    "unsubscribe": ["handle"],
}


@pytest.mark.parametrize("name", COROUTINES)
def test_its_coroutines_take_what_a_framework_gives(name):
    method = getattr(pawl.EventBackend, name)
    assert inspect.iscoroutinefunction(method)
    _, *given = inspect.signature(method).parameters.values()
    positional = [each.name for each in given if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == COROUTINES[name]
    for each in given[len(positional) :]:
        assert each.kind is each.VAR_KEYWORD or each.default is not each.empty, each


def test_what_a_framework_looks_at_is_there_before_it_is_connected():
    backend = pawl.EventBackend()
    for name in ("backend_type", "is_connected"):
        assert isinstance(inspect.getattr_static(backend, name), property)
    assert backend.is_connected is False and backend._is_connected is False
    assert backend._subscriptions == {} and backend._drop_alert_callback is None and backend._drop_alert_threshold > 0
    with backend._lock:
        pass
    pressure = backend.get_queue_pressure_stats()
    assert set(pressure) >= {
        "queue_depth",
        "queue_maxsize",
        "overflow_policy",
        "block_timeout_ms",
        "topic_overflow_policies",
        "topic_block_timeout_ms",
        "per_topic_drops",
        "stats",
    }


@in_loop
async def test_what_they_return_is_of_the_type_that_is_asked_for():
    backend = pawl.EventBackend()
    assert await backend.health_check() is False
    with pytest.raises(pawl.NotConnected) as caught:
        await backend.publish(pawl.MessagingEvent("a"))
    assert caught.value.retryable is True
    assert await backend.connect() is None
    assert await backend.health_check() is True
    got = []

    async def handler(event):
        got.append(event)

    handle = await backend.subscribe("a.*", handler)
    assert isinstance(handle, pawl.SubscriptionHandle) and inspect.iscoroutinefunction(handle.unsubscribe)
    assert (type(handle.subscription_id), handle.pattern, handle.is_active) == (str, "a.*", True)
    assert await backend.publish(pawl.MessagingEvent("a.b")) is True
    count = await backend.publish_batch(pawl.MessagingEvent("a.b") for _ in range(3))
    assert (type(count), count, await backend.publish_batch([])) == (int, 3, 0)
    await until(lambda: len(got) == 4)
    assert await backend.unsubscribe(handle) is True
    assert await backend.unsubscribe(handle) is False and await handle.unsubscribe() is False
    assert await backend.disconnect() is None and await backend.disconnect() is None


@in_loop
async def test_counts_of_a_subscription_that_is_over_stay_in_the_sum():
    async def handler(event):
        if event.data == "bad":
            raise RuntimeError("as it is")

    def counts():
        stats = backend.get_queue_pressure_stats()["stats"]
        return stats["handled"], stats["handler_failures"]

    async with pawl.EventBackend(max_deliver=1) as backend:
        handle = await backend.subscribe("a", handler)
        for data in ("good", "bad"):
            await backend.publish(pawl.MessagingEvent("a", data))
        await until(lambda: counts() == (1, 1))
        await handle.unsubscribe()
        assert counts() == (1, 1)
        await backend.subscribe("a", handler)
        await backend.publish(pawl.MessagingEvent("a", "good"))
        await until(lambda: counts() == (2, 1))
    assert counts() == (2, 1)
