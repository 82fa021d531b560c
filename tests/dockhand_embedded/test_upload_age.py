"""Uploads that nobody goes on with, leftovers of killed processes, and too many uploads at once."""

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
from dockhand_embedded.protocol.messages import Request
from registries import embedded

from dockhand_core import TooManyRequests, connect

QUIET = {"driver": "null"}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_old_uploads_are_forgotten(tmp_path: Path) -> None:
    storage = LayoutStorage(tmp_path)
    old, new, busy = (storage.start_upload("a/b", "sha256") for _ in range(3))
    [file] = (tmp_path / ".uploads").glob(f"{old}*")
    age(file, 100)
    [file] = (tmp_path / ".uploads").glob(f"{busy}*")
    with storage.open_upload("a/b", busy):
        age(file, 100)
        assert storage.upload_count() == 3
        assert storage.sweep(90) == 1
    assert storage.upload_count() == 2
    assert storage.upload_size("a/b", new) == 0
    assert storage.sweep(90) == 1  # nobody writes to it any more
    assert storage.upload_size("a/b", new) == 0


def test_old_uploads_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("dockhand_embedded.storage.memory.time.monotonic", lambda: now[0])
    storage = MemoryStorage()
    old = storage.start_upload("a/b", "sha256")
    now[0] += 100
    new = storage.start_upload("a/b", "sha256")
    with storage.open_upload("a/b", old):
        assert storage.sweep(90) == 0
    assert storage.sweep(90) == 1
    assert storage.upload_count() == 1
    assert storage.upload_size("a/b", new) == 0


def test_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    """They go at once where nobody else uses the folder; else once they are too old to be new."""
    uploads = tmp_path / ".uploads"
    first = LayoutStorage(tmp_path)
    upload = first.start_upload("a/b", "sha256")
    (uploads / "tmp-new").touch()
    (uploads / "tmp-old").touch()
    age(uploads / "tmp-old", 2 * 3600)
    second = LayoutStorage(tmp_path)
    assert (uploads / "tmp-new").exists()
    assert not (uploads / "tmp-old").exists()
    del first, second
    gc.collect()  # as the end of a process would
    third = LayoutStorage(tmp_path)
    assert not (uploads / "tmp-new").exists()
    assert third.upload_size("a/b", upload) == 0  # an upload outlives those who take it


def test_swept_at_the_start(tmp_path: Path) -> None:
    LayoutStorage(tmp_path / "root").start_upload("a/b", "sha256")
    with embedded(tmp_path, "--upload-age", "0"):
        assert list((tmp_path / "root/.uploads").iterdir()) == []


def test_swept_while_serving(tmp_path: Path) -> None:
    """The application's own task does it, for as long as the server runs its lifespan."""
    app = create_app(tmp_path, upload_age=0.5)

    async def main() -> None:
        asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        await asked.put({"type": "lifespan.startup"})
        running = asyncio.ensure_future(app({"type": "lifespan"}, asked.get, said.put))
        assert (await said.get())["type"] == "lifespan.startup.complete"
        LayoutStorage(tmp_path).start_upload("a/b", "sha256")
        for _ in range(100):
            if not list((tmp_path / ".uploads").iterdir()):
                break
            await asyncio.sleep(0.05)
        assert list((tmp_path / ".uploads").iterdir()) == []
        await asked.put({"type": "lifespan.shutdown"})
        assert (await said.get())["type"] == "lifespan.shutdown.complete"
        await running

    asyncio.run(main())


def test_too_many_uploads(storage: Storage) -> None:
    registry = Registry(storage, Limits(uploads=2))
    post = Request("POST", "/v2/a/b/blobs/uploads/")
    first = registry.handle(post)
    assert [first.status, registry.handle(post).status] == [202, 202]
    reply = registry.handle(post)
    assert reply.status == 429
    assert dict(reply.headers)["Retry-After"] == "5"
    assert b"TOOMANYREQUESTS" in reply.body
    location = dict(first.headers)["Location"]
    assert registry.handle(Request("DELETE", location)).status == 204
    assert registry.handle(post).status == 202


def test_too_many_uploads_over_http(tmp_path: Path) -> None:
    with (
        embedded(tmp_path, "--max-uploads", "1") as url,
        connect(url, logging=QUIET, retries=0) as registry,
    ):
        upload = registry.start_upload("a/b")
        with pytest.raises(TooManyRequests, match="1 uploads are on their way"):
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
def test_limits_that_are_none(options: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dockhand_embedded", "--root", str(tmp_path / "root"), *options],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert options[0] in done.stderr
    assert not (tmp_path / "root").exists()
