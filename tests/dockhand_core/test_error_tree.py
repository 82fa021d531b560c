"""API.md's "Errors": each name, its place in the tree, and what survives a pickle."""

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
    "PlatformNotFound": "DockhandError",
    "ScopeInvalid": "DockhandError",
    "EventInvalid": "DockhandError",
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


def error(name: str) -> type[DockhandError]:
    found = getattr(dockhand_core, name)
    assert issubclass(found, DockhandError)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PARENTS)
def test_place_in_the_tree(name: str) -> None:
    assert error(name).__bases__[0].__name__ == PARENTS[name]
    assert inspect.getdoc(error(name))
    assert name in dockhand_core.__all__


def test_there_are_no_others() -> None:
    there = {
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, DockhandError)
    }
    assert there == {*PARENTS, "DockhandError"} == set(errors.__all__)


def test_the_tree_is_drawn_in_the_docstring() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+[a-z]\b", errors.__doc__ or ""))
    assert {*PARENTS, "DockhandError"} <= drawn


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_one_class_for_each_code(code: str, name: str) -> None:
    assert RegistryError.by_code[code] is error(name)


def test_nothing_else_claims_a_code() -> None:
    core = {k: v for k, v in RegistryError.by_code.items() if v.__module__ == errors.__name__}
    assert {k: v.__name__ for k, v in core.items()} == CODES


def test_everything_that_is_unknown_is_not_found() -> None:
    for name in PARENTS:
        assert name.endswith("Unknown") == (
            issubclass(error(name), dockhand_core.NotFound) and name != "NotFound"
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
def test_python_knows_them_too(name: str, builtin: str) -> None:
    assert issubclass(error(name), getattr(builtins, builtin))


def test_a_plugin_adds_a_code() -> None:
    class QuotaExceeded(RegistryError, code="TEST_QUOTA_EXCEEDED"):
        """No room."""

    try:
        assert RegistryError.by_code["TEST_QUOTA_EXCEEDED"] is QuotaExceeded
    finally:
        del RegistryError.by_code["TEST_QUOTA_EXCEEDED"]


FULL: dict[str, Any] = {
    "status": 404,
    "code": "MANIFEST_UNKNOWN",
    "detail": {"Tag": "x"},
    "errors": ({"code": "MANIFEST_UNKNOWN"},),
    "request_id": "abc",
    "repository": "library/nginx",
    "retry_after": 2.5,
    "attempts": 3,
}


def copies(found: Any) -> list[Any]:
    made = [pickle.loads(pickle.dumps(found, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [*made, copy.copy(found), copy.deepcopy(found)]


@pytest.mark.parametrize("name", ["DockhandError", *PARENTS])
def test_pickles(name: str) -> None:
    kind = error(name)
    wanted: dict[str, Any] = {}
    if issubclass(kind, RegistryError):
        wanted = FULL
    elif name == "DigestMismatch":
        wanted = {"expected": "sha256:a", "actual": "sha256:b"}
    for found in copies(kind("what happened", **wanted)):
        assert type(found) is kind
        assert str(found) == "what happened"
        assert {key: getattr(found, key) for key in wanted} == wanted


def test_what_an_error_has_without_a_reply() -> None:
    found = RegistryError("no")
    assert (found.status, found.code, found.detail, found.errors) == (None, None, None, ())
    assert (found.request_id, found.repository, found.retry_after) == (None, None, None)
    assert found.attempts == 1
