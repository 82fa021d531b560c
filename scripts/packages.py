"""Build every wheel, and try each plugin alone with the core in an empty environment.

The script finds dependencies that a package does not name, and plugins without an entry point. The
tests cannot find them, since they run in an editable installation of everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = "dockhand-core"

_CONNECTION_PROGRAM = """
import http.server, threading
from dockhand_core import Dockhand

class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{{}}")
    def log_message(self, *_):
        pass

seen = []
server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = {connection!r}
if "base_uri" in connection:
    connection["base_uri"] = f"http://127.0.0.1:{{server.server_port}}"
with Dockhand({{"connections": {{"main": connection}}}}) as dockhand:
    broken = [str(plugin) for plugin in dockhand.plugins if plugin.error]
    assert not broken, broken
    provided = dockhand.plugins.names({kind!r})
    assert {name!r} in provided, provided
    {use}
"""
_AUTH_PACKAGES = {
    "dockhand-auth-basic": ("basic", {"username": "alice", "password": "x"}, "Authorization"),
    "dockhand-auth-bearer": ("bearer", {"token": "x"}, "Authorization"),
    "dockhand-auth-apikey": ("apikey", {"api_key": "x", "header": "X-Api-Key"}, "X-Api-Key"),
    "dockhand-auth-jwt": (
        "jwt",
        {"private_key": "private.pem", "authority_name": "a", "registry_name": "b"},
        "Authorization",
    ),
}
_PING = "dockhand.connection().ping(); assert seen"
_LOGIN = _PING + "; assert {header!r} in seen[0], seen"
_PUSH = """registry = dockhand.connection()
    digest = registry.upload_blob("a/b", b"some bytes").digest
    assert registry.read_blob("a/b", digest) == b"some bytes"
"""


# A program for dockhand-token-server, which has a server instead of a driver.
_SERVER_PROGRAM = """
import asyncio, httpx
from dockhand_auth_jwt import SigningKey
from dockhand_core import Dockhand
from dockhand_token_server import create_app

