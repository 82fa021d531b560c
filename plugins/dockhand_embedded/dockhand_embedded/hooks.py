"""The hooks of this package.

Keep the imports of this module few, because Dockhand imports it at every start.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `embedded`."""
    return {"embedded": "dockhand_embedded.driver:EmbeddedDriver"}
