"""The exceptions that Dockhand raises.

    DockhandError
    ├── ConfigError                 a setting is wrong; the message names the connection and the key
    ├── PluginError                 a plugin cannot be loaded or misbehaves
    │   ├── PluginNotFound          no installed plugin provides the driver
    │   └── PluginConflict          two plugins have the same name, or provide the same driver
    ├── DriverMismatch              the driver's client class is not the requested class
    ├── ConnectionFailed            no complete reply arrived
    │   └── Timeout                 no complete reply arrived within the timeout
    ├── DigestMismatch              bytes do not have the digest that was requested
    ├── ResponseTooLarge            a reply's body exceeds its size limit
    ├── DownloadFileRefused         the file of a download cannot be written, or not safely
    │   └── ArtifactFileExists      a file of an artifact exists already, and is not overwritten
    ├── ArchiveInvalid              an archive is malformed, or lacks the requested image or a part
    ├── ArtifactInvalid             an artifact is malformed, or its names and links are not safe
    ├── PlatformNotFound            an index has no manifest for the requested platform
    ├── ScopeInvalid                a string is not a scope
    ├── ReferenceInvalid            a string is not the reference of an image
    ├── EventInvalid                a notification is malformed (.events: its well-formed events)
    ├── TagPatternInvalid           a string is neither a glob nor `re:` and a regular expression
    ├── RetentionPolicyInvalid      a retention policy has a wrong value, or keeps nothing
    ├── RetentionPlanInvalid        a retention plan cannot be read, or is of another registry
    ├── RetentionLimitExceeded      a retention plan has more than `max_delete` deletions
    └── RegistryError               the registry refused (.status .code .detail .errors .request_id)
        ├── ResponseInvalid         a reply is malformed
        ├── NotFound
        │   ├── BlobUnknown, BlobUploadUnknown, ManifestUnknown, ManifestBlobUnknown, NameUnknown
        ├── BlobUploadInvalid, DigestInvalid, ManifestInvalid, ManifestUnverified, NameInvalid,
        │   PaginationNumberInvalid, RangeInvalid, SizeInvalid, TagInvalid
        ├── Unauthorized, Denied, Unsupported, TooManyRequests
        └── ServerError             any status 5xx

A subclass of `RegistryError` registers the error code that it represents. A plugin adds a code by
defining a class: ``class QuotaExceeded(RegistryError, code="QUOTA_EXCEEDED")``.

Malformed repository names, tags and digests raise `NameInvalid`, `TagInvalid` and `DigestInvalid`
before anything is sent; `.status` is then None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "ArchiveInvalid",
    "ArtifactFileExists",
    "ArtifactInvalid",
    "BlobUnknown",
    "BlobUploadInvalid",
    "BlobUploadUnknown",
    "ConfigError",
    "ConnectionFailed",
    "Denied",
    "DigestInvalid",
    "DigestMismatch",
    "DockhandError",
    "DownloadFileRefused",
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
    "ReferenceInvalid",
    "RegistryError",
    "ResponseInvalid",
    "ResponseTooLarge",
    "RetentionLimitExceeded",
    "RetentionPlanInvalid",
    "RetentionPolicyInvalid",
    "ScopeInvalid",
    "ServerError",
    "SizeInvalid",
    "TagInvalid",
    "TagPatternInvalid",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unsupported",
]


class DockhandError(Exception):
    """The base of all Dockhand's exceptions.

    Raised directly if no subclass fits: if a client or manager is used after it was closed, or if a
    method is called in a way that it does not support.
    """


class ConfigError(DockhandError):
    """A setting is missing, unknown or has a wrong value.

    Raised when settings are loaded, or when the connection that they describe is made.
    """


class PluginError(DockhandError):
    """A plugin cannot be loaded, or misbehaves.

    Raised when a plugin is registered, when a connection that uses the plugin is made, or during an
    operation: if the plugin's auth driver raises an exception that is not a `DockhandError`, or if
    an auth driver or a registry driver breaks one of its rules, which the message names.
    """


class PluginNotFound(PluginError):
    """No installed plugin provides the named driver.

    Raised when a connection is made; the message says what to install.
    """


class PluginConflict(PluginError):
    """Two plugins have the same name, or provide drivers of the same kind and name.

    Raised when a plugin is registered under a name that is in use, when a connection selects a
    driver that two packages provide, when the configuration has a table of settings that two
    plugins of one name take, or when the event handlers of plugins with the same name are
    collected. The message contains the name of the driver or of the plugins, and the packages.
    """


class DriverMismatch(DockhandError, TypeError):
    """The client class of a connection's driver is not the class that was requested.

    Raised by `connection(name, Client)`.
    """


class ConnectionFailed(DockhandError):
    """The registry could not be reached, or the connection broke before the reply was complete.

    The connection's `retries` hold for it, also if a plugin raises it, or a subclass: the request
    is repeated after a back-off, up to `retries` times. A request that cannot be sent twice without
    harm, such as one with the bytes of a blob, is repeated only if `unsent` is true; the upload
    then asks the registry how much has arrived. A request is not repeated if the message says that
    a certificate is invalid, and a driver's errors of other classes are never retried.

    Args:
        args: the message.
        unsent: see the attribute.
        local: see the attribute.

    Attributes:
        unsent: True if the request to the registry was not sent, so it cannot have had an effect.
            It is true if no connection was made, be it to the registry or to the server that an
            auth driver asks with `fetch`. A driver that raises the error itself, before it yields
            the request, may set it.
        local: True if this process is the cause: all connections are held by open readers and
            writers. Such a failure is not retried.
    """

    unsent: bool = False
    local: bool = False

    def __init__(self, *args: object, unsent: bool = False, local: bool = False) -> None:
        super().__init__(*args)
        self.unsent, self.local = unsent, local


class Timeout(ConnectionFailed):
    """No complete reply arrived within the connection's `timeout`."""


