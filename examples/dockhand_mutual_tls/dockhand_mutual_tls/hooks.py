"""The hooks of this package. Dockhand imports this module at every start, so it imports little."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_commands() -> dict[str, str]:
    """The command; its module is imported when it is called."""
    return {"check-tls": "dockhand_mutual_tls.command:app"}
