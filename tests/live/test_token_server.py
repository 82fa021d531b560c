"""crane and skopeo, used with real registries that trust the tokens of the token server.

These programs choose freely which repository they mount a blob from, how often they request a
token, and when they check a password. The tests assert only on results that do not depend on that:
the command succeeds or is refused, and no token grants more than the rules allow.
"""

from __future__ import annotations

import functools
import json
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
from dockhand_testing.contracts.samples import push_image
from dockhand_token_server import RefreshTokens, load_settings
from jwt import get_unverified_header
from registries import DISTRIBUTION, distribution, program, zot

from dockhand_core import Scope, connect

pytestmark = pytest.mark.live

CRANE = "`make live` builds it where Go is installed"
SKOPEO = "Debian's package skopeo has it"
TIMEOUT = 60  # seconds; the machine may be busy
REFUSALS = ("unauthorized", "denied", "authentication required", "invalid username/password")
# A high limit, since all clients have one address and programs may repeat a wrong password.
LIMIT = "login_limit = { failures = 10_000 }"
ISSUED = re.compile(r"token for '(.*)' from \S+: \S+: (.*)$", re.MULTILINE)


class Site:
    """A registry, the token server whose tokens it trusts, and an image to push."""

    def __init__(self, registry: str, authority: str, folder: Path) -> None:
        # crane uses HTTP only for local host names such as this one
        self.host = registry.replace("http://127.0.0.1", "localhost")
        self.authority = authority
        self.folder = folder
        self.layout = folder / "layout"
        with connect(str(self.layout), driver="embedded") as images:
            push_image(images, "app", "v1")

    def issued(self) -> list[tuple[str, Scope]]:
        """Return each scope that a token has granted so far, with the user's name."""
        log = (self.folder / "authority" / "log").read_text()
        return [
            (user, scope)
            for user, scopes in ISSUED.findall(log)
            if scopes != "nothing"
            for scope in Scope.parse_many(scopes)
        ]

    def assert_issued(self, user: str, scope: str) -> None:
        """Assert that a token granted `scope` to `user`, and that no token exceeded the rules."""
        issued = self.issued()
        wanted = Scope.parse(scope)
        assert any(name == user and found.covers(wanted) for name, found in issued), issued
        for name, found in issued:
            assert allowed(name, found).covers(found), f"{name!r} got {found}"


def allowed(user: str, scope: Scope) -> Scope:
    """Return all that `authority.RULES` allow a user for the resource of `scope`."""
    if scope.type == "registry":
        return Scope.catalog() if user == "alice" else Scope("registry", scope.name)
    namespace = scope.name.partition("/")[0]
    actions = {
        ("alice", "alice"): {"pull", "push", "delete"},
        ("alice", "public"): {"*"},
        ("bob", "bob"): {"pull", "push"},
        ("", "public"): {"pull"},
    }.get((user, namespace), set())
    if (user, scope.name) == ("bob", "alice/shared"):
        actions = {"pull"}
    return Scope("repository", scope.name, frozenset(actions))


@pytest.fixture(scope="module", params=DISTRIBUTION)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = write_authority(folder / "authority", LIMIT)
    with (
        token_server(config) as url,
        distribution(
            request.param, folder / "registry", auth=registry_auth(config.parent, url)
        ) as registry,
    ):
        yield Site(registry, url, folder)


