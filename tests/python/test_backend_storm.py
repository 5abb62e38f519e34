"""EventBackend in both directions while `pawl serve` is killed and started again: nothing is lost or stored twice."""

import asyncio
import collections
import os
import random
import signal
import time

import pawl

from conftest import in_loop, processes_naming, wait_until

STORM_SECONDS = float(os.environ.get("STORM_SECONDS", "20")) / 4
QUEUE = {"queue": "work", "max_deliver": 0, "backoff": "10ms", "ack_wait": "5m"}


class Books:
    def __init__(self):
        self.confirmed = set()
        self.stored = collections.defaultdict(set)  # numbers in the queue, by event

    async def handle(self, event):
        await asyncio.sleep(random.uniform(0, 0.01))
        self.stored[event.data].add(event.delivery.seq)

    async def publish(self, backend, name, is_over):
        n = 0
        while not is_over():
            n += 1
            event = pawl.MessagingEvent("storm.work", "%s:%d" % (name, n))
            while True:
                try:
                    assert await backend.publish(event) is True
                    break
                except (pawl.Indefinite, pawl.State):
                    await asyncio.sleep(0.05)  # again, with its id: no duplicate if it was stored
            self.confirmed.add(event.data)
            await asyncio.sleep(0.01)


def children_of(pid, title):
    for each in processes_naming("pawl: " + title):
        try:
            with open("/proc/%d/stat" % each, encoding="ascii", errors="replace") as stat:
                if int(stat.read().rpartition(")")[2].split()[1]) == pid:
                    yield each
        except OSError:
            pass


def wait_for_server(server):
    """One that was killed left its socket: that it is there says nothing."""

    def serves():
        try:
            return server.scheduler_pid() > 0
        except pawl.NotServed:
            return False

    wait_until(serves)


async def strike(server, kills, is_over):
    while not is_over() or min(kills.values()) < 2:
        await asyncio.sleep(random.uniform(0.1, 0.6))
        for pid in children_of(server.process.pid, "scheduler"):
            os.kill(pid, signal.SIGKILL)
            kills["scheduler"] += 1
        await asyncio.sleep(random.uniform(0.1, 0.6))
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
        kills["supervisor"] += 1
        await asyncio.to_thread(server.start)


@in_loop
async def storm(server):
    books, kills = Books(), collections.Counter(scheduler=0, supervisor=0)
    ends = time.monotonic() + STORM_SECONDS

    def is_over():
        return time.monotonic() > ends

    options = {"reconnect_timeout": 60}
    async with pawl.EventBackend(server.state, delivery_guarantee="exactly_once", **options) as publishing:
        async with pawl.EventBackend(server.state, **options) as subscribing:
            handle = await subscribing.subscribe("storm.*", books.handle, **QUEUE)
            names = ["p%d" % number for number in range(4)]
            await asyncio.gather(
                strike(server, kills, is_over), *(books.publish(publishing, name, is_over) for name in names)
            )
            while books.confirmed - set(books.stored):
                await asyncio.sleep(0.05)
            await asyncio.to_thread(wait_for_server, server)
            while (await subscribing.queue_stats())["work"]["depth"] > 0:
                await asyncio.sleep(0.05)
            assert handle.is_active
    assert len(books.confirmed) > 20, "too little happened"
    assert {data: seqs for data, seqs in books.stored.items() if len(seqs) > 1} == {}, "stored twice"


def test_a_backend_goes_on_while_who_serves_it_is_killed_again_and_again(server):
    storm(server)
