"""The hooks of this package; light, since they are loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """The driver `token`."""
    return {"token": "dockhand_auth_token.driver:TokenAuth"}
