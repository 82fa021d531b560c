"""Uploads that are cut while their body is being sent."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from dockhand_testing.http_server import reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DigestMismatch,
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
    """A registry that may cut the connection in the middle of a body.

    Attributes:
        cut: for each PUT or PATCH with a body, the number of bytes to read before the connection
            is reset; None to read the whole body.
        answer: the reply to a request that is cut, sent before the connection is closed; None to
            reset the connection without a reply.
        keeps: whether the registry keeps the bytes of a cut upload, as Distribution 3.1 does and
            2.8 does not.
        strict: whether a DELETE with an older offset in its URL is refused, as in Distribution 3.1.
        busy: number of times that a DELETE is refused, because a request is still being received.
        log: the method of each request and the number of bytes of its body, in order.
        data: the received bytes of the current upload.
        alive: whether the current upload can be continued.
        begun: the number of uploads that were begun.
        blob: the bytes of the finished blob; None before.
    """

    def __init__(self) -> None:
        self.cut: list[int | None] = []
        self.answer: bytes | None = None
        self.keeps = True
        self.strict = False
        self.busy = 0
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
        """Reply to a request whose whole body has arrived."""
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
            self.busy -= 1
            if self.busy >= 0 or (self.strict and not place.endswith(target)):
                return reply(416, b'{"errors":[{"code":"RANGE_INVALID"}]}')
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
        """Count the requests with this method."""
        return sum(one == method for one, _ in self.log)


@contextmanager
def serving(upstream: Upstream) -> Iterator[str]:
    """Serve a registry until the `with` block ends, and provide the registry's URL."""
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
                    peer.settimeout(30)
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
    """Provide the registry, whose state a test reads and sets."""
    return Upstream()


@pytest.fixture
def url(upstream: Upstream) -> Iterator[str]:
    """Serve the registry, and provide its URL."""
    with serving(upstream) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write DATA to a file, and return the file's path."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("digest", [None, DIGEST], ids=["hashed first", "stated"])
