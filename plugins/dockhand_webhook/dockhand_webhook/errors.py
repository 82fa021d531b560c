"""What can go wrong with the inbox."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["InboxError", "LetterError"]


class InboxError(DockhandError):
    """The inbox cannot be read or written: the disk is full, or another process holds it."""


class LetterError(DockhandError):
    """There is no such dead letter, or it cannot be replayed; the message says which and why."""
