"""Events as programs see them, and their form on the wire: a topic, JSON as data, and headers."""

import enum
import json
import os
import time

from .errors import Stale


class DeliveryGuarantee(str, enum.Enum):
    """What a publish asks for; the weakest first."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"  # at least once, and published once however often it is sent


_RANK = {"at_most_once": 0, "at_least_once": 1, "exactly_once": 2}


def guarantee_name(value):
    """Of a DeliveryGuarantee, a text, or another program's enum of these values."""
    name = getattr(value, "value", value)
    if name not in _RANK:
        raise ValueError("delivery guarantee %r is none of %s" % (value, ", ".join(_RANK)))
    return name


def stronger(first, second):
    """Names of guarantees; None is weaker than any."""
    if first is None or second is None:
        return first or second
    return first if _RANK[first] >= _RANK[second] else second


def topic_matches(pattern, topic):
    """Does a queue with this pattern get this topic?

    `*` is one segment, as the last one it is one or more, alone everything; `#` is none or more, anywhere.
    A `*` within a longer segment is literal.
    """
    if pattern == "*":
        return True
    return _segments_match(pattern.split("."), topic.split("."))


def _segments_match(pattern, topic):
    reachable = {0}  # how much of the topic the pattern so far may have taken
    for number, part in enumerate(pattern):
        if part == "#":
            reachable = set(range(min(reachable), len(topic) + 1))
        elif part == "*" and number == len(pattern) - 1:
            return min(reachable) < len(topic)
        else:
            reachable = {at + 1 for at in reachable if at < len(topic) and part in ("*", topic[at])}
        if not reachable:
            return False
    return len(topic) in reachable


_ids = []  # drawn many at a time
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)  # the parent uses them


def new_id():
    while True:
        try:
            return _ids.pop()
        except IndexError:
            text = os.urandom(8 * 256).hex()
            _ids.extend(text[at : at + 16] for at in range(0, len(text), 16))


# Headers that carry fields. A user's header of such a name travels with "x-" before it, and so on.
_FIELDS = ("id", "source", "timestamp", "correlation_id", "partition_key")
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _no_json(name):
    raise ValueError("JSON has no %s" % name)


_decoder = json.JSONDecoder(parse_constant=_no_json)
_decode = _decoder.raw_decode


def _quick_encoder():
    """JSONEncoder.encode() makes a new encoder for each value; this one is made once. None: not to be had here."""
    try:
        make, quote = json.encoder.c_make_encoder, json.encoder.encode_basestring
        chunks = make(None, _encoder.default, quote, None, ":", ",", False, False, False)
        trial = {"a": [1, "\u00fc", None], "b": 1.5}
        return chunks if "".join(chunks(trial, 0)) == _encoder.encode(trial) else None
    except (AttributeError, TypeError, ValueError):
        return None


_chunks = _quick_encoder()


def _encode(data):
    if _chunks is not None:
        try:
            return "".join(_chunks(data, 0))
        except (TypeError, ValueError, RecursionError):
            pass  # the encoder proper says what is wrong, or sees that something refers to itself
    return _encoder.encode(data)


def _is_taken(name):
    while name.startswith("x-"):
        name = name[2:]
    return name in _FIELDS


