"""The inbox: events, deliveries, dead letters and tokens in one SQLite file."""

from dockhand_webhook.inbox.inbox import Counts, HandlerCounts, Inbox

__all__ = ["Counts", "HandlerCounts", "Inbox"]
