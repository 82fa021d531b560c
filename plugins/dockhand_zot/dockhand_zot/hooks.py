"""The hooks of this package; light, since they are loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `zot`."""
    return {"zot": "dockhand_zot.driver:ZotDriver"}
