"""Every error that Dockhand raises.

    DockhandError
    ├── ConfigError                 a setting is wrong: the message names connection and key
    ├── PluginError                 a plugin cannot be loaded or misbehaves
    │   ├── PluginNotFound          nothing installed provides that driver
    │   └── PluginConflict          two packages provide the same name
    ├── DriverMismatch              the connection's driver has another kind of client
    ├── ConnectionFailed            no complete reply arrived
    │   └── Timeout                 … in the time allowed
    ├── DigestMismatch              bytes do not have the digest that was asked for
    ├── ResponseTooLarge            a body outgrew the limit for its kind
    ├── PlatformNotFound            an index has no manifest for that platform
    ├── ScopeInvalid                not a scope string
    ├── EventInvalid                a notification that makes no sense (.events: what of it does)
    └── RegistryError               the registry said no (.status .code .detail .errors .request_id)
        ├── ResponseInvalid         a reply that makes no sense
        ├── NotFound
        │   ├── BlobUnknown, BlobUploadUnknown, ManifestUnknown, ManifestBlobUnknown, NameUnknown
        ├── BlobUploadInvalid, DigestInvalid, ManifestInvalid, ManifestUnverified, NameInvalid,
        │   PaginationNumberInvalid, RangeInvalid, SizeInvalid, TagInvalid
        ├── Unauthorized, Denied, Unsupported, TooManyRequests
        └── ServerError             any 5xx

A subclass of `RegistryError` registers the code it stands for, so a plugin adds a code by
defining a class: ``class QuotaExceeded(RegistryError, code="QUOTA_EXCEEDED")``.

Names, tags and digests that are malformed raise `NameInvalid`, `TagInvalid` and
`DigestInvalid` before anything is sent; `.status` is then None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "BlobUnknown",
    "BlobUploadInvalid",
    "BlobUploadUnknown",
    "ConfigError",
    "ConnectionFailed",
    "Denied",
    "DigestInvalid",
    "DigestMismatch",
    "DockhandError",
    "DriverMismatch",
    "EventInvalid",
    "ManifestBlobUnknown",
    "ManifestInvalid",
    "ManifestUnknown",
    "ManifestUnverified",
    "NameInvalid",
    "NameUnknown",
    "NotFound",
    "PaginationNumberInvalid",
    "PlatformNotFound",
    "PluginConflict",
    "PluginError",
    "PluginNotFound",
    "RangeInvalid",
    "RegistryError",
    "ResponseInvalid",
    "ResponseTooLarge",
    "ScopeInvalid",
    "ServerError",
    "SizeInvalid",
    "TagInvalid",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unsupported",
]


class DockhandError(Exception):
    """The root of everything that Dockhand raises."""


class ConfigError(DockhandError):
    """A setting is missing, unknown or has the wrong value."""


class PluginError(DockhandError):
    """A plugin cannot be loaded, or does what a plugin may not do."""


class PluginNotFound(PluginError):
    """No installed plugin provides the driver that was named."""


class PluginConflict(PluginError):
    """Two plugins provide the same name."""


class DriverMismatch(DockhandError, TypeError):
    """The client class asked for is not the one of the connection's driver."""


class ConnectionFailed(DockhandError):
    """The registry could not be reached, or the connection broke before the reply was whole.

    `unsent` is True where no connection was made, so that nothing can have happened.
    """

    unsent: bool = False


class Timeout(ConnectionFailed):
    """No reply, or not all of it, in the time that the connection's `timeout` allows."""


