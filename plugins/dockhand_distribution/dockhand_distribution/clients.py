"""The clients of this driver. They add nothing: their types say which driver a connection has."""

from dockhand_core import AsyncRegistryClient, RegistryClient


class DistributionClient(RegistryClient):
    """A connection to a registry that speaks the OCI Distribution Specification."""


class AsyncDistributionClient(AsyncRegistryClient):
    """A connection to a registry that speaks the OCI Distribution Specification."""
