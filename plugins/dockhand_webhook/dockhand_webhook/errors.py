"""Errors of the inbox and its dead letters."""

from __future__ import annotations

from dockhand_core import DockhandError

__all__ = ["DeadLetterError", "InboxError"]


class InboxError(DockhandError):
    """The inbox cannot be read or written: the disk is full, or another process holds a lock."""


class DeadLetterError(DockhandError):
    """The dead letter does not exist or cannot be replayed; the message names it and the reason."""
