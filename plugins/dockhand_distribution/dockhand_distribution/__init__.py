"""The driver `distribution`: registries that speak the OCI Distribution Specification."""

from dockhand_distribution.clients import AsyncDistributionClient, DistributionClient
from dockhand_distribution.driver import DistributionDriver

__all__ = ["AsyncDistributionClient", "DistributionClient", "DistributionDriver"]
