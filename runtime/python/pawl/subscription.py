"""A subscription: a queue of its own, a client of its own, and its handler's calls.

Handlers run in a few worker tasks. A worker takes one event after the other, so a handler that never waits costs
no task an event; as soon as one waits, the next worker goes on, up to the limit.
"""

import asyncio
import collections
import inspect
import logging
import os
import sys
import types

from .asker import ask_once
from .errors import Error, NotFound, Stale
from .event import event_of
from .link import Link
from .settings import queue_json

log = logging.getLogger("pawl")

CLAIM_MAX = 256
SLICE_S = 0.005  # then the loop gets a turn, also when handlers never wait
REOPEN_WAIT_S = (0.05, 0.2, 1, 2, 5, 10)


class SubscriptionHandle:
    """What subscribe() gives. `await handle.unsubscribe()` ends it."""

    def __init__(self, subscription_id, pattern, unsubscribe=None, is_active=True):
        self.subscription_id = subscription_id
        self.pattern = pattern
        self.is_active = is_active
        self.unsubscribe = unsubscribe

    def __repr__(self):
        state = "active" if self.is_active else "ended"
        return "<SubscriptionHandle %s %r, %s>" % (self.subscription_id, self.pattern, state)


class Subscription:
    def __init__(self, pattern, handler, *, connect, queue, temporary, settings, concurrency, prefetch, on_end, on_close):
        self.id = os.urandom(6).hex()
        self.pattern = pattern
        self.handler = handler
        self.queue = queue or "sub." + self.id
        self.handled = self.failed = 0
        self._late = 0  # of clients before this one, and what was refused at once
        self._connect = connect
        self._settings = dict(settings, temporary=temporary)
        self._is_temporary = temporary
        self._limit = concurrency
        self._prefetch = prefetch
        self._on_end = on_end
        self._on_close = on_close
        self._loop = None
        self._link = None
        self._consumer = None
        self._ready = collections.deque()
        self._workers = set()
        self._spawn_is_due = False
        self._turn_ends = None
        self._yielding = 0
        self._is_ending = False
        self._reopening = None

    @property
    def is_active(self):
        return not self._is_ending

    @is_active.setter
    def is_active(self, value):
        if not value:
            self.end()

    @property
    def in_flight(self):
        return len(self._workers) + len(self._ready)

    @property
    def late(self):
        """Settlements that came too late: the event was given again."""
        return self._late + (self._link.client.late_settlements if self._link else 0)

    def counts(self):
        return {"handled": self.handled, "handler_failures": self.failed, "late_settlements": self.late}

    # ---- open ----

    def open(self):
        """In a thread that may wait. Return: what start() wants."""
        client = self._connect()
        try:
            client.declare(self.queue, queue_json(self.pattern, **self._settings))
            return client, client.consume(self.queue, prefetch=self._prefetch)
        except BaseException:
            client.close()
            raise

    def start(self, opened):
        client, self._consumer = opened
        self._loop = asyncio.get_running_loop()
        self._link = Link(self._loop, client, self._on_news, self._on_lost)
        self._link.soon()

    # ---- events ----

    def _on_news(self, _batches):
        self._spawn()

    def _spawn(self):
        self._spawn_is_due = False
        if self._yielding:
            return  # no handler waits: a worker has let the loop have its turn, and goes on
        if self._is_ending or len(self._workers) >= self._limit or not (self._ready or self._claim(0)):
            return
        worker = self._loop.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._on_worker_end)

    def _spawn_soon(self):
        """Once the worker that runs now waits, or has let the loop have its turn."""
        if not self._spawn_is_due and len(self._workers) < self._limit:
            self._spawn_is_due = True
            self._loop.call_soon(self._spawn)

    def _claim(self, own):
        """No further ahead than what starts now: each claimed delivery counts as an attempt. `own`: 1 in a worker."""
        room = self._limit - len(self._workers) + own - len(self._ready)
        if room <= 0 or self._is_ending or not self._link.is_open:
            return False
        try:
            self._ready.extend(self._consumer.claim(min(room, CLAIM_MAX), 0))
        except Error as error:
            self._on_lost(error)
        return bool(self._ready)

    async def _work(self):
        ready, worker = self._ready, id(asyncio.current_task())  # the task itself would hold on to itself
        while not self._is_ending and (ready or self._claim(1)):
            delivery = ready.popleft()
            if ready:
                self._spawn_soon()
            await self._handle(delivery, worker)
            if self._has_had_its_turn():
                self._yielding += 1
                try:
                    await asyncio.sleep(0)
                finally:
                    self._yielding -= 1
                # Had nobody been asked for meanwhile, what came would lie there while our next handler waits.
                self._spawn_soon()

    def _has_had_its_turn(self):
        """All workers of a turn of the loop share its slice."""
        now = self._loop.time()
        if self._turn_ends is None:
            self._turn_ends = now + SLICE_S
            self._loop.call_soon(self._begin_turn)
        return now > self._turn_ends

    def _begin_turn(self):
        self._turn_ends = None

    def _on_worker_end(self, worker):
        self._workers.discard(worker)
        if not worker.cancelled() and worker.exception() is not None:
            self._loop.call_exception_handler(
                {"message": "a pawl worker ended", "exception": worker.exception(), "task": worker}
            )
        if worker.cancelled():
            self.end()
        if self._is_ending and not self._workers:
            self._close()
        elif not self._is_ending and self._link.is_open:
            self._link.soon()  # what it settled, and what waited for its place

    async def _handle(self, delivery, worker):
        link = self._link
        try:
            result = self.handler(event_of(delivery, link.soon))
            if result is not None and (type(result) is types.CoroutineType or inspect.isawaitable(result)):
                await result
        except asyncio.CancelledError:
            if self._is_ending or _is_cancelled():
                self._settle(delivery.release, delivery)
                self.end()  # whoever cancels our tasks ends the loop, most likely
                raise
            self._fail(delivery, "CancelledError")
        except Exception as error:  # pylint: disable=broad-except
            log.warning("pawl: handler of %s failed on %s", self.pattern, delivery.topic, exc_info=True)
            self._fail(delivery, "%s: %s" % (type(error).__name__, error))
        except (KeyboardInterrupt, SystemExit, GeneratorExit) as error:
            if isinstance(error, GeneratorExit) and _runs(worker):  # the handler's own: nobody closes our coroutine
                self._fail(delivery, "GeneratorExit: %s" % error)
                link.soon()
                return
            self._settle(delivery.release, delivery)  # the program ends: no failure of this event
            self.end()  # its loop runs on while it tidies up, and we would be given the event again
            raise
        except BaseException as error:
            self._fail(delivery, "%s: %s" % (type(error).__name__, error))
            raise
        else:
            self.handled += 1
            if not delivery.settled:
                self._settle(delivery.ack, delivery)
        link.soon()

    def _fail(self, delivery, why):
        self.failed += 1
        # Words travel as C text of at most 4 KiB.
        why = why.replace("\0", " ")[:1000].encode("utf-8", "replace").decode()
        self._settle(lambda: delivery.nack(True, None, why, True), delivery)

    def _settle(self, how, delivery):
        """What the handler has settled is settled; what comes too late was given again."""
        if delivery.settled:
            return
        try:
            how()
        except Stale:
            self._late += 1
        except Error as error:
            self._late += 1
            log.warning("pawl: %s could not be settled: %s", delivery.topic, error)

    # ---- trouble ----

    def _on_lost(self, error):
        """The connection was given up, or the queue is gone: a temporary one goes with its scheduler."""
        if self._is_ending or self._reopening:
            return
        self._link.stop()
        self._ready.clear()
        log.warning("pawl: subscription to %s was lost (%s); opening it again", self.pattern, error)
        self._reopening = self._loop.create_task(self._reopen(error))

    async def _reopen(self, error):
        try:
            for wait_s in REOPEN_WAIT_S:
                try:
                    opened = await ask_once(self.open)
                except Error as why:
                    error = why
                    # One of our own may go between its declaration and its consumer: with the client before.
                    if isinstance(why, NotFound) and not self._is_temporary:
                        break
                    await asyncio.sleep(wait_s)
                    continue
                if self._is_ending:
                    opened[0].close()
                    return
                old, self._reopening = self._link, None
                self._late += old.client.late_settlements
                self.start(opened)
                old.close()
                return
            log.error("pawl: subscription to %s ended: %s", self.pattern, error)
            self.end()
        finally:
            self._reopening = None

    # ---- the end ----

    def end(self):
        """Nothing new is handed out. Handlers that run go on, and settle; then the client is closed."""
        if self._is_ending:
            return
        self._is_ending = True
        if self._reopening and not self._loop.is_closed():
            self._reopening.cancel()
        for delivery in self._ready:
            self._settle(delivery.release, delivery)
        self._ready.clear()
        self._on_end(self)
        if not self._workers:
            self._close()

    async def abort(self, timeout):
        """End, and cancel the handlers that run. Those of another loop, which was closed or is the parent's of this
        process, nobody runs here: what they had goes back with the client."""
        workers = list(self._workers) if self._loop is asyncio.get_running_loop() else []
        self.end()
        for worker in workers:
            worker.cancel()
        if workers:
            await asyncio.wait(workers, timeout=timeout)
        self._close()

    def _close(self):
        if self._link:
            self._late = self.late
            self._link.close()
            self._link = None
        if self._on_close:
            self._on_close(self)
            self._on_close = None


def _runs(worker):
    """Does the loop run this task now? A coroutine that is closed is run by whoever closes it."""
    try:
        return id(asyncio.current_task()) == worker
    except RuntimeError:
        return False


def _is_cancelled():
    """Was this task cancelled, or did the handler come upon a cancellation of something else? Where that cannot
    be told (before 3.11) it was."""
    if sys.version_info < (3, 11):
        return True
    return asyncio.current_task().cancelling() > 0


__all__ = ["Subscription", "SubscriptionHandle"]
