"""The driver `distribution`, for registries that speak the OCI Distribution Specification."""

from dockhand_distribution.driver import (
    AsyncDistributionClient,
    DistributionClient,
    DistributionDriver,
)

__all__ = ["AsyncDistributionClient", "DistributionClient", "DistributionDriver"]
