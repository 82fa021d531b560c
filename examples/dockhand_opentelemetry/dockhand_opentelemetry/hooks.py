"""The hooks of this package. Dockhand imports this module at every start, so it imports little."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_log_drivers() -> dict[str, str]:
    """The driver; its module is imported when a connection uses it."""
    return {"opentelemetry": "dockhand_opentelemetry.driver:make"}
