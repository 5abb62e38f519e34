"""A queue's settings as Python says them, turned into the JSON that the scheduler reads."""

import json
import re

from .errors import Invalid

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS = {"ack_wait": "ack_wait_ns", "ttl": "ttl_ns", "retain": "retain_ns"}
_PLAIN = (
    "dlq",
    "max_depth",
    "max_bytes",
    "overflow",
    "overflow_topics",
    "max_in_flight",
    "guarantee",
    "durability",
    "ordering_key",
    "retain_bytes",
    "retain_events",
    "strict_attempts",
    "stream",
    "unrouted",
    "interruptions",
)
_BREAKER = ("failures", "cooldown", "probes", "successes")


def nanoseconds(value, what="a duration"):
    """Seconds, or a text such as "250ms", "1h30m"."""
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            raise Invalid("%s: '%s' is no duration such as 250ms or 1h30m" % (what, value))
        value = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise Invalid("%s: %r is neither a number of seconds nor a text such as 250ms" % (what, value))
    return round(value * 1e9)


def milliseconds(value, what):
    return None if value is None else -(-nanoseconds(value, what) // 1000000)


def _exponential(initial, factor=None, max=None, jitter=None):  # pylint: disable=redefined-builtin
    backoff = {"kind": "exponential", "initial_ns": nanoseconds(initial, "backoff")}
    if factor is not None:
        backoff["factor"] = float(factor)
    if max is not None:
        backoff["max_ns"] = nanoseconds(max, "backoff")
    if jitter is not None:
        backoff["jitter"] = float(jitter)
    return backoff


def _backoff(value):
    """Seconds: always the same; a list: one after the other; a dict, or INITIAL,FACTOR,MAX,JITTER: exponential."""
    if isinstance(value, dict):
        if "kind" in value:
            return value
        return _exponential(**value)
    if isinstance(value, str) and "," in value:
        words = value.split(",")
        if len(words) > 1 and re.fullmatch(r"\d+(\.\d+)?", words[1]):
            return _exponential(*words)
        value = words
    if isinstance(value, (list, tuple)):
        return {"kind": "list", "delays_ns": [nanoseconds(each, "backoff") for each in value]}
    return {"kind": "fixed", "initial_ns": nanoseconds(value, "backoff")}


def _rate(value):
    count, seconds = value if isinstance(value, (list, tuple)) else (value, 1)
    return {"count": int(count), "per_ns": nanoseconds(seconds, "rate")}


def _breaker(value):
    """Failures in a row, or a text or dict of FAILURES,COOLDOWN,PROBES,SUCCESSES. 0 failures: none."""
    if isinstance(value, str):
        words = value.split(",")
        if len(words) > len(_BREAKER) or not all(re.fullmatch(r"\d+", word) for word in words[:1] + words[2:]):
            raise Invalid("breaker: '%s' is not FAILURES,COOLDOWN,PROBES,SUCCESSES as in 5,30s,3,2" % value)
        value = {name: word if name == "cooldown" else int(word) for name, word in zip(_BREAKER, words)}
    elif isinstance(value, int):
        value = {"failures": value}
    elif not isinstance(value, dict):
        raise Invalid("breaker: %r is neither a number of failures nor a dict nor a text such as 5,30s,3" % (value,))
    if "cooldown" in value:
        value = dict(value)
        value["cooldown_ns"] = nanoseconds(value.pop("cooldown"), "breaker: cooldown")
    return value


def _retry(retry, max_deliver, backoff):
    """None: nothing is said of it. `retry` is as the scheduler reads it; the other two go before what it says."""
    if retry is None and max_deliver is None and backoff is None:
        return None
    retry = dict(retry or {})
    if max_deliver is not None:
        retry["limit"] = max(0, int(max_deliver))  # -1 and 0: no limit
    if backoff is not None:
        retry["backoff"] = _backoff(backoff)
    return retry


def queue_json(topics=None, *, max_deliver=None, backoff=None, rate=None, breaker=None, retry=None, **settings):
    """The configuration of a queue as JSON text. What is None is left as it is, or at its default."""
    config = {}
    if topics is not None:
        config["topics"] = [topics] if isinstance(topics, str) else list(topics)
    for name, value in settings.items():
        if value is None:
            continue
        if name in _SECONDS:
            config[_SECONDS[name]] = nanoseconds(value, name)
        elif name == "temporary":
            if value:
                config[name] = True
        elif name in _PLAIN:
            config[name] = getattr(value, "value", value)
        else:
            raise TypeError("a queue has no setting '%s'" % name)
    retry = _retry(retry, max_deliver, backoff)
    if retry is not None:
        config["retry"] = retry
    if rate is not None:
        config["rate"] = _rate(rate)
    if breaker is not None:
        config["breaker"] = _breaker(breaker)
    return json.dumps(config, allow_nan=False)
