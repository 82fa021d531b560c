"""The daily commands of `dockhand` at real registries, compared with other clients."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from command_line import CommandLine
from dated_images import put_image
from registries import (
    HTPASSWD,
    PASSWORD,
    Clients,
    crane_registry,
    distribution,
    embedded,
    free_port,
    zot,
)

from dockhand_core import connect

pytestmark = pytest.mark.live

KINDS = ("2.8", "3.1", "zot", "embedded", "crane")
ABSENT = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
NOTE = "text/x-note"


def _server(kind: str, folder: Path) -> AbstractContextManager[str]:
    if kind in ("2.8", "3.1"):
        return distribution(kind, folder)
    servers: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
        "zot": zot, "embedded": embedded, "crane": crane_registry,
    }  # fmt: skip
    return servers[kind](folder)


class Desk:
    """A folder with `dockhand`, other clients and archives; the registries are started when used.

    The archives are `app.tar`, an image as podman saves it, and `layout`, a folder with an image
    for two platforms. Both were made by buildah.

    Args:
        folder: the folder.
        stack: stops the registries.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._hosts: dict[str, str] = {}
        self.home = folder / "home"
        self.clients = Clients(self.home)
        self.dockhand = CommandLine(self.home)
        self._make_archives()

    def _make_archives(self) -> None:
        run = self.clients.run
        for architecture in ("amd64", "arm64"):
            (self.home / f"program-{architecture}").write_bytes(os.urandom(200_000))
            container = run("buildah", "from", "scratch").strip()
            label = ("--label", "made=by a test")
            run("buildah", "config", "--arch", architecture, *label, container)
            run("buildah", "add", "--quiet", container, f"program-{architecture}", "/bin/")
            run("buildah", "commit", "--quiet", "--format", "oci", container, architecture)
        run("buildah", "manifest", "create", "both", "amd64", "arm64")
        run("buildah", "manifest", "push", "--all", "both", "oci:layout:v1")
        run("buildah", "push", "--quiet", "amd64", "docker-archive:app.tar:team/app:v1")

    def host(self, kind: str) -> str:
        """The host and port of a registry, which is started on the first call."""
        if kind not in self._hosts:
            folder = self._folder / kind
            folder.mkdir(exist_ok=True)
            url = self._stack.enter_context(_server(kind, folder))
            self._hosts[kind] = url.removeprefix("http://")
            settings = ("--tls", "disabled", "--skip-check", self._hosts[kind])
            self.clients.run("regctl", "registry", "set", *settings)
        return self._hosts[kind]

    def crane(self, *arguments: str) -> str:
        return self.clients.run("crane", *arguments).removesuffix("\n")

    def size(self, repository: str, reference: str) -> int:
        """The bytes of a manifest and of all that it names, each of which it names once."""
        at = "@" if reference.startswith("sha256:") else ":"
        text = self.clients.run("crane", "manifest", f"{repository}{at}{reference}")
        manifest = json.loads(text)
        size = len(text)
        for entry in manifest.get("manifests", []):
            size += self.size(repository, entry["digest"])
        parts = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
        return size + sum(int(part["size"]) for part in parts)

    def raw(self, *arguments: str) -> str:
        """Standard output of `dockhand` as it is, of a command that succeeds."""
        done = self.dockhand.run_bytes(*arguments)
        assert done.stderr == b""
        return done.stdout.decode()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(tmp_path_factory.mktemp("desk"), stack)


@pytest.fixture(scope="module", params=KINDS)
def host(desk: Desk, request: pytest.FixtureRequest) -> str:
    """Provide a registry with `app:v1`, for two platforms, and `app:one`, pushed by dockhand."""
    host = desk.host(request.param)
    pushed = desk.dockhand.out("push", "layout", f"{host}/app:v1")
    index = desk.crane("digest", f"{host}/app:v1")
    assert pushed == f"{host}/app:v1@{index}\n"
    entry = json.loads((desk.home / "layout/index.json").read_text())["manifests"][0]
    assert entry["digest"] == index
    desk.dockhand.run("push", "app.tar", f"{host}/app:one")
    return host


def test_look(desk: Desk, host: str) -> None:
    dockhand, image = desk.dockhand, f"{host}/app:v1"
    assert "answers" in dockhand.out("ping", host)
    assert "app" in dockhand.lines("ls", host)
    assert sorted(dockhand.lines("tags", f"{host}/app")) == ["one", "v1"]
    assert desk.raw("inspect", image, "--raw").rstrip() == desk.crane("manifest", image).rstrip()

    found = dockhand.json("inspect", image)
    platforms = {each["platform"]: each["digest"] for each in found["manifests"]}
    assert set(platforms) == {"linux/amd64", "linux/arm64"}
    arm = dockhand.json("inspect", image, "--platform", "linux/arm64")
    assert arm["settings"]["labels"]["made"] == "by a test"
    assert arm["digest"] == platforms["linux/arm64"]
    assert arm["digest"] == desk.crane("digest", "--platform", "linux/arm64", image)
    arm_only = ("--platform", "linux/arm64")
    expected = desk.crane("config", *arm_only, image)
    assert desk.raw("inspect", image, "--config", "--raw", *arm_only) == expected