class DigestMismatch(DockhandError):
    """Bytes do not have the digest that was asked for.

    `expected` and `actual` are digests; what was received must not be used.
    """

    def __init__(self, message: str, *, expected: str = "", actual: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class ResponseTooLarge(DockhandError):
    """A body is larger than what is read of its kind (JSON 8 MiB, or `max_size`)."""


class PlatformNotFound(DockhandError, LookupError):
    """An index has no manifest for the platform; the message lists what there is."""


class ScopeInvalid(DockhandError, ValueError):
    """A string is not a scope, `type:name:action[,action…]`."""


class EventInvalid(DockhandError, ValueError):
    """A notification is not in a format that is known, or lacks what an event needs.

    Attributes:
        events: the events of the same notification that can be understood.
    """

    def __init__(self, message: str, *, events: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class RegistryError(DockhandError):
    """The registry refused a request.

    Attributes:
        status: HTTP status, or None where the request was refused before it was sent.
        code: the first error code of the body, as the registry wrote it, or None.
        detail: that error's detail, whatever JSON value it is.
        errors: all entries of the body's `errors`, as dicts.
        request_id: what the registry calls this request in its own log, or None.
        repository: the repository that the request was about, or None.
        retry_after: seconds that the registry asks to wait, or None.
        attempts: how often the request was sent.

    Follows: OCI Distribution Specification 1.1, "Error Codes".
    """

    by_code: ClassVar[dict[str, type[RegistryError]]] = {}

    def __init_subclass__(cls, *, code: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if code is not None:
            RegistryError.by_code[code] = cls

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        detail: Any = None,
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        repository: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.repository = repository
        self.retry_after = retry_after
        self.attempts = attempts

    def explained(self, hint: str, kind: type[RegistryError] | None = None) -> RegistryError:
        """The same refusal with what to do about it, as another kind of error if one is given."""
        return (kind or type(self))(
            f"{self}: {hint}",
            status=self.status,
            code=self.code,
            detail=self.detail,
            errors=self.errors,
            request_id=self.request_id,
            repository=self.repository,
            retry_after=self.retry_after,
            attempts=self.attempts,
        )


class ResponseInvalid(RegistryError):
    """A reply that cannot be understood: not JSON, a header missing, pages without end …"""


class NotFound(RegistryError):
    """What was asked for is not there."""


class BlobUnknown(NotFound, code="BLOB_UNKNOWN"):
    """The repository has no such blob."""


class BlobUploadUnknown(NotFound, code="BLOB_UPLOAD_UNKNOWN"):
    """The upload was finished, cancelled, swept away, or never started."""


class ManifestUnknown(NotFound, code="MANIFEST_UNKNOWN"):
    """The repository has no such manifest or tag."""


class ManifestBlobUnknown(NotFound, code="MANIFEST_BLOB_UNKNOWN"):
    """A manifest names blobs or manifests that the repository does not have."""


class NameUnknown(NotFound, code="NAME_UNKNOWN"):
    """The registry has no such repository."""


class BlobUploadInvalid(RegistryError, code="BLOB_UPLOAD_INVALID"):
    """The upload's state does not fit what was asked of it."""


class DigestInvalid(RegistryError, ValueError, code="DIGEST_INVALID"):
    """Not a digest, or not the digest of what was sent."""


class ManifestInvalid(RegistryError, ValueError, code="MANIFEST_INVALID"):
    """Not a manifest."""


class ManifestUnverified(RegistryError, code="MANIFEST_UNVERIFIED"):
    """A manifest's signature does not verify."""


class NameInvalid(RegistryError, ValueError, code="NAME_INVALID"):
    """Not a repository name."""


class TagInvalid(RegistryError, ValueError, code="TAG_INVALID"):
    """Not a tag."""


class SizeInvalid(RegistryError, code="SIZE_INVALID"):
    """A length is not what was announced, or more than is allowed."""


class RangeInvalid(RegistryError, code="RANGE_INVALID"):
    """A range lies outside the blob, or a chunk does not continue the upload."""


class PaginationNumberInvalid(RegistryError, code="PAGINATION_NUMBER_INVALID"):
    """The registry does not give pages of that size."""


class Unauthorized(RegistryError, code="UNAUTHORIZED"):
    """Credentials are missing, wrong or do not cover the request."""


class Denied(RegistryError, code="DENIED"):
    """Who asks is known, and may not."""


class Unsupported(RegistryError, code="UNSUPPORTED"):
    """The registry, or the driver, does not do this."""


class TooManyRequests(RegistryError, code="TOOMANYREQUESTS"):
    """The registry limits the rate of requests; see `retry_after`."""


class ServerError(RegistryError):
    """The registry failed (5xx)."""
