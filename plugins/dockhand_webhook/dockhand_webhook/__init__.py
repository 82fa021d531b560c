"""Receives the notifications of registries, keeps them on disk, and calls handlers with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_webhook.app import Receiver, create_app
    from dockhand_webhook.dispatch.dispatcher import Dispatcher, Runner
    from dockhand_webhook.dispatch.invoke import NotNow
    from dockhand_webhook.errors import InboxError, LetterError
    from dockhand_webhook.inbox.dead_letters import DeadLetter, DeadLetters
    from dockhand_webhook.inbox.deliveries import Backoff, Job, Lanes
    from dockhand_webhook.inbox.event_codec import Stored
    from dockhand_webhook.inbox.inbox import Counts, HandlerCounts, Inbox
    from dockhand_webhook.inbox.tokens import NotifyToken, NotifyTokens

_HOMES = {
    "Backoff": "inbox.deliveries",
    "Counts": "inbox.inbox",
    "DeadLetter": "inbox.dead_letters",
    "DeadLetters": "inbox.dead_letters",
    "Dispatcher": "dispatch.dispatcher",
    "HandlerCounts": "inbox.inbox",
    "Inbox": "inbox.inbox",
    "InboxError": "errors",
    "Job": "inbox.deliveries",
    "Lanes": "inbox.deliveries",
    "LetterError": "errors",
    "NotNow": "dispatch.invoke",
    "NotifyToken": "inbox.tokens",
    "NotifyTokens": "inbox.tokens",
    "Receiver": "app",
    "Runner": "dispatch.dispatcher",
    "Stored": "inbox.event_codec",
    "create_app": "app",
}

__all__ = [
    "Backoff",
    "Counts",
    "DeadLetter",
    "DeadLetters",
    "Dispatcher",
    "HandlerCounts",
    "Inbox",
    "InboxError",
    "Job",
    "Lanes",
    "LetterError",
    "NotNow",
    "NotifyToken",
    "NotifyTokens",
    "Receiver",
    "Runner",
    "Stored",
    "create_app",
]

__getattr__ = lazy_exports(__name__, _HOMES)
