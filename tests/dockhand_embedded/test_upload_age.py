"""Stale uploads, leftover files of killed processes, and the limit on uploads in progress."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import LayoutStorage, Limits, MemoryStorage, Registry, Storage, create_app
from dockhand_embedded.protocol.messages import RegistryRequest
from registries import embedded

from dockhand_core import TooManyRequests, connect

QUIET = {"driver": "null"}


def set_age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_stale_uploads_are_deleted(tmp_path: Path) -> None:
    storage = LayoutStorage(tmp_path)
    old, new, being_written = (storage.start_upload("a/b", "sha256") for _ in range(3))
    [file] = (tmp_path / ".uploads").glob(f"{old}*")
    set_age(file, 100)
    [file] = (tmp_path / ".uploads").glob(f"{being_written}*")
    with storage.open_upload("a/b", being_written):
        set_age(file, 100)
        assert storage.upload_count() == 3
        assert storage.remove_stale_uploads(90) == 1
    assert storage.upload_count() == 2
    assert storage.upload_size("a/b", new) == 0
    assert storage.remove_stale_uploads(90) == 1  # the other upload has no writer any more
    assert storage.upload_size("a/b", new) == 0


def test_stale_uploads_in_memory_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("dockhand_embedded.storage.memory.time.monotonic", lambda: now[0])
    storage = MemoryStorage()
    old = storage.start_upload("a/b", "sha256")
    now[0] += 100
    new = storage.start_upload("a/b", "sha256")
    with storage.open_upload("a/b", old):
        assert storage.remove_stale_uploads(90) == 0
    assert storage.remove_stale_uploads(90) == 1
    assert storage.upload_count() == 1
    assert storage.upload_size("a/b", new) == 0


def test_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    """They are deleted when they are old, or at once if no other process uses the folder."""
    uploads = tmp_path / ".uploads"
    first = LayoutStorage(tmp_path)
    upload = first.start_upload("a/b", "sha256")
    (uploads / "tmp-new").touch()
    (uploads / "tmp-old").touch()
    set_age(uploads / "tmp-old", 2 * 3600)
    second = LayoutStorage(tmp_path)
    assert (uploads / "tmp-new").exists()
    assert not (uploads / "tmp-old").exists()
    del first, second
    gc.collect()  # drop the locks, as the end of a process does
    third = LayoutStorage(tmp_path)
    assert not (uploads / "tmp-new").exists()
    assert third.upload_size("a/b", upload) == 0  # uploads are kept


def test_stale_uploads_are_deleted_at_startup(tmp_path: Path) -> None:
    LayoutStorage(tmp_path / "root").start_upload("a/b", "sha256")
    with embedded(tmp_path, "--upload-age", "0"):
        assert list((tmp_path / "root/.uploads").iterdir()) == []


def test_stale_uploads_are_deleted_while_serving(tmp_path: Path) -> None:
    """A task of the application deletes stale uploads while the server runs."""
    app = create_app(tmp_path, upload_age=0.5)

    async def main() -> None:
        incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        outgoing: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        await incoming.put({"type": "lifespan.startup"})
        running = asyncio.ensure_future(app({"type": "lifespan"}, incoming.get, outgoing.put))
        assert (await outgoing.get())["type"] == "lifespan.startup.complete"
        LayoutStorage(tmp_path).start_upload("a/b", "sha256")
        for _ in range(100):
            if not list((tmp_path / ".uploads").iterdir()):
                break
            await asyncio.sleep(0.05)
        assert list((tmp_path / ".uploads").iterdir()) == []
        await incoming.put({"type": "lifespan.shutdown"})
        assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
        await running

    asyncio.run(main())


def test_too_many_uploads(storage: Storage) -> None:
    registry = Registry(storage, Limits(uploads=2))
    post = RegistryRequest("POST", "/v2/a/b/blobs/uploads/")
    first = registry.handle(post)
    assert [first.status, registry.handle(post).status] == [202, 202]
    reply = registry.handle(post)
    assert reply.status == 429
    assert dict(reply.headers)["Retry-After"] == "5"
    assert b"TOOMANYREQUESTS" in reply.body
    location = dict(first.headers)["Location"]
    assert registry.handle(RegistryRequest("DELETE", location)).status == 204
    assert registry.handle(post).status == 202


def test_too_many_uploads_at_a_server(tmp_path: Path) -> None:
    with (
        embedded(tmp_path, "--max-uploads", "1") as url,
        connect(url, logging=QUIET, retries=0) as registry,
    ):
        upload = registry.start_upload("a/b")
        with pytest.raises(TooManyRequests, match="1 uploads are in progress"):
            registry.upload_blob("a/b", b"data")
        registry.cancel_upload(upload)
        registry.upload_blob("a/b", b"data")


@pytest.mark.parametrize(
    "options",
    [
        ["--max-uploads", "0"], ["--max-blob", "-1"], ["--max-manifest", "x"],
        ["--upload-age", "-1"], ["--upload-age", "nan"], ["--grace", "inf"],
    ],
)  # fmt: skip
def test_invalid_limits(options: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dockhand_embedded", "--root", str(tmp_path / "root"), *options],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert not (tmp_path / "root").exists()