class Client:
    """A program such as crane or skopeo, with a home folder of its own.

    The program finds no configuration, credentials or cache of the machine, and no credential
    helper on its PATH. As root, skopeo 1.9 uses the blob info cache in `/var/lib/containers/cache`
    nevertheless, so skopeo may mount a blob from any repository that an earlier command has seen.

    Args:
        path: the path of the program.
        site: the registry that the program is used with.
        name: the user's name or another name, for messages and the home folder.
    """

    def __init__(self, path: str, site: Site, name: str) -> None:
        self.program, self.site, self.name = path, site, name
        self.home = site.folder / f"{Path(path).name}-{name}"
        self.docker = self.home / "docker"
        containers = self.home / ".config" / "containers"
        (containers / "registries.d").mkdir(parents=True)
        (containers / "registries.conf").write_text("")
        (containers / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        for folder in ("bin", "data", "run"):
            (self.home / folder).mkdir()
        self.docker.mkdir()
        (self.docker / "config.json").write_text("{}")
        self.environment = {
            "PATH": str(self.home / "bin"),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CACHE_HOME": str(self.home / "data"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "CONTAINERS_REGISTRIES_CONF": str(containers / "registries.conf"),
            "DOCKER_CONFIG": str(self.docker),
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
        }

    def store_credentials(self, **entry: str) -> None:
        """Write the registry's entry to docker's `config.json` and to skopeo's `auth.json`."""
        text = json.dumps({"auths": {self.site.host: entry}})
        (self.docker / "config.json").write_text(text)
        (self.home / "auth.json").write_text(text)

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments], env=self.environment, cwd=self.home, input=stdin,
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip

    def assert_success(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{self.name}: {arguments}: {done.stderr}"
        return done.stdout

    def assert_refused(self, *arguments: str, stdin: str = "") -> None:
        done = self.run(*arguments, stdin=stdin)
        if "with Body length 0" in done.stderr:
            # Seen once: crane repeats a refused PUT, whose body it has already sent.
            done = self.run(*arguments, stdin=stdin)
        assert done.returncode, f"{self.name}: {arguments}: {done.stdout}"
        assert any(text in done.stderr.lower() for text in REFUSALS), done.stderr


def basic(user: str, password: str) -> str:
    """Encode a login as docker's `config.json` stores it under `auth`."""
    return b64encode(f"{user}:{password}".encode()).decode()


def crane_as(user: str, site: Site) -> Client:
    """Make a crane client that is logged in as `user`, or anonymous if `user` is empty."""
    crane = Client(program("crane", CRANE), site, user or "anonymous")
    if user:
        login = ("auth", "login", site.host, "--username", user, "--password-stdin")
        crane.assert_success(*login, stdin=USERS[user])
    return crane


def test_crane_through_the_token_server(site: Site) -> None:
    alice, bob, anonymous = (crane_as(user, site) for user in ("alice", "bob", ""))
    host, layout = site.host, str(site.layout / "app")
    wrong = Client(program("crane", CRANE), site, "bob-with-a-wrong-password")
    wrong.store_credentials(auth=basic("bob", "wrong"))
    wrong.assert_refused("push", layout, f"{host}/bob/crane:v1")

    for repository in ("alice/crane", "alice/shared", "public/crane"):
        alice.assert_success("push", layout, f"{host}/{repository}:v1")
    bob.assert_success("push", layout, f"{host}/bob/crane:v1")
    alice.assert_refused("push", layout, f"{host}/bob/crane:v2")
    bob.assert_refused("push", layout, f"{host}/alice/crane:v2")
    bob.assert_refused("push", layout, f"{host}/alice/shared:v2")
    anonymous.assert_refused("push", layout, f"{host}/public/crane:v2")

    alice.assert_success("pull", f"{host}/alice/crane:v1", "pulled.tar")
    bob.assert_success("pull", f"{host}/alice/shared:v1", "pulled.tar")  # as a reader
    anonymous.assert_success("pull", f"{host}/public/crane:v1", "pulled.tar")
    bob.assert_refused("pull", f"{host}/alice/crane:v1", "refused.tar")
    anonymous.assert_refused("pull", f"{host}/alice/crane:v1", "refused.tar")
    assert (anonymous.home / "pulled.tar").stat().st_size > 0

    alice.assert_success("copy", f"{host}/alice/crane:v1", f"{host}/alice/copied-crane:v1")
    site.assert_issued("alice", "repository:alice/copied-crane:pull,push")
    bob.assert_success("copy", f"{host}/alice/shared:v1", f"{host}/bob/copied-crane:v1")
    site.assert_issued("bob", "repository:bob/copied-crane:pull,push")
    bob.assert_refused("copy", f"{host}/alice/crane:v1", f"{host}/bob/stolen:v1")

    digest = alice.assert_success("digest", f"{host}/alice/copied-crane:v1").strip()
    bob.assert_refused("delete", f"{host}/bob/crane@{digest}")
    anonymous.assert_refused("delete", f"{host}/public/crane@{digest}")
    alice.assert_success("delete", f"{host}/alice/copied-crane@{digest}")
    deleted = alice.run("manifest", f"{host}/alice/copied-crane:v1")
    assert deleted.returncode
    assert "MANIFEST_UNKNOWN" in deleted.stderr

    assert "alice/crane" in alice.assert_success("catalog", host).split()
    bob.assert_refused("catalog", host)
    anonymous.assert_refused("catalog", host)
    site.assert_issued("alice", "registry:catalog:*")


def skopeo_as(user: str, site: Site) -> Client:
    """Make a skopeo client that is logged in as `user`, or anonymous if `user` is empty."""
    skopeo = Client(program("skopeo", SKOPEO), site, user or "anonymous")
    if user:
        login = ("login", "--tls-verify=false", "--username", user)
        skopeo.assert_refused(*login, "--password", "wrong", site.host)
        skopeo.assert_success(*login, "--password-stdin", site.host, stdin=USERS[user])
    return skopeo


def test_skopeo_through_the_token_server(site: Site) -> None:
    alice, bob, anonymous = (skopeo_as(user, site) for user in ("alice", "bob", ""))
    registry, layout = f"docker://{site.host}", f"oci:{site.layout / 'app'}:v1"
    push = ("copy", "--dest-tls-verify=false", layout)
    pull = ("copy", "--src-tls-verify=false")
    copy = (*pull, "--dest-tls-verify=false")
    delete = ("delete", "--tls-verify=false")

    for repository in ("alice/skopeo", "alice/shared", "public/skopeo"):
        alice.assert_success(*push, f"{registry}/{repository}:v1")
    bob.assert_success(*push, f"{registry}/bob/skopeo:v1")
    alice.assert_refused(*push, f"{registry}/bob/skopeo:v2")
    bob.assert_refused(*push, f"{registry}/alice/skopeo:v2")
    bob.assert_refused(*push, f"{registry}/alice/shared:v2")
    anonymous.assert_refused(*push, f"{registry}/public/skopeo:v2")

    alice.assert_success(*pull, f"{registry}/alice/skopeo:v1", "oci:pulled:v1")
    bob.assert_success(*pull, f"{registry}/alice/shared:v1", "oci:pulled:v1")
    anonymous.assert_success(*pull, f"{registry}/public/skopeo:v1", "oci:pulled:v1")
    bob.assert_refused(*pull, f"{registry}/alice/skopeo:v1", "oci:refused:v1")
    anonymous.assert_refused(*pull, f"{registry}/alice/skopeo:v1", "oci:refused:v1")
    assert (anonymous.home / "pulled" / "index.json").exists()

    alice.assert_success(*copy, f"{registry}/alice/skopeo:v1", f"{registry}/alice/copied-skopeo:v1")
    site.assert_issued("alice", "repository:alice/copied-skopeo:pull,push")
    bob.assert_success(*copy, f"{registry}/alice/shared:v1", f"{registry}/bob/copied-skopeo:v1")
    site.assert_issued("bob", "repository:bob/copied-skopeo:pull,push")
    bob.assert_refused(*copy, f"{registry}/alice/skopeo:v1", f"{registry}/bob/stolen:v1")

    bob.assert_refused(*delete, f"{registry}/bob/skopeo:v1")
    anonymous.assert_refused(*delete, f"{registry}/public/skopeo:v1")
    alice.assert_success(*delete, f"{registry}/alice/copied-skopeo:v1")
    listed = alice.assert_success("list-tags", "--tls-verify=false", f"{registry}/alice/skopeo")
    assert json.loads(listed)["Tags"] == ["v1"]
    bob.assert_refused("list-tags", "--tls-verify=false", f"{registry}/alice/skopeo")
    site.assert_issued("alice", "repository:alice/copied-skopeo:delete")


def command(name: str, site: Site, action: str, image: str) -> tuple[str, ...]:
    """Return the arguments with which crane or skopeo pushes, pulls or deletes an image."""
    image = f"{site.host}/{image}"
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
    return commands[name, action]


def identity_token(site: Site, user: str) -> str:
    """Request a refresh token, which docker stores at login instead of the password."""
    reply = httpx.get(
        f"{site.authority}/token",
        params={"service": SERVICE, "offline_token": "true", "client_id": "docker"},
        auth=httpx.BasicAuth(user, USERS[user]),
        timeout=TIMEOUT,
    )
    return str(reply.json()["refresh_token"])


@pytest.mark.parametrize("name", ["crane", "skopeo"])
def test_identity_tokens(site: Site, name: str) -> None:
    """crane and skopeo post the refresh token in a form; after it is revoked, it is refused.

    skopeo sends the form in chunks.
    """
    client = Client(program(name, CRANE if name == "crane" else SKOPEO), site, "identity-token")
    token = identity_token(site, "alice")
    # docker writes a placeholder for the user name, and an empty password
    client.store_credentials(auth=basic("<token>", ""), identitytoken=token)
    push = command(name, site, "push", f"alice/by-token-{name}:v1")
    client.assert_success(*push)
    site.assert_issued("alice", f"repository:alice/by-token-{name}:pull,push")
    settings = load_settings(site.folder / "authority" / "authority.toml")
    assert settings.refresh_tokens
    tokens = RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)
    # Each process begins with the refresh token of the login, so that token must stay valid.
    client.assert_success(*command(name, site, "pull", f"alice/by-token-{name}:v1"))
    client.assert_success(*push)
    record = tokens.find(token, SERVICE)
    assert record is not None
    assert (record.generation, record.spent_at) == (0, None)
    assert record.identity.name == "alice"
    assert tokens.revoke(id=record.id) == 1
    client.assert_refused(*push)


