"""`examples/fastapi_app.py` as a process, with the embedded registry and with Distribution."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from authority import ISSUER, SERVICE
from dockhand_auth_jwt import SigningKey
from dockhand_testing.contracts.samples import push_image
from dockhand_webhook import Inbox
from dockhand_webhook.snippets import distribution_section
from notifications import DISTRIBUTION, envelope, push
from registries import HTPASSWD, PASSWORD, Clients, distribution, embedded, free_port

from dockhand_core import connect

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = '[[rules]]\nuser = "alice"\nrepository = "**"\nactions = ["pull", "push", "delete"]\n'
LOGIN = ("viewer", "page-password")


class App:
    """The running example with its registry."""

    def __init__(self, folder: Path, registry: str, port: int, token: str) -> None:
        self.folder, self.registry, self.token = folder, registry, token
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.log = folder / "app.log"
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), "--timeout-graceful-shutdown", "5"],
                cwd=folder, env={**os.environ, "PAGE_PASSWORD": LOGIN[1]}, stderr=log, stdout=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while "Application startup complete" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def get(self, path: str, **query: str) -> httpx.Response:
        """Request a path of the page."""
        return httpx.get(f"{self.url}{path}", params=query, auth=LOGIN, timeout=30)

    def notify(self, *ids: str) -> None:
        """Send events of pushes with these ids, as a registry does."""
        reply = httpx.post(
            f"{self.url}/hooks/dockhand/notify/main",
            content=envelope(*(push(id=each) for each in ids)),
            headers={"Content-Type": DISTRIBUTION, "Authorization": f"Bearer {self.token}"},
        )
        assert reply.status_code == 202

    def events(
        self, enough: Callable[[list[dict[str, Any]]], bool], last_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Read the stream of events until there are enough; each has its id as `id`."""
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        found: list[dict[str, Any]] = []
        with httpx.stream(
            "GET", f"{self.url}/events", auth=LOGIN, headers=headers, timeout=30
        ) as reply:
            assert reply.status_code == 200, reply.read()
            assert reply.headers["content-type"].startswith("text/event-stream")
            for line in reply.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    found.append(json.loads(value))
                elif name == "id":
                    found[-1]["id"] = value
                    if enough(found):
                        break
        return found

    def stop(self) -> str:
        """Stop the program with SIGTERM, and return its log."""
        self.process.terminate()
        assert self.process.wait(20) in (0, -signal.SIGTERM)
        return self.log.read_text()


@contextmanager
def running_app(flavour: str, folder: Path) -> Iterator[App]:
    """Run the example, with a registry that it issues tokens for and that notifies it."""
    key = SigningKey.generate()
    (folder / "private.pem").write_bytes(key.private_pem())
    (folder / "certificate.pem").write_bytes(key.self_signed_certificate(ISSUER))
    (folder / "htpasswd").write_text(HTPASSWD)
    names = f'issuer = "{ISSUER}"\nservices = ["{SERVICE}"]\n'
    files = 'private_key = "private.pem"\nusers = "htpasswd"\n'
    (folder / "authority.toml").write_text(names + files + RULES)
    token = Inbox(folder / "inbox.db").tokens.issue("main").get_secret_value()
    (folder / "token").write_text(token)
    port = free_port()
    notify, realm = (
        f"http://localhost:{port}/hooks/dockhand/notify/main",
        f"http://localhost:{port}/auth/token",
    )
    certificate = str(folder / "certificate.pem")
    with ExitStack() as stack:
        if flavour == "embedded":
            options = ["--token-realm", realm, "--token-service", SERVICE, "--token-issuer", ISSUER]
            options += ["--token-certificate", certificate, "--notify", notify]
            url = stack.enter_context(
                embedded(folder, *options, "--notify-token-file", str(folder / "token"))
            )
        else:
            auth = {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER,
                              "rootcertbundle": certificate}}  # fmt: skip
            section = yaml.safe_load(distribution_section(notify, token))
            url = stack.enter_context(
                distribution(flavour, folder / "registry", auth=auth, **section)
            )
        (folder / "dockhand.toml").write_text(
            f'[connections.main]\nbase_uri = "{url}"\n[connections.main.auth]\ndriver = "jwt"\n'
            f'private_key = "private.pem"\nsubject = "app"\nauthority_name = "{ISSUER}"\n'
            f'registry_name = "{SERVICE}"\n'
        )
        app = App(folder, url, port, token)
        try:
            yield app
        finally:
            app.process.kill()
            app.process.wait()


@pytest.fixture
def app(clean: Path) -> Iterator[App]:
    with running_app("embedded", clean) as found:
        yield found


def pushed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["class"] == "ManifestPushed"]


def test_a_push_with_a_token_of_the_application_appears_on_its_page(app: App) -> None:
    auth = {"driver": "token", "username": "alice", "password": PASSWORD}
    with connect(app.registry, auth=auth, logging={"driver": "null"}) as registry:
        image = push_image(registry, "team/app", "v1")
        seen = app.events(lambda events: len(pushed(events)) == 1)
        [event] = pushed(seen)
        assert (event["repository"], event["tag"], event["digest"]) == (
            "team/app",
            "v1",
            image.digest,
        )
        assert (event["actor"], event["connection"], event["missed"]) == ("alice", "main", 0)
        registry.copy("team/app", "v1", to_reference="v2")
    later = app.events(lambda events: len(pushed(events)) == 1, last_id=seen[-1]["id"])
    assert [event["tag"] for event in pushed(later)] == ["v2"]
    assert sorted(app.get("/api/tags", repository="team/app").json()) == ["v1", "v2"]
    shown = app.get("/api/image", repository="team/app", reference="v2", connection="main").json()
    assert (shown["digest"], shown["annotations"]) == (image.digest, {"made": "by a test"})
    seen = app.events(lambda events: events[-1].get("actor") == "app")  # the client's own pull
    assert seen[-1]["class"] == "ManifestPulled"


