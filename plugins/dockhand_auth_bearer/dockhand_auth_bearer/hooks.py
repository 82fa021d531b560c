"""The hooks of this package.

Keep the imports of this module few, because Dockhand imports it at every start.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_auth_drivers() -> dict[str, str]:
    """Provide the driver `bearer`."""
    return {"bearer": "dockhand_auth_bearer.driver:BearerAuth"}
