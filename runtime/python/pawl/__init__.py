"""pawl: durable queues and an event bus beside your program.

Asyncio: EventBackend, MessagingEvent, DeliveryGuarantee. Blocking, or in a poll loop of your own: connect().
"""

from ._pawl import LIBRARY_VERSION
from .backend import EventBackend
from .client import Client, Confirm, connect, message
from .errors import *  # noqa: F401,F403  pylint: disable=wildcard-import
from .errors import __all__ as _errors
from .event import DeliveryGuarantee, MessagingEvent, topic_matches
from .subscription import SubscriptionHandle

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Confirm",
    "DeliveryGuarantee",
    "EventBackend",
    "LIBRARY_VERSION",
    "MessagingEvent",
    "SubscriptionHandle",
    "connect",
    "message",
    "topic_matches",
]
__all__ += _errors
