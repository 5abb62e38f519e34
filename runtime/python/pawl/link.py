"""A client within an event loop: dispatched when its descriptor is readable, or soon after it was used."""

import os

from .errors import Error


class Link:
    """`on_news(batches)` runs after each dispatch, `on_lost(error)` once, when the connection is given up."""

    def __init__(self, loop, client, on_news, on_lost):
        self.client = client
        self.loop = self._loop = loop
        self._on_news = on_news
        self._on_lost = on_lost
        self._is_due = False
        self._owner = os.getpid()
        self._fd = client.fileno()
        loop.add_reader(self._fd, self._run)

    @property
    def is_open(self):
        return self._fd >= 0

    def soon(self):
        """Something was submitted or settled: tell the scheduler, once for all of this turn of the loop."""
        if not self._is_due and self._fd >= 0:
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self):
        self._is_due = False
        if self._fd < 0:
            return
        try:
            finished = self.client.dispatch()
        except Error as error:
            self.stop()
            self._on_lost(error)
            return
        self._on_news(finished)

    def stop(self):
        """No more dispatching; the client stays open."""
        if self._fd >= 0:
            # A forked child shares the epoll of its parent's loop, and would take the descriptor out of that.
            if os.getpid() == self._owner and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._fd = -1

    def close(self):
        self.stop()
        self.client.close()
