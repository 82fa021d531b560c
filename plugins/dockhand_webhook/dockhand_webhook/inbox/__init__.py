"""The inbox: events, deliveries, dead letters and tokens in one SQLite file."""

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_webhook.inbox.inbox import Counts, HandlerCounts, Inbox

__all__ = ["Counts", "HandlerCounts", "Inbox"]

__getattr__ = lazy_exports(__name__, dict.fromkeys(__all__, "inbox"))
