"""The command `dockhand zot`, in a real process, with recorded replies of zot."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cassette_server import cassette_server
from command_line import CommandLine
from dockhand_testing.http_server import ScriptedServer
from json_forms import check
from registries import HTPASSWD, PASSWORD, zot

from dockhand_core import connect


@pytest.fixture
def dockhand(tmp_path: Path) -> CommandLine:
    """Provide the command `dockhand`, in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def replay() -> Iterator[Callable[[str], str]]:
    """Provide a function that replays a cassette of zot's extensions, and returns its host."""
    with ExitStack() as stack:

        def start(name: str) -> str:
            server: ScriptedServer = stack.enter_context(cassette_server("zot-extensions", name))
            return server.url.removeprefix("http://")

        yield start


def document(dockhand: CommandLine, command: str, *arguments: str) -> Any:
    """Run a command with `--json`, and check the form of its document."""
    found = dockhand.json("zot", *command.split(), *arguments)
    check(found, f"zot {command}", "dockhand_zot.commands")
    return found


def test_search(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("global_search")
    found = document(dockhand, "search", "team", host)
    names = [each["repository"] for each in found["repositories"]]
    assert len(names) == 2
    assert all("team" in name for name in names)
    assert found["images"] == []
    lines = dockhand.lines("zot", "search", "team/app:2", host)
    assert [line.split("\t")[0] for line in lines] == ["team/app:2.0", "team/app:2.1"]
    assert document(dockhand, "search", "no-such-thing", host) == {
        "repositories": [],
        "images": [],
    }


def test_images(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("images")
    images = document(dockhand, "images", f"{host}/team/app")["images"]
    assert [each["repository"] for each in images] == ["team/app", "team/app"]
    assert all(each["size"] > 0 and each["platforms"] == ["linux/amd64"] for each in images)
    assert images[0]["last_pulled_at"] is None  # zot sends the year 1970
    first, _ = dockhand.lines("zot", "images", f"{host}/team/app")
    assert first.split("\t")[:3] == [
        f"team/app:{images[0]['tag']}",
        images[0]["digest"],
        str(images[0]["size"]),
    ]
    assert "metadata not found" in dockhand.error("zot", "images", f"{host}/no/such", code=3)


def test_bases_and_derived_images(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("bases_and_derived")
    bases = document(dockhand, "base-images", f"{host}/team/app:2.1")["images"]
    derived = document(dockhand, "derived-images", f"{host}/team/base:1.0")["images"]
    assert [len(bases), len(derived)] == [2, 2]
    assert "team/base" in {each["repository"] for each in bases}


def test_vulnerabilities(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("cves")
    image = f"{host}/vuln/app:1.0"
    cves = document(dockhand, "cve", image)["cves"]
    assert [each["severity"] for each in cves] == ["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"]
    assert cves[0]["packages"] == [
        {
            "name": "busybox",
            "path": None,
            "installed_version": "1.37.0-r0",
            "fixed_version": "1.37.0-r9",
        }
    ]
    (line,) = dockhand.lines("zot", "cve", image, "--severity", "high")
    assert line.split("\t")[:2] == ["CVE-2099-0001", "HIGH"]
    assert dockhand.lines("zot", "cve", f"{host}/vuln/app:3.0") == []
    assert "metadata not found" in dockhand.error("zot", "cve", f"{host}/vuln/app:9.9", code=3)
    error = dockhand.error("zot", "cve", image, "--severity", "terrible", code=2)
    assert "UNKNOWN, LOW, MEDIUM, HIGH, CRITICAL" in error


def test_differences_of_vulnerabilities(
    dockhand: CommandLine, replay: Callable[[str], str]
) -> None:
    host = replay("cve_diff")
    one, two = f"{host}/vuln/app:1.0", f"{host}/vuln/app:2.0"
    found = document(dockhand, "cve-diff", one, two)["cves"]
    assert len(found) == 2
    digest = f"{host}/vuln/app@sha256:{'0' * 64}"
    assert "by their tags" in dockhand.error("zot", "cve-diff", one, digest, code=2)
    error = dockhand.error("zot", "cve-diff", one, "localhost:1/vuln/app:1.0", code=2)
    assert "are in different registries" in error


def test_images_with_a_vulnerability(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("images_with_a_cve")
    affected = document(dockhand, "images-with", "CVE-2099-0002", host)["images"]
    fixed = document(dockhand, "fixed", "CVE-2099-0002", f"{host}/vuln/app")["images"]
    assert [each["tag"] for each in affected] == ["1.0", "2.0"]
    assert [each["tag"] for each in fixed] == ["3.0"]


def test_the_server(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    (found,) = document(dockhand, "extensions", replay("extensions"))["extensions"]
    assert found["name"] == "_zot"
    assert any(endpoint.endswith("/ext/search") for endpoint in found["endpoints"])
    host = replay("mgmt")
    assert document(dockhand, "server", host)["auth"] == ["apikey", "htpasswd"]
    assert "specification\t1.1.1" in dockhand.lines("zot", "server", host)


def test_stars_and_bookmarks(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("stars_and_bookmarks")
    tool, other = f"{host}/public/tool", f"{host}/public/other"
    assert document(dockhand, "star", tool) == {"repository": "public/tool", "changed": True}
    assert dockhand.lines("zot", "star", tool) == ["public/tool: starred already"]
    assert dockhand.lines("zot", "bookmark", tool) == ["public/tool: bookmarked now"]
    assert document(dockhand, "bookmark", tool)["changed"] is False
    assert document(dockhand, "bookmark", other)["changed"] is True
    (starred,) = document(dockhand, "starred", host)["repositories"]
    assert (starred["repository"], starred["starred"]) == ("public/tool", True)
    assert len(document(dockhand, "bookmarked", host)["repositories"]) == 2


def test_api_keys(dockhand: CommandLine, replay: Callable[[str], str]) -> None:
    host = replay("api_keys")
    assert document(dockhand, "api-keys list", host) == {"api_keys": []}
    made = document(dockhand, "api-keys create", "ci", host, "--expires-at", "2030-01-31")
    assert made["api_key"].startswith("zak_")
    (listed,) = document(dockhand, "api-keys list", host)["api_keys"]
    assert listed == {key: value for key, value in made.items() if key != "api_key"}
    assert document(dockhand, "api-keys revoke", made["id"], host) == {"revoked": made["id"]}
    error = dockhand.error("zot", "api-keys", "create", "x", host, "--expires-at", "soon", code=2)
    assert error.startswith("--expires-at: 'soon' is not a time")


def test_a_connection_needs_the_driver_zot(dockhand: CommandLine) -> None:
    (dockhand.folder / "dockhand.toml").write_text(
        '[connections.main]\ndriver = "distribution"\nbase_uri = "http://localhost:1"\n'
    )
    for place in ("@main/team/app", "localhost:1/team/app"):
        error = dockhand.error("zot", "images", place, code=2)
        assert error == (
            "connection 'main' has another driver than zot; set driver = \"zot\" in its settings"
        )


@pytest.mark.live
def test_a_real_zot_with_docker_s_login(dockhand: CommandLine) -> None:
    """zot lets anonymous clients read here, so it never asks for the password of a star."""
    folder = dockhand.folder / "zot"
    folder.mkdir()
    (folder / "htpasswd").write_text(HTPASSWD)
    access = {
        "repositories": {"**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"]}},
        "adminPolicy": {"users": ["alice"], "actions": ["read", "create", "update", "delete"]},
    }
    auth = {"htpasswd": {"path": str(folder / "htpasswd")}, "apikey": True}
    on = {"enable": True}
    with zot(folder, auth=auth, access=access, search=on, ui=on) as url:
        host = url.removeprefix("http://")
        basic = {"driver": "basic", "username": "alice", "password": PASSWORD}
        with connect(url, driver="zot", auth=basic) as registry:
            digest = registry.upload_blob("team/app", b"{}").digest
            config = {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": str(digest),
                "size": 2,
            }
            image = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config,
                "layers": [config],
            }
            registry.put_manifest("team/app", "v1", image)
        dockhand.error("zot", "star", f"{host}/team/app", code=4)
        login = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
        settings = dockhand.folder / ".docker"
        settings.mkdir()
        (settings / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
        assert document(dockhand, "star", f"{host}/team/app")["changed"] is True
        assert dockhand.lines("zot", "starred", host)[0].startswith("team/app\t")
        (key,) = dockhand.lines("zot", "api-keys", "create", "ci", host)
        apikey = {"driver": "apikey", "username": "alice", "api_key": key}
        with connect(url, driver="zot", auth=apikey) as registry:
            assert list(registry.tags("team/app")) == ["v1"]
        (listed,) = document(dockhand, "api-keys list", host)["api_keys"]
        dockhand.out("zot", "api-keys", "revoke", listed["id"], host)
        assert dockhand.lines("zot", "api-keys", "list", host) == []
