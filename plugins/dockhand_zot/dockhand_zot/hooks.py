"""The hooks of this package.

Keep the imports of this module few, because Dockhand imports it at every start.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """The driver `zot`."""
    return {"zot": "dockhand_zot.driver:ZotDriver"}


@hookimpl
def dockhand_commands() -> dict[str, str]:
    """The command `dockhand zot`."""
    return {"zot": "dockhand_zot.commands:app"}
