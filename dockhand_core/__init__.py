"""Dockhand: clients for container registries, with named connections and installable drivers.

Each public name is imported from its module when it is first used, so that a plugin's `hooks`, or a
command that needs no connection, does not load the HTTP client.
"""

from typing import TYPE_CHECKING

from dockhand_core.lazy import lazy_exports
from dockhand_core.manager import AsyncDockhand, Dockhand, async_connect, connect
from dockhand_core.models import (
    ApiVersion,
    BlobProgress,
    CopyResult,
    Descriptor,
    Digest,
    HistoryEntry,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    Platform,
    PushResult,
    Reference,
    Upload,
)
from dockhand_core.operations.artifacts.files import ArtifactFile
from dockhand_core.places import Place
from dockhand_core.plugins import PluginInfo, Plugins
from dockhand_core.scope import Scope

if TYPE_CHECKING:
    from dockhand_core.async_blob_io import AsyncBlobReader, AsyncBlobWriter
    from dockhand_core.async_client import AsyncRegistryClient
    from dockhand_core.auth import AuthDriver, NullAuth
    from dockhand_core.blob_io import BlobReader, BlobWriter
    from dockhand_core.client import RegistryClient
    from dockhand_core.config import DockhandConfig
    from dockhand_core.driver import RegistryDriver
    from dockhand_core.errors import (
        ArchiveInvalid,
        ArtifactFileExists,
        ArtifactInvalid,
        BlobUnknown,
        BlobUploadInvalid,
        BlobUploadUnknown,
        ConfigError,
        ConnectionFailed,
        Denied,
        DigestInvalid,
        DigestMismatch,
        DockhandError,
        DownloadFileRefused,
        DriverMismatch,
        EventInvalid,
        ManifestBlobUnknown,
        ManifestInvalid,
        ManifestUnknown,
        ManifestUnverified,
        NameInvalid,
        NameUnknown,
        NotFound,
        PaginationNumberInvalid,
        PlatformNotFound,
        PluginConflict,
        PluginError,
        PluginNotFound,
        RangeInvalid,
        ReferenceInvalid,
        RegistryError,
        ResponseInvalid,
        ResponseTooLarge,
        RetentionLimitExceeded,
        RetentionPlanInvalid,
        RetentionPolicyInvalid,
        ScopeInvalid,
        ServerError,
        SizeInvalid,
        TagInvalid,
        TagPatternInvalid,
        Timeout,
        TooManyRequests,
        Unauthorized,
        Unsupported,
    )
    from dockhand_core.hookspecs import hookimpl
    from dockhand_core.identity import Identity
    from dockhand_core.manager import (
        AsyncDockhand,
        Dockhand,
        async_connect,
        connect,
    )
    from dockhand_core.models import (
        ApiVersion,
        CopyResult,
        Descriptor,
        Digest,
        HistoryEntry,
        ImageConfig,
        ImageIndex,
        ImageManifest,
        ManifestHead,
        Page,
        Platform,
        PushResult,
        Reference,
        Upload,
    )
    from dockhand_core.operations.artifacts.files import ArtifactFile
    from dockhand_core.operations.retention.plan import (
        RetentionItem,
        RetentionPlan,
        RetentionResult,
    )
    from dockhand_core.operations.retention.policy import RetentionPolicy
    from dockhand_core.places import Place
    from dockhand_core.plugins import PluginInfo, Plugins
    from dockhand_core.scope import Scope
__all__ = [
    "ApiVersion",
    "ArchiveInvalid",
    "ArtifactFile",
    "ArtifactFileExists",
    "ArtifactInvalid",
    "AsyncBlobReader",
    "AsyncBlobWriter",
    "AsyncDockhand",
    "AsyncRegistryClient",
    "AuthDriver",
    "BlobProgress",
    "BlobReader",
    "BlobUnknown",
    "BlobUploadInvalid",
    "BlobUploadUnknown",
    "BlobWriter",
    "ConfigError",
    "ConnectionFailed",
    "CopyResult",
    "Denied",
    "Descriptor",
    "Digest",
    "DigestInvalid",
    "DigestMismatch",
    "Dockhand",
    "DockhandConfig",
    "DockhandError",
    "DownloadFileRefused",
    "DriverMismatch",
    "EventInvalid",
    "HistoryEntry",
    "Identity",
    "ImageConfig",
    "ImageIndex",
    "ImageManifest",
    "ManifestBlobUnknown",
    "ManifestHead",
    "ManifestInvalid",
    "ManifestUnknown",
    "ManifestUnverified",
    "NameInvalid",
    "NameUnknown",
    "NotFound",
    "NullAuth",
    "Page",
    "PaginationNumberInvalid",
    "Place",
    "Platform",
    "PlatformNotFound",
    "PluginConflict",
    "PluginError",
    "PluginInfo",
    "PluginNotFound",
    "Plugins",
    "PushResult",
    "RangeInvalid",
    "Reference",
    "ReferenceInvalid",
    "RegistryClient",
    "RegistryDriver",
    "RegistryError",
    "ResponseInvalid",
    "ResponseTooLarge",
    "RetentionItem",
    "RetentionLimitExceeded",
    "RetentionPlan",
    "RetentionPlanInvalid",
    "RetentionPolicy",
    "RetentionPolicyInvalid",
    "RetentionResult",
    "Scope",
    "ScopeInvalid",
    "ServerError",
    "SizeInvalid",
    "TagInvalid",
    "TagPatternInvalid",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unsupported",
    "Upload",
    "async_connect",
    "connect",
    "hookimpl",
    "lazy_exports",
]

if not TYPE_CHECKING:
    _HOMES = {
        "ApiVersion": "models",
        "ArtifactFile": "operations.artifacts.files",
        "AsyncBlobReader": "async_blob_io",
        "AsyncBlobWriter": "async_blob_io",
        "AsyncDockhand": "manager",
        "AsyncRegistryClient": "async_client",
        "AuthDriver": "auth",
        "BlobReader": "blob_io",
        "BlobWriter": "blob_io",
        "CopyResult": "models",
        "Descriptor": "models",
        "Digest": "models",
        "Dockhand": "manager",
        "DockhandConfig": "config",
        "HistoryEntry": "models",
        "Identity": "identity",
        "ImageConfig": "models",
        "ImageIndex": "models",
        "ImageManifest": "models",
        "ManifestHead": "models",
        "NullAuth": "auth",
        "Page": "models",
        "Place": "places",
        "Platform": "models",
        "PluginInfo": "plugins",
        "Plugins": "plugins",
        "PushResult": "models",
        "Reference": "models",
        "RegistryClient": "client",
        "RegistryDriver": "driver",
        "RetentionItem": "operations.retention.plan",
        "RetentionPlan": "operations.retention.plan",
        "RetentionPolicy": "operations.retention.policy",
        "RetentionResult": "operations.retention.plan",
        "Scope": "scope",
        "Upload": "models",
        "async_connect": "manager",
        "connect": "manager",
        "hookimpl": "hookspecs",
    }
    # a public name that is not listed here is an exception
    __getattr__ = lazy_exports(__name__, {**dict.fromkeys(__all__, "errors"), **_HOMES})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
