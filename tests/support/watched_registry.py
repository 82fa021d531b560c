"""An embedded registry on loopback that records its requests, and answers some as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from dockhand_embedded.app import create_app

from dockhand_core.server import listen


@dataclass
class WatchedRegistry:
    """A running registry, and the requests that it has received.

    Attributes:
        url: the URL of the registry.
        requests: method and path with the query of each request, in order.
        answer: returns status and body for a request that the registry does not get to see, or
            None for the others; a test may set it any time. The body of the request is read first.
        challenge: the header `WWW-Authenticate` of those answers, or empty.
        uploaded: number of bytes of the bodies that were received.
    """

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[str, str], tuple[int, bytes] | None] = lambda method, target: None
    challenge: str = ""
    uploaded: int = 0

    def count(self, method: str, part: str = "") -> int:
        """The number of requests with a method whose path or query has a part."""
        return len([target for name, target in self.requests if name == method and part in target])


@contextmanager
def watched_registry() -> Iterator[WatchedRegistry]:
    """Run an empty registry in memory until the `with` block ends."""
    watched = WatchedRegistry()
    registry = create_app(":memory:")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await registry(scope, receive, send)
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        watched.requests.append((scope["method"], target))

        async def counted() -> Any:
            message = await receive()
            watched.uploaded += len(message.get("body", b""))
            return message

        said = watched.answer(scope["method"], target)
        if said is None:
            return await registry(scope, counted, send)
        while (await counted()).get("more_body"):
            pass
        headers = [(b"content-length", str(len(said[1])).encode())]
        if watched.challenge:
            headers.append((b"www-authenticate", watched.challenge.encode()))
        await send({"type": "http.response.start", "status": said[0], "headers": headers})
        await send({"type": "http.response.body", "body": said[1]})
        return None

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        watched.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield watched
        finally:
            server.should_exit = True
            thread.join(10)
