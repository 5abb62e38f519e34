"""Exceptions: one class for each error of pawl, made from the library's own table."""

import errno as _errno
import os

from . import _pawl


class Error(Exception):
    """Any error of pawl. `code` is the library's number, `name` its symbol, the text says what happened."""

    code = 0
    name = ""

    def __init__(self, message="", code=None, name=None):
        super().__init__(message)
        if code is not None:
            self.code = code
        if name is not None:
            self.name = name


class NotConnected(Error, ConnectionError):
    """The backend is not connected. Nothing was stored: connect() and try again."""

    name = "NOT_CONNECTED"
    retryable = True


class NotServed(Error, ConnectionError):
    """Nobody serves this state directory."""


class Timeout(Error, TimeoutError):
    """It took longer than was allowed; what was published may or may not have been stored."""


class WouldBlock(Error, BlockingIOError):
    """No room now: dispatch, then try again."""


class AccessDenied(Error, PermissionError):
    """The state directory is not ours to use."""


_SHORTER = {"QUEUE_EMPTY": "Empty", "STALE_RECEIPT": "Stale"}
_BASES = {"CLOSED": (Error, ConnectionError), "STALE_RECEIPT": (Error,), "INVALID": (Error, ValueError)}
_BY_CODE = {
    -_errno.ENOENT: NotServed,
    -_errno.ECONNREFUSED: NotServed,
    -_errno.ETIMEDOUT: Timeout,
    -_errno.EAGAIN: WouldBlock,
    -_errno.EACCES: AccessDenied,
    -_errno.EPERM: AccessDenied,
}
__all__ = ["Error", "NotConnected", "NotServed", "Timeout", "WouldBlock", "AccessDenied"]


def _make_classes():
    for symbol, code, text in _pawl.ERRORS:
        word = symbol[len("PAWL_E_") :]
        name = _SHORTER.get(word) or "".join(part.capitalize() for part in word.split("_"))
        cls = type(
            name,
            _BASES.get(word, (Error,)),
            {"__doc__": text[0].upper() + text[1:] + ".", "__module__": __name__, "code": code, "name": word},
        )
        globals()[name] = cls
        _BY_CODE[code] = cls
        __all__.append(name)


_make_classes()


def error_of(code, text=""):
    """The exception for a code of the library."""
    cls = _BY_CODE.get(code, Error)
    text = text or _pawl.strerror(code)
    if -4096 < code < 0:
        return cls(text, code, _errno.errorcode.get(-code, os.strerror(-code)))
    return cls(text, code)


_pawl.set_error_factory(error_of)