def test_errors_of_the_registry_are_json(app: App) -> None:
    for query, status, error in (
        ({"reference": "v9"}, 404, "ManifestUnknown: "),
        ({"reference": "v9", "repository": "Team/App"}, 400, "NameInvalid: "),
        ({"reference": "v9", "connection": "other"}, 404, "ConfigError: no connection named"),
    ):
        reply = app.get("/api/image", **{"repository": "team/app", **query})
        assert reply.status_code == status
        assert reply.json()["error"].startswith(error)


def test_the_page_needs_the_password_and_runs_its_own_script_only(app: App) -> None:
    for path in ("/", "/events", "/api/tags?repository=a"):
        assert httpx.get(app.url + path).status_code == 401
        assert httpx.get(app.url + path, auth=("viewer", "wrong")).status_code == 401
    page = app.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    nonces = set(re.findall("nonce-([^']+)'", policy)) | set(re.findall('nonce="(.+?)"', page.text))
    assert len(nonces) == 1
    assert nonces.isdisjoint(re.findall('nonce="(.+?)"', app.get("/").text))
    assert not re.search("innerHTML|http:|https:|src=| on[a-z]+=|style=", page.text)
    assert httpx.get(f"{app.url}/hooks/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{app.url}/docs").status_code == 404


def status_of_events(app: App) -> int:
    with httpx.stream("GET", f"{app.url}/events", auth=LOGIN, timeout=30) as reply:
        return reply.status_code


def test_slow_and_gone_browsers_hold_up_nobody(app: App) -> None:
    credentials = base64.b64encode(":".join(LOGIN).encode()).decode()
    request = f"GET /events HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credentials}\r\n\r\n"
    app.notify("first")
    first = app.events(lambda events: len(events) == 1)[0]["id"]
    with ExitStack() as stack:
        for _ in range(100):  # none of them reads
            slow = stack.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.connect(("127.0.0.1", app.port))
            slow.sendall(request.encode())
            slow.settimeout(20)
            assert slow.recv(12) == b"HTTP/1.1 200"
        assert status_of_events(app) == 503
        for start in range(0, 300, 50):
            app.notify(*(f"event-{number}" for number in range(start, start + 50)))
    until = time.monotonic() + 20
    while status_of_events(app) == 503:  # until the server knows that they are gone
        assert time.monotonic() < until
        time.sleep(0.1)
    latest = app.events(lambda events: events[-1]["id"].endswith("-301"), first)
    assert len(latest) <= 300
    assert sum(event["missed"] + 1 for event in latest) == 300
    newest = app.events(lambda events: events[-1]["id"].endswith("-301"))
    assert len(newest) == 200


def test_it_stops_while_browsers_watch(app: App) -> None:
    app.notify("one")
    opened = threading.Event()
    ended: list[str] = []

    def watch() -> None:
        with httpx.stream("GET", f"{app.url}/events", auth=LOGIN, timeout=60) as reply:
            for line in reply.iter_lines():
                opened.set()
                ended.append(line)

    thread = threading.Thread(target=watch)
    thread.start()
    assert opened.wait(20)
    log = app.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert ended[0].startswith("data: ")
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("password", "message"),
    [("", "ConfigError: PAGE_PASSWORD is not set"), ("x", "ConfigError: there is no token")],
)
def test_a_missing_setting_is_one_line(clean: Path, password: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app"],
        cwd=clean, env={**os.environ, "PAGE_PASSWORD": password}, text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


@pytest.mark.live
@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_crane_and_skopeo_push_to_distribution(clean: Path, version: str) -> None:
    with running_app(version, clean) as app:
        clients = Clients(clean / "home")
        host = app.registry.replace("http://127.0.0.1", "localhost")
        clients.run("crane", "auth", "login", host, "-u", "alice", "-p", PASSWORD)
        (clean / "hello").write_text("hello")
        with tarfile.open(clean / "layer.tar", "w") as tar:
            tar.add(clean / "hello", "hello")
        clients.run("crane", "append", "-f", str(clean / "layer.tar"), "-t", f"{host}/team/app:v1")
        user = f"alice:{PASSWORD}"
        clients.run(
            "skopeo", "copy", f"--src-creds={user}", f"--dest-creds={user}",
            "--src-tls-verify=false", "--dest-tls-verify=false",
            f"docker://{host}/team/app:v1", f"docker://{host}/team/copy:v2",
        )  # fmt: skip
        events = pushed(app.events(lambda events: len(pushed(events)) == 2))
        assert [(each["repository"], each["tag"], each["actor"]) for each in events] == [
            ("team/app", "v1", "alice"),
            ("team/copy", "v2", "alice"),
        ]
        image = app.get("/api/image", repository="team/copy", reference="v2")
        assert image.json()["digest"] == events[1]["digest"] == events[0]["digest"]
        assert "Traceback" not in app.stop()
