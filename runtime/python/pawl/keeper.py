"""A scheduler for a program that has none: started by a small process beside it (_keeper.py).

Forking this program itself would copy whatever it has loaded, and is not safe once it has threads.
"""

import json
import os
import subprocess
import sys
import tempfile

from . import _pawl
from .errors import Error, NotServed, error_of


class Keeper:
    """The process beside us. It ends when we do, and takes a private scheduler with it."""

    def __init__(self, mode, state):
        self.state = state
        here = os.path.dirname(os.path.abspath(__file__))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.join(here, "_keeper.py"), here, mode, state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a ^C in the terminal is for the program
        )
        said = self._process.stdout.readline().decode()
        self._process.stdout.close()
        if said != "ok\n":
            self.close()
            if said.startswith("{"):
                answer = json.loads(said)
                raise error_of(answer["code"], answer["text"])
            raise Error("no scheduler could be started for %s: %s" % (state, said or "the starter ended"))

    def close(self):
        """Returns when the process, its scheduler and a private directory are gone."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()


def connect_privately():
    """A scheduler that nobody else knows of. Return: (client, keeper)."""
    keeper = Keeper("private", tempfile.mkdtemp(prefix="pawl-"))
    try:
        return _pawl.connect(keeper.state), keeper
    except BaseException:
        keeper.close()
        raise


def connect_or_launch(state, reconnect_timeout=None):
    """To whoever serves this directory, else to a temporary scheduler, started now."""
    options = {"reconnect_timeout": reconnect_timeout}
    try:
        return _pawl.connect(state, **options)
    except NotServed:
        pass
    keeper = Keeper("shared", os.fspath(state))
    try:
        return _pawl.connect(state, **options)
    finally:
        keeper.close()  # from now on we are the client that the scheduler stays for
