"""The driver `zot`: the specification's operations, and those of zot's extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_zot.clients import AsyncZotClient, ZotClient
    from dockhand_zot.driver import ZotDriver
    from dockhand_zot.errors import (
        ApiKeyInvalid,
        ExtensionNotEnabled,
        ImageInvalid,
        ScanFailed,
        ScannerDisabled,
        ScannerNotReady,
        SearchError,
        SearchForbidden,
        SearchUnknown,
        SeverityInvalid,
    )
    from dockhand_zot.models import (
        CVE,
        ApiKey,
        Extension,
        ImageSummary,
        Layer,
        ManifestSummary,
        NewApiKey,
        Package,
        Referrer,
        RepositoryInfo,
        RepositorySummary,
        SearchResult,
        ServerInfo,
        Severity,
        Signature,
        Vulnerabilities,
    )

__all__ = [
    "CVE",
    "ApiKey",
    "ApiKeyInvalid",
    "AsyncZotClient",
    "Extension",
    "ExtensionNotEnabled",
    "ImageInvalid",
    "ImageSummary",
    "Layer",
    "ManifestSummary",
    "NewApiKey",
    "Package",
    "Referrer",
    "RepositoryInfo",
    "RepositorySummary",
    "ScanFailed",
    "ScannerDisabled",
    "ScannerNotReady",
    "SearchError",
    "SearchForbidden",
    "SearchResult",
    "SearchUnknown",
    "ServerInfo",
    "Severity",
    "SeverityInvalid",
    "Signature",
    "Vulnerabilities",
    "ZotClient",
    "ZotDriver",
]

_HOMES = {
    "ApiKey": "models",
    "ApiKeyInvalid": "errors",
    "AsyncZotClient": "clients",
    "CVE": "models",
    "Extension": "models",
    "ExtensionNotEnabled": "errors",
    "ImageInvalid": "errors",
    "ImageSummary": "models",
    "Layer": "models",
    "ManifestSummary": "models",
    "NewApiKey": "models",
    "Package": "models",
    "Referrer": "models",
    "RepositoryInfo": "models",
    "RepositorySummary": "models",
    "ScanFailed": "errors",
    "ScannerDisabled": "errors",
    "ScannerNotReady": "errors",
    "SearchError": "errors",
    "SearchForbidden": "errors",
    "SearchResult": "models",
    "SearchUnknown": "errors",
    "ServerInfo": "models",
    "Severity": "models",
    "SeverityInvalid": "errors",
    "Signature": "models",
    "Vulnerabilities": "models",
    "ZotClient": "clients",
    "ZotDriver": "driver",
}

__getattr__ = lazy_exports(__name__, _HOMES)