class MessagingEvent:
    """An event. One that a handler gets also knows its delivery, which it settles."""

    __slots__ = (
        "topic",
        "data",
        "id",
        "timestamp",
        "source",
        "correlation_id",
        "partition_key",
        "headers",
        "delivery_guarantee",
        "_delivery",
        "_settled_soon",
    )

    def __init__(
        self,
        topic,
        data=None,
        *,
        id=None,  # pylint: disable=redefined-builtin
        timestamp=None,
        source="pawl",
        correlation_id=None,
        partition_key=None,
        headers=None,
        delivery_guarantee=None,
    ):
        self.topic = topic
        self.data = {} if data is None else data
        self.id = id or new_id()
        self.timestamp = time.time() if timestamp is None else timestamp
        self.source = source
        self.correlation_id = correlation_id
        self.partition_key = partition_key
        self.headers = {} if headers is None else headers
        self.delivery_guarantee = delivery_guarantee
        self._delivery = None
        self._settled_soon = None

    def __repr__(self):
        return "MessagingEvent(topic=%r, data=%r, id=%r)" % (self.topic, self.data, self.id)

    def __getstate__(self):
        """Of a pickle or a deep copy: what the event says. Its delivery is of this process, and settled by this one."""
        return {name: getattr(self, name) for name in self._dict_fields}

    def __setstate__(self, state):
        self._delivery = self._settled_soon = None
        for name, value in state.items():
            setattr(self, name, value)

    def __copy__(self):
        same = type(self).__new__(type(self))
        same.__setstate__(self.__getstate__())
        same._delivery, same._settled_soon = self._delivery, self._settled_soon
        return same

    @property
    def category(self):
        """The first segment of the topic."""
        return self.topic.split(".", 1)[0] or "unknown"

    def matches_pattern(self, pattern):
        """Does a queue with this pattern get this event?"""
        return topic_matches(pattern, self.topic)

    def to_dict(self):
        """Its fields, as from_dict() takes them; the guarantee by its name."""
        guarantee = self.delivery_guarantee
        return {
            "topic": self.topic,
            "data": self.data,
            "id": self.id,
            "timestamp": self.timestamp,
            "source": self.source,
            "correlation_id": self.correlation_id,
            "partition_key": self.partition_key,
            "headers": dict(self.headers),
            "delivery_guarantee": guarantee and guarantee_name(guarantee),
        }

    @classmethod
    def from_dict(cls, fields):
        """An event of a dict that has at least `topic`; what is no field of an event is ignored."""
        known = {name: fields[name] for name in cls._dict_fields if name in fields}
        guarantee = known.get("delivery_guarantee")
        if guarantee is not None:
            known["delivery_guarantee"] = DeliveryGuarantee(guarantee_name(guarantee))
        return cls(**known)

    # a delivery

    @property
    def delivery(self):
        """The pawl delivery, or None: this event was not received."""
        return self._delivery

    @property
    def delivery_count(self):
        """1 on the first delivery; 0: not received."""
        return self._delivery.attempt if self._delivery else 0

    @property
    def redelivered(self):
        """Is this not the first delivery?"""
        return self.delivery_count > 1

    @property
    def queue(self):
        """The queue that it came from, or None: this event was not received."""
        return self._delivery.queue if self._delivery else None

    def is_acknowledged(self):
        """Is nothing more to be said about this delivery?"""
        return self._delivery is not None and self._delivery.settled

    def _received(self):
        if self._delivery is None:
            raise Stale("this event was not received: there is nothing to settle")
        if self._settled_soon is not None:
            self._settled_soon()
        return self._delivery

    async def ack(self):
        """Done with it. Stale when it was settled before."""
        self._received().ack()

    async def nack(self, requeue=True, delay=None, reason=None):
        """It failed: again after `delay` seconds or the queue's backoff; not requeued: to the dead letters."""
        self._received().nack(requeue, delay, reason)

    async def reject(self, reason=None):
        """Never again: to the dead letters."""
        self._received().reject(reason)

    async def extend(self, seconds=None):
        """More time before it is given again; None: one ack wait of its queue."""
        self._received().extend(seconds)


MessagingEvent._dict_fields = MessagingEvent.__slots__[:9]  # pylint: disable=protected-access


# ---- the wire ----


def encode_data(data, default=None):
    """As JSON bytes; of bytes: as they are. `default` turns what JSON does not know into what it does.

    Raises TypeError; ValueError: NaN, Infinity, or data that refers to itself.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    text = _encode(data) if default is None else _dumps(data, default)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can say that in ASCII
        return _dumps(data, default).encode()


def _dumps(data, default):
    return json.dumps(data, separators=(",", ":"), default=default, allow_nan=False)


def decode_data(data):
    """JSON; else text; else bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    try:
        value, end = _decode(text)
        if end == len(text):
            return value
    except (ValueError, RecursionError):
        pass
    try:
        return _decoder.decode(text)  # with white space around it
    except (ValueError, RecursionError):
        return text


def wire_headers(event):
    """A dict of str, for an event of ours or of a framework that has the same fields."""
    headers = {"id": event.id, "source": event.source, "timestamp": repr(event.timestamp)}
    if event.correlation_id is not None:
        headers["correlation_id"] = event.correlation_id
    if event.partition_key is not None:
        headers["partition_key"] = event.partition_key
    if event.headers:
        for name, value in event.headers.items():
            name = str(name)
            if not isinstance(value, (str, bytes)):
                value = str(value)
            headers["x-" + name if _is_taken(name) else name] = value
    return headers


def event_of(delivery, settled_soon=None):
    """The event of a delivery that came, whoever published it."""
    event = MessagingEvent.__new__(MessagingEvent)
    headers = delivery.headers
    event.topic = delivery.topic
    event.data = decode_data(delivery.data)
    event.id = headers.pop("id", None) or "%016x" % delivery.event_id
    event.source = headers.pop("source", "pawl")
    try:
        event.timestamp = float(headers.pop("timestamp", None))
    except (TypeError, ValueError):
        event.timestamp = delivery.published_at_ns / 1e9
    event.correlation_id = headers.pop("correlation_id", None)
    event.partition_key = headers.pop("partition_key", None)
    if headers:
        # The shorter ones first: so the name that each goes to is free.
        for name in sorted((name for name in headers if name.startswith("x-") and _is_taken(name)), key=len):
            headers[name[2:]] = headers.pop(name)
    event.headers = headers
    event.delivery_guarantee = None
    event._delivery = delivery  # pylint: disable=protected-access
    event._settled_soon = settled_soon  # pylint: disable=protected-access
    return event