@pytest.mark.parametrize("version", DISTRIBUTION)
def test_a_new_key_without_a_pause(version: str, tmp_path: Path) -> None:
    """The registry trusts the certificates of both keys while the token server changes its key."""
    old, new = SigningKey.generate(), SigningKey.generate()
    config = write_authority(tmp_path / "authority", key=old)
    with (config.parent / "bundle.pem").open("ab") as bundle:
        bundle.write(new.self_signed_certificate("new"))
    with (
        token_server(config) as url,
        distribution(version, tmp_path / "r", auth=registry_auth(config.parent, url)) as registry,
    ):

        def token() -> str:
            auth = httpx.BasicAuth("alice", USERS["alice"])
            reply = httpx.get(f"{url}/token", auth=auth, timeout=TIMEOUT)
            return str(reply.json()["token"])

        def status(bearer: str) -> int:
            headers = {"Authorization": f"Bearer {bearer}"}
            return httpx.get(f"{registry}/v2/", headers=headers, timeout=TIMEOUT).status_code

        before = token()
        (config.parent / "private.pem").write_bytes(new.private_pem())
        deadline = time.monotonic() + 60
        while (after := token()) and get_unverified_header(after)["kid"] != new.thumbprint:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert get_unverified_header(before)["kid"] == old.thumbprint
        assert (status(before), status(after), status("nonsense")) == (200, 200, 401)


