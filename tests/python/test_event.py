"""Events, patterns, settings and errors: what needs no scheduler."""

import asyncio
import copy
import enum
import json
import os
import pickle

import pytest

import pawl
from pawl.event import decode_data, encode_data, event_of, new_id, wire_headers
from pawl.settings import nanoseconds, queue_json


class Delivery:
    """Of an event that went over the wire."""

    attempt, settled, queue, event_id, published_at_ns = 1, False, "q", 0xABC, 1_500_000_000

    def __init__(self, topic, data, headers):
        self.topic, self.data, self.headers = topic, data, dict(headers)


def over_the_wire(event):
    return event_of(Delivery(event.topic, encode_data(event.data), wire_headers(event)))


FIELDS = ("topic", "data", "id", "timestamp", "source", "correlation_id", "partition_key", "headers")


@pytest.mark.parametrize(
    "event",
    [
        pawl.MessagingEvent("tool.call", {"name": "read"}),
        pawl.MessagingEvent(topic="a", data={"text": "ä€😀\n\"", "list": [1, 2.5, None, True]}),
        pawl.MessagingEvent("a.b", {}, source="test", correlation_id="c1", partition_key="p1", timestamp=12.25),
        pawl.MessagingEvent("a.b", {}, headers={"id": "mine", "x-id": "too", "x-other": "1", "x-x-source": "s"}),
        pawl.MessagingEvent("a.b", {}, headers={"x-x-id": "as well", "x-id": "too", "id": "mine"}),
        pawl.MessagingEvent("a.b", {"half": "\ud800"}),
        pawl.MessagingEvent("a.b", [1, "not a map"]),
    ],
)
def test_an_event_arrives_as_it_was_sent(event):
    arrived = over_the_wire(event)
    for field in FIELDS:
        assert getattr(arrived, field) == getattr(event, field), field


def test_an_event_of_another_program_gets_what_it_does_not_have():
    event = event_of(Delivery("a.b", b"plain text", {"k": "v"}))
    assert (event.data, event.id, event.source, event.timestamp) == ("plain text", "%016x" % 0xABC, "pawl", 1.5)
    assert event.headers == {"k": "v"}
    assert event_of(Delivery("a.b", b"\xff\xfe", {})).data == b"\xff\xfe"
    assert decode_data(b' {"a": 1}\n') == {"a": 1}
    assert decode_data(b"") == ""
    assert decode_data(b"1 2") == "1 2"
    assert event_of(Delivery("a.b", b"{}", {"timestamp": "yesterday"})).timestamp == 1.5


