"""Several writers of one referrers tag, on real registries without the referrers API."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dockhand_testing.contracts.samples import push_blob
from registries import crane_registry, distribution

from dockhand_core import ImageManifest, RegistryClient, async_connect, connect
from dockhand_core.models import media

pytestmark = pytest.mark.live

QUIET = {"driver": "null"}
WRITERS = 4
# Waits for a line, and pushes a manifest that stands on its command line.
PROCESS = """
import sys
from dockhand_core import ImageManifest, connect
url, raw = sys.argv[1:]
artifact = ImageManifest.model_validate_json(raw)
with connect(url, logging={"driver": "null"}) as client:
    client.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    client.put_manifest("a/b", artifact.digest, artifact)
"""


@pytest.fixture(scope="module", params=["Distribution 3.1", "crane"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("registry")
    server = crane_registry(folder) if request.param == "crane" else distribution("3.1", folder)
    with server as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[RegistryClient]:
    with connect(url, logging=QUIET) as found:
        yield found


def artifacts(client: RegistryClient, name: str) -> list[ImageManifest]:
    """Push a subject, and return as many artifacts that refer to it as there are writers."""
    config = push_blob(client, "a/b", b"{}", media.OCI_EMPTY)
    subject = ImageManifest(config=config, layers=(config,), annotations={"name": name})
    client.put_manifest("a/b", subject.digest, subject)
    return [
        ImageManifest(
            artifact_type="application/vnd.example",
            config=config,
            layers=(config,),
            subject=subject.descriptor(),
            annotations={"n": str(n)},
        )
        for n in range(WRITERS)
    ]


def assert_all_listed(client: RegistryClient, pushed: list[ImageManifest]) -> None:
    """Assert that all artifacts are referrers of their subject."""
    subject = pushed[0].subject
    assert subject is not None
    found = client.referrers("a/b", subject)
    assert {d.digest for d in found.manifests} == {artifact.digest for artifact in pushed}


@pytest.mark.parametrize("clients", [1, WRITERS])
def test_threads(client: RegistryClient, url: str, clients: int) -> None:
    pushed = artifacts(client, f"threads {clients}")
    own = [connect(url, logging=QUIET) for _ in range(clients)]
    with ThreadPoolExecutor(WRITERS) as pool:
        list(
            pool.map(
                lambda n: own[n % clients].put_manifest("a/b", pushed[n].digest, pushed[n]),
                range(WRITERS),
            )
        )
        assert_all_listed(client, pushed)
        gone = pushed[1:3]
        list(pool.map(lambda artifact: client.delete_manifest("a/b", artifact.digest), gone))
    assert_all_listed(client, [artifact for artifact in pushed if artifact not in gone])
    for one in own:
        one.close()


def test_tasks(client: RegistryClient, url: str) -> None:
    pushed = artifacts(client, "tasks")

    async def push_all() -> None:
        async with async_connect(url, logging=QUIET) as one:
            await asyncio.gather(*(one.put_manifest("a/b", a.digest, a) for a in pushed))

    asyncio.run(push_all())
    assert_all_listed(client, pushed)


@pytest.mark.parametrize("attempt", range(3))
def test_processes(client: RegistryClient, url: str, attempt: int) -> None:
    pushed = artifacts(client, f"processes {attempt}")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, artifact.raw.decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for artifact in pushed
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert_all_listed(client, pushed)
