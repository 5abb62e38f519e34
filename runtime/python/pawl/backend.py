"""EventBackend: pawl as the event backend of an asyncio program, or of a framework that has a factory for such."""

import asyncio
import collections
import json
import logging
import os
import threading

from . import _pawl
from .asker import Asker, ask_once
from .client import DURABILITY, GUARANTEE
from .errors import Closed, Error, Indefinite, Invalid, NotConnected, error_of
from .event import DeliveryGuarantee, encode_data, guarantee_name, stronger, wire_headers
from .keeper import connect_or_launch, connect_privately
from .link import Link
from .settings import queue_json
from .subscription import Subscription, SubscriptionHandle

log = logging.getLogger("pawl")

DRAIN_S = 2.0  # what disconnect() waits for confirms, and for handlers that it cancelled
ALERT_EVERY = 100
PREFETCH_MAX = 16384
DEAD_LETTERS = "subscribers.dlq"  # of subscriptions without a queue of a name of their own

_FSYNC = DURABILITY["fsync"]
_OVERFLOW = {"block_with_timeout": "block"}  # a framework's word for it
_STATS = (
    "queued dropped_newest dropped_oldest durable unrouted failed max_queue_depth "
    # what frameworks look for beside these, and does not happen here
    "blocked_success blocked_timeout durable_sink_success durable_sink_failures topic_policy_override_hits"
).split()


def _check_numbers(concurrency, prefetch):
    if concurrency < 1:
        raise ValueError("concurrency is at least 1")
    if prefetch is not None and prefetch < 0:
        raise ValueError("prefetch is at least 1, or None for the default")


