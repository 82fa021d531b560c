"""The contract of registry drivers names the operations that one of the two clients lacks."""

from __future__ import annotations

import pytest
from dockhand_distribution import AsyncDistributionClient, DistributionClient, DistributionDriver
from dockhand_testing import RegistryDriverContract


class QuotaClient(DistributionClient):
    def quota(self) -> int:
        return 1


class AsyncQuotaClient(AsyncDistributionClient):
    async def quota(self) -> int:
        return 1


class OnlySync(DistributionDriver):
    client = QuotaClient


class OnlyAsync(DistributionDriver):
    async_client = AsyncQuotaClient


class Both(OnlySync, OnlyAsync):
    pass


@pytest.mark.parametrize(
    ("driver", "missing"),
    [(OnlySync, r"async_client lacks \['quota'\]"), (OnlyAsync, r"\bclient lacks \['quota'\]")],
)
def test_client_without_its_twin(driver: type[DistributionDriver], missing: str) -> None:
    with pytest.raises(AssertionError, match=missing):
        RegistryDriverContract().test_clients_are_alike(driver)


def test_two_clients() -> None:
    RegistryDriverContract().test_clients_are_alike(Both)
