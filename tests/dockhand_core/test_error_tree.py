"""The exceptions: names, parents, codes and attributes, all of which survive pickling."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import dockhand_core
from dockhand_core import DockhandError, RegistryError, errors

PARENTS = {
    "ConfigError": "DockhandError",
    "PluginError": "DockhandError",
    "PluginNotFound": "PluginError",
    "PluginConflict": "PluginError",
    "DriverMismatch": "DockhandError",
    "ConnectionFailed": "DockhandError",
    "Timeout": "ConnectionFailed",
    "DigestMismatch": "DockhandError",
    "ResponseTooLarge": "DockhandError",
    "DownloadFileRefused": "DockhandError",
    "ArchiveInvalid": "DockhandError",
    "ArtifactFileExists": "DownloadFileRefused",
    "ArtifactInvalid": "DockhandError",
    "PlatformNotFound": "DockhandError",
    "ScopeInvalid": "DockhandError",
    "ReferenceInvalid": "DockhandError",
    "EventInvalid": "DockhandError",
    "TagPatternInvalid": "DockhandError",
    "RetentionPolicyInvalid": "DockhandError",
    "RetentionPlanInvalid": "DockhandError",
    "RetentionLimitExceeded": "DockhandError",
    "RegistryError": "DockhandError",
    "ResponseInvalid": "RegistryError",
    "NotFound": "RegistryError",
    "ServerError": "RegistryError",
    "BlobUnknown": "NotFound",
    "BlobUploadUnknown": "NotFound",
    "ManifestUnknown": "NotFound",
    "ManifestBlobUnknown": "NotFound",
    "NameUnknown": "NotFound",
    "BlobUploadInvalid": "RegistryError",
    "DigestInvalid": "RegistryError",
    "ManifestInvalid": "RegistryError",
    "ManifestUnverified": "RegistryError",
    "NameInvalid": "RegistryError",
    "SizeInvalid": "RegistryError",
    "TagInvalid": "RegistryError",
    "Unauthorized": "RegistryError",
    "Denied": "RegistryError",
    "Unsupported": "RegistryError",
    "TooManyRequests": "RegistryError",
    "RangeInvalid": "RegistryError",
    "PaginationNumberInvalid": "RegistryError",
}
CODES = {
    "BLOB_UNKNOWN": "BlobUnknown",
    "BLOB_UPLOAD_INVALID": "BlobUploadInvalid",
    "BLOB_UPLOAD_UNKNOWN": "BlobUploadUnknown",
    "DIGEST_INVALID": "DigestInvalid",
    "MANIFEST_BLOB_UNKNOWN": "ManifestBlobUnknown",
    "MANIFEST_INVALID": "ManifestInvalid",
    "MANIFEST_UNKNOWN": "ManifestUnknown",
    "MANIFEST_UNVERIFIED": "ManifestUnverified",
    "NAME_INVALID": "NameInvalid",
    "NAME_UNKNOWN": "NameUnknown",
    "SIZE_INVALID": "SizeInvalid",
    "TAG_INVALID": "TagInvalid",
    "UNAUTHORIZED": "Unauthorized",
    "DENIED": "Denied",
    "UNSUPPORTED": "Unsupported",
    "TOOMANYREQUESTS": "TooManyRequests",
    "RANGE_INVALID": "RangeInvalid",
    "PAGINATION_NUMBER_INVALID": "PaginationNumberInvalid",
}


def error_class(name: str) -> type[DockhandError]:
    found = getattr(dockhand_core, name)
    assert issubclass(found, DockhandError)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PARENTS)
def test_each_error_has_its_parent(name: str) -> None:
    assert error_class(name).__bases__[0].__name__ == PARENTS[name]
    assert inspect.getdoc(error_class(name))
    assert name in dockhand_core.__all__


def test_there_are_no_other_errors() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, DockhandError)
    }
    assert defined == {*PARENTS, "DockhandError"} == set(errors.__all__)


def test_module_docstring_draws_the_whole_tree() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+[a-z]\b", errors.__doc__ or ""))
    assert {*PARENTS, "DockhandError"} <= drawn


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_each_code_has_its_class(code: str, name: str) -> None:
    assert RegistryError.by_code[code] is error_class(name)


def test_the_core_registers_no_other_codes() -> None:
    core = {k: v for k, v in RegistryError.by_code.items() if v.__module__ == errors.__name__}
    assert {k: v.__name__ for k, v in core.items()} == CODES


def test_unknown_errors_are_not_found_errors() -> None:
    for name in PARENTS:
        assert name.endswith("Unknown") == (
            issubclass(error_class(name), dockhand_core.NotFound) and name != "NotFound"
        )


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ScopeInvalid", "ValueError"),
        ("DigestInvalid", "ValueError"),
        ("NameInvalid", "ValueError"),
        ("TagInvalid", "ValueError"),
        ("ManifestInvalid", "ValueError"),
        ("PlatformNotFound", "LookupError"),
        ("DriverMismatch", "TypeError"),
    ],
)
def test_some_errors_are_also_builtin_ones(name: str, builtin: str) -> None:
    assert issubclass(error_class(name), getattr(builtins, builtin))


def test_a_subclass_registers_its_code() -> None:
    class QuotaExceeded(RegistryError, code="TEST_QUOTA_EXCEEDED"):
        """The quota is exceeded."""

    try:
        assert RegistryError.by_code["TEST_QUOTA_EXCEEDED"] is QuotaExceeded
    finally:
        del RegistryError.by_code["TEST_QUOTA_EXCEEDED"]


ATTRIBUTES: dict[str, Any] = {
    "status": 404,
    "code": "MANIFEST_UNKNOWN",
    "detail": {"Tag": "x"},
    "errors": ({"code": "MANIFEST_UNKNOWN"},),
    "request_id": "abc",
    "repository": "library/nginx",
    "retry_after": 2.5,
    "attempts": 3,
}


def copies(error: Any) -> list[Any]:
    """Copy an error with every pickle protocol and with `copy`."""
    protocols = range(2, pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    return [*pickled, copy.copy(error), copy.deepcopy(error)]


@pytest.mark.parametrize("name", ["DockhandError", *PARENTS])
def test_errors_survive_pickling_and_copying(name: str) -> None:
    kind = error_class(name)
    attributes: dict[str, Any] = {}
    if issubclass(kind, RegistryError):
        attributes = ATTRIBUTES
    elif name == "DigestMismatch":
        attributes = {"expected": "sha256:a", "actual": "sha256:b"}
    for found in copies(kind("a message", **attributes)):
        assert type(found) is kind
        assert str(found) == "a message"
        assert {key: getattr(found, key) for key in attributes} == attributes


def test_attributes_of_an_error_without_a_reply() -> None:
    found = RegistryError("no")
    assert (found.status, found.code, found.detail, found.errors) == (None, None, None, ())
    assert (found.request_id, found.repository, found.retry_after) == (None, None, None)
    assert found.attempts == 1