@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("cuts", [[MIB], [MIB, MIB // 2, MIB // 2], [0, 0]])
def test_a_file_that_is_cut(
    make_client: MakeClient,
    upstream: Upstream,
    url: str,
    file: Path,
    cuts: list[int],
    keeps: bool,
    digest: Digest | None,
) -> None:
    upstream.cut, upstream.keeps = [*cuts], keeps
    reported: list[tuple[int, int | None]] = []
    make_client(url).upload_blob(
        "a/b", file, digest=digest, progress=lambda *now: reported.append(now)
    )
    assert upstream.blob == DATA
    assert reported[-1] == (len(DATA), len(DATA))
    assert {total for _, total in reported} == {len(DATA)}
    assert all(0 < done <= len(DATA) for done, _ in reported)
    if keeps and cuts[0]:
        assert upstream.begun == 1  # the upload was resumed, and no byte was sent twice
        assert sum(n for method, n in upstream.log if method in ("PUT", "PATCH")) == len(DATA)
    else:
        assert upstream.begun == len(cuts) + 1


def test_a_file_that_is_given_up(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    upstream.cut = [MIB, *[0] * 20]
    with pytest.raises(ConnectionFailed):
        make_client(url, retries=2).upload_blob("a/b", file)
    assert len(upstream.cut) == 18
    assert upstream.blob is None
    assert not upstream.alive  # the client has cancelled the upload


@pytest.mark.parametrize(("strict", "busy"), [(True, 0), (False, 1), (True, 3)])
def test_an_upload_whose_cancellation_is_refused_at_first(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path, strict: bool, busy: int
) -> None:
    upstream.cut, upstream.strict, upstream.busy = [MIB], strict, busy
    with pytest.raises(ConnectionFailed):
        make_client(url, retries=0).upload_blob("a/b", file)
    assert not upstream.alive
    assert upstream.count("DELETE") == max(2, busy + 1)


def test_an_upload_whose_cancellation_is_always_refused(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    """The error of the upload is raised, soon."""
    upstream.cut, upstream.busy = [MIB], 1000
    with pytest.raises(ConnectionFailed):
        make_client(url, retries=0).upload_blob("a/b", file)
    assert upstream.count("DELETE") == 4


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
def test_a_stream_that_is_cut(
    make_client: MakeClient, upstream: Upstream, url: str, cuts: list[int | None]
) -> None:
    """A stream can be read only once, so each chunk is resumed at the registry's offset."""
    upstream.cut = [*cuts]
    assert make_client(url).upload_blob("a/b", iter(BLOCKS)).digest == Digest.of(WHOLE)
    assert upstream.blob == WHOLE
    assert upstream.begun == 1
    assert sum(n for method, n in upstream.log if method == "PATCH") == len(WHOLE)


@pytest.mark.parametrize("cuts", [[], [10 * MIB]], ids=["whole", "cut"])
def test_a_large_file_whose_digest_is_stated(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path, cuts: list[int | None]
) -> None:
    """The file is read once, and hashed in a thread while it is sent."""
    file.write_bytes(WHOLE)
    upstream.cut = cuts
    client = make_client(url)
    assert client.upload_blob("a/b", file, digest=Digest.of(WHOLE)).uploaded
    assert upstream.blob == WHOLE
    assert upstream.begun == 1
    assert sum(n for method, n in upstream.log if method in ("PUT", "PATCH")) == len(WHOLE)
    assert not client.upload_blob("a/b", file, digest=Digest.of(WHOLE)).uploaded
    assert not any(thread.name == "dockhand-hash" for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["path", "file object"])
def test_a_large_file_whose_stated_digest_is_wrong(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path, kind: str
) -> None:
    """The last block is not sent, and the upload is cancelled."""
    file.write_bytes(WHOLE)
    with file.open("rb") as opened, pytest.raises(DigestMismatch, match="repository a/b: the data"):
        make_client(url).upload_blob(
            "a/b", file if kind == "path" else opened, digest=Digest.of(b"other")
        )
    assert upstream.blob is None
    assert not upstream.alive
    assert upstream.count("DELETE") == 1
    assert not any(thread.name == "dockhand-hash" for thread in threading.enumerate())


def test_a_large_file_whose_stated_digest_is_that_of_another_blob(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    """The repository has that blob, but the file is another one."""
    client = make_client(url)
    client.upload_blob("a/b", b"other")
    file.write_bytes(WHOLE)
    with pytest.raises(DigestMismatch, match="repository a/b: the data"):
        client.upload_blob("a/b", file, digest=Digest.of(b"other"))
    assert upstream.blob == b"other"


def test_a_small_file_whose_stated_digest_is_wrong(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    """It is hashed before anything is asked: that takes less time than a request."""
    file.write_bytes(b"small")
    with pytest.raises(DigestMismatch):
        make_client(url).upload_blob("a/b", file, digest=Digest.of(b"other"))
    assert upstream.log == []


def test_a_stream_that_the_registry_forgets(
    make_client: MakeClient, upstream: Upstream, url: str
) -> None:
    """Distribution 2.8 drops a cut upload, and a stream cannot be sent again from its start."""
    upstream.cut, upstream.keeps = [None, MIB], False
    with pytest.raises(DockhandError):
        make_client(url).upload_blob("a/b", iter(BLOCKS))
    assert upstream.blob is None
    assert upstream.count("DELETE") == 1


def test_a_writer_that_is_cut(make_client: MakeClient, upstream: Upstream, url: str) -> None:
    upstream.cut = [2 * MIB]
    with make_client(url).blob_writer("a/b") as out:
        for block in BLOCKS:
            out.write(block)
    assert out.digest == Digest.of(WHOLE)
    assert upstream.blob == WHOLE


def test_an_exception_in_a_writers_block(
    make_client: MakeClient, upstream: Upstream, url: str
) -> None:
    with pytest.raises(ZeroDivisionError, match="mine"), make_client(url).blob_writer("a/b") as out:
        out.write(BLOCKS[0])
        raise ZeroDivisionError("mine")
    assert (upstream.begun, upstream.alive, upstream.blob) == (1, False, None)
    assert upstream.count("DELETE") == 1


@pytest.mark.parametrize(
    ("status", "error"), [("401", Unauthorized), ("413", SizeInvalid), ("403", DockhandError)]
)
def test_an_early_refusal(
    make_client: MakeClient,
    upstream: Upstream,
    url: str,
    file: Path,
    status: str,
    error: type[Exception],
) -> None:
    """The registry replies before it has read the body, and closes the connection.

    It is random whether the client sees the reply or the broken connection first.
    """
    upstream.cut = [MIB // 4] * 20
    upstream.answer = reply(status, b'{"errors":[]}', Connection="close")
    with pytest.raises((error, ConnectionFailed)):
        make_client(url, retries=1).upload_blob("a/b", file)
    assert upstream.blob is None


def test_an_early_503_is_retried(
    make_client: MakeClient, upstream: Upstream, url: str, file: Path
) -> None:
    upstream.cut, upstream.keeps = [MIB // 4, MIB // 4], False
    upstream.answer = reply(503, Connection="close")
    make_client(url).upload_blob("a/b", file)
    assert upstream.blob == DATA
    assert upstream.begun == 3
