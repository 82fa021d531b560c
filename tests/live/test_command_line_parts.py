"""The commands `artifact`, `blob`, `manifest` and `token` with real registries and clients."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from dockhand_auth_jwt import SigningKey
from registries import Clients, client, distribution, zot

pytestmark = pytest.mark.live

TYPE = "application/vnd.example.docs"
DATA = random.Random(1).randbytes(5_000_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture(params=["2.8", "3.1", "zot"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Start a registry; provide its host and port."""
    folder = tmp_path / "registry"
    with zot(folder) if request.param == "zot" else distribution(request.param, folder) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """Provide other clients, and files to push in their folder."""
    for name in ("oras", "crane", "regctl"):
        client(name)
    found = Clients(tmp_path / "work")
    (found.home / "site" / "sub").mkdir(parents=True)
    (found.home / "site" / "sub" / "page").write_text("page")
    (found.home / "notes: today").write_text("notes")
    (found.home / "data").write_bytes(DATA)
    return found


@pytest.fixture
def dockhand(clients: Clients) -> CommandLine:
    """Provide the command in the folder of the other clients."""
    return CommandLine(clients.home)


def test_artifacts_and_oras(dockhand: CommandLine, clients: Clients, host: str) -> None:
    def oras(command: str, *arguments: str) -> str:
        return clients.run("oras", *command.split(), "--plain-http", *arguments)

    work = dockhand.folder
    files = ("data:application/octet-stream", "site", "notes: today:text/plain")
    (digest,) = dockhand.lines(
        "artifact", "push", f"{host}/docs:ours", *files, "--artifact-type", TYPE
    )
    oras("pull", f"{host}/docs:ours", "-o", "by-oras")
    oras("push", f"{host}/docs:theirs", *files, "--artifact-type", TYPE)
    dockhand.out("artifact", "pull", f"{host}/docs:theirs", "-o", "by-dockhand")
    for folder in (work / "by-oras", work / "by-dockhand"):
        assert (folder / "data").read_bytes() == DATA
        assert (folder / "site" / "sub" / "page").read_text() == "page"
        assert (folder / "notes: today").read_text() == "notes"
    ours, theirs = (
        json.loads(oras("manifest fetch", f"{host}/docs:{tag}")) for tag in ("ours", "theirs")
    )
    for manifest in (ours, theirs):
        del manifest["annotations"]
    assert [each["mediaType"] for each in ours["layers"]] == [
        each["mediaType"] for each in theirs["layers"]
    ]
    assert ours["artifactType"] == theirs["artifactType"] == TYPE

    attached = dockhand.json(
        "artifact", "attach", f"{host}/docs:ours", "data", "--artifact-type", "application/x.y"
    )
    assert attached["subject"] == digest
    listed = oras("discover", f"{host}/docs:ours", "--format", "json")
    assert attached["digest"] in listed
    oras("attach", f"{host}/docs:ours", "--artifact-type", "application/x.z", "data")
    assert "application/x.z" in oras("discover", f"{host}/docs:ours", "--format", "json")


def test_blobs_and_manifests(dockhand: CommandLine, clients: Clients, host: str) -> None:
    work = dockhand.folder
    blob = f"{host}/app@{DIGEST}"
    assert dockhand.run_bytes("blob", "put", f"{host}/app", "-", input=DATA).stdout == (
        f"{DIGEST}\n".encode()
    )
    assert dockhand.lines("blob", "head", blob) == [str(len(DATA))]
    assert dockhand.run_bytes("blob", "get", blob).stdout == DATA
    dockhand.out("blob", "get", blob, "--output", "copy")
    assert (work / "copy").read_bytes() == DATA
    clients.run("oras", "blob", "fetch", "--plain-http", blob, "--output", "by-oras")
    assert (work / "by-oras").read_bytes() == DATA

    clients.run("oras", "push", "--plain-http", f"{host}/app:v1", "data")
    raw = dockhand.run_bytes("manifest", "get", f"{host}/app:v1").stdout
    assert raw.decode() == clients.run("crane", "manifest", "--insecure", f"{host}/app:v1")
    registry = f"reg={host},tls=disabled"
    fetched = clients.run(
        "regctl", "--host", registry, "manifest", "get", "--format", "raw-body", f"{host}/app:v1"
    )
    assert raw.decode() == fetched
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    head = dockhand.json("manifest", "head", f"{host}/app:v1")
    assert (head["digest"], head["size"]) == (digest, len(raw))
    put = dockhand.run_bytes("manifest", "put", f"{host}/app:v2", "-", input=raw)
    assert put.stdout.decode().split() == [digest]
    assert clients.run("crane", "digest", "--insecure", f"{host}/app:v2").split() == [digest]

    # zot refuses to delete a blob that a manifest names
    (unused,) = dockhand.run("blob", "put", f"{host}/app", "-", input="unused").stdout.split()
    dockhand.out("blob", "rm", f"{host}/app@{unused}", "--yes")
    dockhand.error("blob", "head", f"{host}/app@{unused}", code=3)
    dockhand.error("manifest", "head", f"{host}/app:none", code=3)


@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_tokens(dockhand: CommandLine, tmp_path: Path, version: str) -> None:
    key = SigningKey.generate()
    (dockhand.folder / "private.pem").write_bytes(key.private_pem())
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(key.self_signed_certificate("my_auth"))
    names = {"realm": "http://localhost/token", "service": "my_registry", "issuer": "my_auth"}
    auth = {"token": {**names, "rootcertbundle": str(bundle)}}
    options = ("--private-key", "private.pem", "--issuer", "my_auth", "--audience", "my_registry")
    with distribution(version, tmp_path / "registry", auth=auth) as url:
        for key_id in ("x5c", "libtrust" if version == "2.8" else "rfc7638"):
            (login,) = dockhand.lines("token", *options, "--key-id", key_id)
            (read,) = dockhand.lines(
                "token", *options, "--key-id", key_id, "--scope", "repository:app:pull"
            )
            missing = f"{url}/v2/app/tags/list"
            assert [_status(f"{url}/v2/", each) for each in (login, read)] == [200, 200]
            assert [_status(missing, each) for each in (login, read)] == [401, 404]
        assert _status(f"{url}/v2/", base64.b64encode(b"none").decode()) == 401


def _status(url: str, token: str) -> int:
    """The status of the registry's reply to a token."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            found: int = reply.status
            return found
    except urllib.error.HTTPError as error:
        with error:
            return error.code