class DigestMismatch(DockhandError):
    """Bytes do not have the digest that was requested; they must not be used.

    Raised at the end of a download; before a push, if the data does not have the digest that the
    caller gave; or after a push, if the registry reports another digest than that of the data.

    Attributes:
        expected: the digest that was requested or given.
        actual: the digest that was computed, or that the registry reported.
    """

    def __init__(self, message: str, *, expected: str = "", actual: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class ResponseTooLarge(DockhandError):
    """A reply's body exceeds its size limit, or the replies of a list exceed the list's limit.

    The limit is 8 MiB for JSON, the argument `max_size` for a blob, and the connection's setting
    `list_limit` for a list.

    Attributes:
        setting: name of the connection's setting that raises the limit, or None.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class DownloadFileRefused(DockhandError, OSError):
    """The file of a download cannot be written, or cannot be written safely.

    Raised before anything is requested: the destination is a folder, or its folder does not exist
    or cannot be written to; the partial file is a link, a device or a file of another user, or
    another download is writing to it. Raised at the end if the partial file was replaced meanwhile.
    If the operating system refused, `__cause__` is its error.
    """


class ArchiveInvalid(DockhandError, ValueError):
    """An archive of images is malformed, unsafe or incomplete, or lacks the requested image.

    Attributes:
        member: name of the member, in a tar file or a folder, that is wrong or missing; None if the
            error is about the archive as a whole.
    """

    def __init__(self, message: str, *, member: str | None = None) -> None:
        super().__init__(message)
        self.member = member


class ArtifactFileExists(DownloadFileRefused, FileExistsError):
    """A file of an artifact exists already in the folder that the artifact is pulled into.

    Nothing was written. With `overwrite=True`, existing files are replaced.
    """


class ArtifactInvalid(DockhandError, ValueError):
    """An artifact cannot be pulled safely, or cannot be pushed because nobody could pull it.

    Its names or links lead out of the folder, two of its files have the same name, it holds devices
    or more bytes than `max_size` allows, or one of its folders is not a well-formed tar file.
    Nothing of the artifact was written.
    """


class PlatformNotFound(DockhandError, LookupError):
    """An index has no manifest for a platform; the message lists the platforms of the index."""


class ScopeInvalid(DockhandError, ValueError):
    """A string is not a scope of the form `type:name:action[,action…]`."""


class ReferenceInvalid(DockhandError, ValueError):
    """A string is not a reference of the form `[host/]repository[:tag][@digest]`.

    Raised by `Reference` and by `Dockhand.locate`; the message names the malformed part.
    """


class EventInvalid(DockhandError, ValueError):
    """A notification has an unknown format, or one of its events lacks a required field.

    Raised by `EventParsers.parse`.

    Attributes:
        events: the well-formed events of the same notification.
    """

    def __init__(self, message: str, *, events: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class TagPatternInvalid(DockhandError, ValueError):
    """A string is not a pattern of tags: neither a glob nor `re:` and a regular expression."""


class RetentionPolicyInvalid(DockhandError, ValueError):
    """A retention policy has a wrong value, which the message names, or it keeps nothing at all."""


class RetentionPlanInvalid(DockhandError, ValueError):
    """A retention plan cannot be read from its JSON, or was made for another registry."""


class RetentionLimitExceeded(DockhandError):
    """A retention plan has more deletions than the policy's `max_delete`; nothing was deleted.

    Attributes:
        plan: the plan.
    """

    def __init__(self, message: str, *, plan: Any = None) -> None:
        super().__init__(message)
        self.plan = plan


class RegistryError(DockhandError):
    """The registry refused a request.

    Raised directly for a status of 400 or above that no subclass represents. A plugin that raises
    it, or a subclass, gives the attributes as arguments: `VaultSealed("the vault is sealed",
    status=503, code="SEALED", detail={"node": "a"})`. It is never retried.

    Attributes:
        status: HTTP status, or None if Dockhand refused the request before it was sent.
        code: first error code in the reply's body, as the registry wrote it, or None.
        detail: `detail` of the first error in the body, any JSON value.
        errors: all entries of `errors` in the body, as dicts.
        request_id: the registry's identifier of the request, as in the registry's log, or None.
        repository: the repository that the request was about, or None.
        retry_after: time in seconds that the registry asks to wait before the next try, or None.
        attempts: number of times that the request was sent.
        redirected: whether another origin than the registry's refused the request, to which the
            registry had redirected it, such as its storage.

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
        redirected: bool = False,
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
        self.redirected = redirected

    def with_hint(self, hint: str, kind: type[RegistryError] | None = None) -> RegistryError:
        """Return a copy of this error, with a hint at the end of the message.

        Args:
            hint: advice on what to do next.
            kind: class of the copy; by default the class of this error.
        """
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
            redirected=self.redirected,
        )


