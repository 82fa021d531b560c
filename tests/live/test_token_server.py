"""Clients that nobody here wrote, against registries whose authority is the token endpoint."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from authority import SERVICE, USERS, registry_auth, token_server, write_authority
from dockhand_auth_jwt import SigningKey
from dockhand_token_server import RefreshTokens, load_settings
from images import push_image
from jwt import get_unverified_header
from registries import DISTRIBUTION, distribution, program, zot

from dockhand_core import connect

pytestmark = pytest.mark.live

BUILT = "`make live` builds it where Go is installed"
REFUSED = ("unauthorized", "denied", "authentication required", "invalid username/password")


class Site:
    """A registry whose authority is the token endpoint, and an image to push."""

    def __init__(self, registry: str, authority: str, folder: Path) -> None:
        # crane takes it to be local, which is why it speaks HTTP there
        self.host = registry.replace("http://127.0.0.1", "localhost")
        self.authority = authority
        self.folder = folder
        self.layout = folder / "layout"
        with connect(str(self.layout), driver="embedded") as images:
            push_image(images, "app", "v1")

    def granted(self) -> str:
        """What the authority said that it granted."""
        return (self.folder / "authority" / "log").read_text()


@pytest.fixture(scope="module", params=DISTRIBUTION)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = write_authority(folder / "authority")
    with (
        token_server(config) as url,
        distribution(
            request.param, folder / "registry", auth=registry_auth(config.parent, url)
        ) as registry,
    ):
        yield Site(registry, url, folder)


class Client:
    """Runs a program as some user, or as nobody, with a home of its own."""

    def __init__(self, path: str, site: Site, user: str = "") -> None:
        self.program, self.site, self.user = path, site, user
        self.home = site.folder / f"{Path(path).name}-{user or 'nobody'}"
        self.home.mkdir()
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "DOCKER_CONFIG": str(self.home / "docker"),
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
        }

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments], env=self.environment, cwd=self.home, input=stdin,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def fine(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{self.user}: {arguments}: {done.stderr}"
        return done.stdout

    def refused(self, *arguments: str, stdin: str = "") -> None:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode, f"{self.user}: {arguments}: {done.stdout}"
        assert any(word in done.stderr.lower() for word in REFUSED), done.stderr


def crane_as(user: str, site: Site) -> Client:
    crane = Client(program("crane", BUILT), site, user)
    if user:
        login = ("auth", "login", site.host, "--username", user, "--password-stdin")
        crane.fine(*login, stdin=USERS[user])
    return crane


def test_crane_through_the_token_server(site: Site) -> None:
    alice, bob, nobody = (crane_as(user, site) for user in ("alice", "bob", ""))
    host, layout = site.host, str(site.layout / "app")
    # crane does not try the password when it logs in, but when it uses it
    bob.fine("auth", "login", host, "--username", "bob", "--password", "wrong")
    bob.refused("push", layout, f"{host}/bob/crane:v1")
    bob.fine("auth", "login", host, "--username", "bob", "--password", USERS["bob"])

    for repository in ("alice/crane", "alice/shared", "public/crane"):
        alice.fine("push", layout, f"{host}/{repository}:v1")
    bob.fine("push", layout, f"{host}/bob/crane:v1")
    alice.refused("push", layout, f"{host}/bob/crane:v2")
    bob.refused("push", layout, f"{host}/alice/crane:v2")
    bob.refused("push", layout, f"{host}/alice/shared:v2")
    nobody.refused("push", layout, f"{host}/public/crane:v2")

    alice.fine("pull", f"{host}/alice/crane:v1", "pulled.tar")
    bob.fine("pull", f"{host}/alice/shared:v1", "pulled.tar")  # as one of a group
    nobody.fine("pull", f"{host}/public/crane:v1", "pulled.tar")
    bob.refused("pull", f"{host}/alice/crane:v1", "refused.tar")
    nobody.refused("pull", f"{host}/alice/crane:v1", "refused.tar")
    assert (nobody.home / "pulled.tar").stat().st_size > 0

    alice.fine("copy", f"{host}/alice/crane:v1", f"{host}/alice/mounted:v1")
    assert "repository:alice/mounted:pull,push repository:alice/crane:pull" in site.granted()
    bob.fine("copy", f"{host}/alice/shared:v1", f"{host}/bob/mounted:v1")
    bob.refused("copy", f"{host}/alice/crane:v1", f"{host}/bob/stolen:v1")

    digest = alice.fine("digest", f"{host}/alice/mounted:v1").strip()
    bob.refused("delete", f"{host}/bob/crane@{digest}")
    nobody.refused("delete", f"{host}/public/crane@{digest}")
    alice.fine("delete", f"{host}/alice/mounted@{digest}")
    assert "MANIFEST_UNKNOWN" in alice.run("manifest", f"{host}/alice/mounted:v1").stderr

    assert "alice/crane" in alice.fine("catalog", host).split()
    bob.refused("catalog", host)
    nobody.refused("catalog", host)


def skopeo_as(user: str, site: Site) -> Client:
    skopeo = Client(program("skopeo", "Debian's package skopeo has it"), site, user)
    if user:
        login = ("login", "--tls-verify=false", "--username", user)
        skopeo.refused(*login, "--password", "wrong", site.host)
        skopeo.fine(*login, "--password-stdin", site.host, stdin=USERS[user])
    return skopeo


def test_skopeo_through_the_token_server(site: Site) -> None:
    alice, bob, nobody = (skopeo_as(user, site) for user in ("alice", "bob", ""))
    registry, layout = f"docker://{site.host}", f"oci:{site.layout / 'app'}:v1"
    push = ("copy", "--dest-tls-verify=false", layout)
    pull = ("copy", "--src-tls-verify=false")
    copy = (*pull, "--dest-tls-verify=false")
    delete = ("delete", "--tls-verify=false")

    for repository in ("alice/skopeo", "alice/shared", "public/skopeo"):
        alice.fine(*push, f"{registry}/{repository}:v1")
    bob.fine(*push, f"{registry}/bob/skopeo:v1")
    alice.refused(*push, f"{registry}/bob/skopeo:v2")
    bob.refused(*push, f"{registry}/alice/skopeo:v2")
    bob.refused(*push, f"{registry}/alice/shared:v2")
    nobody.refused(*push, f"{registry}/public/skopeo:v2")

    alice.fine(*pull, f"{registry}/alice/skopeo:v1", "oci:pulled:v1")
    bob.fine(*pull, f"{registry}/alice/shared:v1", "oci:pulled:v1")
    nobody.fine(*pull, f"{registry}/public/skopeo:v1", "oci:pulled:v1")
    bob.refused(*pull, f"{registry}/alice/skopeo:v1", "oci:refused:v1")
    nobody.refused(*pull, f"{registry}/alice/skopeo:v1", "oci:refused:v1")
    assert (nobody.home / "pulled" / "index.json").exists()

    alice.fine(*copy, f"{registry}/alice/skopeo:v1", f"{registry}/alice/mounted:v1")
    assert re.search(
        "repository:alice/mounted:pull,push repository:alice/(skopeo|shared):pull", site.granted()
    )
    bob.fine(*copy, f"{registry}/alice/shared:v1", f"{registry}/bob/mounted:v1")
    bob.refused(*copy, f"{registry}/alice/skopeo:v1", f"{registry}/bob/stolen:v1")

    bob.refused(*delete, f"{registry}/bob/skopeo:v1")
    nobody.refused(*delete, f"{registry}/public/skopeo:v1")
    alice.fine(*delete, f"{registry}/alice/mounted:v1")
    listed = alice.fine("list-tags", "--tls-verify=false", f"{registry}/alice/skopeo")
    assert json.loads(listed)["Tags"] == ["v1"]
    bob.refused("list-tags", "--tls-verify=false", f"{registry}/alice/skopeo")


def command(name: str, site: Site, what: str, where: str) -> tuple[str, ...]:
    """What crane or skopeo is told, to push an image, to pull it or to delete it."""
    image = f"{site.host}/{where}"
    commands: dict[tuple[str, str], tuple[str, ...]] = {
        ("crane", "push"): ("push", str(site.layout / "app"), image),
        ("crane", "pull"): ("pull", image, "pulled.tar"),
        ("crane", "delete"): ("delete", image),
        ("skopeo", "push"): (
            "copy", "--dest-tls-verify=false", f"oci:{site.layout / 'app'}:v1", f"docker://{image}",
        ),
        ("skopeo", "pull"): ("copy", "--src-tls-verify=false", f"docker://{image}", "oci:got:v1"),
        ("skopeo", "delete"): ("delete", "--tls-verify=false", f"docker://{image}"),
    }  # fmt: skip
    return commands[name, what]


def identity_token(site: Site, user: str) -> str:
    """What docker gets when it logs in, and keeps instead of the password."""
    reply = httpx.get(
        f"{site.authority}/token",
        params={"service": SERVICE, "offline_token": "true", "client_id": "docker"},
        auth=httpx.BasicAuth(user, USERS[user]),
    )
    return str(reply.json()["refresh_token"])


@pytest.mark.parametrize("name", ["crane", "skopeo"])
def test_identity_tokens(site: Site, name: str) -> None:
    """The client posts it, in chunks where it is skopeo; once revoked it is refused."""
    client = Client(program(name, BUILT), site, f"{name}-keeps-a-token")
    # as docker writes it: no password, and a name that says so
    entry = {
        "auth": b64encode(b"<token>:").decode(),
        "identitytoken": identity_token(site, "alice"),
    }
    text = json.dumps({"auths": {site.host: entry}})
    (client.home / "auth.json").write_text(text)
    (client.home / "docker").mkdir()
    (client.home / "docker" / "config.json").write_text(text)
    push = command(name, site, "push", f"alice/kept-{name}:v1")
    client.fine(*push)
    assert f"repository:alice/kept-{name}:pull,push" in site.granted()
    settings = load_settings(site.folder / "authority" / "authority.toml")
    assert settings.refresh_tokens
    tokens = RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)
    assert tokens.revoke(user="alice") == 1
    client.refused(*push)


@pytest.mark.parametrize("version", DISTRIBUTION)
def test_a_new_key_without_a_pause(version: str, tmp_path: Path) -> None:
    """The registry knows both certificates; the endpoint goes over to the new key while it runs."""
    old, new = SigningKey.generate(), SigningKey.generate()
    config = write_authority(tmp_path / "authority", key=old)
    with (config.parent / "bundle.pem").open("ab") as bundle:
        bundle.write(new.self_signed_certificate("new"))
    with (
        token_server(config) as url,
        distribution(version, tmp_path / "r", auth=registry_auth(config.parent, url)) as registry,
    ):

        def token() -> str:
            reply = httpx.get(f"{url}/token", auth=httpx.BasicAuth("alice", USERS["alice"]))
            return str(reply.json()["token"])

        def status(bearer: str) -> int:
            headers = {"Authorization": f"Bearer {bearer}"}
            return httpx.get(f"{registry}/v2/", headers=headers).status_code

        before = token()
        (config.parent / "private.pem").write_bytes(new.private_pem())
        deadline = time.monotonic() + 20
        while (after := token()) and get_unverified_header(after)["kid"] != new.thumbprint:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert get_unverified_header(before)["kid"] == old.thumbprint
        assert (status(before), status(after), status("nonsense")) == (200, 200, 401)


@pytest.fixture(scope="module")
def zot_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("zot")
    config = write_authority(folder / "authority")
    with token_server(config) as url:
        token = registry_auth(config.parent, url)["token"]
        bearer = {"realm": token["realm"], "service": token["service"]}
        auth = {"bearer": {**bearer, "cert": token["rootcertbundle"]}}
        with zot(folder / "registry", auth=auth) as registry:
            yield Site(registry, url, folder)


@pytest.mark.parametrize("name", ["crane", "skopeo"])
def test_zot_through_the_token_server(zot_site: Site, name: str) -> None:
    """All but listing repositories: these clients ask for another scope than zot wants."""
    client = crane_as if name == "crane" else skopeo_as
    alice, bob, nobody = (client(user, zot_site) for user in ("alice", "bob", ""))
    to = functools.partial(command, name, zot_site)
    private, public = f"alice/{name}:v1", f"public/{name}:v1"
    for image in (private, public, f"alice/mounted-{name}:v1", "alice/shared:v1"):
        alice.fine(*to("push", image))
    bob.fine(*to("push", f"bob/{name}:v1"))
    bob.refused(*to("push", f"alice/{name}:v2"))
    nobody.refused(*to("push", f"public/{name}:v2"))
    alice.fine(*to("pull", private))
    bob.fine(*to("pull", "alice/shared:v1"))
    bob.refused(*to("pull", private))
    nobody.fine(*to("pull", public))
    nobody.refused(*to("pull", private))
    bob.refused(*to("delete", private))
    alice.fine(*to("delete", private))
    assert alice.run(*to("pull", private)).returncode
