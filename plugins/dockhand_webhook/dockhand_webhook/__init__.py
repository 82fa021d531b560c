"""The receiver of registries' notifications: it stores events on disk and calls handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_webhook.app import Receiver, create_app
    from dockhand_webhook.dispatch.dispatcher import DeliveryExecutor, Dispatcher
    from dockhand_webhook.dispatch.invoke import DeliveryDeferred
    from dockhand_webhook.errors import DeadLetterError, DeadLetterUnknown, InboxError
    from dockhand_webhook.inbox.backoff import Backoff
    from dockhand_webhook.inbox.dead_letters import DeadLetter, DeadLetters
    from dockhand_webhook.inbox.deliveries import ClaimedDelivery, DeliveryQueue
    from dockhand_webhook.inbox.event_codec import SerializedEvent
    from dockhand_webhook.inbox.inbox import Counts, HandlerCounts, Inbox
    from dockhand_webhook.inbox.tokens import NotifyToken, NotifyTokens

_HOMES = {
    "Backoff": "inbox.backoff",
    "ClaimedDelivery": "inbox.deliveries",
    "Counts": "inbox.inbox",
    "DeadLetter": "inbox.dead_letters",
    "DeadLetterError": "errors",
    "DeadLetterUnknown": "errors",
    "DeadLetters": "inbox.dead_letters",
    "DeliveryDeferred": "dispatch.invoke",
    "DeliveryExecutor": "dispatch.dispatcher",
    "DeliveryQueue": "inbox.deliveries",
    "Dispatcher": "dispatch.dispatcher",
    "HandlerCounts": "inbox.inbox",
    "Inbox": "inbox.inbox",
    "InboxError": "errors",
    "NotifyToken": "inbox.tokens",
    "NotifyTokens": "inbox.tokens",
    "Receiver": "app",
    "SerializedEvent": "inbox.event_codec",
    "create_app": "app",
}

__all__ = [
    "Backoff",
    "ClaimedDelivery",
    "Counts",
    "DeadLetter",
    "DeadLetterError",
    "DeadLetterUnknown",
    "DeadLetters",
    "DeliveryDeferred",
    "DeliveryExecutor",
    "DeliveryQueue",
    "Dispatcher",
    "HandlerCounts",
    "Inbox",
    "InboxError",
    "NotifyToken",
    "NotifyTokens",
    "Receiver",
    "SerializedEvent",
    "create_app",
]

__getattr__ = lazy_exports(__name__, _HOMES)
