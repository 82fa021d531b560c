"""The contract of registry drivers, for `zot` at the embedded registry on a socket.

`tests/contract` runs the same operations at zot itself.
"""

from __future__ import annotations

from dockhand_testing import RegistryDriverContract


class TestZot(RegistryDriverContract):
    driver = "zot"
