"""The hooks of this package; light, since they are loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """The driver `jwt`."""
    return {"jwt": "dockhand_auth_jwt.driver:JwtAuth"}
