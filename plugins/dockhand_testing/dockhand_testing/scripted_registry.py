"""A scripted registry: a whole registry on a socket, with replies and faults that a test chooses.

Without a script it is an OCI registry in memory, so a test pushes to it what it needs. `then` gives
the next requests other replies: bytes, steps, or a fault by its name.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from dockhand_testing.http_server import (
    CUT,
    HANG,
    ReceivedRequest,
    ScriptedServer,
    Step,
    ask,
    reply,
    scripted_server,
)

if TYPE_CHECKING:
    from dockhand_core import RegistryClient
    from dockhand_testing.builders import BuiltImage, BuiltIndex

__all__ = ["FAULTS", "Scripted", "ScriptedRegistry", "run_scripted_registry"]

B = TypeVar("B", "BuiltImage", "BuiltIndex")
_BYTES = "application/octet-stream"

FAULTS = {
    "cut": "the connection ends after half of the reply",
    "stall": "half of the reply comes, and then nothing more, while the connection stays open",
    "429": "too many requests; the client may come again at once",
    "503": "the service is not available; the client may come again at once",
    "redirect": "the reply is at another origin, `registry.elsewhere`",
    "lie about length": "Content-Length is larger than the body, and the connection ends",
    "wrong digest": "the body is not that of the digest; of a HEAD, the digest's header",
    "expired token": "401 with a challenge: the token has expired",
}
"""The faults by name."""

Scripted: TypeAlias = str | bytes | Sequence[Step] | Callable[[ReceivedRequest], Any] | None


@dataclass
class _Entry:
    action: Scripted
    method: str | None
    path: str

    def matches(self, request: ReceivedRequest) -> bool:
        return self.method in (None, request.method) and self.path in request.target


@dataclass(frozen=True)
class _Reply:
    """A reply of the registry, before a fault changes it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def head(self, **changed: str) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said"]
        for name, value in self.headers:
            key = name.lower().replace("-", "_")
            lines.append(f"{name}: {changed.get(key, value)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ScriptedRegistry:
    """A registry on a loopback port, whose next replies a test can choose.

    Attributes:
        url: the URL, such as `http://127.0.0.1:40123`.
        host: the host and port for image references.
        requests: the requests received, in order.
        elsewhere: a server of another origin, to which the fault `redirect` leads; its `requests`
            show what a redirected client sends there.
        accepts: whether a request is let in; others get 401 with the `challenge`.
        answer: the reply to a request for which the script has none, below `/v2/` or not: bytes,
            steps, or None for the registry's own reply.
        challenge: the header `WWW-Authenticate` of a 401; `{url}` in it is the registry's URL.
        refusal: the reply to a request that is not let in, and that of the fault `expired token`:
            bytes, steps, or None for 401 with the `challenge`.
    """

    def __init__(self, server: ScriptedServer, elsewhere: ScriptedServer) -> None:
        from dockhand_embedded import MemoryStorage, Registry

        self.elsewhere = elsewhere
        self.accepts: Callable[[ReceivedRequest], bool] = lambda _: True
        self.answer: Callable[[ReceivedRequest], bytes | Sequence[Step] | None] = lambda _: None
        self.refusal: Callable[[ReceivedRequest], bytes | Sequence[Step] | None] = lambda _: None
        self.challenge = 'Bearer realm="{url}/token",service="scripted"'
        self._server = server
        self._registry = Registry(MemoryStorage())
        self._script: list[_Entry] = []
        self._lock = threading.Lock()
        server.handler = self._handle
        elsewhere.handler = self._at_elsewhere

    @property
    def url(self) -> str:
        """The registry's URL."""
        return self._server.url

    @property
    def host(self) -> str:
        """The registry's host and port."""
        return self._server.url.partition("://")[2]

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests received, in order."""
        return self._server.requests

    @property
    def connections(self) -> int:
        """The number of connections accepted so far."""
        return self._server.connections

    def then(self, *actions: Scripted, method: str | None = None, path: str = "") -> None:
        """Choose the replies to the next requests; each is used once, in this order.

        Args:
            actions: a fault's name, see `FAULTS`; the bytes of a reply, see `reply`; a list of
                steps; a function that takes the request and returns one of these; or None for the
                registry's own reply.
            method: only for requests with this HTTP method.
            path: only for requests with this text in their path or query, such as `/blobs/`.

        Raises:
            ValueError: there is no fault of this name.
        """
        for action in actions:
            if isinstance(action, str):
                _fault_name(action)
        with self._lock:
            self._script += [_Entry(action, method, path) for action in actions]

    @property
    def unused(self) -> int:
        """The number of replies in the script that no request has got."""
        return len(self._script)

    def client(self, **settings: Any) -> RegistryClient:
        """Make a client of the registry; the settings are those of `connect`."""
        from dockhand_core import connect

        return connect(self.url, **{"logging": {"driver": "null"}, **settings})

    def push(self, built: B, repository: str, *tags: str) -> B:
        """Push an image, index or artifact without a request; without a tag, by its digest."""
        for part in getattr(built, "images", ()):
            self.push(part, repository)
        for digest, data in built.blobs.items():
            self._store("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        kind = built.manifest.media_type
        for reference in tags or (built.digest,):
            self._store("PUT", f"/v2/{repository}/manifests/{reference}", built.raw, kind)
        return built

    def _store(self, method: str, target: str, body: bytes, kind: str = "") -> None:
        headers = {"content-length": str(len(body)), "content-type": kind or _BYTES}
        found = self._regular(ReceivedRequest(method, target, headers, body, 0))
        if found.status != 201:
            raise ValueError(f"{method} {target}: {found.status} {found.body.decode()}")

    def _handle(self, request: ReceivedRequest) -> list[Step] | bytes:
        with self._lock:
            found = next((entry for entry in self._script if entry.matches(request)), None)
            if found is not None:
                self._script.remove(found)
        action: Any = found.action if found else None
        if callable(action):
            action = ask(action, request)
        if isinstance(action, bytes):
            return action
        if action is not None and not isinstance(action, str):
            return list(action)
        if action is None:
            own = ask(self.answer, request)
            if own is not None:
                return own if isinstance(own, bytes) else list(own)
            if not ask(self.accepts, request):
                return self._refused(request)
            return self._written(self._regular(request))
        return self._fault(_fault_name(action), request)

    def _at_elsewhere(self, request: ReceivedRequest) -> bytes | list[Step]:
        own = ask(self.answer, request)
        if own is not None:
            return own if isinstance(own, bytes) else list(own)
        return self._written(self._regular(request))

    def _fault(self, name: str, request: ReceivedRequest) -> list[Step] | bytes:
        if name == "429":
            return _error_reply(429, "TOOMANYREQUESTS", "too many requests", Retry_After="0")
        if name == "503":
            return _error_reply(503, "UNAVAILABLE", "try again", Retry_After="0")
        if name == "redirect":
            return reply(307, Location=self.elsewhere.url + request.target)
        if name == "expired token":
            return self._refused(request, error="invalid_token")
        found = self._regular(request)
        if name == "wrong digest":
            if request.method == "HEAD":
                return [found.head(docker_content_digest="sha256:" + "0" * 64)]
            return [found.head() + _altered(found.body)]
        if name == "lie about length":
            length = str(len(found.body) + 7)
            return [found.head(content_length=length) + found.body, CUT]
        half = found.body[: len(found.body) // 2]
        end = CUT if name == "cut" else HANG
        return [found.head() + half, end] if found.body else [end]

    def _refused(self, request: ReceivedRequest, error: str = "") -> list[Step] | bytes:
        own = ask(self.refusal, request)
        if own is not None:
            return own if isinstance(own, bytes) else list(own)
        challenge = self.challenge.replace("{url}", self.url)
        if error:
            challenge += f',error="{error}"'
        return _error_reply(
            401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge
        )

    def _regular(self, request: ReceivedRequest) -> _Reply:
        from dockhand_embedded import FileBody, Headers, RegistryRequest

        parts = urlsplit(request.target)
        answered = self._registry.handle(
            RegistryRequest(
                method=request.method,
                path=unquote(parts.path),
                query=parse_qsl(parts.query, keep_blank_values=True),
                headers=Headers(request.headers.items()),
                body=[request.body],
                origin=self.url,
            )
        )
        with closing(answered):
            body = answered.body
            data = b"".join(body) if isinstance(body, FileBody) else body
        return _Reply(answered.status, list(answered.headers), data)

    def _written(self, found: _Reply) -> bytes:
        return found.head() + found.body


def _fault_name(name: str) -> str:
    found = name.replace("-", " ").replace("_", " ").lower()
    if found not in FAULTS:
        raise ValueError(f"there is no fault {name!r}; the faults are: {', '.join(FAULTS)}")
    return found


def _altered(body: bytes) -> bytes:
    """Change the last byte of a body; of an empty one, nothing can be wrong but the digest."""
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


def _error_reply(status: int, code: str, message: str, **headers: str) -> bytes:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return reply(status, body, Content_Type="application/json", **headers)


@contextmanager
def run_scripted_registry() -> Iterator[ScriptedRegistry]:
    """Run a scripted registry until the `with` block ends."""
    with scripted_server() as server, scripted_server() as elsewhere:
        yield ScriptedRegistry(server, elsewhere)
