"""A scheduler for a program that has none: started by a small process beside it (_keeper.py).

Forking this program itself would copy whatever it has loaded, and is not safe once it has threads.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref

from . import _pawl
from .errors import Error, NotServed, error_of


_keepers = weakref.WeakSet()


def _in_child():
    """The keeper ends with the last copy of its standard input: none is a forked child's, which may live on."""
    for keeper in _keepers:
        keeper.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


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
        _keepers.add(self)
        private_state = state if mode == "private" else None
        self._finalize = weakref.finalize(self, _end, self._process, private_state, os.getpid())
        said = self._process.stdout.readline().decode()
        self._process.stdout.close()
        if said != "ok\n":
            self.close()
            if said.startswith("{"):
                answer = json.loads(said)
                raise error_of(answer["code"], answer["text"])
            raise Error("no scheduler could be started for %s: %s" % (state, said or "the starter ended"))

    def leave(self):
        """It is not ours."""
        self._process.stdin.close()
        self._process.returncode = 0  # nobody waits for it here

    def close(self):
        """Returns when the process, its scheduler and a private directory are gone."""
        self._finalize()


def _end(process, private_state, owner):
    """Also of a keeper that is forgotten, and when the interpreter ends: but not in a forked child."""
    if os.getpid() != owner:
        return
    process.stdin.close()
    process.wait()
    if private_state is not None:  # it was killed, and could not
        shutil.rmtree(private_state, ignore_errors=True)


def connect_privately(reconnect_timeout=None):
    """A scheduler that nobody else knows of. Return: (client, keeper)."""
    state = tempfile.mkdtemp(prefix="pawl-")
    keeper = None
    try:
        keeper = Keeper("private", state)
        return _pawl.connect(state, reconnect_timeout=reconnect_timeout), keeper
    except BaseException:
        if keeper:
            keeper.close()
        shutil.rmtree(state, ignore_errors=True)
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
