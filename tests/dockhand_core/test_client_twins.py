"""The sync and async clients have the same operations, parameters, types and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_distribution import AsyncDistributionClient, DistributionClient, DistributionDriver

import dockhand_core
from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    Dockhand,
    PluginError,
    RegistryClient,
    hookspecs,
)
from dockhand_core.driver import RegistryDriver

# The public methods of a client; for each, the optional arguments that callers rely on and their
# defaults; `...` stands for any default.
OPTIONAL: dict[str, dict[str, Any]] = {
    "is_online": {},
    "ping": {},
    "api_version": {},
    "repositories": {"page_size": None},
    "repository_page": {"limit": 10, "after": None},
    "tags": {"page_size": None},
    "tag_page": {"limit": 20, "after": None},
    "manifest": {},
    "image": {"platform": "linux/amd64"},
    "manifest_head": {},
    "manifest_exists": {},
    "put_manifest": {"media_type": None},
    "image_config": {},
    "read_blob": {"max_size": ...},
    "open_blob": {"offset": 0, "verify": True, "max_size": None},
    "download_blob": {"progress": None, "max_size": None},
    "blob_size": {},
    "blob_exists": {},
    "upload_blob": {"digest": None, "progress": None},
    "blob_writer": {},
    "start_upload": {},
    "upload_chunk": {},
    "finish_upload": {},
    "upload_status": {},
    "cancel_upload": {},
    "mount_blob": {},
    "delete_manifest": {},
    "delete_blob": {},
    "delete_tag": {},
    "referrers": {"artifact_type": None},
    "copy": {
        "to": None,
        "to_repository": None,
        "to_reference": None,
        "platforms": None,
        "platform": None,
        "referrers": False,
        "convert": None,
        "concurrency": 8,
        "progress": None,
        "blob_progress": None,
    },
    "copy_tags": {
        "to": None,
        "to_repository": None,
        "tags": ("*",),
        "newest": None,
        "platforms": None,
        "platform": None,
        "referrers": False,
        "convert": None,
        "concurrency": 8,
        "progress": None,
        "blob_progress": None,
    },
    "put_index": {"annotations": None, "media_type": None},
    "push_artifact": {
        "artifact_type": None,
        "subject": None,
        "annotations": None,
        "config": None,
        "progress": None,
        "blob_progress": None,
    },
    "pull_artifact": {
        "overwrite": False,
        "max_size": None,
        "progress": None,
        "blob_progress": None,
    },
    "save_image": {
        "format": "oci-archive",
        "platform": None,
        "platforms": None,
        "name": None,
        "progress": None,
        "blob_progress": None,
    },
    "load_image": {"source": None, "platforms": None, "progress": None, "blob_progress": None},
    "plan_retention": {"progress": None},
    "apply_retention": {"progress": None, "item_done": None},
}
# The optional parameters that callers may pass by position, too.
BY_POSITION = {("load_image", "reference")}
# Methods of the contract whose default serves every registry that follows the specification.
DEFAULTS = {
    "base_uri",
    "blob_exists_for_push",
    "close",
    "deletes_tags",
    "identity",
    "manifest_page",
    "tag_details",
    "transport",
}
# The required parameters that callers may pass by position.
REQUIRED = {
    "tags": ["repository"],
    "tag_page": ["repository"],
    "manifest": ["repository", "reference"],
    "image": ["repository", "reference"],
    "put_manifest": ["repository", "reference", "manifest"],
    "image_config": ["repository", "manifest_or_descriptor"],
    "download_blob": ["repository", "digest", "path"],
    "upload_blob": ["repository", "data"],
    "push_artifact": ["repository", "reference", "files"],
    "pull_artifact": ["repository", "reference", "folder"],
    "save_image": ["repository", "reference", "path"],
    "plan_retention": ["repository", "policy"],
    "apply_retention": ["plan"],
    "copy": ["repository", "reference"],
    "copy_tags": ["repository"],
    "upload_chunk": ["upload", "data"],
    "finish_upload": ["upload", "digest"],
    "mount_blob": ["repository", "digest", "source"],
    "delete_tag": ["repository", "tag"],
    "referrers": ["repository", "digest"],
    "put_index": ["repository", "reference", "sources"],
}
NOT_AWAITED = {"repositories", "tags", "open_blob", "blob_writer", "copy_tags", "walk"}


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class by name."""
    functions = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in functions if not name.startswith("_")}


