"""pawl: durable queues and an event bus beside your program.

Asyncio: EventBackend, MessagingEvent, DeliveryGuarantee. Blocking, or in a poll loop: connect().
"""

from ._pawl import LIBRARY_VERSION
from .client import Client, Confirm, connect, message
from .errors import *  # noqa: F401,F403  pylint: disable=wildcard-import
from .errors import __all__ as _errors

__version__ = "0.1.0"
__all__ = ["Client", "Confirm", "LIBRARY_VERSION", "connect", "message"]
__all__ += _errors
