"""The driver `distribution`, for registries that speak the OCI Distribution Specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_distribution.driver import (
        AsyncDistributionClient,
        DistributionClient,
        DistributionDriver,
    )

__all__ = ["AsyncDistributionClient", "DistributionClient", "DistributionDriver"]

if not TYPE_CHECKING:  # so that type checkers report unknown names
    __getattr__ = lazy_exports(__name__, dict.fromkeys(__all__, "driver"))