def test_manifests_and_blobs(desk: Desk, host: str) -> None:
    dockhand, image = desk.dockhand, f"{host}/app:one"
    manifest = desk.raw("manifest", "get", image)
    assert manifest == desk.clients.run("skopeo", "inspect", "--raw", "--tls-verify=false",
                                        f"docker://{image}")  # fmt: skip
    layer = json.loads(manifest)["layers"][0]
    blob = f"{host}/app@{layer['digest']}"
    assert dockhand.out("blob", "head", blob).split("\t")[-1].strip() == str(layer["size"])
    dockhand.out("blob", "get", blob, "--output", "layer.dockhand")
    desk.clients.run("oras", "blob", "fetch", "--plain-http", blob, "--output", "layer.oras")
    assert (desk.home / "layer.dockhand").read_bytes() == (desk.home / "layer.oras").read_bytes()
    (desk.home / "layer.dockhand").unlink()
    (desk.home / "layer.oras").unlink()

    digest = desk.crane("digest", image)
    assert dockhand.lines("tag", image, "v2", "stable") == [
        f"{host}/app:v2@{digest}", f"{host}/app:stable@{digest}",
    ]  # fmt: skip
    assert desk.crane("digest", f"{host}/app:stable") == digest
    arm = desk.crane("digest", "--platform", "linux/arm64", f"{host}/app:v1")
    head = dockhand.out("manifest", "head", f"{host}/app:v1", "--platform", "linux/arm64")
    assert head.partition("\t")[0] == arm
    dockhand.out("index", f"{host}/app:joined", "one", arm)
    joined = json.loads(desk.crane("manifest", f"{host}/app:joined"))
    used = dockhand.json("du", f"{host}/app")
    sizes = {each["tag"]: each["size"] for each in used["tags"]}
    assert sizes["one"] == sizes["stable"] == desk.size(f"{host}/app", "one")
    assert sizes["v1"] == desk.size(f"{host}/app", "v1")
    assert {each["platform"]["architecture"]: each["digest"] for each in joined["manifests"]} == {
        "amd64": digest, "arm64": arm,
    }  # fmt: skip


def test_artifacts_between_dockhand_and_oras(desk: Desk, host: str) -> None:
    dockhand, run, plain = desk.dockhand, desk.clients.run, "--plain-http"
    (desk.home / "note.txt").write_text(host)
    kind = ("--artifact-type", NOTE)
    dockhand.out("artifact", "push", f"{host}/notes:dockhand", "note.txt:text/plain", *kind)
    run("oras", "push", plain, f"{host}/notes:oras", "note.txt:text/plain", *kind)
    dockhand.out("artifact", "pull", f"{host}/notes:oras", "-o", f"by-dockhand-{host}")
    run("oras", "pull", plain, f"{host}/notes:dockhand", "-o", f"by-oras-{host}")
    for name in ("dockhand", "oras"):
        assert (desk.home / f"by-{name}-{host}" / "note.txt").read_text() == host

    image = f"{host}/notes:oras"
    dockhand.out("artifact", "attach", image, "note.txt", *kind)
    run("oras", "attach", plain, image, "note.txt", "--artifact-type", "text/x-other")
    seen = json.loads(run("oras", "discover", plain, "--format", "json", image))
    kinds = {each["digest"]: each["artifactType"] for each in seen["referrers"]}
    assert sorted(kinds.values()) == [NOTE, "text/x-other"]
    ours = dockhand.json("referrers", image)["referrers"]
    assert {each["digest"]: each["artifact_type"] for each in ours} == kinds


@pytest.mark.parametrize("host", ["2.8", "zot", "crane"], indirect=True)
def test_copies(desk: Desk, host: str) -> None:
    dockhand, target = desk.dockhand, desk.host("3.1")
    image, name = f"{host}/app:v1", host.replace(":", "-").replace(".", "-")
    digest = desk.crane("digest", image)
    (desk.home / "sbom.txt").write_text("an SBOM")
    dockhand.run("artifact", "attach", image, "sbom.txt", "--artifact-type", NOTE)
    copied = f"{target}/mirror/{name}:v1"
    assert dockhand.out("cp", image, copied, "--referrers") == f"{copied}@{digest}\n"
    assert desk.crane("digest", copied) == digest
    desk.clients.run("regctl", "image", "copy", "--referrers", image, f"{target}/regctl/{name}:v1")
    lists = [
        json.loads(desk.clients.run("regctl", "artifact", "list", "--format", "{{json .}}", each))
        for each in (copied, f"{target}/regctl/{name}:v1")
    ]
    ours, regctls = ([each["digest"] for each in found["descriptors"]] for found in lists)
    assert len(ours) == 1
    assert ours == regctls

    lines = dockhand.json_lines("cp", f"{host}/app", f"{target}/all/{name}", "--all-tags")
    assert {line["error"] for line in lines} == {None}
    tags = {line["tag"]: line["digest"] for line in lines}
    assert {"one", "v1"} <= set(tags)
    for tag in ("one", "v1"):
        assert desk.crane("digest", f"{target}/all/{name}:{tag}") == tags[tag]


