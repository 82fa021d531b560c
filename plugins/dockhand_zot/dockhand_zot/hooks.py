"""What this package provides; light, since it is loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `zot`."""
    return {"zot": "dockhand_zot.driver:ZotDriver"}
