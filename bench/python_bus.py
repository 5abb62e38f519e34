#!/usr/bin/env python3
"""python_bus.py - events a second through the Python binding, each way.

    PYTHONPATH=build/python python3 bench/python_bus.py [--json] [--events N] [--durability M] [--state DIR]

`plain` is the client (publish_batch, claim and ack of many), of 100-byte data; `asyncio` is EventBackend with events of
JSON of about 100 bytes. Each way is measured alone: all is published and confirmed, then all is consumed and acked.
CPU seconds are of this process.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time

import pawl
from pawl.keeper import connect_or_launch

BATCH = 5000


class Clock:
    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def row(what, way, events, clock):
    return {
        "bench": what,
        "way": way,
        "events": events,
        "per_second": round(events / clock.wall),
        "cpu_seconds_per_million": round(clock.cpu / events * 1e6, 2),
    }


def plain(client, events, durability):
    client.declare("bench", "bench.plain", durability=durability, max_depth=events + 1, max_bytes=1 << 40)
    messages = [pawl.message("bench.plain", b"x" * 100, durability=durability)] * BATCH
    with Clock() as publishing:
        for _ in range(events // BATCH):
            client.publish_batch(messages)
    consumer, count = client.consume("bench", prefetch=1024), 0
    with Clock() as consuming:
        while count < events:
            deliveries = consumer.claim(256, 60)
            assert deliveries, "no event came within a minute"
            count += consumer.ack(deliveries)
        client.flush()
    consumer.close()
    client.delete("bench")
    return [row("plain", "publish", events, publishing), row("plain", "consume", events, consuming)]


async def with_asyncio(state, events, durability):
    settings = {"max_depth": events + 1, "max_bytes": 1 << 40}
    async with pawl.EventBackend(state, durability=durability, concurrency=256, **settings) as backend:
        # The queue is there before its handler is, so that each way is measured alone.
        with pawl.connect(state) as client:
            client.declare("handled", "bench.asyncio", durability=durability, **settings)
        with Clock() as publishing:
            for first in range(0, events, BATCH):
                await backend.publish_batch(
                    [
                        pawl.MessagingEvent("bench.asyncio", {"number": number, "name": "read", "text": "x" * 60})
                        for number in range(first, first + BATCH)
                    ]
                )
        count, done = 0, asyncio.Event()

        async def handler(_event):
            nonlocal count
            count += 1
            if count == events:
                done.set()

        with Clock() as consuming:
            await backend.subscribe("bench.asyncio", handler, queue="handled")
            await done.wait()
        return [row("asyncio", "publish", events, publishing), row("asyncio", "consume", events, consuming)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--durability", choices=["memory", "async", "fsync"], default="memory")
    parser.add_argument("--state", help="of a running `pawl serve`; default: a temporary scheduler")
    options = parser.parse_args()
    events = max(BATCH, options.events // BATCH * BATCH)
    with tempfile.TemporaryDirectory(prefix="pawl-bench.", ignore_cleanup_errors=True) as scratch:
        state = options.state or os.path.join(scratch, "state")
        client = pawl.Client(connect_or_launch(state))
        rows = plain(client, events, options.durability)
        rows += asyncio.run(with_asyncio(state, events, options.durability))
        client.close()
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "kernel": platform.release()}
    machine["python"] = platform.python_version()
    for each in rows:
        each.update(durability=options.durability, machine=machine)
        if options.json:
            print(json.dumps(each))
    if not options.json:
        print("# %(cpus)d CPUs, load %(load).1f, Linux %(kernel)s, Python %(python)s" % machine, end="")
        print(", %d events, durability %s" % (events, options.durability))
        for each in rows:
            print(
                "%(bench)-8s %(way)-8s %(per_second)9d events/s  %(cpu_seconds_per_million)6.2f CPU s/million" % each
            )


if __name__ == "__main__":
    main()
