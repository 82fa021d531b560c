"""Flows: generators that describe the operations of a driver, without doing I/O themselves.

A flow yields effects, such as a request to send, and the runner of a sync or async client performs
them. `effects` defines the effects, `replies` their replies, `sources` the bodies of requests,
`retry` the retry policy, `budget` the limit on the replies of a list.
"""

from dockhand_core.flow.background import Background
from dockhand_core.flow.budget import LIST_LIMIT, ListBudget
from dockhand_core.flow.effects import (
    At,
    Blocking,
    Call,
    CallOptions,
    Discard,
    Drain,
    Effect,
    Flow,
    Parallel,
    Peer,
    Reserve,
    Sleep,
    Subject,
    Take,
    Until,
    at,
    blocking,
    call,
    discard,
    drain,
    iterator_of,
    parallel,
    pause,
    reserve,
    take,
)
from dockhand_core.flow.replies import JSON_LIMIT, Reply, Stream
from dockhand_core.flow.retry import Attempts, RetryPolicy
from dockhand_core.flow.sources import (
    BLOCK,
    AsyncSource,
    BytesSource,
    FileSource,
    Part,
    Progress,
    Source,
)
from dockhand_core.flow.verified_source import VerifiedSource, verified

Retry = RetryPolicy  # former name of the class, kept for existing plugins

__all__ = [
    "BLOCK",
    "JSON_LIMIT",
    "LIST_LIMIT",
    "AsyncSource",
    "At",
    "Attempts",
    "Background",
    "Blocking",
    "BytesSource",
    "Call",
    "CallOptions",
    "Discard",
    "Drain",
    "Effect",
    "FileSource",
    "Flow",
    "ListBudget",
    "Parallel",
    "Part",
    "Peer",
    "Progress",
    "Reply",
    "Reserve",
    "Retry",
    "RetryPolicy",
    "Sleep",
    "Source",
    "Stream",
    "Subject",
    "Take",
    "Until",
    "VerifiedSource",
    "at",
    "blocking",
    "call",
    "discard",
    "drain",
    "iterator_of",
    "parallel",
    "pause",
    "reserve",
    "take",
    "verified",
]
