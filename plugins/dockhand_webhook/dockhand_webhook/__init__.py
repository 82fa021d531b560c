"""Receives the notifications of registries, keeps them on disk, and calls handlers with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core.lazy import loading

if TYPE_CHECKING:
    from dockhand_webhook.calling import NotNow
    from dockhand_webhook.dispatcher import Dispatcher, Runner
    from dockhand_webhook.errors import InboxError, LetterError
    from dockhand_webhook.inbox import Counts, HandlerCounts, Inbox
    from dockhand_webhook.lanes import Backoff, Job, Lanes
    from dockhand_webhook.letters import DeadLetter, DeadLetters
    from dockhand_webhook.receiver import Receiver, create_app
    from dockhand_webhook.stored import Stored
    from dockhand_webhook.tokens import NotifyToken, NotifyTokens

_HOMES = {
    "Backoff": "lanes",
    "Counts": "inbox",
    "DeadLetter": "letters",
    "DeadLetters": "letters",
    "Dispatcher": "dispatcher",
    "HandlerCounts": "inbox",
    "Inbox": "inbox",
    "InboxError": "errors",
    "Job": "lanes",
    "Lanes": "lanes",
    "LetterError": "errors",
    "NotNow": "calling",
    "NotifyToken": "tokens",
    "NotifyTokens": "tokens",
    "Receiver": "receiver",
    "Runner": "dispatcher",
    "Stored": "stored",
    "create_app": "receiver",
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

__getattr__ = loading(__name__, _HOMES)
