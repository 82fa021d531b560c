"""A program for each plugin, which uses the plugin in an environment without any other."""

from __future__ import annotations

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


# A program for any package.
_IMPORT_PROGRAM = """
import importlib, pkgutil

for package in {packages}:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""


# A program for dockhand-cli: the command starts without any plugin.
_COMMAND_PROGRAM = """
from dockhand_cli.main import main

assert main(["version"]) == 0
assert main(["tags", "localhost:1/app"]) == 2  # the driver is not installed
"""

# A program for dockhand-testing: the tests of an author, which subclass a contract.
_KIT_PROGRAM = '''
import pathlib, pytest, sys

pathlib.Path("test_author.py").write_text("""
from dockhand_testing import AuthDriverContract, LogDriverContract, build_image
from dockhand_core import AuthDriver, hookimpl

class Own(AuthDriver):
    def auth_flow(self, request):
        request.headers["X-Own"] = "1"
        yield request

class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self):
        return {"own": Own}

class TestOwn(AuthDriverContract):
    driver = "own"
    plugin = Plugin()

    def accepts(self, request):
        return request.headers.get("X-Own") == "1"

class TestConsole(LogDriverContract):
    driver = "console"

def test_fixtures(oci_registry, scripted_registry, dockhand):
    for registry in (oci_registry.client, scripted_registry.client()):
        build_image().push(registry, "library/app", "v1")
        assert list(registry.tags("library/app")) == ["v1"]
    assert "distribution" in dockhand.plugins.names("registry")
""")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "test_author.py"]))
'''

_PROGRAMS = {
    "dockhand-token-server": _SERVER_PROGRAM,
    "dockhand-webhook": _WEBHOOK_PROGRAM,
    "dockhand-celery": _CELERY_PROGRAM,
    "dockhand-cli": _COMMAND_PROGRAM,
    "dockhand-testing": _KIT_PROGRAM,
}
_DRIVERS = {"dockhand-distribution", "dockhand-zot"}


def import_program(packages: list[str]) -> str:
    """Return a program that imports all modules of packages."""
    return _IMPORT_PROGRAM.format(packages=[package.replace("-", "_") for package in packages])


def program_for(package: str) -> tuple[list[str], str]:
    """Return the packages to install with a plugin's wheel, and a program that uses the plugin."""
    remote: dict[str, object] = {"base_uri": ""}  # the program sets the URL
    if package in _PROGRAMS:
        return [], _PROGRAMS[package]
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
    if package not in _DRIVERS:
        return [], import_program([package])
    name = package.removeprefix("dockhand-")
    connection = {**remote, "driver": name}
    # If a driver depends on another plugin, pip installs that one from the same wheels.
    return [], _CONNECTION_PROGRAM.format(
        connection=connection, kind="registry", name=name, use=_PING
    )
