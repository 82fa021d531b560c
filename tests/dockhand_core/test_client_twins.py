"""The two clients, operation by operation: nothing may be on one and not on the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_distribution import AsyncDistributionClient, DistributionClient, DistributionDriver

import dockhand_core
from dockhand_core import AsyncDockhand, AsyncRegistryClient, Dockhand, RegistryClient, hookspecs
from dockhand_core.driver import RegistryDriver

# API.md's "Registry" table: each method with the optional arguments that it names
REGISTRY: dict[str, dict[str, Any]] = {
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
    "open_blob": {"offset": 0, "verify": True},
    "download_blob": {"progress": None},
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
}
REQUIRED = {
    "tags": ["repository"],
    "tag_page": ["repository"],
    "manifest": ["repository", "reference"],
    "image": ["repository", "reference"],
    "put_manifest": ["repository", "reference", "manifest"],
    "image_config": ["repository", "manifest_or_descriptor"],
    "download_blob": ["repository", "digest", "path"],
    "upload_blob": ["repository", "data"],
    "upload_chunk": ["upload", "data"],
    "finish_upload": ["upload", "digest"],
    "mount_blob": ["repository", "digest", "source"],
    "delete_tag": ["repository", "tag"],
    "referrers": ["repository", "digest"],
}
DIRECT = {"repositories", "tags", "open_blob", "blob_writer", "walk"}  # no `await` before these


def methods(kind: type) -> dict[str, Callable[..., Any]]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


SYNC, ASYNC = methods(RegistryClient), methods(AsyncRegistryClient)


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [
        (p.name, p.kind, p.default)
        for p in inspect.signature(method).parameters.values()
        if p.name != "self"
    ]


def test_the_same_names() -> None:
    assert list(SYNC) == list(ASYNC)
    assert set(SYNC) == {*REGISTRY, "close", "reset", "run", "walk"}
    for kind in (RegistryClient, AsyncRegistryClient):
        properties = inspect.getmembers(kind, lambda member: isinstance(member, property))
        assert properties == []


@pytest.mark.parametrize("name", SYNC)
def test_the_same_parameters(name: str) -> None:
    assert parameters(SYNC[name]) == parameters(ASYNC[name])


@pytest.mark.parametrize("name", SYNC)
def test_the_same_types(name: str) -> None:
    ours, theirs = inspect.signature(SYNC[name]), inspect.signature(ASYNC[name])
    for parameter in ours.parameters:
        other = theirs.parameters[parameter].annotation
        assert other == {"BlobData": "AnyBlobData"}.get(
            ours.parameters[parameter].annotation, ours.parameters[parameter].annotation
        )
    returned = str(ours.return_annotation)
    twin = {"Iterator[str]": "AsyncIterator[str]", "Iterator[T]": "AsyncIterator[T]"}
    twin |= {"BlobReader": "AsyncBlobReader", "BlobWriter": "AsyncBlobWriter"}
    assert str(theirs.return_annotation) == twin.get(returned, returned)


@pytest.mark.parametrize("name", SYNC)
def test_the_same_docstring(name: str) -> None:
    text = inspect.getdoc(SYNC[name])
    assert text
    assert inspect.getdoc(ASYNC[name]) == text
    for parameter, kind, _ in parameters(SYNC[name]):
        if "Args:" in text:
            assert f"{parameter}:" in text or f"{parameter}, " in text, (name, kind)


@pytest.mark.parametrize("name", SYNC)
def test_what_is_awaited(name: str) -> None:
    assert not inspect.iscoroutinefunction(SYNC[name])
    assert inspect.iscoroutinefunction(ASYNC[name]) == (name not in DIRECT)


@pytest.mark.parametrize("name", REGISTRY)
def test_optional_arguments_are_by_keyword(name: str) -> None:
    found = parameters(SYNC[name])
    optional = {n: default for n, kind, default in found if default is not inspect.Parameter.empty}
    assert set(optional) == set(REGISTRY[name])
    for n, kind, default in found:
        wanted = REGISTRY[name].get(n)
        assert (kind is inspect.Parameter.KEYWORD_ONLY) == (n in REGISTRY[name])
        assert wanted is ... or n not in optional or default == wanted
    required = [n for n, kind, _ in found if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert required == REQUIRED.get(name, required)


@pytest.mark.parametrize("kind", [RegistryClient, AsyncRegistryClient, Dockhand, AsyncDockhand])
def test_all_are_context_managers(kind: type) -> None:
    world = "a" if "Async" in kind.__name__ else ""
    for name in (f"__{world}enter__", f"__{world}exit__", "close"):
        assert hasattr(kind, name)
    assert not hasattr(kind, "__enter__" if world else "__aenter__")


def test_manager_twins() -> None:
    ours, theirs = methods(Dockhand), methods(AsyncDockhand)
    assert list(ours) == list(theirs) == ["close", "connection", "disconnect"]
    for name, method in ours.items():
        assert parameters(method) == parameters(theirs[name])
        assert inspect.iscoroutinefunction(theirs[name]) == (name != "connection")
    connect, twin = dockhand_core.connect, dockhand_core.async_connect
    assert parameters(connect) == parameters(twin)
    assert not inspect.iscoroutinefunction(twin)


def test_readers_and_writers() -> None:
    reader, areader = dockhand_core.BlobReader, dockhand_core.AsyncBlobReader
    writer, awriter = dockhand_core.BlobWriter, dockhand_core.AsyncBlobWriter
    for kind, names in (
        (reader, ["__enter__", "__exit__", "__iter__", "read"]),
        (areader, ["__aenter__", "__aexit__", "__aiter__", "read"]),
        (writer, ["__enter__", "__exit__", "write"]),
        (awriter, ["__aenter__", "__aexit__", "write"]),
    ):
        assert all(hasattr(kind, name) for name in names), kind
    assert set(methods(reader)) == set(methods(areader))
    assert set(methods(writer)) == set(methods(awriter))


def test_clients_of_the_distribution_driver() -> None:
    assert DistributionDriver.client is DistributionClient
    assert DistributionDriver.async_client is AsyncDistributionClient
    assert issubclass(DistributionClient, RegistryClient)
    assert issubclass(AsyncDistributionClient, AsyncRegistryClient)


def test_the_contract_has_no_gaps() -> None:
    """Distribution does all that a driver can be asked for, with the contract's arguments."""
    contract = methods(RegistryDriver)
    for name, method in contract.items():
        own = getattr(DistributionDriver, name)
        if name not in ("base_uri", "close", "transport"):
            assert own is not method, f"{name} is not implemented"
            assert [p[:2] for p in parameters(own)] == [p[:2] for p in parameters(method)], name
        assert inspect.getdoc(method)


def test_what_is_public_is_documented() -> None:
    for name in dockhand_core.__all__:
        thing = getattr(dockhand_core, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
    assert sorted(dockhand_core.__all__) == dockhand_core.__all__
    assert dockhand_core.hookimpl is hookspecs.hookimpl
