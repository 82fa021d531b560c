"""Logins of `dockhand login` in skopeo, crane, oras and regctl, and their logins in Dockhand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from authority import registry_auth, token_server, write_authority
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image
from registries import DISTRIBUTION, HTPASSWD, PASSWORD, Clients, distribution, zot

from dockhand_core import connect

pytestmark = pytest.mark.live

STDIN = ("--username", "alice", "--password-stdin")


class Site(NamedTuple):
    """A registry that asks for credentials, with the image `alice/app:v1`.

    Attributes:
        host: the registry's host and port.
        clients: other clients, with the same `config.json` as Dockhand.
        dockhand: the command `dockhand`.
        config: the path of `config.json`.
    """

    host: str
    clients: Clients
    dockhand: CommandLine
    config: Path

    def image(self) -> str:
        return f"{self.host}/alice/app:v1"

    def pull(self, client: str, *, succeeds: bool = True) -> str:
        """Get the manifest with another client."""
        arguments = {
            "skopeo": ["inspect", "--tls-verify=false", "--raw", f"docker://{self.image()}"],
            "crane": ["manifest", "--insecure", self.image()],
            "oras": ["manifest", "fetch", "--plain-http", self.image()],
        }
        return self.clients.run(client, *arguments[client], succeeds=succeeds)


@pytest.fixture(params=[(v, way) for v in DISTRIBUTION for way in ("htpasswd", "token")], ids=str)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    version, way = request.param
    folder = tmp_path / "authority"
    with token_server(write_authority(folder)) as endpoint:
        auth = registry_auth(folder, endpoint)
        if way == "htpasswd":
            (tmp_path / "htpasswd").write_text(HTPASSWD)
            auth = {"htpasswd": {"realm": "any", "path": str(tmp_path / "htpasswd")}}
        with distribution(version, tmp_path / "registry", auth=auth) as url:
            settings = {"driver": "token", "username": "alice", "password": PASSWORD}
            with connect(url, auth=settings, logging={"driver": "null"}) as client:
                push_image(client, "alice/app", "v1")
            home = tmp_path / "home"
            # without a value, skopeo reads podman's file, and then docker's
            clients = Clients(home, REGISTRY_AUTH_FILE="")
            dockhand = CommandLine(home, DOCKER_CONFIG=str(home / "docker"))
            host = url.removeprefix("http://").replace("127.0.0.1", "localhost")
            yield Site(host, clients, dockhand, home / "docker/config.json")


def test_other_clients_use_a_login(site: Site) -> None:
    for client in ("skopeo", "crane", "oras"):
        site.pull(client, succeeds=False)
    error = site.dockhand.error("login", site.host, *STDIN, input="wrong", code=4)
    assert error.startswith(f"{site.host} does not accept this user name and password")
    assert not site.config.exists()

    site.dockhand.run("login", site.host, *STDIN, input=PASSWORD)
    assert site.dockhand.lines("tags", f"{site.host}/alice/app") == ["v1"]
    manifests = {json.loads(site.pull(each))["config"]["digest"] for each in ("skopeo", "crane")}
    assert manifests == {json.loads(site.pull("oras"))["config"]["digest"]}

    assert site.dockhand.out("logout", site.host) == f"Logged out from {site.host}\n"
    for client in ("skopeo", "crane", "oras"):
        site.pull(client, succeeds=False)


@pytest.mark.parametrize("site", [("3.1", "token")], indirect=True, ids=str)
def test_a_login_keeps_to_the_token_endpoints_of_the_connection(site: Site) -> None:
    (site.dockhand.folder / "dockhand.toml").write_text(
        f'[connections.main]\nbase_uri = "http://{site.host}"\n'
        'auth = { driver = "token", realms = ["https://auth.example.com"] }\n'
    )
    error = site.dockhand.error("login", site.host, *STDIN, input=PASSWORD, code=1)
    assert "realms" in error
    assert not site.config.exists()


@pytest.mark.parametrize("client", ["skopeo", "crane", "oras"])
def test_logins_of_other_clients(site: Site, client: str) -> None:
    arguments = {
        "skopeo": ["login", "--tls-verify=false", "--authfile", str(site.config)],
        "crane": ["auth", "login", "--insecure"],
        "oras": ["login", "--plain-http"],
    }[client]
    site.config.parent.mkdir(parents=True, exist_ok=True)
    other = {"auths": {"other.example.com": {"auth": "YTpi"}}}
    site.config.write_text(json.dumps(other))
    site.clients.run(client, *arguments, "-u", "alice", "-p", PASSWORD, site.host)
    assert site.dockhand.lines("tags", f"{site.host}/alice/app") == ["v1"]
    assert site.dockhand.out("logout", site.host) == f"Logged out from {site.host}\n"
    assert "401" in site.dockhand.error("tags", f"{site.host}/alice/app", code=4)
    assert json.loads(site.config.read_text()) == other


def test_zot_that_lets_anonymous_clients_in(tmp_path: Path) -> None:
    """It asks nobody for credentials, but refuses wrong ones."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    dockhand = CommandLine(tmp_path)
    auth = {"htpasswd": {"path": str(tmp_path / "htpasswd")}, "failDelay": 1}
    access = {"repositories": {"**": {"anonymousPolicy": ["read"]}}}
    with zot(tmp_path / "zot", auth=auth, access=access) as url:
        host = url.removeprefix("http://")
        error = dockhand.error("login", host, *STDIN, input="wrong", code=4)
        assert error.startswith(f"{host} does not accept this user name and password")
        assert not (tmp_path / ".docker").exists()
        done = dockhand.run("login", host, *STDIN, input=PASSWORD)
        assert f"warning: {host} asked for no credentials" in done.stderr
        assert dockhand.lines("ls", host) == []
