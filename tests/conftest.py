"""Fixtures shared by test folders: a clean environment, installed packages, an HTTP server."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dockhand_core import plugins

# No deadline for an example: a test must not fail because the machine is busy.
settings.register_profile(
    "dockhand", deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dockhand")

# A shell starts a background job with SIGINT ignored, and the job's processes inherit that; tests
# send Ctrl-C to theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Server(ThreadingHTTPServer):
    """A server that accepts many connections at once."""

    request_queue_size = 128  # with the default of 5, some connections would wait for a second
    daemon_threads = True


Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, Mapping[str, str], bytes], Answer]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Change to an empty working folder, and unset every `DOCKHAND_*` variable."""
    for name in list(os.environ):
        if name.startswith("DOCKHAND_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Mapping[str, str], Mapping[str, str]], None]]:
    """Provide a function that installs a package in a folder on `sys.path`.

    The function takes the package's name, its entry points (name to module), and the source of
    each module by the module's name.
    """
    site = clean / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(name: str, entries: Mapping[str, str], modules: Mapping[str, str]) -> None:
        folder = site / f"{name.replace('-', '_')}-1.2.3.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
        lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
        (folder / "entry_points.txt").write_text(f"[dockhand]\n{lines}")
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
        plugins._installed.cache_clear()

    yield install
    plugins._installed.cache_clear()
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], str]]:
    """Provide a function that starts an HTTP server and returns the server's URL.

    The function takes a handler, which is called with `(method, path, headers, body)` for each
    request and returns the reply `(status, headers, body)`.
    """
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Handler) -> str:
        class Handle(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k.lower(): v for k, v in self.headers.items()}
                status, fields, answer = handler(self.command, self.path, headers, body)
                self.send_response(status)
                for key, value in {"Content-Length": str(len(answer)), **fields}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = Server(("127.0.0.1", 0), Handle)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
