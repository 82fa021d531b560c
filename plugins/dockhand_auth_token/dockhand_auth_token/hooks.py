"""What this package provides; light, since it is loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """The driver `token`."""
    return {"token": "dockhand_auth_token.driver:TokenAuth"}
