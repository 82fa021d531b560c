"""A soak test: honest clients of the three servers, beside hostile ones.

It takes ten minutes, one minute if the variable CI is `true`, or `DOCKHAND_SOAK_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from authority import SERVICE, USERS, write_authority
from dockhand_testing.contracts.samples import push_image
from dockhand_webhook import Inbox
from notifications import DISTRIBUTION, envelope, push
from registries import HTPASSWD, PASSWORD, installed, program_environment

from dockhand_core import async_connect, connect

SECONDS = float(
    os.environ.get("DOCKHAND_SOAK_SECONDS") or (60 if os.environ.get("CI") == "true" else 600)
)
WARM_UP = SECONDS / 3
GROWTH = 32 << 20  # bytes of memory that a server may use more than during the warm-up
HOSTILE_ADDRESS = "127.0.0.2"  # failures at this address must not affect clients at another
QUIET = {"driver": "null"}
ALICE = {"driver": "basic", "username": "alice", "password": PASSWORD}
LIMITS = ("--head-timeout", "5", "--stall-timeout", "5", "--max-connections", "100")

pytestmark = [pytest.mark.live, pytest.mark.timeout(SECONDS + 300)]


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    name: str
    url: str
    pid: int

    def connect(self) -> socket.socket:
        """Open a connection as a hostile client."""
        port = int(self.url.rpartition(":")[2])
        return socket.create_connection(("127.0.0.1", port), 10, (HOSTILE_ADDRESS, 0))

    def request(
        self, method: str, path: str, body: bytes = b"", user: str = "", **headers: str
    ) -> None:
        """Send a request as a hostile client, and read the reply, whatever it is."""
        transport = httpx.HTTPTransport(local_address=HOSTILE_ADDRESS)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        auth = (user, PASSWORD if user == "mallory" else str(random.random())) if user else None
        with httpx.Client(transport=transport, timeout=20) as http:
            http.request(method, self.url + path, content=body, headers=names, auth=auth)

    def memory(self) -> int:
        """The resident memory of the process, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [row for row in status.splitlines() if row.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


Act: TypeAlias = Callable[[Server], None]
ALL = ("dockhand_embedded", "dockhand_token_server", "dockhand_webhook")
PATHS = {
    "dockhand_embedded": "/v2/a/b/blobs/uploads/",
    "dockhand_token_server": "/token",
    "dockhand_webhook": "/dockhand/notify",
}


def head(server: Server, *lines: str) -> bytes:
    """A request's line and headers, without the empty line at the end."""
    start = (f"POST {PATHS[server.name]} HTTP/1.1", "Host: a", *lines)
    return "".join(f"{line}\r\n" for line in start).encode()


CHUNKED = "Transfer-Encoding: chunked"
PIECE = b"a" * 65536
EMPTY = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"


def raw(make: Callable[[Server], bytes], *, repeat: bytes = b"", wait: float = 6) -> Act:
    """A hostile behaviour: send bytes, repeat a piece up to 64 MiB, and wait for the end."""

    def act(server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(make(server))
            sent = 0
            while repeat and sent < 64 << 20:
                connection.sendall(repeat)
                sent += len(repeat)
            connection.settimeout(wait)
            while connection.recv(65536):
                pass

    return act


def many_connections(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(server.connect())
        time.sleep(1)


def slow_heads(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(20)]
        for byte in head(server, "x: " + "y" * 100):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(bytes([byte]))
            time.sleep(0.05)


def unread_reply(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(20):
            connection.sendall(head(server).replace(b"POST", b"GET") + b"\r\n")
        time.sleep(6)


def wrong_passwords(server: Server) -> None:
    path = "/v2/" if server.name == "dockhand_embedded" else f"/token?service={SERVICE}"
    for _ in range(20):
        server.request("GET", path, user=random.choice(["alice", "bob", "nobody"]))


def put_manifest(body: bytes) -> Act:
    return lambda server: server.request(
        "PUT", "/v2/mallory/app/manifests/v1", body, "mallory",
        content_type="application/vnd.oci.image.manifest.v1+json",
    )  # fmt: skip


def image(count: int = 1, subject: dict[str, object] | None = None, **fields: object) -> bytes:
    """A manifest whose `count` layers, with additional fields, and config are an empty object."""
    empty = {"mediaType": "application/json", "digest": EMPTY, "size": 2}
    document = {
        "schemaVersion": 2, "config": empty, "layers": [{**empty, **fields}] * count,
        "annotations": {"random": str(random.random())},
        **({"subject": subject} if subject else {}),
    }  # fmt: skip
    return json.dumps(document).encode()


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


def push_manifest(server: Server, body: bytes, query: str = "") -> None:
    """Push a valid manifest by its digest."""
    path = "/v2/mallory/app"
    server.request("POST", f"{path}/blobs/uploads/?digest={EMPTY}", b"{}", "mallory")
    server.request(
        "PUT", f"{path}/manifests/sha256:{hashlib.sha256(body).hexdigest()}{query}", body,
        "mallory", content_type="application/vnd.oci.image.manifest.v1+json",
    )  # fmt: skip


def many_tags(server: Server) -> None:
    for count in (50, 5000):
        push_manifest(server, image(), "?" + "&".join(f"tag=t{number}" for number in range(count)))


def many_referrers(server: Server) -> None:
    subject: dict[str, object] = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": EMPTY, "size": 2,
    }  # fmt: skip
    for _ in range(5):
        push_manifest(server, image(subject=subject))
        server.request("GET", f"/v2/mallory/app/referrers/{EMPTY}", user="mallory")


def many_uploads(server: Server) -> None:
    for _ in range(20):
        server.request("POST", "/v2/mallory/app/blobs/uploads/", user="mallory")


def notify(body: bytes) -> Act:
    def act(server: Server) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=HOSTILE_ADDRESS)) as http:
            headers = {"Authorization": f"Bearer {TOKENS[0]}", "Content-Type": DISTRIBUTION}
            url = server.url + "/dockhand/notify"
            http.post(url, content=body, headers=headers, timeout=20)

    return act


def get(path: str, user: str = "") -> Act:
    return lambda server: server.request("GET", path, user=user)


TOKENS: list[str] = []  # the webhook receiver's token, which a hostile registry has, too
REGISTRY, AUTHORITY, WEBHOOK = ALL[:1], ALL[1:2], ALL[2:]
NESTED = 50_000

# Each row: the servers that are attacked, and the behaviour, which is repeated to the end.
HOSTILE: dict[str, tuple[tuple[str, ...], Act]] = {
    "silent connections": (ALL, many_connections),
    "slow heads": (ALL, slow_heads),
    "endless headers": (ALL, raw(head, repeat=b"x: " + PIECE[:1000] + b"\r\n")),
    "an endless header": (ALL, raw(lambda s: head(s) + b"x: ", repeat=PIECE)),
    "an endless request line": (ALL, raw(lambda _: b"GET /", repeat=PIECE)),
    "endless empty lines": (ALL, raw(lambda _: b"", repeat=b"\r\n" * 1000)),
    "endless trailers": (
        ALL, raw(lambda s: head(s, CHUNKED) + b"\r\n0\r\n", repeat=b"x: " + PIECE[:1000] + b"\r\n"),
    ),
    "an endless chunk extension": (
        ALL, raw(lambda s: head(s, CHUNKED) + b"\r\n5;", repeat=PIECE),
    ),
    "an endless body": (ALL, raw(lambda s: head(s, CHUNKED) + b"\r\nffffffff\r\n", repeat=PIECE)),
    "tiny chunks": (ALL, raw(lambda s: head(s, CHUNKED) + b"\r\n" + b"1\r\na\r\n" * 50_000)),
    "length and coding": (
        ALL, raw(lambda s: head(s, CHUNKED, "Content-Length: 5") + b"\r\n0\r\n\r\n"),
    ),
    "a body that stalls": (ALL, raw(lambda s: head(s, "Content-Length: 99") + b"\r\nhalf")),
    "a body that stalls before 100": (
        ALL, raw(lambda s: head(s, "Content-Length: 99", "Expect: 100-continue") + b"\r\n"),
    ),
    "pipelined requests": (
        ALL, raw(lambda s: (head(s).replace(b"POST", b"GET") + b"\r\n") * 5_000, wait=2),
    ),
    "unread replies": (ALL, unread_reply),
    "garbage": (ALL, raw(lambda _: os.urandom(10_000))),
    "wrong passwords": (REGISTRY + AUTHORITY, wrong_passwords),
    "huge tags": (REGISTRY, get(f"/v2/a/b/manifests/{'t' * 60_000}", "mallory")),
    "huge list parameters": (
        REGISTRY, get(f"/v2/a/b/tags/list?n={'9' * 5000}&last={'t' * 50_000}", "mallory"),
    ),
    "nested manifests": (REGISTRY, put_manifest(b'{"a":' * NESTED + b"1" + b"}" * NESTED)),
    "nested lists": (REGISTRY, put_manifest(b"[" * NESTED + b"]" * NESTED)),
    "duplicate keys": (
        REGISTRY, put_manifest(b'{"schemaVersion":2,"schemaVersion":2,"layers":[],"layers":[]}'),
    ),
    "names in other spellings": (
        REGISTRY, put_manifest(b'{"schemaVersion":2,"layers":[],"LAYERS":[],"x":NaN}'),
    ),
    "deep descriptors": (REGISTRY, put_manifest(image(x=nested(250)))),
    "many layers": (REGISTRY, put_manifest(image(count=9000))),
    "many values": (REGISTRY, put_manifest(b'{"x":[' + b"[]," * 1_300_000 + b"0]}")),
    "many tags": (REGISTRY, many_tags),
    "referrers": (REGISTRY, many_referrers),
    "uploads without end": (REGISTRY, many_uploads),
    "large manifests": (REGISTRY, put_manifest(b" " * (5 << 20))),
    "many scopes": (
        AUTHORITY, get(f"/token?service={SERVICE}" + "&scope=repository:a/b:pull" * 1000),
    ),
    "huge scopes": (AUTHORITY, get(f"/token?service={SERVICE}&scope=repository:{'a' * 20_000}:*")),
    "events without a token": (
        WEBHOOK, lambda server: server.request("POST", "/dockhand/notify", PIECE * 64),
    ),
    "oversized events": (WEBHOOK, notify(b'{"events": [' + b" " * (3 << 20) + b"]}")),
    "nested events": (WEBHOOK, notify(b'{"events":' * NESTED + b"1" + b"}" * NESTED)),
    "health checks": (WEBHOOK, get("/healthz")),
}  # fmt: skip


class Soak:
    """The threads of all clients, and what the honest ones report."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SECONDS
        self._threads: list[threading.Thread] = []
        self.errors: list[str] = []
        self.rounds: Counter[str] = Counter()

    @property
    def is_running(self) -> bool:
        return time.monotonic() < self._end and not self.errors

    def honest(self, name: str, work: Callable[[], None]) -> None:
        """Repeat an honest client's work in a thread; its first error ends the test."""

        def run() -> None:
            while self.is_running:
                try:
                    work()
                except BaseException as error:  # also a failed assertion
                    self.errors.append(f"{name}, round {self.rounds[name]}: {error!r}")
                    return
                self.rounds[name] += 1
                time.sleep(0.2)

        self._start(run)

    def hostile(self, name: str, server: Server, act: Act) -> None:
        """Repeat a hostile behaviour in a thread, whatever the server does about it."""

        def run() -> None:
            while self.is_running:
                with contextlib.suppress(OSError, httpx.HTTPError):
                    act(server)
                self.rounds[name] += 1
                time.sleep(random.uniform(0.5, 2))

        self._start(run)

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextmanager
def started(folder: Path, module: str, *options: str) -> Iterator[Server]:
    """Start a server; at the end it must stop cleanly, whatever connections are open."""
    command = [sys.executable, "-m", module, "--port", "0", *LIMITS, *options]
    with (folder / f"{module}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        with process.stdout:
            url = process.stdout.readline().removeprefix("listening on ").strip()
        yield Server(module, url, process.pid)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def sync_client(url: str) -> Callable[[], None]:
    def work() -> None:
        with connect(url, auth=ALICE, logging=QUIET) as registry:
            manifest = push_image(registry, "honest/sync", "v1")
            assert registry.manifest("honest/sync", "v1").raw == manifest.raw
            data = os.urandom(1 << 20)
            digest = registry.upload_blob("honest/sync", data).digest
            assert registry.read_blob("honest/sync", digest) == data
            registry.delete_blob("honest/sync", digest)
            assert list(registry.tags("honest/sync")) == ["v1"]

    return work


def async_client(url: str) -> Callable[[], None]:
    async def work() -> None:
        async with async_connect(url, auth=ALICE, logging=QUIET) as registry:
            blobs = [os.urandom(1 << 18) for _ in range(4)]
            uploads = (registry.upload_blob("honest/async", blob) for blob in blobs)
            digests = [each.digest for each in await asyncio.gather(*uploads)]
            for blob, digest in zip(blobs, digests, strict=True):
                assert await registry.read_blob("honest/async", digest) == blob
                await registry.delete_blob("honest/async", digest)

    return lambda: asyncio.run(work())


def crane_client(crane: str, url: str, home: Path) -> Callable[[], None]:
    """crane, which pushes and pulls; `sync_client` pushes the image."""
    host = url.removeprefix("http://")
    environment = program_environment(home)

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [crane, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run("auth", "login", host, "-u", "alice", "-p", PASSWORD)
    archive = home / "layer.tar"
    archive.write_bytes(bytes(10240))

    def work() -> None:
        tag = f"{host}/honest/crane:v1"
        run("append", "--insecure", "-f", str(archive), "-t", tag)
        run("pull", "--insecure", tag, str(home / "pulled.tar"))

    return work


def token_client(url: str) -> Callable[[], None]:
    def work() -> None:
        query = {"service": SERVICE, "scope": "repository:alice/app:pull,push"}
        reply = httpx.get(f"{url}/token", params=query, auth=("alice", USERS["alice"]), timeout=20)
        assert reply.status_code == 200, reply.text
        assert reply.json()["token"]

    return work


def webhook_client(url: str, token: str) -> Callable[[], None]:
    def work() -> None:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": DISTRIBUTION}
        reply = httpx.post(
            f"{url}/dockhand/notify", content=envelope(push()), headers=headers, timeout=20
        )
        assert reply.status_code == 202, reply.text
        assert httpx.get(f"{url}/healthz", timeout=20).json() == {"status": "ok"}

    return work


def test_honest_clients_notice_nothing_and_memory_stays_flat(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(HTPASSWD + HTPASSWD.replace("alice", "mallory"))
    inbox = Inbox(tmp_path / "inbox.db")
    token = inbox.tokens.issue().get_secret_value()
    TOKENS[:] = [inbox.tokens.issue().get_secret_value()]
    inbox.close()
    options = {
        "dockhand_embedded": [
            "--root", str(tmp_path / "root"), "--htpasswd", str(tmp_path / "users"),
        ],
        "dockhand_token_server": ["--config", str(write_authority(tmp_path / "authority"))],
        "dockhand_webhook": ["--inbox", str(tmp_path / "inbox.db")],
    }  # fmt: skip
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(started(tmp_path, name, *more))
            for name, more in options.items()
        }
        soak = Soak()
        registry = servers["dockhand_embedded"].url
        soak.honest("sync client", sync_client(registry))
        soak.honest("async client", async_client(registry))
        if crane := installed("crane"):
            soak.honest("crane", crane_client(crane, registry, tmp_path))
        soak.honest("token client", token_client(servers["dockhand_token_server"].url))
        soak.honest("webhook client", webhook_client(servers["dockhand_webhook"].url, token))
        time.sleep(2)  # the honest clients have logged in once
        for name, (attacked, act) in HOSTILE.items():
            for server in attacked:
                soak.hostile(f"{name}, {server}", servers[server], act)
        warm, peak = measure(soak, servers)
        soak.join()
    assert soak.errors == []
    assert all(soak.rounds.values()), soak.rounds
    grown = {name: (peak[name] - warm[name]) >> 20 for name in servers}  # MiB
    assert {name: size for name, size in grown.items() if size > GROWTH >> 20} == {}, grown
    text = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert all(line.isprintable() for line in text.split("\n"))
    assert "Traceback" not in text


def measure(soak: Soak, servers: dict[str, Server]) -> tuple[Counter[str], Counter[str]]:
    """Return the largest memory of each server during the warm-up, and after it."""
    warm: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    began = time.monotonic()
    while soak.is_running:
        found = warm if time.monotonic() < began + WARM_UP else peak
        for name, server in servers.items():
            found[name] = max(found[name], server.memory())
        time.sleep(0.5)
    return warm, peak
