"""skopeo, crane and regctl, used with the embedded registry."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dockhand_testing.contracts.samples import push_image, push_index
from registries import HTPASSWD, PASSWORD, embedded, program, program_environment

from dockhand_core import RegistryClient, connect

pytestmark = pytest.mark.live

SKOPEO = "install Debian's package skopeo"
BUILT = "install Go, and `make live` builds it"
Run = Callable[..., str]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Start an embedded registry, and provide its URL."""
    with embedded(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def registry(url: str) -> Iterator[RegistryClient]:
    """Connect Dockhand's client to the registry at `url`."""
    with connect(url, logging={"driver": "null"}) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Provide a function that runs a program with a home folder of its own and returns its output.

    If `succeeds` is false, the program has to fail, and its error output is returned.
    """
    environment = program_environment(tmp_path / "home")

    def call(*command: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=100,
        )  # fmt: skip
        assert (done.returncode == 0) is succeeds, f"{command}: {done.stderr}"
        return done.stdout if succeeds else done.stderr

    return call


def make_layer(path: Path, number: int) -> Path:
    """Write a tar file with random contents for a layer, and return the file's path."""
    file = path / f"layer{number}.tar"
    with tarfile.open(file, "w") as tar:
        entry = tarfile.TarInfo(f"file{number}")
        entry.size = 200_000
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return file


def test_skopeo(url: str, registry: RegistryClient, run: Run, tmp_path: Path) -> None:
    skopeo = program("skopeo", SKOPEO)
    host = url.removeprefix("http://")
    index = push_index(registry, "a/b", "v1")
    layout = f"oci:{tmp_path / 'layout'}:v1"
    run(
        skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
        f"docker://{host}/a/b:v1", layout,
    )  # fmt: skip
    run(
        skopeo, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
        layout, f"docker://{host}/c:v2",
    )  # fmt: skip
    assert registry.manifest("c", "v2").digest == index.digest
    listed = json.loads(run(skopeo, "list-tags", "--tls-verify=false", f"docker://{host}/a/b"))
    assert sorted(listed["Tags"]) == ["amd64", "arm64", "v1"]
    run(skopeo, "delete", "--tls-verify=false", f"docker://{host}/c:v2")
    assert not registry.manifest_exists("c", "v2")


def test_layout_on_disk(url: str, registry: RegistryClient, run: Run, tmp_path: Path) -> None:
    """skopeo can read the registry's folder directly, as an OCI layout."""
    skopeo = program("skopeo", SKOPEO)
    manifest = push_image(registry, "a/b", "v1")
    root = tmp_path / "registry" / "root"
    raw = run(skopeo, "inspect", "--raw", f"oci:{root / 'a' / 'b'}:v1")
    assert json.loads(raw) == json.loads(manifest.raw)


def test_crane(url: str, registry: RegistryClient, run: Run, tmp_path: Path) -> None:
    crane = program("crane", BUILT)
    host = url.removeprefix("http://")
    layers = [f"--new_layer={make_layer(tmp_path, number)}" for number in range(12)]
    run(crane, "append", "--insecure", *layers, "-t", f"{host}/a/b:v1")  # in parallel
    image = registry.image("a/b", "v1")
    assert len(image.layers) == 12
    assert run(crane, "digest", "--insecure", f"{host}/a/b:v1").strip() == image.digest
    assert run(crane, "ls", "--insecure", f"{host}/a/b").split() == ["v1"]
    run(crane, "copy", "--insecure", f"{host}/a/b:v1", f"{host}/c/d:v2")
    assert run(crane, "catalog", "--insecure", host).split() == ["a/b", "c/d"]
    run(crane, "pull", "--insecure", f"{host}/c/d:v2", str(tmp_path / "pulled.tar"))
    assert (tmp_path / "pulled.tar").stat().st_size > 12 * 200_000
    run(crane, "validate", "--insecure", "--remote", f"{host}/c/d:v2")
    run(crane, "delete", "--insecure", f"{host}/c/d@{image.digest}")
    assert not registry.manifest_exists("c/d", "v2")


def test_regctl(url: str, registry: RegistryClient, run: Run, tmp_path: Path) -> None:
    regctl = program("regctl", BUILT)
    host = url.removeprefix("http://")
    run(regctl, "registry", "set", "--tls", "disabled", host)
    index = push_index(registry, "a/b", "v1")
    assert run(regctl, "repo", "ls", host).split() == ["a/b"]
    assert sorted(run(regctl, "tag", "ls", f"{host}/a/b").split()) == ["amd64", "arm64", "v1"]
    (tmp_path / "sbom.json").write_text("{}")
    run(
        regctl, "artifact", "put", "--artifact-type", "application/vnd.example.sbom",
        "--subject", f"{host}/a/b:v1", "-f", str(tmp_path / "sbom.json"),
    )  # fmt: skip
    [found] = registry.referrers("a/b", index.digest).manifests
    assert found.artifact_type == "application/vnd.example.sbom"
    listed = run(regctl, "artifact", "list", f"{host}/a/b:v1", "--format", "{{ json . }}")
    assert [d["digest"] for d in json.loads(listed)["descriptors"]] == [found.digest]
    run(regctl, "image", "copy", "--referrers", f"{host}/a/b:v1", f"{host}/copied:v1")
    assert registry.manifest("copied", "v1").digest == index.digest
    assert registry.referrers("copied", index.digest).manifests[0].digest == found.digest
    run(regctl, "tag", "delete", f"{host}/copied:v1")
    assert not registry.manifest_exists("copied", "v1")
    assert registry.manifest_exists("copied", index.digest)
    root = tmp_path / "registry" / "root" / "a" / "b"
    assert "v1" in run(regctl, "tag", "ls", f"ocidir://{root}").split()


def test_passwords(run: Run, tmp_path: Path) -> None:
    """Each program can log in with a password; without one, access is refused."""
    skopeo = program("skopeo", SKOPEO)
    crane = program("crane", BUILT)
    regctl = program("regctl", BUILT)
    users = tmp_path / "users"
    users.write_text(HTPASSWD)
    auth = {"driver": "basic", "username": "alice", "password": PASSWORD}
    with (
        embedded(tmp_path / "locked", "--htpasswd", str(users)) as url,
        connect(url, logging={"driver": "null"}, auth=auth) as registry,
    ):
        host = url.removeprefix("http://")
        push_image(registry, "a/b", "v1")
        image = f"docker://{host}/a/b"
        refused = run(
            skopeo, "inspect", "--tls-verify=false", "--no-creds", "--raw", f"{image}:v1",
            succeeds=False,
        )  # fmt: skip
        assert re.search("(?i)authentication|unauthorized", refused)
        creds = f"alice:{PASSWORD}"
        run(
            skopeo, "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
            "--src-creds", creds, "--dest-creds", creds, f"{image}:v1", f"{image}:skopeo",
        )  # fmt: skip
        run(crane, "auth", "login", host, "-u", "alice", "-p", PASSWORD)
        run(crane, "copy", "--insecure", f"{host}/a/b:v1", f"{host}/c/d:crane")
        run(regctl, "registry", "set", "--tls", "disabled", host)
        run(regctl, "registry", "login", host, "-u", "alice", "-p", PASSWORD)
        run(regctl, "image", "copy", f"{host}/a/b:v1", f"{host}/c/d:regctl")
        assert list(registry.tags("a/b")) == ["skopeo", "v1"]
        assert list(registry.tags("c/d")) == ["crane", "regctl"]
