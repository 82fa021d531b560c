"""The hooks of this package. It imports little, since every program with plugins loads it."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `embedded`."""
    return {"embedded": "dockhand_embedded.driver:EmbeddedDriver"}