SYNC_METHODS, ASYNC_METHODS = methods(RegistryClient), methods(AsyncRegistryClient)


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Return the name, kind and default of each parameter but `self`."""
    return [
        (p.name, p.kind, p.default)
        for p in inspect.signature(method).parameters.values()
        if p.name != "self"
    ]


def test_both_clients_have_the_same_methods() -> None:
    assert list(SYNC_METHODS) == list(ASYNC_METHODS)
    assert set(SYNC_METHODS) == {*OPTIONAL, "close", "reset", "run", "walk"}
    for kind in (RegistryClient, AsyncRegistryClient):
        properties = inspect.getmembers(kind, lambda member: isinstance(member, property))
        assert properties == []


@pytest.mark.parametrize("name", SYNC_METHODS)
def test_both_clients_take_the_same_parameters(name: str) -> None:
    assert parameters(SYNC_METHODS[name]) == parameters(ASYNC_METHODS[name])


@pytest.mark.parametrize("name", SYNC_METHODS)
def test_both_clients_have_corresponding_types(name: str) -> None:
    sync = inspect.signature(SYNC_METHODS[name])
    async_ = inspect.signature(ASYNC_METHODS[name])
    for parameter in sync.parameters:
        assert async_.parameters[parameter].annotation == {
            "BlobData": "AnyBlobData",
            "CopyClient | None": "AsyncCopyClient | None",
        }.get(sync.parameters[parameter].annotation, sync.parameters[parameter].annotation)
    returned = str(sync.return_annotation)
    twin = {"Iterator[str]": "AsyncIterator[str]", "Iterator[T]": "AsyncIterator[T]"}
    twin["Iterator[CopyResult]"] = "AsyncIterator[CopyResult]"
    twin |= {"BlobReader": "AsyncBlobReader", "BlobWriter": "AsyncBlobWriter"}
    assert str(async_.return_annotation) == twin.get(returned, returned)


@pytest.mark.parametrize("name", SYNC_METHODS)
def test_both_clients_have_the_same_docstrings(name: str) -> None:
    text = inspect.getdoc(SYNC_METHODS[name])
    assert text
    assert inspect.getdoc(ASYNC_METHODS[name]) == text
    for parameter, kind, _ in parameters(SYNC_METHODS[name]):
        if "Args:" in text:
            assert f"{parameter}:" in text or f"{parameter}, " in text, (name, kind)


@pytest.mark.parametrize("name", SYNC_METHODS)
def test_only_methods_that_return_values_are_awaited(name: str) -> None:
    assert not inspect.iscoroutinefunction(SYNC_METHODS[name])
    assert inspect.iscoroutinefunction(ASYNC_METHODS[name]) == (name not in NOT_AWAITED)


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_arguments_are_keyword_only(name: str) -> None:
    found = parameters(SYNC_METHODS[name])
    optional = {
        p: default
        for p, kind, default in found
        if default is not inspect.Parameter.empty and (name, p) not in BY_POSITION
    }
    assert set(optional) == set(OPTIONAL[name])
    for parameter, kind, default in found:
        expected = OPTIONAL[name].get(parameter)
        assert (kind is inspect.Parameter.KEYWORD_ONLY) == (parameter in OPTIONAL[name])
        assert expected is ... or parameter not in optional or default == expected
    required = [p for p, kind, _ in found if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert required == REQUIRED.get(name, required)


@pytest.mark.parametrize("kind", [RegistryClient, AsyncRegistryClient, Dockhand, AsyncDockhand])
def test_clients_and_managers_are_context_managers(kind: type) -> None:
    prefix = "a" if "Async" in kind.__name__ else ""
    for name in (f"__{prefix}enter__", f"__{prefix}exit__", "close"):
        assert hasattr(kind, name)
    assert not hasattr(kind, "__enter__" if prefix else "__aenter__")


def test_both_managers_have_the_same_methods() -> None:
    sync, async_ = methods(Dockhand), methods(AsyncDockhand)
    names = ["check_connection", "close", "connection", "disconnect", "locate"]
    assert list(sync) == list(async_) == names
    for name, method in sync.items():
        assert parameters(method) == parameters(async_[name])
        assert inspect.iscoroutinefunction(async_[name]) == (name in {"close", "disconnect"})
    connect, twin = dockhand_core.connect, dockhand_core.async_connect
    assert parameters(connect) == parameters(twin)
    assert not inspect.iscoroutinefunction(twin)


def test_blob_readers_and_writers_have_the_same_methods() -> None:
    reader, async_reader = dockhand_core.BlobReader, dockhand_core.AsyncBlobReader
    writer, async_writer = dockhand_core.BlobWriter, dockhand_core.AsyncBlobWriter
    for kind, names in (
        (reader, ["__enter__", "__exit__", "__iter__", "read"]),
        (async_reader, ["__aenter__", "__aexit__", "__aiter__", "read"]),
        (writer, ["__enter__", "__exit__", "write"]),
        (async_writer, ["__aenter__", "__aexit__", "write"]),
    ):
        assert all(hasattr(kind, name) for name in names), kind
    assert set(methods(reader)) == set(methods(async_reader))
    assert set(methods(writer)) == set(methods(async_writer))


def test_distribution_driver_names_its_clients() -> None:
    assert DistributionDriver.client is DistributionClient
    assert DistributionDriver.async_client is AsyncDistributionClient
    assert issubclass(DistributionClient, RegistryClient)
    assert issubclass(AsyncDistributionClient, AsyncRegistryClient)


def test_distribution_driver_implements_the_whole_contract() -> None:
    contract = methods(RegistryDriver)
    for name, method in contract.items():
        own = getattr(DistributionDriver, name)
        if name not in DEFAULTS:
            assert own is not method, f"{name} is not implemented"
            assert [p[:2] for p in parameters(own)] == [p[:2] for p in parameters(method)], name
        assert inspect.getdoc(method)


def test_public_names_are_documented_and_sorted() -> None:
    for name in dockhand_core.__all__:
        thing = getattr(dockhand_core, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
    assert sorted(dockhand_core.__all__) == dockhand_core.__all__
    assert dockhand_core.hookimpl is hookspecs.hookimpl


class LabelClient(DistributionClient):
    def labels(self, repository: str) -> list[str]:
        """List the labels of a repository."""
        return []

    def _sync_only(self) -> None: ...


def test_a_twin_lends_its_docstrings() -> None:
    class AsyncLabelClient(AsyncDistributionClient, twin=LabelClient):
        async def labels(self, repository: str) -> list[str]:
            return []

        async def _async_only(self) -> None: ...

    class OwnText(AsyncDistributionClient, twin=LabelClient):
        async def labels(self, repository: str) -> list[str]:
            """List them in asyncio."""
            return []

    assert AsyncLabelClient.labels.__doc__ == "List the labels of a repository."
    assert OwnText.labels.__doc__ == "List them in asyncio."


def test_a_method_that_one_of_two_twins_lacks_is_an_error() -> None:
    with pytest.raises(PluginError, match="AsyncEmpty lacks labels, which LabelClient has"):

        class AsyncEmpty(AsyncDistributionClient, twin=LabelClient):
            pass

    with pytest.raises(PluginError, match="LabelClient lacks bundles, which AsyncMore has"):

        class AsyncMore(AsyncDistributionClient, twin=LabelClient):
            async def labels(self, repository: str) -> list[str]:
                return []

            async def bundles(self) -> list[str]:
                return []