class ResponseInvalid(RegistryError):
    """A reply is malformed: it is not JSON, it lacks a header, or the pages of a list never end.

    Also raised for a status below 400 that the request does not expect.
    """


class NotFound(RegistryError):
    """The requested object does not exist.

    Raised directly for a reply with status 404 and no known error code, if the request was not
    about a manifest, a blob, an upload or tags.
    """


class BlobUnknown(NotFound, code="BLOB_UNKNOWN"):
    """The repository has no blob with the digest."""


class BlobUploadUnknown(NotFound, code="BLOB_UPLOAD_UNKNOWN"):
    """The upload was finished, cancelled, removed by the registry, or never started."""


class ManifestUnknown(NotFound, code="MANIFEST_UNKNOWN"):
    """The repository has no manifest with the tag or digest."""


class ManifestBlobUnknown(NotFound, code="MANIFEST_BLOB_UNKNOWN"):
    """A pushed manifest references blobs or manifests that the repository does not have."""


class NameUnknown(NotFound, code="NAME_UNKNOWN"):
    """The registry has no repository with the name."""


class BlobUploadInvalid(RegistryError, code="BLOB_UPLOAD_INVALID"):
    """The registry refused a request because it does not fit the state of the upload."""


class DigestInvalid(RegistryError, ValueError, code="DIGEST_INVALID"):
    """A string is not a digest, or not the digest of the bytes that were sent.

    If the string is malformed or the algorithm is not supported, this is raised before a request is
    sent. In other cases, the registry's reply is the reason.
    """


class ManifestInvalid(RegistryError, ValueError, code="MANIFEST_INVALID"):
    """Bytes are not a valid manifest, index or image config.

    Raised before a push, or when a reply is parsed, or because the registry refused the bytes.
    """


class ManifestUnverified(RegistryError, code="MANIFEST_UNVERIFIED"):
    """The registry could not verify the signature of a manifest."""


class NameInvalid(RegistryError, ValueError, code="NAME_INVALID"):
    """A string is not a repository name.

    Raised before a request is sent, or because the registry refused the name.
    """


class TagInvalid(RegistryError, ValueError, code="TAG_INVALID"):
    """A string is not a tag.

    Raised before a request is sent, or because the registry refused the tag.
    """


class SizeInvalid(RegistryError, code="SIZE_INVALID"):
    """A body does not have the announced length, or exceeds the registry's limit (413)."""


class RangeInvalid(RegistryError, code="RANGE_INVALID"):
    """A range lies outside the blob, or a chunk does not start at the upload's offset (416)."""


class PaginationNumberInvalid(RegistryError, code="PAGINATION_NUMBER_INVALID"):
    """The registry refuses the requested number of items per page, or the number is below 1."""


class Unauthorized(RegistryError, code="UNAUTHORIZED"):
    """Credentials are missing, wrong or do not cover the request (401)."""


class Denied(RegistryError, code="DENIED"):
    """The client is authenticated, but not allowed to do this (403)."""


class Unsupported(RegistryError, code="UNSUPPORTED"):
    """The registry or the driver does not support the operation."""


class TooManyRequests(RegistryError, code="TOOMANYREQUESTS"):
    """The registry limits the rate of requests (429); see `retry_after`."""


class ServerError(RegistryError):
    """The registry failed: it replied with a status 5xx, with any error code or none."""