@pytest.fixture(scope="module")
def zot_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("zot")
    config = write_authority(folder / "authority", LIMIT)
    with token_server(config) as url:
        token = registry_auth(config.parent, url)["token"]
        bearer = {"realm": token["realm"], "service": token["service"]}
        auth = {"bearer": {**bearer, "cert": token["rootcertbundle"]}}
        with zot(folder / "registry", auth=auth) as registry:
            yield Site(registry, url, folder)


@pytest.mark.parametrize("name", ["crane", "skopeo"])
def test_zot_through_the_token_server(zot_site: Site, name: str) -> None:
    """Lists of repositories are left out: zot demands a scope for them that no client requests."""
    client_as = crane_as if name == "crane" else skopeo_as
    alice, bob, anonymous = (client_as(user, zot_site) for user in ("alice", "bob", ""))
    to = functools.partial(command, name, zot_site)
    private, public = f"alice/{name}:v1", f"public/{name}:v1"
    for image in (private, public, f"alice/copied-{name}:v1", "alice/shared:v1"):
        alice.assert_success(*to("push", image))
    bob.assert_success(*to("push", f"bob/{name}:v1"))
    bob.assert_refused(*to("push", f"alice/{name}:v2"))
    anonymous.assert_refused(*to("push", f"public/{name}:v2"))
    alice.assert_success(*to("pull", private))
    bob.assert_success(*to("pull", "alice/shared:v1"))
    bob.assert_refused(*to("pull", private))
    anonymous.assert_success(*to("pull", public))
    anonymous.assert_refused(*to("pull", private))
    bob.assert_refused(*to("delete", private))
    alice.assert_success(*to("delete", private))
    assert alice.run(*to("pull", private)).returncode
