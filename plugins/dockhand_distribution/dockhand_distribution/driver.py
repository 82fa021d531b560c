"""The driver `distribution`, and the clients of its connections.

The driver's operations are in `blobs`, `lists`, `manifests`, `referrers` and `uploads`. They also
work with Distribution 2.8 and 3.1 where these differ from the specification; comments name the
differences.
"""

from __future__ import annotations

from dockhand_core import AsyncRegistryClient, RegistryClient
from dockhand_distribution.blobs import Blobs
from dockhand_distribution.lists import Lists
from dockhand_distribution.referrers import Referrers
from dockhand_distribution.uploads import Uploads

__all__ = ["AsyncDistributionClient", "DistributionClient", "DistributionDriver"]


class DistributionClient(RegistryClient):
    """A connection to a registry that speaks the OCI Distribution Specification.

    The class adds nothing to `RegistryClient`; its name tells which driver a connection has.
    """


class AsyncDistributionClient(AsyncRegistryClient):
    """The async version of `DistributionClient`."""


class DistributionDriver(Lists, Referrers, Uploads, Blobs):
    """The driver for registries that speak the OCI Distribution Specification."""

    name = "distribution"
    client = DistributionClient
    async_client = AsyncDistributionClient
