"""The table of scopes on the page of auth drivers holds for the driver `distribution`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dockhand_embedded.pytest_plugin import OciRegistry

from dockhand_core import AuthDriver, Dockhand, RegistryClient, Scope, hookimpl

PAGE = Path(__file__).parents[2] / "docs/plugins/auth-driver.md"
Request = tuple[str, tuple[str, ...]]  # method and scopes


class Row(NamedTuple):
    operations: tuple[str, ...]
    methods: tuple[str, ...]
    scopes: tuple[str, ...]


def rows() -> list[Row]:
    section = PAGE.read_text().partition("\n## Scopes\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:4]] for line in lines]
    return [Row(tuple(n for n in a if n != "base"), tuple(b), tuple(c)) for a, b, c in cells]


seen: list[Request] = []


class NotingAuth(AuthDriver):
    """A driver that notes the scopes of each request."""

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        seen.append((request.method, tuple(map(str, self.scopes(request)))))
        yield request


class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"noting": NotingAuth}


@pytest.fixture
def client(oci_registry: OciRegistry) -> Iterator[RegistryClient]:
    table = {"base_uri": oci_registry.url, "auth": {"driver": "noting"}}
    with Dockhand({"connections": {"main": table}}) as dockhand:
        dockhand.plugins.register(Plugin())
        yield dockhand.connection()


def requests_of(client: RegistryClient) -> dict[str, set[Request]]:
    """The requests of each operation of a client."""
    found: dict[str, set[Request]] = defaultdict(set)

    def run(name: str, *arguments: Any) -> Any:
        seen.clear()
        result = getattr(client, name)(*arguments)
        if hasattr(result, "__next__"):
            result = list(result)
        found[name] |= set(seen)
        return result

    config = run("upload_blob", "app", b"{}")
    base = client.upload_blob("base", b"hello")
    run("mount_blob", "app", base.digest, "base")
    kind = "application/vnd.oci.image.manifest.v1+json"
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": str(config.digest),
        "size": 2,
    }
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": empty, "layers": []}
    pushed = run("put_manifest", "app", "v1", manifest)
    for name in ("ping", "api_version", "repositories"):
        run(name)
    for name in ("manifest", "manifest_head", "manifest_exists"):
        run(name, "app", "v1")
    run("tags", "app")
    run("referrers", "app", pushed.digest)
    for name in ("read_blob", "blob_exists", "blob_size"):
        run(name, "app", config.digest)
    upload = run("start_upload", "app")
    upload = run("upload_chunk", upload, b"other")
    run("upload_status", upload)
    run("finish_upload", upload, client.upload_blob("base", b"other").digest)
    run("cancel_upload", client.start_upload("app"))
    run("upload_blob", "app", b"x" * (9 << 20))
    run("upload_blob", "app", iter([b"y" * (9 << 20)]))  # of unknown size: in chunks
    run("delete_tag", "app", "v1")
    run("delete_manifest", "app", pushed.digest)
    run("delete_blob", "app", config.digest)
    return found


def test_every_operation_of_the_table_needs_the_scopes_of_its_rows(client: RegistryClient) -> None:
    stated: dict[str, set[Request]] = defaultdict(set)
    for row in rows():
        for name in row.operations:
            stated[name] |= {(method, row.scopes) for method in row.methods}
    found = requests_of(client)
    assert set(found) == set(stated)
    for name, requests in found.items():
        assert requests, name
        assert requests <= stated[name], name
    # each row is true of some request, with each of its methods
    for row in rows():
        made = {request for name in row.operations for request in found[name]}
        assert {(method, row.scopes) for method in row.methods} <= made, row


def test_equal_scopes_have_equal_texts() -> None:
    text = str(Scope("repository", "app", frozenset({"*", "delete", "scan", "push", "pull"})))
    assert text == "repository:app:pull,push,delete,scan,*"
    assert "in the order `pull`, `push`, `delete`, others by name, `*`" in PAGE.read_text()