@pytest.mark.parametrize("host", ["3.1", "embedded"], indirect=True)
def test_archives_for_podman_and_skopeo(desk: Desk, host: str) -> None:
    dockhand, run = desk.dockhand, desk.clients.run
    image = f"{host}/app:v1"
    dockhand.run("pull", image, "pulled.tar", "--format", "docker-archive", "--overwrite")
    config = run("skopeo", "inspect", "--config", "--raw", "docker-archive:pulled.tar")
    assert config == desk.crane("config", image)
    assert run("podman", "load", "--quiet", "-i", "pulled.tar").strip().endswith("/app:v1")
    dockhand.run("cp", image, "oci-archive:pulled.tar:v1", "--overwrite")
    index = run("skopeo", "inspect", "--raw", "oci-archive:pulled.tar:v1")
    assert index == desk.raw("inspect", image, "--raw")


@pytest.mark.parametrize("kind", KINDS)
def test_rm_and_prune(desk: Desk, kind: str) -> None:
    dockhand, host = desk.dockhand, desk.host(kind)
    repository, plan = f"{host}/team/app", f"plan-{kind}.json"
    with connect(f"http://{host}", logging={"driver": "null"}) as client:
        for days in range(1, 5):
            put_image(client, f"build-{days}", days=days)
        put_image(client, "old", "old-too", days=900)

    if kind == "2.8":
        error = dockhand.run("rm", f"{repository}:old", code=1).stderr
        assert "deletes no tag alone" in error
        assert f"dockhand rm {repository}@sha256:" in error
        assert "old" in desk.crane("ls", repository).split()
    else:
        assert dockhand.lines("rm", f"{repository}:old")[-1] == f"deleted {repository}:old"
        assert "old" not in desk.crane("ls", repository).split()
    digest = desk.crane("digest", f"{repository}:old-too")
    refused = dockhand.run("rm", f"{repository}@{digest}", code=2)
    assert "old-too" in refused.stdout
    assert "--yes" in refused.stderr
    assert desk.crane("digest", f"{repository}:old-too") == digest
    dockhand.out("rm", f"{repository}@{digest}", "--yes")

    policy = ("--tags", "build-*", "--keep-last", "2")
    dockhand.out("prune", repository, *policy, "--out", plan)
    assert len(desk.crane("ls", repository).split()) == 4
    lines = dockhand.json_lines("prune", "--apply", plan)
    assert {line["outcome"] for line in lines} == {"deleted"}
    assert sorted(desk.crane("ls", repository).split()) == ["build-1", "build-2"]


@pytest.mark.parametrize("kind", ["2.8", "3.1", "zot"])
def test_exit_statuses(desk: Desk, kind: str, tmp_path: Path) -> None:
    dockhand, host = desk.dockhand, desk.host(kind)
    with connect(f"http://{host}", logging={"driver": "null"}) as client:
        put_image(client, "here", days=1)
    for words in (
        ("tags", f"{host}/absent"),
        ("inspect", f"{host}/team/app:absent"),
        ("blob", "head", f"{host}/team/app@{ABSENT}"),
        ("rm", f"{host}/team/app:absent"),
        ("cp", f"{host}/team/app:absent", f"{host}/copy"),
        ("pull", f"{host}/team/app:absent", "absent.tar"),
    ):
        dockhand.error(*words, code=3)
    assert not (desk.home / "absent.tar").exists()
    dockhand.error("ls", f"127.0.0.1:{free_port()}", code=5)

    (tmp_path / "htpasswd").write_text(HTPASSWD)
    server = (
        zot(tmp_path / "locked", auth={"htpasswd": {"path": str(tmp_path / "htpasswd")}})
        if kind == "zot"
        else distribution(
            kind, tmp_path / "locked",
            auth={"htpasswd": {"realm": "any", "path": str(tmp_path / "htpasswd")}},
        )
    )  # fmt: skip
    with server as url:
        locked = url.removeprefix("http://")
        assert "401" in dockhand.error("ping", locked, code=4)
        dockhand.error("push", "app.tar", f"{locked}/app:v1", code=4)
        dockhand.run("login", locked, "-u", "alice", "--password-stdin", input=PASSWORD)
        dockhand.out("push", "app.tar", f"{locked}/app:v1")
        assert dockhand.lines("tags", f"{locked}/app") == ["v1"]
        dockhand.out("logout", locked)
        dockhand.error("tags", f"{locked}/app", code=4)
