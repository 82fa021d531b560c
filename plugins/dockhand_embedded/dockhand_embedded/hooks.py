"""The hooks of this package; light, since they are loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `embedded`."""
    return {"embedded": "dockhand_embedded.driver:EmbeddedDriver"}
