"""The hooks of this package.

Keep the imports of this module few, because Dockhand imports it at every start.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_commands() -> dict[str, str]:
    """The command `dockhand new-plugin`."""
    return {"new-plugin": "dockhand_testing.scaffold:app"}
