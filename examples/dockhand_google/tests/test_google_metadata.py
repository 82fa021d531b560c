"""The driver with Application Default Credentials, of a metadata server of the test's own."""

import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dockhand_google.driver import CredentialsNotFound, TokenRefused
from dockhand_testing import ReceivedRequest, ScriptedRegistry, build_image

from dockhand_core import AsyncDockhand, Dockhand, Unauthorized, connect

README = Path(__file__).parent.parent / "README.md"
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts/"
EMAIL = "vm@project.iam.gserviceaccount.com"


class MetadataServer(ThreadingHTTPServer):
    """A machine's metadata server: a service account, and tokens for it."""

    lifetime = 3600
    has_account = True
    flavor = "Google"
    keeps_token = False  # as Google's, which gives the same token until it nearly expires

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MetadataHandler)
        self.tokens: list[str] = []
        self.scopes: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: str) -> Any:
        """The answer to a request, or None for a 404."""
        if path == "/":
            return ""
        if path == "/computeMetadata/v1/project/project-id":
            return "project"
        if not self.has_account:
            return None
        if path in (f"{ACCOUNTS}default/", f"{ACCOUNTS}{EMAIL}/"):
            return {"email": EMAIL, "scopes": ["cloud-platform"]}
        if path in (f"{ACCOUNTS}default/token", f"{ACCOUNTS}{EMAIL}/token"):
            self.scopes.append(query)
            if not (self.keeps_token and self.tokens):
                self.tokens.append(f"ya29.of-the-machine-{len(self.tokens)}")
            return {"access_token": self.tokens[-1], "expires_in": self.lifetime}
        return None


class MetadataHandler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        answer = self.server.answer(path, query)
        if self.headers["Metadata-Flavor"] != "Google":
            self.send_response(403)  # as Google's, which protects it from forged requests
            answer = ""
        else:
            self.send_response(404 if answer is None else 200)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        kind = "text" if isinstance(answer, str) else "json"
        self.send_header("Content-Type", f"application/{kind}")
        self.send_header("Metadata-Flavor", self.server.flavor)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


# google-auth reads the host's name when it is imported, so one server is for all tests
SERVER = MetadataServer()
os.environ["GCE_METADATA_HOST"] = os.environ["GCE_METADATA_IP"] = SERVER.host