def test_data_that_is_no_json_is_refused_unless_told_what_to_do():
    with pytest.raises(TypeError):
        encode_data({"when": object()})
    assert json.loads(encode_data({"what": {1, 2}}, default=sorted)) == {"what": [1, 2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("default", [None, str])
def test_a_number_that_json_does_not_have_is_refused(value, default):
    for data in (value, [1, value], {"a": {"b": value}}, {value: 1}):
        with pytest.raises(ValueError):
            encode_data(data, default=default)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a": [NaN]}', " NaN ", '{"a": Infinity} '])
def test_what_looks_like_such_a_number_is_no_json_but_text(text):
    assert decode_data(text.encode()) == text


def test_ids_are_16_hexadecimal_digits_and_differ():
    ids = {pawl.MessagingEvent("a").id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_an_event_as_a_dict_comes_back():
    event = pawl.MessagingEvent("a.b", {"x": 1}, delivery_guarantee=pawl.DeliveryGuarantee.EXACTLY_ONCE)
    again = pawl.MessagingEvent.from_dict(json.loads(json.dumps(event.to_dict())))
    assert again.to_dict() == event.to_dict()
    assert again.delivery_guarantee is pawl.DeliveryGuarantee.EXACTLY_ONCE
    assert (event.category, pawl.MessagingEvent("").category) == ("a", "unknown")


def test_an_event_that_was_not_received_cannot_be_settled():
    with pytest.raises(pawl.Stale):
        pawl.MessagingEvent("a").ack().send(None)


PATTERNS = [
    ("*", "a", True),
    ("*", "a.b.c", True),
    ("tool.*", "tool.call", True),
    ("tool.*", "tool.a.b.c", True),
    ("tool.*", "tool", False),
    ("tool.*", "tools.call", False),
    ("*.error", "x.error", True),
    ("*.error", "x.y.error", False),
    ("tool.*.x", "tool.a.x", True),
    ("tool.*.x", "tool.a.b.x", False),
    ("tool*", "tool*", True),
    ("tool*", "tools", False),
    ("a.b", "a.b", True),
    ("a.b", "a.b.c", False),
    ("#", "a.b", True),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("a.#.z", "a.z", True),
    ("a.#.z", "a.b.c.z", True),
    ("a.#.z", "a.b.c", False),
    ("#.z.#", "a.z.b", True),
    ("a.#.*", "a.b", True),
    ("a.#.*", "a", False),
]


@pytest.mark.parametrize("pattern, topic, matches", PATTERNS)
def test_patterns(pattern, topic, matches):
    assert pawl.topic_matches(pattern, topic) is matches
    assert pawl.MessagingEvent(topic).matches_pattern(pattern) is matches


def test_patterns_are_those_of_the_scheduler(client):
    for number, (pattern, topic, matches) in enumerate(PATTERNS):
        client.declare("q%d" % number, pattern)
        routed = client.publish(topic).routed
        assert (client.queue("q%d" % number)["depth"] == 1) is matches, (pattern, topic)
        assert routed == matches
        client.delete("q%d" % number)


def test_durations_are_seconds_or_texts():
    assert nanoseconds(1.5) == 1_500_000_000
    assert nanoseconds("250ms") == 250_000_000
    assert nanoseconds("1h30m") == 5400 * 10**9
    for wrong in ("", "5", "5 s", "1x", -1, None, True, float("nan")):
        with pytest.raises(pawl.Invalid):
            nanoseconds(wrong)


def test_numbers_without_end_are_no_settings():
    for settings in (
        {"backoff": {"initial": 1, "factor": float("inf")}},
        {"ttl": float("nan")},
        {"breaker": {"failures": float("nan")}},
        {"max_depth": float("inf")},
    ):
        with pytest.raises(ValueError):
            queue_json("a", **settings)


def test_settings_become_the_configuration_of_a_queue():
    made = json.loads(
        queue_json("a.*", ack_wait=2, max_deliver=-1, backoff="100ms,2,1s", rate=(10, "1s"), durability=None)
    )
    assert made == {
        "topics": ["a.*"],
        "ack_wait_ns": 2 * 10**9,
        "retry": {
            "limit": 0,
            "backoff": {"kind": "exponential", "initial_ns": 10**8, "factor": 2.0, "max_ns": 10**9},
        },
        "rate": {"count": 10, "per_ns": 10**9},
    }
    assert json.loads(queue_json(["a"], backoff=["1s", 5]))["retry"]["backoff"]["delays_ns"] == [10**9, 5 * 10**9]
    with pytest.raises(TypeError):
        queue_json("a", akc_wait=1)


def test_a_breaker_is_a_number_a_text_or_a_dict():
    def made(breaker):
        return json.loads(queue_json(breaker=breaker))["breaker"]

    assert made(5) == {"failures": 5}
    assert made(0) == {"failures": 0}
    assert made("5") == {"failures": 5}
    assert made("5,30s,3,2") == {"failures": 5, "cooldown_ns": 30 * 10**9, "probes": 3, "successes": 2}
    assert made({"failures": 2, "cooldown": 1.5}) == {"failures": 2, "cooldown_ns": 1_500_000_000}
    assert made({"failures": 2, "cooldown_ns": 7}) == {"failures": 2, "cooldown_ns": 7}
    for wrong in ("", "x", "5,30s,3,2,1", "5,soon", "5,30s,x", 1.5, [5]):
        with pytest.raises(pawl.Invalid):
            queue_json(breaker=wrong)


def test_what_is_false_is_said_and_so_can_be_taken_back():
    made = json.loads(queue_json(strict_attempts=False, stream=False, unrouted=False))
    assert made == {"strict_attempts": False, "stream": False, "unrouted": False}


def test_a_limit_and_a_backoff_go_before_what_retry_says_of_them():
    causes = {"deadline": {"limit": 2}}
    made = json.loads(queue_json(retry={"limit": 9, "causes": causes}, max_deliver=3, backoff=0))["retry"]
    assert made == {"limit": 3, "backoff": {"kind": "fixed", "initial_ns": 0}, "causes": causes}
    assert json.loads(queue_json(retry={"limit": 9}))["retry"] == {"limit": 9}


def test_every_error_of_the_library_has_a_class():
    for name in (
        "QueueFull Empty Stale BadFormat Damaged BadMessage Limit Invalid Busy NotFound State NoSpace Indefinite "
        "SyncFailed Closed Duplicate Unrouted Incompatible"
    ).split():
        cls = getattr(pawl, name)
        assert issubclass(cls, pawl.Error) and cls.code < -10000 and cls.name.isupper()
    assert (pawl.QueueFull.code, pawl.QueueFull.name) == (-10001, "QUEUE_FULL")
    assert issubclass(pawl.Closed, ConnectionError) and issubclass(pawl.Timeout, TimeoutError)
    assert issubclass(pawl.Invalid, ValueError)


def test_nobody_serves_is_an_error_of_its_own(tmp_path):
    with pytest.raises(pawl.NotServed) as caught:
        pawl.connect(tmp_path / "none")
    assert caught.value.name == "ENOENT" and "none" in str(caught.value)


def test_guarantees_of_other_programs_are_understood():
    from pawl.event import guarantee_name, stronger

    theirs = enum.Enum("Theirs", {"ONCE": "at_most_once"})
    assert guarantee_name(theirs.ONCE) == "at_most_once"
    assert stronger("at_most_once", "at_least_once") == "at_least_once"
    assert stronger(None, "at_most_once") == "at_most_once"
    with pytest.raises(ValueError):
        guarantee_name("twice")


def test_data_that_refers_to_itself_is_refused_and_later_data_is_not():
    own = {}
    own["own"] = own
    with pytest.raises(ValueError):
        encode_data(own)
    del own["own"]
    assert encode_data(own) == b"{}"
    with pytest.raises(TypeError):
        encode_data({"a": object()})
    assert encode_data({"a": [own, own, "ü", 1.5, None]}) == '{"a":[{},{},"ü",1.5,null]}'.encode()


def test_a_forked_process_draws_ids_of_its_own():
    drawn = {new_id() for _ in range(10)}
    assert len(drawn) == 10
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(new_id() for _ in range(300)).encode())
        os._exit(0)
    os.close(writer)
    text = b""
    while more := os.read(reader, 65536):
        text += more
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0
    theirs = {text[at : at + 16].decode() for at in range(0, len(text), 16)}
    assert len(theirs) == 300
    assert not theirs & {new_id() for _ in range(300)}


def test_a_received_event_travels_between_processes_without_its_delivery():
    """A pickle, as process pools make; a deep copy. A plain copy is of the same delivery."""
    delivery = Delivery("a.b", b'{"k": [1]}', {"id": "1" * 16, "correlation_id": "c", "own": "header"})
    event = event_of(delivery)
    for there in (pickle.loads(pickle.dumps(event)), copy.deepcopy(event)):
        assert all(getattr(there, field) == getattr(event, field) for field in FIELDS)
        assert there.delivery is None and there.delivery_count == 0
        with pytest.raises(pawl.Stale):
            asyncio.run(there.ack())
    assert copy.copy(event).delivery is delivery and copy.copy(event).data is event.data
