"""Flows: the operations of a driver as generators that say what they want from the wire.

`effects` holds what a flow yields, `sources` the bodies of requests, `retry` the retry policy.
"""

from dockhand_core.flow.effects import (
    JSON_LIMIT,
    Blocking,
    Call,
    CallOptions,
    Discard,
    Drain,
    Effect,
    Flow,
    Parallel,
    Reply,
    Sleep,
    Stream,
    Take,
    Until,
    blocking,
    call,
    discard,
    drain,
    iterator_of,
    parallel,
    pause,
    take,
)
from dockhand_core.flow.retry import Attempts, RetryPolicy
from dockhand_core.flow.sources import BLOCK, BytesSource, FileSource, Progress, Source

Retry = RetryPolicy  # the earlier name

__all__ = [
    "BLOCK",
    "JSON_LIMIT",
    "Attempts",
    "Blocking",
    "BytesSource",
    "Call",
    "CallOptions",
    "Discard",
    "Drain",
    "Effect",
    "FileSource",
    "Flow",
    "Parallel",
    "Progress",
    "Reply",
    "Retry",
    "RetryPolicy",
    "Sleep",
    "Source",
    "Stream",
    "Take",
    "Until",
    "blocking",
    "call",
    "discard",
    "drain",
    "iterator_of",
    "parallel",
    "pause",
    "take",
]