@pytest.fixture(autouse=True)
def metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetadataServer]:
    """The metadata server, and an environment with no other credentials."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))  # no login of gcloud
    SERVER.tokens.clear()
    SERVER.scopes.clear()
    yield SERVER
    SERVER.lifetime, SERVER.has_account, SERVER.flavor = 3600, True, "Google"
    SERVER.keeps_token = False


@pytest.fixture
def registry(metadata: MetadataServer, scripted_registry: ScriptedRegistry) -> ScriptedRegistry:
    """A registry that lets in the newest token of the metadata server."""

    def accepts(request: ReceivedRequest) -> bool:
        newest = metadata.tokens[-1] if metadata.tokens else None
        return request.headers.get("Authorization") == f"Bearer {newest}"

    scripted_registry.accepts = accepts
    scripted_registry.push(build_image(), "project/repository/app", "v1")
    return scripted_registry


def config(url: str, **auth: Any) -> dict[str, Any]:
    table = {"base_uri": url, "retries": 0, "auth": {"driver": "google", **auth}}
    return {"connections": {"main": table}}


@pytest.mark.parametrize(("lifetime", "tokens"), [(3600, 1), (0, 3)], ids=["fresh", "expired"])
def test_machine_account(
    lifetime: int, tokens: int, metadata: MetadataServer, registry: ScriptedRegistry
) -> None:
    metadata.lifetime = lifetime
    with Dockhand(config(registry.url)) as dockhand:
        for _ in range(3):
            assert list(dockhand.connection().tags("project/repository/app")) == ["v1"]
    assert len(metadata.tokens) == tokens


@pytest.mark.parametrize(("lifetime", "tokens"), [(3600, 1), (0, 3)], ids=["fresh", "expired"])
def test_machine_account_in_asyncio(
    lifetime: int, tokens: int, metadata: MetadataServer, registry: ScriptedRegistry
) -> None:
    async def main() -> None:
        async with AsyncDockhand(config(registry.url)) as dockhand:
            for _ in range(3):
                tags = [tag async for tag in dockhand.connection().tags("project/repository/app")]
                assert tags == ["v1"]

    metadata.lifetime = lifetime
    asyncio.run(main())
    assert len(metadata.tokens) == tokens


def test_token_that_the_registry_refuses_is_replaced(
    metadata: MetadataServer, registry: ScriptedRegistry
) -> None:
    with Dockhand(config(registry.url)) as dockhand:
        dockhand.connection().ping()
        metadata.tokens.append("ya29.revoked-the-one-before")
        dockhand.connection().ping()
    assert len(metadata.tokens) == 3


def test_refused_token_is_not_sent_again(
    metadata: MetadataServer, scripted_registry: ScriptedRegistry
) -> None:
    metadata.keeps_token = True
    scripted_registry.accepts = lambda _: False
    with Dockhand(config(scripted_registry.url)) as dockhand, pytest.raises(Unauthorized):
        dockhand.connection().ping()
    assert len(metadata.scopes) == 2  # it was asked for another one
    assert len(scripted_registry.requests) == 1


def test_scopes(metadata: MetadataServer, registry: ScriptedRegistry) -> None:
    with Dockhand(
        config(registry.url, scopes=["https://one.test", "https://two.test"])
    ) as dockhand:
        dockhand.connection().ping()
    assert metadata.scopes == ["scopes=https%3A%2F%2Fone.test%2Chttps%3A%2F%2Ftwo.test"]


def test_machine_without_an_account(metadata: MetadataServer, registry: ScriptedRegistry) -> None:
    metadata.has_account = False
    with (
        Dockhand(config(registry.url)) as dockhand,
        pytest.raises(TokenRefused, match=r"Status: 404.*the machine may have no service account"),
    ):
        dockhand.connection().ping()


def test_no_credentials_at_all(tmp_path: Path) -> None:
    """In a process of its own, because google-auth reads `NO_GCE_CHECK` when it is imported."""
    program = (
        "from dockhand_core import connect\n"
        "try: connect('http://127.0.0.1:1', auth={'driver': 'google'}).ping()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(CredentialsNotFound.__name__), done.stderr
    assert "run `gcloud auth application-default login`" in done.stdout


def test_file_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "no-such-file.json")
    with (
        connect("http://127.0.0.1:1", auth={"driver": "google"}) as registry,
        pytest.raises(CredentialsNotFound, match=r"no-such-file\.json was not found"),
    ):
        registry.ping()


def test_readme(
    oci_registry: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: MetadataServer
) -> None:
    """The README's programs print what the comments behind `print(…)` promise."""
    blocks = dict.fromkeys(("toml", "python"), "")
    for kind, block in re.findall(r"```(toml|python)\n(.*?)```", README.read_text(), re.DOTALL):
        blocks[kind] += block
    url = "https://europe-west1-docker.pkg.dev"
    settings = blocks["toml"].partition("[connections.main.auth]")[0]
    assert url in settings
    (tmp_path / "dockhand.toml").write_text(settings.replace(url, oci_registry.url))
    monkeypatch.chdir(tmp_path)
    oci_registry.client.push_artifact("project/repository/app", "v1", [])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks["python"], "README.md", "exec"), {"__name__": "readme"})
    promised = re.findall(r"^\s*print\(.*\)  # (.*)$", blocks["python"], re.MULTILINE)
    assert printed.getvalue().splitlines() == promised
    assert promised
    assert len(metadata.tokens) == blocks["python"].count("ockhand() as")
