"""The entry point of this package, so that Dockhand lists it among the installed plugins.

For each event, the receiver calls `dockhand_event` and the hook of the event's class in other
plugins.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """Provide no driver; a plugin without any hook would be reported as broken."""
    return {}
