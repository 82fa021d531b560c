"""Registry notifications as events: event classes, parsers and handlers."""

from dockhand_core.events.classes import (
    EVENTS,
    BlobDeleted,
    BlobMounted,
    BlobPulled,
    BlobPushed,
    ImageLintFailed,
    ImageScanned,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
    RepositoryCreated,
    RepositoryDeleted,
    TagDeleted,
)
from dockhand_core.events.handlers import EventHandler, event_handlers
from dockhand_core.events.parsers import (
    EventHeaders,
    EventParser,
    EventParsers,
    RouteEventParser,
)

__all__ = [
    "EVENTS",
    "BlobDeleted",
    "BlobMounted",
    "BlobPulled",
    "BlobPushed",
    "EventHandler",
    "EventHeaders",
    "EventParser",
    "EventParsers",
    "ImageLintFailed",
    "ImageScanned",
    "ManifestDeleted",
    "ManifestPulled",
    "ManifestPushed",
    "RegistryBaseEvent",
    "RegistryEvent",
    "RepositoryCreated",
    "RepositoryDeleted",
    "RouteEventParser",
    "TagDeleted",
    "event_handlers",
]
