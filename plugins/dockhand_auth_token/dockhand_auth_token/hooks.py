"""The hooks of this package. Light: every start of Dockhand imports this module."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """Provide the driver `token`."""
    return {"token": "dockhand_auth_token.driver:TokenAuth"}
