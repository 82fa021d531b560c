"""The contract of registry drivers, for `distribution` at the embedded registry on a socket.

`tests/contract` runs the same operations at every registry.
"""

from __future__ import annotations

from dockhand_testing import RegistryDriverContract


class TestDistribution(RegistryDriverContract):
    driver = "distribution"
