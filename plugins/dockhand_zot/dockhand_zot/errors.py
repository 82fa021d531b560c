"""The errors of zot's extensions.

DockhandError
├── ExtensionNotEnabled         the extension is off, or the registry is not zot
├── ApiKeyInvalid               an API key cannot have these properties
├── ImageInvalid                not `repository:tag` or `repository@digest`
├── SeverityInvalid             not one of zot's severities
└── SearchError                 zot's search failed with GraphQL errors (.errors .status)
    ├── SearchUnknown           the repository or image does not exist
    ├── SearchForbidden         these credentials may not read the repository or image
    ├── ScannerDisabled         this zot server does not scan images
    ├── ScannerNotReady         zot has not downloaded its vulnerability database yet
    └── ScanFailed              zot cannot scan the image
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dockhand_core import DockhandError

__all__ = [
    "ApiKeyInvalid",
    "ExtensionNotEnabled",
    "ImageInvalid",
    "ScanFailed",
    "ScannerDisabled",
    "ScannerNotReady",
    "SearchError",
    "SearchForbidden",
    "SearchUnknown",
    "SeverityInvalid",
]


class ExtensionNotEnabled(DockhandError):
    """The extension that an operation needs is off, or the registry is not zot.

    Attributes:
        extension: the name of the extension, such as `search`.
        setting: the part of zot's configuration that turns the extension on; None if the registry
            is not zot.
    """

    def __init__(self, message: str, *, extension: str, setting: str | None) -> None:
        super().__init__(message)
        self.extension = extension
        self.setting = setting


class ApiKeyInvalid(DockhandError, ValueError):
    """An API key cannot be created with these properties."""


class ImageInvalid(DockhandError, ValueError):
    """A string does not name an image as `repository:tag` or `repository@digest`."""


class SeverityInvalid(DockhandError, ValueError):
    """A string is not the name of a `Severity`."""


class SearchError(DockhandError):
    """zot's search answered with GraphQL errors.

    Attributes:
        errors: the errors as zot sent them, each with a `message`.
        status: the HTTP status: 422 if zot does not understand the query, 200 if the query failed.
    """

    def __init__(
        self, message: str, *, errors: Sequence[dict[str, Any]] = (), status: int | None = None
    ) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.status = status


class SearchUnknown(SearchError):
    """zot's search found no such repository or image."""


class SearchForbidden(SearchError):
    """These credentials may not read the repository or image."""


class ScannerDisabled(SearchError):
    """This zot server does not scan images: `extensions.search.cve` is not configured."""


class ScannerNotReady(SearchError):
    """zot has not downloaded its vulnerability database yet: try again later."""


class ScanFailed(SearchError):
    """zot cannot scan the image."""
