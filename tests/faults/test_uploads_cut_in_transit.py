"""Uploads that are cut while they are being sent, and files that cannot be written."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from scripted_server import CUT, ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DockhandError,
    RegistryClient,
    SizeInvalid,
    Unauthorized,
)

MakeClient = Callable[..., RegistryClient]
MIB = 1 << 20
DATA = os.urandom(3 * MIB)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"


class Upstream:
    """A registry that reads bodies as they come, and may break off in the middle of one.

    Attributes:
        cut: for each PUT or PATCH with a body, bytes of it to take before the connection is
            reset; one that is None is taken whole.
        answer: sent, and the connection closed, where a body is cut; else nothing is said.
        keeps: whether what arrived stays (3.1), or the upload is forgotten (2.8).
    """

    def __init__(self) -> None:
        self.cut: list[int | None] = []
        self.answer: bytes | None = None
        self.keeps = True
        self.log: list[tuple[str, int]] = []
        self.data = bytearray()
        self.alive = False
        self.begun = 0
        self.blob: bytes | None = None

    def serve(self, peer: socket.socket) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                if not (got := peer.recv(65536)):
                    return
                buffer += got
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            fields = {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
            length = int(fields.get("content-length", 0))
            cut = self.cut.pop(0) if length and method in ("PUT", "PATCH") and self.cut else None
            wanted = length if cut is None else min(cut, length)
            body = bytearray(buffer[:wanted])
            buffer = buffer[wanted:]
            while len(body) < wanted and (got := peer.recv(min(65536, wanted - len(body)))):
                body += got
            self.log.append((method, len(body)))
            if cut is not None:
                self.data += body
                self.alive = self.keeps
                if self.answer is not None:
                    peer.sendall(self.answer)
                    return
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            peer.sendall(self.reply(method, target, bytes(body)))

    def reply(self, method: str, target: str, body: bytes) -> bytes:
        place = f"{START}{self.begun}?_state={len(self.data)}"
        if method == "HEAD":
            return reply(404) if self.blob is None else reply(200, length=len(self.blob))
        if method == "POST":
            self.begun, self.data, self.alive = self.begun + 1, bytearray(), True
            return reply(202, Location=f"{START}{self.begun}?_state=0")
        if not self.alive or not target.startswith(f"{START}{self.begun}"):
            return reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        if method == "GET":
            return reply(204, Location=place, Range=f"0-{max(0, len(self.data) - 1)}")
        if method == "DELETE":
            self.alive = False
            return reply(204)
        self.data += body
        if method == "PATCH":
            return reply(202, Location=f"{START}{self.begun}?_state={len(self.data)}")
        if f"sha256%3A{Digest.of(bytes(self.data)).encoded}" not in target:
            return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        self.blob, self.alive = bytes(self.data), False
        return reply(201, Location="/x")

    def count(self, method: str) -> int:
        return sum(one == method for one, _ in self.log)


@contextmanager
def serving(upstream: Upstream) -> Iterator[str]:
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers: list[socket.socket] = []

        def serve(peer: socket.socket) -> None:
            with peer, suppress(OSError):
                upstream.serve(peer)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    peer.settimeout(10)
                    peers.append(peer)
                    threads.append(threading.Thread(target=serve, args=(peer,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for peer in peers:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def url(upstream: Upstream) -> Iterator[str]:
    with serving(upstream) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("cuts", [[MIB], [MIB, MIB // 2, MIB // 2], [0, 0]])
def test_file_cut_while_it_is_sent(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path, cuts: list[int], keeps: bool
) -> None:
    upstream.cut, upstream.keeps = [*cuts], keeps
    told: list[tuple[int, int | None]] = []
    make_client(url).upload_blob("a/b", file, progress=lambda *now: told.append(now))
    assert upstream.blob == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert {total for _, total in told} == {len(DATA)}
    assert all(0 < done <= len(DATA) for done, _ in told)
    if keeps and cuts[0]:
        assert upstream.begun == 1  # carried on, and nothing of it sent twice
        assert sum(n for method, n in upstream.log if method in ("PUT", "PATCH")) == len(DATA)
    else:
        assert upstream.begun == len(cuts) + 1


def test_file_given_up(make_client: MakeClient, upstream: Upstream, url: str, file: Path) -> None:
    upstream.cut = [MIB, *[0] * 20]
    with pytest.raises(ConnectionFailed):
        make_client(url, retries=2).upload_blob("a/b", file)
    assert len(upstream.cut) == 18
    assert upstream.blob is None
    assert not upstream.alive  # cancelled


BLOCKS = [bytes([number]) * MIB for number in range(20)]  # chunks of 8, 8 and 4 MiB
WHOLE = b"".join(BLOCKS)


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([5 * MIB], id="the first in the middle"),
        pytest.param([None, 5 * MIB], id="the second in the middle"),
        pytest.param([None, 0], id="before a byte"),
        pytest.param([None, 8 * MIB], id="the reply lost"),
        pytest.param([None, None, 3 * MIB], id="the last"),
        pytest.param([3 * MIB, None, 3 * MIB, None, 3 * MIB], id="each once"),
    ],
)
def test_stream_cut(
    make_client: MakeClient, upstream: Upstream, url: str, cuts: list[int | None]
) -> None:
    """What can be read only once: each chunk is carried on from what the registry has of it."""
    upstream.cut = [*cuts]
    assert make_client(url).upload_blob("a/b", iter(BLOCKS)).digest == Digest.of(WHOLE)
    assert upstream.blob == WHOLE
    assert upstream.begun == 1
    assert sum(n for method, n in upstream.log if method == "PATCH") == len(WHOLE)


def test_stream_forgotten(make_client: MakeClient, upstream: Upstream, url: str) -> None:
    """As on 2.8: what can be read only once cannot be begun again. The first error is told."""
    upstream.cut, upstream.keeps = [None, MIB], False
    with pytest.raises(DockhandError):
        make_client(url).upload_blob("a/b", iter(BLOCKS))
    assert upstream.blob is None
    assert upstream.count("DELETE") == 1


def test_writer_cut(make_client: MakeClient, upstream: Upstream, url: str) -> None:
    upstream.cut = [2 * MIB]
    with make_client(url).blob_writer("a/b") as out:
        for block in BLOCKS:
            out.write(block)
    assert out.digest == Digest.of(WHOLE)
    assert upstream.blob == WHOLE


def test_writer_left_by_an_exception(make_client: MakeClient, upstream: Upstream, url: str) -> None:
    with pytest.raises(ZeroDivisionError, match="mine"), make_client(url).blob_writer("a/b") as out:
        out.write(BLOCKS[0])
        raise ZeroDivisionError("mine")
    assert (upstream.begun, upstream.alive, upstream.blob) == (1, False, None)
    assert upstream.count("DELETE") == 1


@pytest.mark.parametrize(
    ("status", "error"), [("401", Unauthorized), ("413", SizeInvalid), ("403", DockhandError)]
)
def test_refused_while_it_is_sent(
    make_client: MakeClient,
    upstream: Upstream,
    url: str,
    file: Path,
    status: str,
    error: type[Exception],
) -> None:
    """The answer comes before the body's end, and then the connection is closed.

    Whether the answer or the broken connection is seen first is a matter of luck.
    """
    upstream.cut = [MIB // 4] * 20
    upstream.answer = reply(status, b'{"errors":[]}', Connection="close")
    with pytest.raises((error, ConnectionFailed)):
        make_client(url, retries=1).upload_blob("a/b", file)
    assert upstream.blob is None


def test_busy_while_it_is_sent(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    upstream.cut, upstream.keeps = [MIB // 4, MIB // 4], False
    upstream.answer = reply(503, Connection="close")
    make_client(url).upload_blob("a/b", file)
    assert upstream.blob == DATA
    assert upstream.begun == 3


# -- downloads whose file is the trouble -----------------------------------------------------


class Blob:
    """Sends DATA, from where it is asked for."""

    def __call__(self, request: ReceivedRequest) -> list[Step] | bytes:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if start:
            span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            return reply(206, DATA[start:], Content_Range=span)
        return reply(200, DATA)


@pytest.mark.parametrize("missing", [1, MIB])
def test_full_disk(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, missing: int
) -> None:
    """A file that could not be written whole never gets the blob's name; it is carried on."""
    server.handler = Blob()
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


def test_progress_that_fails(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """The caller's own exception comes out, and what arrived stays."""
    server.handler = Blob()

    def progress(done: int, total: int | None) -> None:
        assert total == len(DATA)
        if done > MIB:
            raise ZeroDivisionError("mine")

    registry = make_client(server.url)
    with pytest.raises(ZeroDivisionError, match="mine"):
        registry.download_blob("a/b", DIGEST, tmp_path / "blob", progress=progress)
    assert not (tmp_path / "blob").exists()
    told: list[tuple[int, int | None]] = []
    registry.download_blob("a/b", DIGEST, tmp_path / "blob", progress=lambda *now: told.append(now))
    assert (tmp_path / "blob").read_bytes() == DATA
    assert told[0][0] > MIB
    assert told[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("always", [reply(416), reply(200, DATA, length=len(DATA) + 5)])
def test_nonsense_without_end(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, always: bytes
) -> None:
    """Answers that lead to nothing are not asked for for ever."""
    server.handler = lambda request: [always[: len(always) - 10], CUT]
    with pytest.raises(DockhandError):
        make_client(server.url, retries=2).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert len(server.requests) < 12
    assert not (tmp_path / "blob").exists()
