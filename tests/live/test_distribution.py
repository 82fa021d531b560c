"""Dockhand's clients with a real Distribution: streams, cut connections, logins, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import cutting_proxy
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.contracts.samples import push_image, push_index
from registries import HTPASSWD, PASSWORD, distribution, program, program_environment

from dockhand_core import (
    Digest,
    ImageIndex,
    PaginationNumberInvalid,
    PushResult,
    RegistryClient,
    Unauthorized,
    Unsupported,
    async_connect,
    connect,
)

pytestmark = pytest.mark.live

VERSIONS = ["2.8", "3.1"]
SIZE = 24 << 20
MakeClient = Callable[..., Any]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def url(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Distribution that all tests of a version share, and provide its URL."""
    with distribution(version, tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(params=["sync", "sync-httpx", "async", "async-httpx"])
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Provide a function that makes sync or async clients, which are closed after the test."""
    loop = BlockingLoop()
    clients: list[Any] = []

    def make(url: str, **settings: Any) -> RegistryClient:
        settings.setdefault("logging", {"driver": "null"})
        kind, _, transport = request.param.partition("-")
        settings["transport"] = transport or None
        if kind == "sync":
            client: Any = connect(url, **settings)
        else:
            client = as_blocking(loop, async_connect(url, **settings))
        clients.append(client)
        found: RegistryClient = client
        return found

    yield make
    for client in clients:
        client.close()
    loop.close()


@pytest.fixture(scope="module")
def big_blob(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest]:
    """Write a file of 24 MiB; return its path and its digest."""
    path = tmp_path_factory.mktemp("big") / "blob"
    path.write_bytes(os.urandom(SIZE))
    return path, Digest.of(path.read_bytes())


def repository_of(request: pytest.FixtureRequest) -> str:
    """Return the name of a repository that only this test uses."""
    return "live/" + "".join(c if c.isalnum() else "-" for c in request.node.name).strip("-")


def test_a_file_is_pushed_and_pulled(
    make_client: MakeClient, url: str, big_blob: tuple[Path, Digest], tmp_path: Path, request: Any
) -> None:
    path, digest = big_blob
    registry, repository = make_client(url), repository_of(request)
    reported: list[int] = []
    pushed = registry.upload_blob(repository, path, progress=lambda done, _: reported.append(done))
    assert pushed.digest == digest
    assert reported == sorted(reported)
    assert reported[-1] == SIZE
    out = registry.download_blob(repository, digest, tmp_path / "out")
    assert Digest.of(out.read_bytes()) == digest


def test_a_stream_is_pushed_in_chunks(
    make_client: MakeClient, url: str, big_blob: tuple[Path, Digest], request: Any
) -> None:
    """The stream fills more than one chunk, and can be read only once."""
    path, digest = big_blob
    registry, repository = make_client(url), repository_of(request)
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        assert registry.upload_blob(repository, blocks).digest == digest
    with registry.open_blob(repository, digest) as blob:
        assert sum(len(block) for block in blob) == SIZE
    with registry.blob_writer(f"{repository}/written") as out:
        out.write(path.read_bytes())
    assert out.digest == digest


def test_an_upload_that_is_cut(
    make_client: MakeClient, url: str, version: str, big_blob: Any, request: Any
) -> None:
    """The upload is resumed on Distribution 3.1 and begun again on 2.8; both succeed."""
    path, digest = big_blob
    repository = repository_of(request)
    with cutting_proxy(url) as proxy:
        registry = make_client(proxy.url)
        registry.ping()
        proxy.upload_cuts.append(9 << 20)
        reported: list[int] = []
        # Distribution builds the Location from the Host header, so the upload uses the proxy, too
        result = registry.upload_blob(repository, path, progress=lambda d, _: reported.append(d))
        assert proxy.cut_count == 1
    assert result.digest == digest
    assert make_client(url).blob_size(repository, digest) == SIZE
    again = [later for earlier, later in pairwise(reported) if later < earlier]
    if version == "2.8":
        assert again == [1 << 20]
    else:
        assert all(later > 4 << 20 for later in again)


def test_a_download_that_is_cut(
    make_client: MakeClient, url: str, big_blob: Any, tmp_path: Path, request: Any
) -> None:
    path, digest = big_blob
    repository = repository_of(request)
    make_client(url).upload_blob(repository, path)
    with cutting_proxy(url) as proxy:
        registry = make_client(proxy.url)
        registry.ping()
        proxy.download_cuts += [5 << 20, 6 << 20]
        reported: list[int] = []
        registry.download_blob(
            repository, digest, tmp_path / "out", progress=lambda done, _: reported.append(done)
        )
        assert reported == sorted(reported)
        proxy.download_cuts.append(7 << 20)
        with registry.open_blob(repository, digest) as blob:
            assert sum(len(block) for block in blob) == SIZE
        assert proxy.cut_count == 3
    assert Digest.of((tmp_path / "out").read_bytes()) == digest


def test_another_process_continues_an_upload(url: str, request: Any) -> None:
    """The other process gets the upload as JSON, and nothing else."""
    repository = repository_of(request)
    with connect(url) as registry:
        upload = registry.upload_chunk(registry.start_upload(repository), b"first ")
    program_text = (
        "import sys; from dockhand_core import connect, Upload, Digest\n"
        "upload = Upload.model_validate_json(sys.argv[2])\n"
        "with connect(sys.argv[1]) as registry:\n"
        "    upload = registry.upload_chunk(registry.upload_status(upload), b'second')\n"
        "    print(registry.finish_upload(upload, Digest.of(b'first second')).digest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text, url, upload.model_dump_json()],
        capture_output=True,
        text=True,
        check=True,
    )
    with connect(url) as registry:
        assert registry.read_blob(repository, done.stdout.strip()) == b"first second"


def test_a_registry_with_passwords(make_client: MakeClient, version: str, tmp_path: Path) -> None:
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "basic-realm", "path": str(htpasswd)}}
    with distribution(version, tmp_path / "registry", auth=auth) as url:
        right = {"driver": "basic", "username": "alice", "password": PASSWORD}
        registry = make_client(url, auth=right)
        registry.ping()
        push_image(registry, "a/b", "v1")
        assert list(registry.repositories()) == ["a/b"]
        wrong = make_client(url, auth={**right, "password": "not-the-password"})
        with pytest.raises(Unauthorized, match="asks for Basic") as caught:
            wrong.ping()
        assert "not-the-password" not in repr(caught.value)
        assert wrong.is_online()
        key = {"driver": "apikey", "username": "alice", "api_key": PASSWORD}
        assert make_client(url, auth=key).manifest_exists("a/b", "v1")
        with pytest.raises(Unauthorized):
            make_client(url).manifest("a/b", "v1")
        with pytest.raises(Unauthorized):
            make_client(url, auth={"driver": "bearer", "token": "abc"}).upload_blob("a/b", b"data")


def test_relative_urls(make_client: MakeClient, version: str, tmp_path: Path) -> None:
    http = {"relativeurls": True}
    with distribution(version, tmp_path / "registry", http=http) as url:
        registry = make_client(url)
        upload = registry.upload_chunk(registry.start_upload("a/b"), b"data")
        result = registry.finish_upload(upload, Digest.of(b"data"))
        assert result.location.startswith(url)
        assert isinstance(registry.mount_blob("c", result.digest, "a/b"), PushResult)


def test_deletion_disabled(make_client: MakeClient, version: str, tmp_path: Path) -> None:
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with distribution(version, tmp_path / "registry", storage=storage) as url:
        registry = make_client(url)
        manifest = push_image(registry, "a/b", "v1")
        with pytest.raises(Unsupported):
            registry.delete_manifest("a/b", manifest.digest)
        with pytest.raises(Unsupported):
            registry.delete_tag("a/b", "v1")
        with pytest.raises(Unsupported):
            registry.delete_blob("a/b", manifest.config.digest)
        assert registry.manifest_exists("a/b", "v1")


def test_a_read_only_registry(make_client: MakeClient, version: str, tmp_path: Path) -> None:
    """Distribution replies with a 405 in plain text."""
    storage = {
        "filesystem": {"rootdirectory": str(tmp_path / "data")},
        "maintenance": {"readonly": {"enabled": True}},
    }
    with distribution(version, tmp_path / "registry", storage=storage) as url:
        with pytest.raises(Unsupported, match="405: Method not allowed") as caught:
            make_client(url).upload_blob("a/b", b"data")
        assert caught.value.code is None


def test_a_page_that_is_too_large(make_client: MakeClient, url: str) -> None:
    with pytest.raises(PaginationNumberInvalid) as caught:
        make_client(url).repository_page(limit=100_000)
    assert caught.value.status == 400


def test_lists_over_many_pages(make_client: MakeClient, url: str, request: Any) -> None:
    """Each tag is listed once, even if the last link leads to an empty page."""
    registry, repository = make_client(url), repository_of(request)
    manifest = push_image(registry, repository, "t000")
    tags = [f"t{number:03}" for number in range(40)]
    for tag in tags[1:]:
        registry.put_manifest(repository, tag, manifest)
    assert sorted(registry.tags(repository, page_size=8)) == tags
    paged, after = [], None
    while True:
        page = registry.tag_page(repository, limit=7, after=after)
        paged += page.items
        if not page.has_more:
            break
        after = page.next
    assert paged == tags


def test_skopeo(make_client: MakeClient, url: str, tmp_path: Path, request: Any) -> None:
    """skopeo reads an index that Dockhand pushed, and Dockhand reads the copy that skopeo makes."""
    skopeo = program("skopeo", "install Debian's package skopeo")
    registry, repository = make_client(url), repository_of(request)
    index = push_index(registry, repository, "v1")
    host = url.removeprefix("http://")

    environment = program_environment(tmp_path / "home")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [skopeo, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    seen = run("inspect", "--raw", "--tls-verify=false", f"docker://{host}/{repository}:v1")
    assert json.loads(seen) == json.loads(index.raw)
    run(
        "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{host}/{repository}:v1", f"docker://{host}/{repository}/copied:v2",
    )  # fmt: skip
    copied = registry.manifest(f"{repository}/copied", "v2")
    assert isinstance(copied, ImageIndex)
    assert copied.digest == index.digest
    image = registry.image(f"{repository}/copied", "v2", platform="linux/arm64")
    assert str(registry.image_config(f"{repository}/copied", image).platform) == "linux/arm64"


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_more_threads_than_connections(url: str, limit: int) -> None:
    """No thread gets a connection that another one closes: a stall would last for `timeout`."""

    def work(number: int) -> float:
        slowest = 0.0
        for _ in range(10):
            started = time.monotonic()
            data = os.urandom(2000 + number)
            digest = registry.upload_blob(f"threads/{number % 3}", data).digest
            assert registry.read_blob(f"threads/{number % 3}", digest) == data
            slowest = max(slowest, time.monotonic() - started)
        return slowest

    settings: dict[str, Any] = {"timeout": 10.0, "retries": 0, "logging": {"driver": "null"}}
    for _ in range(3):
        with (
            connect(url, max_connections=limit, **settings) as registry,
            ThreadPoolExecutor(8) as pool,
        ):
            assert max(pool.map(work, range(8))) < 9
