"""The entry point of this package, so that Dockhand lists it among the installed plugins.

The token endpoint calls the hooks `dockhand_authenticate` and `dockhand_authorize` of other
plugins.
"""

from dockhand_core import hookimpl


@hookimpl
def dockhand_registry_drivers() -> dict[str, str]:
    """Provide no driver; a plugin without any hook would be reported as broken."""
    return {}
