"""The driver `zot`: the specification, and zot's extensions."""

from __future__ import annotations

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
