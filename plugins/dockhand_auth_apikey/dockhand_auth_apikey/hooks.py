"""The hooks of this package; light, since they are loaded at start."""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """The driver `apikey`."""
    return {"apikey": "dockhand_auth_apikey.driver:ApiKeyAuth"}
