"""The plain client: blocking calls, or a poll loop of one's own."""

import json

from . import _pawl
from .errors import Error, error_of
from .settings import milliseconds, queue_json

DURABILITY = {None: 0, "memory": 1, "async": 2, "fsync": 3}
GUARANTEE = {None: 0, "at_most_once": 1, "at_least_once": 2}
_DURABILITY_NAMES = {number: name for name, number in DURABILITY.items()}


def _word(table, value, what):
    try:
        return table[getattr(value, "value", value)]
    except KeyError:
        known = ", ".join(word for word in table if word)
        raise ValueError("%s '%s' is none of %s" % (what, value, known)) from None


def message(
    topic,
    data=b"",
    *,
    headers=None,
    key=None,
    delay=None,
    ttl=None,
    priority=0,
    durability=None,
    guarantee=None,
    expect_routed=False,
):
    """One message, as publish_batch() takes them. Data is str or bytes; delay and ttl are seconds."""
    return (
        topic,
        data,
        headers,
        key,
        milliseconds(delay, "delay"),
        milliseconds(ttl, "ttl"),
        priority,
        _word(DURABILITY, durability, "durability"),
        _word(GUARANTEE, guarantee, "guarantee"),
        int(expect_routed),
    )


class Confirm:
    """What the confirm of a publish says."""

    __slots__ = ("event_id", "routed", "refused", "durability", "duplicate")

    def __init__(self, batch):
        self.event_id = batch.event_id  # its number; of a duplicate: that of the first
        self.routed = batch.routed  # queues that took it
        self.refused = batch.routes_refused  # queues that did not, while others did
        self.durability = _DURABILITY_NAMES.get(batch.durability)  # what this confirm means
        self.duplicate = batch.duplicate

    def __repr__(self):
        return "Confirm(%s)" % ", ".join("%s=%r" % (name, getattr(self, name)) for name in self.__slots__)


class Client:
    """A connection to a scheduler, for one thread at a time. Waiting calls release the GIL and heed ^C.

    Deliveries that consumers hand out have queue, topic, data, headers, attempt, failures, seq, event_id, tag,
    published_at_ns, and ack(), nack(requeue=True, delay=None, reason=None), reject(reason=None), extend(seconds=None),
    release(), ack_up_to(), ack_publish(messages). Settlements are confirmed by flush().
    """

    def __init__(self, inner):
        self._inner = inner

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End it. What is unconfirmed has an unknown fate, what is unsettled goes again."""
        self._inner.close()

    @property
    def closed(self):
        """Was close() called?"""
        return self._inner.closed

    @property
    def unconfirmed(self):
        """Publishes whose confirm has not come."""
        return self._inner.unconfirmed

    @property
    def late_settlements(self):
        """Settlements that came too late: the event was given again."""
        return self._inner.late_settlements

    # publish

    def publish(self, topic, data=b"", *, timeout=None, **options):
        """Publish one event and wait for its Confirm. Options as those of message()."""
        return Confirm(self._inner.publish(message(topic, data, **options), timeout))

    def publish_batch(self, messages, timeout=None):
        """Publish all, wait for all confirms. Messages are tuples (topic, data), or those of message().

        Return: how many were stored. When some were refused: raises the first's error, whose `stored` and
        `refused` count them.
        """
        batch = self._inner.publish_batch(messages if isinstance(messages, list) else list(messages), timeout)
        if batch.error:
            error = error_of(batch.error, batch.why)
            error.stored, error.refused = batch.stored, batch.refused
            raise error
        return batch.stored

    # consume

    def consume(self, queue, group=None, prefetch=0, auto_ack=False, start=None):
        """A consumer of a queue, with claim(max=64, timeout=None), ack(deliveries) and close(). group, and the offset
        that a new group starts at: of streams."""
        return self._inner.consume(queue, group, prefetch, auto_ack, start)

    def take(self, queue, count=1, timeout=0, group=None):
        """Deliveries that are bound to no process: each is settled by its tag, anywhere. timeout None: wait for one."""
        return self._inner.take(queue, count, timeout, group)

    def flush(self, timeout=None):
        """Wait until every publish and settlement so far is confirmed."""
        self._inner.flush(timeout)

    # in a poll loop

    def fileno(self):
        """Readable when dispatch() has something to do."""
        return self._inner.fileno()

    def dispatch(self, timeout=0):
        """Take in what came. Return: the batches of submit() that are completed. timeout None: wait for something."""
        return self._inner.dispatch(timeout)

    def submit(self, messages):
        """A list of messages, put into the lane without waiting. Return: a batch: stored, refused, error, why; while
        it is `pending` there was no room for all, and resume() goes on."""
        return self._inner.submit(messages)

    def kick(self):
        """Let the scheduler see what was submitted and settled."""
        self._inner.kick()

    # settle anywhere

    def settle(self, tag, op="ack", value=None, reason=None):
        """Settle a delivery by its tag: ack, nack (value: delay), reject, extend (value: by). Waits."""
        self._inner.settle(tag, op, -1 if value is None else milliseconds(value, op), reason)

    # queues

    def declare(self, name, topics=None, **settings):
        """Create or update a queue. Durations are seconds or texts such as "5m"."""
        self._inner.declare(name, queue_json(topics, **settings))

    def request(self, request):
        """Any administrative request, as a dict with "op" -> the answer as a dict (docs/bus.md)."""
        return json.loads(self._inner.request(json.dumps(request, allow_nan=False)))

    def queue(self, name):
        """What there is to say about a queue: depth, in_flight, consumers, dlq_depth, ..."""
        answer = self.request({"op": "queue.show", "name": name})
        return answer.get("queue", answer)

    def queues(self):
        """All of them, as queue() has each but for its configuration."""
        return self.request({"op": "queue.list"})["queues"]

    def delete(self, name):
        """Remove a queue, with all that is in it."""
        self.request({"op": "queue.delete", "name": name})

    def purge(self, name):
        """Throw away what waits. Return: how many."""
        return self.request({"op": "queue.purge", "name": name})["purged"]

    def pause(self, name):
        """No more deliveries; publishes go on."""
        self.request({"op": "queue.pause", "name": name})

    def resume(self, name):
        """Deliveries go on."""
        self.request({"op": "queue.resume", "name": name})

    # looking

    def metrics(self):
        """As `pawl metrics --format json`."""
        return json.loads(self._inner.metrics())

    def health(self):
        """As `pawl health --json`."""
        return json.loads(self._inner.health())


def connect(state=None, *, socket=None, may_launch=False, connect_timeout=None, reconnect_timeout=None):
    """Connect to the scheduler of a state directory (default: $PAWL_STATE, else .pawl), or at a socket.

    may_launch: where nobody serves, start a temporary scheduler, which leaves with its last client. That forks
    this process, which must have no threads yet.
    """
    return Client(_pawl.connect(state, socket, may_launch, connect_timeout, reconnect_timeout))


__all__ = ["Client", "Confirm", "Error", "connect", "message"]
