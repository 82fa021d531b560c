"""Downloads whose file or progress function fails, or whose replies never give the blob."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_testing.http_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import Digest, DockhandError, RegistryClient

MakeClient = Callable[..., RegistryClient]
MIB = 1 << 20
DATA = os.urandom(3 * MIB)
DIGEST = Digest.of(DATA)


def send_blob(request: ReceivedRequest) -> list[Step] | bytes:
    """Reply with DATA, starting at the offset that the request's `Range` asks for."""
    start = int(request.headers.get("range", "bytes=0-")[6:-1])
    if start:
        span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        return reply(206, DATA[start:], Content_Range=span)
    return reply(200, DATA)


@pytest.mark.parametrize("missing", [1, MIB])
def test_full_disk(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, missing: int
) -> None:
    """A partial file never gets the blob's name; a later download continues it."""
    server.handler = send_blob
    registry = make_client(server.url)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) - missing, hard))
    try:
        with pytest.raises(OSError, match=r"(?i)too large"):
            registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "blob").exists()
    registry.download_blob("a/b", DIGEST, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert server.requests[-1].headers["range"] == f"bytes={len(DATA) - missing}-"


def test_an_exception_from_progress(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """The exception of the caller's function is raised, and the bytes that arrived are kept."""
    server.handler = send_blob

    def progress(done: int, total: int | None) -> None:
        assert total == len(DATA)
        if done > MIB:
            raise ZeroDivisionError("mine")

    registry = make_client(server.url)
    with pytest.raises(ZeroDivisionError, match="mine"):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob", progress=progress)
    assert not (tmp_path / "blob").exists()
    reported: list[tuple[int, int | None]] = []
    registry.download_blob(
        "a/b", DIGEST, tmp_path / "blob", progress=lambda *now: reported.append(now)
    )
    assert (tmp_path / "blob").read_bytes() == DATA
    assert reported[0][0] > MIB
    assert reported[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("useless", [reply(416), reply(200, DATA, length=len(DATA) + 5)])
def test_useless_replies_end_in_an_error(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, useless: bytes
) -> None:
    """The client stops after a few requests if no reply contains more of the blob."""
    server.handler = lambda request: [useless[: len(useless) - 10], CUT]
    with pytest.raises(DockhandError):
        make_client(server.url, retries=2).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert len(server.requests) < 12
    assert not (tmp_path / "blob").exists()
