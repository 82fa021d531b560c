"""Errors of the inbox and its dead letters."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["DeadLetterError", "DeadLetterUnknown", "InboxError"]


class InboxError(DockhandError):
    """The inbox cannot be read or written, because of a full disk or another process's lock."""


class DeadLetterError(DockhandError):
    """A dead letter does not exist or cannot be replayed; the message gives id and reason."""


class DeadLetterUnknown(DeadLetterError):
    """A dead letter does not exist: it was replayed, dropped or deleted, or never existed."""
