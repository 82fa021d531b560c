"""The OCI Distribution Specification as flows.

Written against Distribution 2.8 and 3.1 as they are; comments name what differs.
"""

from __future__ import annotations

from dockhand_distribution.blobs import Blobs
from dockhand_distribution.clients import AsyncDistributionClient, DistributionClient
from dockhand_distribution.lists import Lists
from dockhand_distribution.referrers import Referrers
from dockhand_distribution.uploads import Uploads

__all__ = ["DistributionDriver"]


class DistributionDriver(Lists, Referrers, Uploads, Blobs):
    """Registries that speak the OCI Distribution Specification."""

    name = "distribution"
    client = DistributionClient
    async_client = AsyncDistributionClient
