"""Fixtures: a zot server for each test, real or replayed, and clients of its users.

`make record` records the cassettes if DOCKHAND_LIVE_ZOT is the path of the zot program. To record
the cassettes of vulnerabilities, DOCKHAND_LIVE_ZOT_CVE must also name a folder with the databases
`trivy.db` and `trivy-java.db`, which the README of the plugin describes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from dockhand_zot import ScannerNotReady, SearchError, ZotClient
from http_cassettes import RECORDING, REPLAY_URL, BlockingAsyncClient, cassette
from registries import HTPASSWD, PASSWORD, zot, zot_program

from dockhand_core import Descriptor, Digest, ImageManifest, connect
from dockhand_core.models import media

BOB = HTPASSWD.replace("alice", "bob")  # bob, with alice's password
ON = {"enable": True}
ALL = ["read", "create", "update", "delete"]
_ACCESS = {
    "repositories": {
        "public/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"]},
        "open/**": {"defaultPolicy": ["read", "create"]},
        "bobs/**": {"policies": [{"users": ["bob"], "actions": ["read", "create"]}]},
        "**": {"defaultPolicy": []},
    },
    "adminPolicy": {"users": ["alice"], "actions": ALL},
}


def _users(folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(HTPASSWD + BOB)
    return {"htpasswd": {"path": str(folder / "htpasswd")}, "apikey": True, "failDelay": 1}


CONFIGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "minimal": lambda _: {},
    "search": lambda _: {"search": ON},
    "users": lambda folder: {
        "auth": _users(folder),
        "access": _ACCESS,
        "search": ON,
        "ui": ON,
        "trust": {"enable": True, "cosign": True, "notation": True},
    },
    "lint": lambda _: {"lint": {"enable": True, "mandatoryAnnotations": ["org.example.owner"]}},
    "no-docker": lambda _: {"http": {"compat": []}},
}


class Zot:
    """A zot server, real or replayed, and its clients."""

    def __init__(self, url: str, mode: str, stack: ExitStack, *, replayed: bool) -> None:
        self.url, self._mode, self._stack = url, mode, stack
        self.replayed = replayed

    def client(self, user: str | None = None, **settings: Any) -> ZotClient:
        """Make an anonymous client, or a client that logs in as `user` with the tests' password."""
        settings.setdefault("logging", {"driver": "null"})
        settings.setdefault("driver", "zot")
        if user is not None:
            auth = {"driver": "basic", "username": user, "password": PASSWORD}
            settings.setdefault("auth", auth)
        if self.replayed:
            settings |= {"transport": "httpx", "retries": 0}
        made = connect if self._mode == "sync" else BlockingAsyncClient
        return cast("ZotClient", self._stack.enter_context(made(self.url, **settings)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with sync and async clients, on a cassette and on a real zot server."""
    if "zot_kind" in metafunc.fixturenames:
        cases = [("cassette", "sync")]
        if not RECORDING:
            cases += [("cassette", "async"), ("live", "sync"), ("live", "async")]
        metafunc.parametrize(
            ("zot_kind", "zot_mode"),
            [
                pytest.param(kind, mode, marks=[pytest.mark.live] if kind == "live" else [])
                for kind, mode in cases
            ],
            ids=[f"{kind}-{mode}" for kind, mode in cases],
        )


@pytest.fixture
def start_zot(
    zot_kind: str, zot_mode: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Zot]]:
    """Provide a function that starts zot with the configuration of this name in `CONFIGS`."""
    replayed = zot_kind == "cassette" and not RECORDING
    name = cast("Any", request.node).originalname.removeprefix("test_")
    tape = cassette("zot-extensions", name) if zot_kind == "cassette" else nullcontext()
    with ExitStack() as stack:

        def start(config: str) -> Zot:
            url, folder = REPLAY_URL, tmp_path / config
            if not replayed:
                url = stack.enter_context(zot(folder, **CONFIGS[config](folder)))
            stack.enter_context(tape)  # only now: requests of the start are not recorded
            return Zot(url, zot_mode, stack, replayed=replayed or RECORDING)

        yield start


def _layer(files: dict[str, str]) -> bytes:
    """Make a gzipped layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


def push_image_of_layers(
    registry: Any,
    repository: str,
    tag: str,
    layers: list[bytes],
    *,
    day: int = 2,
    **extra: Any,
) -> Any:
    """Push an image of these layers, created on `day` January 2026, and return its manifest."""

    def blob(data: bytes, kind: str) -> Descriptor:
        digest = registry.upload_blob(repository, data).digest
        return Descriptor(media_type=kind, digest=digest, size=len(data))

    diff_ids = [str(Digest.of(gzip.decompress(layer))) for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": f"2026-01-{day:02}T03:04:05Z",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    manifest = ImageManifest(
        config=blob(config, media.OCI_CONFIG),
        layers=tuple(blob(layer, media.OCI_LAYER_GZIP) for layer in layers),
        **extra,
    )
    registry.put_manifest(repository, tag, manifest)
    return manifest


@pytest.fixture
def push_image() -> Callable[..., Any]:
    """Provide a function that pushes an image with a layer for each text.

    The function is called as `push(registry, repository, tag, *texts)`.
    """

    def push(registry: Any, repository: str, tag: str, *texts: str, **extra: Any) -> Any:
        return push_image_of_layers(
            registry, repository, tag, [_layer({"a": text}) for text in texts], **extra
        )

    return push


def make_alpine_layer(musl: str, busybox: str) -> bytes:
    """Make a layer in which a scanner finds Alpine Linux with two packages in these versions."""
    installed = "".join(
        f"P:{name}\nV:{version}\nA:x86_64\no:{name}\n\n"
        for name, version in (("musl", musl), ("busybox", busybox))
    )
    return _layer(
        {
            "etc/alpine-release": "3.21.0\n",
            "etc/os-release": 'ID=alpine\nVERSION_ID=3.21.0\nPRETTY_NAME="Alpine Linux v3.21"\n',
            "lib/apk/db/installed": installed,
        }
    )


def _push_database(url: str, folder: Path) -> None:
    """Push the scanner's databases to a zot server, from which the scanning zot fetches them."""
    metadata = {
        "NextUpdate": "2099-01-01T00:00:00Z",
        "UpdatedAt": "2026-01-01T00:00:00Z",
        "DownloadedAt": "0001-01-01T00:00:00Z",
    }
    with connect(url, driver="zot", logging={"driver": "null"}) as registry:
        for repository, tag, name, kind, title, version in (
            ("trivy-db", "2", "trivy.db", "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip",
             "db.tar.gz", 2),
            ("trivy-java-db", "1", "trivy-java.db",
             "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip", "javadb.tar.gz", 1),
        ):  # fmt: skip
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
                for file, data in (
                    (name, (folder / name).read_bytes()),
                    ("metadata.json", json.dumps({"Version": version, **metadata}).encode()),
                ):
                    entry = tarfile.TarInfo(file)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
            layer = buffer.getvalue()
            digest = registry.upload_blob(repository, layer).digest
            empty = registry.upload_blob(repository, b"{}").digest
            registry.put_manifest(
                repository,
                tag,
                ImageManifest(
                    config=Descriptor(media_type=media.OCI_EMPTY, digest=empty, size=2),
                    layers=(
                        Descriptor(
                            media_type=kind,
                            digest=digest,
                            size=len(layer),
                            annotations={"org.opencontainers.image.title": title},
                        ),
                    ),
                ),
            )


@pytest.fixture
def start_scanning_zot(
    zot_kind: str, zot_mode: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., ZotClient]]:
    """Provide a function that starts a zot server with a scanner, and returns a client of it.

    The function takes a function that pushes the images to scan, and `ready`: whether to wait until
    the scanner has its database. If `ready` is false, the database never arrives.
    """
    replayed = zot_kind == "cassette" and not RECORDING
    database = os.environ.get("DOCKHAND_LIVE_ZOT_CVE")
    if not replayed:
        zot_program()
        if not database:
            pytest.skip("no vulnerability database: set DOCKHAND_LIVE_ZOT_CVE to its folder")
    name = cast("Any", request.node).originalname.removeprefix("test_")
    with ExitStack() as stack:

        def start(
            push_vulnerable_images: Callable[[Any], None], *, ready: bool = True
        ) -> ZotClient:
            url = REPLAY_URL
            if not replayed:
                source = "127.0.0.1:1"
                if ready:
                    source_url = stack.enter_context(zot(tmp_path / "source"))
                    _push_database(source_url, Path(database or ""))
                    source = source_url.removeprefix("http://")
                trivy = {
                    "dbRepository": f"{source}/trivy-db",
                    "javaDBRepository": f"{source}/trivy-java-db",
                }
                search = {**ON, "cve": {"updateInterval": "2h", "trivy": trivy}}
                url = stack.enter_context(zot(tmp_path / "scanning", search=search))
                with connect(url, driver="zot", logging={"driver": "null"}) as registry:
                    push_vulnerable_images(registry)
                    if ready:
                        _wait_for_database(cast("ZotClient", registry))
            tape = cassette("zot-extensions", name) if zot_kind == "cassette" else nullcontext()
            stack.enter_context(tape)
            found = Zot(url, zot_mode, stack, replayed=replayed or RECORDING)
            return found.client()

        yield start


def _wait_for_database(client: ZotClient) -> None:
    [*images] = client.newest_images()
    for _ in range(240):
        try:
            client.cves(images[0].repository, images[0].tag)
        except (ScannerNotReady, SearchError):
            time.sleep(0.25)
        else:
            return
    raise RuntimeError("the scanner has no database after a minute")


@pytest.fixture
def alpine_layer() -> Callable[[str, str], bytes]:
    """Provide a function that makes a layer with two Alpine packages of given versions."""
    return make_alpine_layer


@pytest.fixture
def push_layers() -> Callable[..., Any]:
    """Provide a function that pushes an image of given layers."""
    return push_image_of_layers