class EventBackend:
    """Publish and subscribe through pawl.

    state: a state directory that `pawl serve` serves, or where a temporary scheduler is started. None: a private
        scheduler that ends with disconnect(), and all events with it.
    delivery_guarantee: the least that every publish gets; an event may ask for more.
    durability: "memory", "async" or "fsync" of at_least_once events and of queues that are made here. Default:
        fsync; async for a private scheduler, whose disk nobody reads afterwards.
    concurrency: handlers of one subscription that run at a time.
    ack_wait, max_deliver, backoff, max_depth, max_bytes, overflow, overflow_topics, ttl, rate, breaker, ...: of
        the queues that subscribe() makes (docs/python.md). Durations are seconds, or texts such as "250ms".
    json_default: what json.dumps(default=) is, for data that JSON does not know.
    """

    def __init__(
        self,
        state=None,
        *,
        delivery_guarantee=DeliveryGuarantee.AT_LEAST_ONCE,
        durability=None,
        concurrency=64,
        prefetch=None,
        reconnect_timeout=None,
        backend_type="pawl",
        json_default=None,
        **queue_settings,
    ):
        _check_numbers(concurrency, prefetch)
        self._state = None if state is None else os.fspath(state)
        self._guarantee = guarantee_name(delivery_guarantee)
        if durability is None:
            durability = "async" if state is None else "fsync"
        if durability not in DURABILITY:
            raise ValueError("durability '%s' is none of memory, async, fsync" % durability)
        self._durability = durability
        self._concurrency = concurrency
        self._prefetch = min(PREFETCH_MAX, prefetch or 2 * concurrency)
        self._reconnect_timeout = reconnect_timeout
        self._backend_type = backend_type
        self._json_default = json_default
        overflow = queue_settings.get("overflow")
        self._queue_settings = dict(queue_settings, overflow=_OVERFLOW.get(overflow, overflow))
        queue_json("*", **self._queue_settings)  # mistakes are told now
        self._subscriptions = {}
        self._lock = threading.RLock()  # around _subscriptions, for frameworks that look there
        self._drop_alert_callback = None
        self._drop_alert_threshold = ALERT_EVERY
        self._stats = dict.fromkeys(_STATS, 0)
        self._ending = set()  # subscriptions whose last handlers run
        self._ended = collections.Counter()  # what those said that are over
        self._drops = collections.Counter()
        self._depths = {}
        self._dropped_there = {}
        self._kinds = {}
        self._is_looking = False
        self._disconnecting = None
        self._reset()

    def _reset(self):
        self._is_connected = False
        self._connecting = None
        self._keeper = None
        self._link = None
        self._admin = None
        self._asker = None
        self._waiting = {}
        self._stalled = collections.deque()

    @classmethod
    def from_config(cls, config=None, **options):
        """For a framework's factory: from an object with delivery_guarantee, max_retries, retry_delay_ms and
        `extra`, a dict that may name any option of this class. Options given here count more."""
        extra = dict(getattr(config, "extra", None) or {})
        known = {
            "delivery_guarantee": getattr(config, "delivery_guarantee", DeliveryGuarantee.AT_LEAST_ONCE),
            "json_default": str,
        }
        if getattr(config, "max_retries", None) is not None:
            known["max_deliver"] = config.max_retries + 1
        if getattr(config, "retry_delay_ms", None):
            known["backoff"] = {"initial": config.retry_delay_ms / 1000, "factor": 2, "max": 60}
        for theirs, ours in (
            ("queue_maxsize", "max_depth"),
            ("queue_overflow_policy", "overflow"),
        ):
            if extra.get(theirs):
                known[ours] = extra[theirs]
        if known.get("overflow") == "drop_newest":
            known["overflow"] = "reject"  # theirs says false to the publisher; ours says nothing
        for name in ("state", "durability", "concurrency", "prefetch", "ack_wait", "max_deliver", "backoff"):
            if name in extra:
                known[name] = extra[name]
        known.update(options)
        return cls(known.pop("state", None), **known)

    # ---- properties ----

    @property
    def backend_type(self):
        """What the constructor was given: a framework's enum value."""
        return self._backend_type

    @property
    def is_connected(self):
        """From connect() to disconnect(), or until a lost scheduler was given up."""
        return self._is_connected

    @property
    def state(self):
        """The state directory; of a private scheduler only while it lives."""
        return self._keeper.state if self._keeper else self._state

    @property
    def subscription_count(self):
        """Subscriptions that are active."""
        return len(self._subscriptions)

    def get_subscription_count(self):
        """As subscription_count: frameworks ask by this name."""
        return len(self._subscriptions)

    # ---- begin and end ----

    async def connect(self):
        """Connect, or start a scheduler. Connected already: nothing happens."""
        if self._disconnecting is not None:
            await asyncio.wait([self._disconnecting])
        if self._is_connected:
            return
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
        await asyncio.shield(self._connecting)

    async def _connect(self):
        loop = asyncio.get_running_loop()
        self._asker = Asker()
        try:
            client = await self._asker.ask(self._open)
            self._link = Link(loop, client, self._on_news, self._on_lost)
            self._is_connected = True
        except BaseException:
            self._asker.close()
            raise
        finally:
            self._connecting = None

    def _open(self):
        if self._state is not None:
            return connect_or_launch(self._state, self._reconnect_timeout)
        client, self._keeper = connect_privately(self._reconnect_timeout)
        return client

    def _another(self):
        return _pawl.connect(self.state, None, False, None, self._reconnect_timeout)

    async def disconnect(self):
        """Wait a little for confirms, cancel the handlers that run, close. Ends a private scheduler.

        Goes on to its end also when who waits for it is cancelled; a second call waits for the same end.
        """
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._disconnecting is None:
            if self._link is None:
                return
            self._disconnecting = asyncio.ensure_future(self._disconnect())
        await asyncio.shield(self._disconnecting)

    async def _disconnect(self):
        try:
            await self._end()
        finally:
            self._disconnecting = None

    async def _end(self):
        self._is_connected = False
        unconfirmed = [told for told in self._waiting.values() if not told.done()]
        if unconfirmed and self._link.is_open:
            await asyncio.wait(unconfirmed, timeout=DRAIN_S)
        await asyncio.gather(*(each.abort(DRAIN_S) for each in list(self._subscriptions.values())))
        link, asker, keeper, admin = self._link, self._asker, self._keeper, self._admin
        self._give_up(Indefinite("the backend was disconnected before the confirm came"))
        self._reset()
        link.close()
        asker.close(admin and admin.close)  # it may wait for an answer that does not come
        if keeper:
            await ask_once(keeper.close)

    async def __aenter__(self):
        await self.connect()
        return self

    async def __aexit__(self, *_):
        await self.disconnect()

    async def health_check(self):
        """Does the scheduler answer within five seconds?"""
        if not self._is_connected:
            return False

        async def look():
            await self._ask(lambda admin: admin.health())
            await self._look()

        try:
            await asyncio.wait_for(look(), 5)
        except (Error, asyncio.TimeoutError):
            return False
        return self._is_connected

    async def _ask(self, question):
        """In our thread, over a connection of its own: it may wait."""
        if not self._is_connected:
            raise NotConnected("the backend is not connected")

        def ask():
            if self._admin is None:
                self._admin = self._another()
            try:
                return question(self._admin)
            except Closed:
                self._admin = None
                raise

        return await self._asker.ask(ask)

    # ---- publish ----

    def _kind(self, guarantee):
        """Of an event's guarantee: is its id the key against duplicates, durability, guarantee on the wire."""
        name = stronger(self._guarantee, guarantee and guarantee_name(guarantee))
        if name == "at_most_once":
            kind = (False, DURABILITY["memory"], GUARANTEE["at_most_once"])
        else:
            kind = (name == "exactly_once", DURABILITY[self._durability], GUARANTEE["at_least_once"])
        self._kinds[guarantee] = kind
        return kind

    def _message(self, event):
        guarantee = getattr(event, "delivery_guarantee", None)
        keyed, durability, wire_guarantee = self._kinds.get(guarantee) or self._kind(guarantee)
        return (
            event.topic,
            encode_data(event.data, self._json_default),
            wire_headers(event),
            event.id if keyed else None,
            None,
            None,
            0,
            durability,
            wire_guarantee,
            0,
        )

    def _here(self):
        """The link, in the loop that it is of: another one would wait for ever."""
        if not self._is_connected:
            raise NotConnected("the backend is not connected")
        if self._link.loop is not asyncio.get_running_loop():
            raise RuntimeError("this backend belongs to the event loop that connected it")
        return self._link

    def _submit(self, messages):
        """The batch, and a future to wait for unless it is done."""
        link = self._here()
        batch = link.client.submit(messages)
        link.soon()
        if batch.done:
            return batch, None
        if batch.pending:
            self._stalled.append(batch)
        # _on_news() takes it out, also when nobody waits any more: a try around each wait would cost more.
        told = self._waiting[batch] = link.loop.create_future()
        return batch, told

    def _on_news(self, batches):
        take_out = self._waiting.pop
        for batch in batches:
            told = take_out(batch, None)
            if told is not None and not told.done():
                told.set_result(None)
        while self._stalled:
            try:
                if not self._stalled[0].resume():
                    break
            except (Error, TypeError, ValueError) as error:
                told = self._waiting.get(self._stalled[0])
                if told is not None and not told.done():
                    told.set_exception(error)
            self._stalled.popleft()
            self._link.soon()

    def _on_lost(self, error):
        log.error("pawl: the connection was given up: %s", error)
        self._is_connected = False
        self._give_up(error)

    def _give_up(self, error):
        self._stalled.clear()
        for told in self._waiting.values():
            if not told.done() and not told.get_loop().is_closed():
                told.set_exception(error)
        self._waiting.clear()

    async def publish(self, event):
        """True once it is stored as its guarantee asks; False when a queue's overflow policy refused or dropped it.

        Raises NotConnected (retryable); Invalid or Limit (a topic or data that cannot be); NoSpace; Indefinite
        (fate unknown: publish it again with exactly_once, whose id makes the second one no duplicate).
        """
        batch, told = self._submit([self._message(event)])
        if told is not None:
            await told
        if batch.error:
            self._count(batch, 1)
            return self._refused(batch, event.topic)
        stats = self._stats
        if not (batch.stored or batch.duplicate):
            stats["failed"] += 1  # what queues dropped without a word is in their own figures
            return False
        stats["queued"] += 1
        if batch.durability == _FSYNC:
            stats["durable"] += 1
        if not (batch.routed or batch.duplicate or batch.event_id):
            stats["unrouted"] += 1
        return True

    async def publish_batch(self, events):
        """Publish all; how many were stored. Raises where nothing was, and not because a queue was full."""
        messages = [self._message(event) for event in events]
        if not messages:
            return 0
        batch, told = self._submit(messages)
        if told is not None:
            await told
        self._count(batch, len(messages))
        if batch.error and not batch.stored:
            self._refused(batch, messages[0][0])
        elif batch.error:
            log.warning(
                "pawl: %d of %d events were refused: %s",
                batch.refused,
                len(messages),
                batch.why or _pawl.strerror(batch.error),
            )
            self._dropped(messages[0][0], batch.refused)
        return batch.stored

    def _count(self, batch, count):
        self._stats["queued"] += batch.stored
        self._stats["failed"] += count - batch.stored
        if batch.durability == _FSYNC:
            self._stats["durable"] += batch.stored

    def _refused(self, batch, topic):
        error = error_of(batch.error, batch.why)
        if error.name != "QUEUE_FULL":
            raise error
        self._dropped(topic, batch.refused)
        return False

    def _dropped(self, topic, count):
        before = self._stats["dropped_newest"]
        self._stats["dropped_newest"] += count
        self._drops[topic] += count
        every = self._drop_alert_threshold
        if self._drop_alert_callback and every and before // every != (before + count) // every:
            self._drop_alert_callback(before + count, dict(self._drops))

    # ---- subscribe ----

    async def subscribe(
        self, pattern, handler, *, queue=None, durable=None, concurrency=None, prefetch=None, **queue_settings
    ):
        """Call `handler(event)`, a coroutine, for each event whose topic matches.

        Without `queue` the subscription has a queue of its own that ends with it. With one, it shares the work of
        that queue with all that name it, and events wait there while nobody is subscribed (durable=False: until
        its maker's connection ends). Settings of the queue as those of the class; concurrency=1: one at a time.
        """
        if durable and not queue:
            raise Invalid("a durable subscription needs the name of its queue: subscribe(..., queue=NAME)")
        if not callable(handler):
            raise TypeError("a handler is a coroutine function that takes an event, not %r" % (handler,))
        self._here()
        concurrency = self._concurrency if concurrency is None else concurrency
        _check_numbers(concurrency, prefetch)
        temporary = not queue or durable is False
        settings = dict({"durability": self._durability}, **self._queue_settings)
        if temporary:
            settings.setdefault("dlq", DEAD_LETTERS)
        settings.update(queue_settings)
        settings["overflow"] = _OVERFLOW.get(settings.get("overflow"), settings.get("overflow"))
        subscription = Subscription(
            pattern,
            handler,
            connect=self._another,
            queue=queue,
            temporary=temporary,
            settings=settings,
            concurrency=concurrency,
            prefetch=min(PREFETCH_MAX, prefetch or min(self._prefetch, 2 * concurrency)),
            on_end=self._on_end,
            on_close=self._on_close,
        )
        opened = await self._asker.ask(subscription.open)
        if not self._is_connected:
            opened[0].close()
            raise NotConnected("the backend was disconnected")
        with self._lock:
            self._subscriptions[subscription.id] = subscription
        handle = SubscriptionHandle(subscription.id, pattern)
        subscription.handle = handle

        async def unsubscribe():
            return await self.unsubscribe(handle)

        handle.unsubscribe = unsubscribe
        subscription.start(opened)
        return handle

    async def unsubscribe(self, handle):
        """True: it was active. Handlers that run go on, and may settle."""
        with self._lock:
            subscription = self._subscriptions.get(handle.subscription_id)
        if subscription is None:
            return False
        subscription.end()
        return True

    def _on_end(self, subscription):
        with self._lock:
            self._subscriptions.pop(subscription.id, None)
        self._ending.add(subscription)
        subscription.handle.is_active = False

    def _on_close(self, subscription):
        self._ending.discard(subscription)
        self._ended.update(subscription.counts())

    # ---- looking ----

    async def queue_stats(self):
        """What the scheduler says of each subscription's queue, by the queue's name; asked now. Raises where it is
        not there."""
        await self._look()
        return self._depths

    async def _look(self):
        names = {each.queue for each in self._subscriptions.values()}
        request = '{"op": "queue.list"}'
        drops = self._drop_policy()

        def ask(admin):
            try:
                answer = admin.request(request)
            except Indefinite:  # the scheduler was restarted meanwhile: it may be asked again
                answer = admin.request(request)
            return answer, admin.metrics() if drops else None

        answer, figures = await self._ask(ask)
        queues = json.loads(answer)["queues"]
        if drops:
            figures = json.loads(figures)["queues"]
            self._dropped_there = {drops: sum(each["dropped"] for each in figures if each["name"] in names)}
        self._depths = {each["name"]: each for each in queues if each["name"] in names}
        depth = sum(each["depth"] for each in self._depths.values())
        self._stats["max_queue_depth"] = max(depth, self._stats["max_queue_depth"])

    def _drop_policy(self):
        """What becomes of events that queues drop without a word to their publisher: dropped_oldest, dropped_newest."""
        settings = self._queue_settings
        policies = [settings.get("overflow"), *(settings.get("overflow_topics") or {}).values()]
        for policy in ("drop_oldest", "drop_newest"):
            if policy in policies:
                return policy.replace("drop", "dropped")
        return None

    def get_queue_pressure_stats(self):
        """Never waits: depths are those of the look before, and the next look is begun."""
        if self._is_connected and not self._is_looking:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                loop = None
            if loop is not None:
                self._is_looking = True
                loop.create_task(self._look()).add_done_callback(self._looked)
        subscriptions = list(self._subscriptions.values()) + list(self._ending)
        counts = collections.Counter(handled=0, handler_failures=0, late_settlements=0)
        for each in (self._ended, *(each.counts() for each in subscriptions)):
            counts.update(each)
        settings = self._queue_settings
        dropped = {name: self._stats[name] + count for name, count in self._dropped_there.items()}
        return {
            "queue_depth": sum(each["depth"] for each in self._depths.values()),
            "queue_maxsize": settings.get("max_depth") or 0,
            "overflow_policy": settings.get("overflow") or "reject",
            "block_timeout_ms": 0,
            "topic_overflow_policies": dict(settings.get("overflow_topics") or {}),
            "topic_block_timeout_ms": {},
            "per_topic_drops": dict(self._drops),
            "in_flight": sum(each.in_flight for each in subscriptions),
            "unconfirmed": len(self._waiting),
            "queues": dict(self._depths),
            "stats": dict(self._stats, **dropped, **counts),
        }

    def _looked(self, task):
        self._is_looking = False
        if not task.cancelled():
            task.exception()
