"""What can go wrong with zot's extensions.

DockhandError
├── ExtensionNotEnabled         the extension is off, or this is no zot
├── ApiKeyInvalid               an API key cannot be made so
├── ImageInvalid                not `repository:tag` or `repository@digest`
├── SeverityInvalid             not one of zot's severities
└── SearchError                 GraphQL errors (.errors .status)
    ├── SearchUnknown           no such repository or image
    ├── SearchForbidden         it is there for others
    ├── ScannerDisabled         this zot does not look for vulnerabilities
    ├── ScannerNotReady         its database has not arrived yet
    └── ScanFailed              this image cannot be scanned
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
    """The extension that an operation needs is off, or the registry is no zot.

    Attributes:
        extension: such as `search`.
        setting: what turns it on in zot's configuration; None where the registry is no zot.
    """

    def __init__(self, message: str, *, extension: str, setting: str | None) -> None:
        super().__init__(message)
        self.extension = extension
        self.setting = setting


class ApiKeyInvalid(DockhandError, ValueError):
    """An API key with these properties cannot be made."""


class ImageInvalid(DockhandError, ValueError):
    """A text does not name an image as `repository:tag` or `repository@digest`."""


class SeverityInvalid(DockhandError, ValueError):
    """A text is none of `Severity`."""


class SearchError(DockhandError):
    """zot's search answered with GraphQL errors.

    Attributes:
        errors: as zot sent them, each with a `message`.
        status: HTTP status: 422 where zot does not understand the query, 200 where it failed.
    """

    def __init__(
        self, message: str, *, errors: Sequence[dict[str, Any]] = (), status: int | None = None
    ) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.status = status


class SearchUnknown(SearchError):
    """There is no such repository or image, as far as zot's search knows."""


class SearchForbidden(SearchError):
    """These credentials may not read that repository."""


class ScannerDisabled(SearchError):
    """This zot does not look for vulnerabilities: `extensions.search.cve` is missing."""


class ScannerNotReady(SearchError):
    """The vulnerability database has not arrived yet: ask again later."""


class ScanFailed(SearchError):
    """zot cannot scan this image."""