async def ask(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        return (await client.get("/token?service=s")).raise_for_status().json()

with Dockhand({}) as dockhand:
    broken = [str(plugin) for plugin in dockhand.plugins if plugin.error]
    assert not broken, broken
    key = SigningKey.generate().private_pem().decode()
    settings = {"issuer": "a", "services": ["s"], "private_key": key, "refresh_tokens": False}
    app = create_app(settings, plugins=dockhand.plugins)
    assert asyncio.run(ask(app))["token"].count(".") == 2
"""


# A program for dockhand-webhook: a notification results in a call of a hook.
_WEBHOOK_PROGRAM = """
import asyncio, httpx
from dockhand_core import Dockhand, hookimpl
from dockhand_webhook import create_app

class Audit:
    @hookimpl
    async def dockhand_repository_deleted(self, event):
        received.put_nowait(event.repository)

async def post(app):
    event = {"id": "1", "timestamp": "2026-11-25T00:00:00Z", "action": "delete",
             "target": {"repository": "a/b"}}
    headers = {"content-type": "application/vnd.docker.distribution.events.v2+json"}
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a")
    async with app.lifespan(), client:
        reply = await client.post("/dockhand/notify", json={"events": [event]}, headers=headers)
        assert reply.status_code == 202, reply
        assert await asyncio.wait_for(received.get(), 60) == "a/b"

received = asyncio.Queue()
with Dockhand({}) as dockhand:
    broken = [str(plugin) for plugin in dockhand.plugins if plugin.error]
    assert not broken, broken
    dockhand.plugins.register(Audit())
    asyncio.run(post(create_app(dockhand, "inbox.db", anonymous=True)))
"""
_CELERY_PROGRAM = """
from celery import Celery
from dockhand_celery import CeleryExecutor, register_handlers

app = Celery("tasks", broker="memory://", backend="cache+memory://")
register_handlers(app)
assert "dockhand.handle" in app.tasks
CeleryExecutor(app).close()
"""


# A program for dockhand-cli: the command starts without any plugin.
_COMMAND_PROGRAM = """
from dockhand_cli.main import main

assert main(["version"]) == 0
assert main(["tags", "localhost:1/app"]) == 2  # the driver is not installed
"""


def program_for(package: str) -> tuple[list[str], str]:
    """Return the packages to install with a plugin's wheel, and a program that uses the plugin."""
    remote: dict[str, object] = {"base_uri": ""}  # the program sets the URL
    if package == "dockhand-token-server":
        return [], _SERVER_PROGRAM
    if package == "dockhand-webhook":
        return [], _WEBHOOK_PROGRAM
    if package == "dockhand-celery":
        return [], _CELERY_PROGRAM
    if package == "dockhand-cli":
        return [], _COMMAND_PROGRAM
    if package == "dockhand-embedded":
        connection: dict[str, object] = {"driver": "embedded", "root": ":memory:"}
        return [], _CONNECTION_PROGRAM.format(
            connection=connection, kind="registry", name="embedded", use=_PUSH
        )
    if package == "dockhand-auth-token":  # the registry demands no token, so none is sent
        connection = {**remote, "auth": {"driver": "token", "username": "a", "password": "x"}}
        return ["dockhand-distribution"], _CONNECTION_PROGRAM.format(
            connection=connection, kind="auth", name="token", use=_PING
        )
    if package in _AUTH_PACKAGES:
        driver, settings, header = _AUTH_PACKAGES[package]
        # the auth plugin needs some registry driver here, but its package does not depend on one
        connection = {**remote, "auth": {"driver": driver, **settings}}
        return ["dockhand-distribution"], _CONNECTION_PROGRAM.format(
            connection=connection, kind="auth", name=driver, use=_LOGIN.format(header=header)
        )
    name = package.removeprefix("dockhand-")
    connection = {**remote, "driver": name}
    # If a driver depends on another plugin, pip installs that one from the same wheels.
    return [], _CONNECTION_PROGRAM.format(
        connection=connection, kind="registry", name=name, use=_PING
    )


_AUTHORITY = """
issuer = "my_auth"
services = ["my_registry"]
private_key = "keys/private.pem"
users = "htpasswd"
[[rules]]
user = "alice"
repository = "team/**"
actions = ["pull", "push", "delete"]
[[rules]]
user = "alice"
type = "registry"
name = "catalog"
actions = ["*"]
"""


@contextmanager
def server(folder: Path, module: str, *options: str) -> Iterator[str]:
    """Run a server of this checkout, and provide its host and port."""
    command = [sys.executable, "-m", module, "--port", "0", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().removeprefix("listening on http://")
        finally:
            process.terminate()


def use_command(folder: Path, program: Path) -> None:
    """Log in to a registry with a token server; push, list, copy and prune with `dockhand`.

    Args:
        folder: an empty folder.
        program: the command, in an environment that has nothing but wheels.
    """
    import bcrypt

    folder.mkdir()
    run(sys.executable, "-m", "dockhand_auth_jwt", "keys", "keys", cwd=folder)
    (folder / "authority.toml").write_text(_AUTHORITY)
    (folder / "htpasswd").write_bytes(b"alice:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)))
    (folder / "password").write_text("s3cret\n")
    (folder / "file").write_text("some bytes")
    with (
        server(folder, "dockhand_token_server") as authority,
        server(
            folder, "dockhand_embedded", "--root", ":memory:",
            "--token-realm", f"http://{authority}/token", "--token-service", "my_registry",
            "--token-issuer", "my_auth", "--token-certificate", "keys/certificate.pem",
        ) as host,
    ):  # fmt: skip
        image = f"{host}/team/app"

        def dockhand(*arguments: str, stdin: str | None = None) -> str:
            done = subprocess.run(  # noqa: S603
                [program, *arguments],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"failed: dockhand {' '.join(arguments)}: {done.stderr}")
            return done.stdout

        dockhand("login", host, "-u", "alice", "--password-stdin", stdin="s3cret\n")
        dockhand("artifact", "push", f"{image}:v1", "file")
        dockhand("pull", f"{image}:v1", "app.tar")
        dockhand("push", "app.tar", f"{image}:v2")
        (folder / "file").write_text("other bytes")
        dockhand("artifact", "push", f"{image}:v3", "file")
        assert dockhand("tags", image).split() == ["v1", "v2", "v3"]
        dockhand("cp", f"{image}:v1", f"{host}/team/copy:v1")
        assert dockhand("ls", host).split() == ["team/app", "team/copy"]
        dockhand("prune", image, "--tags", "*", "--keep", "v3", "--yes")
        assert dockhand("tags", image).split() == ["v3"]
        dockhand("logout", host)
    print("dockhand-core[cli,distribution,token]: login, push, list, copy and prune work alone")


def install(python: Path, wheels: Path, *packages: str | Path) -> None:
    """Install packages into an environment, from the wheels and with the pinned versions."""
    run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "-c", ROOT / "constraints.txt", "--find-links", wheels, *packages,
    )  # fmt: skip


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command without the variables `DOCKHAND_*` and `PYTHON*`; exit if it fails."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKHAND_", "PYTHON"))}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=env, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"failed: {' '.join(str(part) for part in command)[:200]}")


def main() -> None:
    """Build all packages, and try each plugin."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder) / "wheels"
        sources = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
        for source in sources:
            run(
                sys.executable,
                "-m",
                "build",
                "--wheel",
                "--no-isolation",
                "--outdir",
                wheels,
                source,
            )
        built = {path.name.split("-")[0].replace("_", "-"): path for path in wheels.iterdir()}
        for package, wheel in sorted(built.items()):
            names = zipfile.ZipFile(wheel).namelist()
            module = package.replace("-", "_")
            if f"{module}/py.typed" not in names:
                sys.exit(f"{wheel.name} has no py.typed")
            if any(name.startswith("tests/") for name in names):
                sys.exit(f"{wheel.name} holds tests")
            if package != CORE:
                beside, code = program_for(package)
                environment = Path(folder) / module
                venv.create(environment, with_pip=True)
                python = environment / "bin" / "python"
                install(python, wheels, wheel, *beside)
                if package == "dockhand-auth-jwt":
                    run(python, "-m", module, "keys", ".", cwd=Path(folder))
                run(python, "-c", code, cwd=Path(folder))
                print(f"{package}: works alone", flush=True)
        environment = Path(folder) / "command"
        venv.create(environment, with_pip=True)
        extras = f"{built[CORE]}[cli,distribution,token]"
        install(environment / "bin" / "python", wheels, extras)
        use_command(Path(folder) / "work", environment / "bin" / "dockhand")
    print(f"{len(built)} wheels built, {len(built) - 1} used alone")


if __name__ == "__main__":
    main()
