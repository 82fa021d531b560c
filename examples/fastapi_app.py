"""A FastAPI application with the webhook receiver, the token endpoint, a client and a live page.

- `/hooks/dockhand/notify/main` receives the notifications of the registry `main`.
- `/auth/token` is the token endpoint that the registry `main` sends its clients to.
- `/` shows each event as it arrives, and `/api/…` asks the registry with an async client.

Try it with a registry on your machine:

1. `pip install "dockhand-core[distribution,jwt,webhook,token-server,cli]" "fastapi>=0.135"`
2. In an empty folder, make the keys, a user and the files:

       dockhand keys
       htpasswd -cB htpasswd alice

   `dockhand.toml`:

       [connections.main]
       base_uri = "http://localhost:5000"
       auth = { driver = "jwt", private_key = "keys/private.pem", subject = "fastapi-app", authority_name = "my_auth", registry_name = "my_registry" }

   `authority.toml`:

       issuer = "my_auth"
       services = ["my_registry"]
       private_key = "keys/private.pem"
       users = "htpasswd"

       [[rules]]
       user = "alice"
       repository = "**"
       actions = ["pull", "push", "delete"]

3. Write the registry's `config.yml`. The section `notifications` is printed by
   `dockhand notify-token --connection main --url http://localhost:8080/hooks`:

       version: 0.1
       storage: { filesystem: { rootdirectory: ./data }, delete: { enabled: true } }
       http: { addr: "localhost:5000" }
       auth:
         token:
           realm: "http://localhost:8080/auth/token"
           service: "my_registry"
           issuer: "my_auth"
           rootcertbundle: "keys/certificate.pem"

4. Start the registry (`registry serve config.yml`, Debian's is `docker-registry serve config.yml`)
   and, in the folder with the files, this program:

       export PAGE_PASSWORD=choose-one
       uvicorn --app-dir path/to/examples fastapi_app:app --port 8080 --timeout-graceful-shutdown 3

5. Open http://localhost:8080/ with any user name and that password, then push:

       crane auth login localhost:5000 -u alice -p PASSWORD
       crane copy alpine:3.22 localhost:5000/team/alpine:3.22
       skopeo copy --dest-creds alice:PASSWORD --dest-tls-verify=false docker://alpine:3.22 docker://localhost:5000/team/alpine:latest

The environment names the files: `DOCKHAND_CONFIG` (dockhand.toml), `AUTHORITY` (authority.toml) and
`INBOX` (inbox.db); `PAGE_PASSWORD` is required. Run one process: the page shows its events only.
"""  # noqa: E501

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Annotated, Any

from dockhand_token_server import create_app as create_authority
from dockhand_webhook import create_app as create_receiver
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.sse import EventSourceResponse, ServerSentEvent

from dockhand_core import AsyncDockhand, ConfigError, DockhandError, NotFound, hookimpl
from dockhand_core.errors import DigestInvalid, NameInvalid, TagInvalid
from dockhand_core.events import RegistryBaseEvent

KEPT = 200  # events that a page shows; a slow browser misses older ones, and holds up nobody
MAX_BROWSERS = 100


class Feed:
    """A plugin that keeps the latest events, each with a number, for any number of readers."""

    def __init__(self) -> None:
        self.browsers = 0
        self._run = secrets.token_hex(4)  # numbers start anew with each process
        self._latest: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT)
        self._count = 0
        self._arrived = asyncio.Event()
        self._closed = False

    @hookimpl
    async def dockhand_event(self, event: RegistryBaseEvent) -> None:
        """Keep the event and wake the readers; this never waits for a browser."""
        shown: dict[str, Any] = {"class": type(event).__name__, "repository": event.repository}
        shown |= {"digest": event.digest, "tag": getattr(event, "tag", None)}
        shown |= {"actor": event.actor_name, "connection": event.connection}
        shown = {name: str(value)[:256] for name, value in shown.items() if value}
        shown["time"] = event.timestamp.isoformat()
        self._count += 1
        self._latest.append((self._count, shown))
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def events(self, last_id: str) -> AsyncIterator[ServerSentEvent]:
        """Yield the kept events after the one with the id `last_id`, and then each new one."""
        run, _, number = last_id.partition("-")
        known = run == self._run and re.fullmatch("[0-9]{1,15}", number)
        last = int(number) if known else 0
        while not self._closed:
            arrived = self._arrived
            for number_, shown in list(self._latest):
                if number_ > last:
                    data = {**shown, "missed": number_ - last - 1 if last else 0}
                    last = number_
                    yield ServerSentEvent(id=f"{self._run}-{last}", data=data)
            await arrived.wait()


@contextmanager
def closed_by_signals(feed: Feed) -> Iterator[None]:
    """Close the feed at Ctrl-C and SIGTERM: the server waits for open streams before it stops."""
    loop = asyncio.get_running_loop()
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def close(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(feed.close)
        handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(previous := signal.getsignal(number)):  # the server's
                handlers[number] = previous
                signal.signal(number, close)
    try:
        yield
    finally:
        for changed, handler in handlers.items():
            signal.signal(changed, handler)


def create_app() -> FastAPI:
    """Make the application from the files and the environment.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    password = os.environ.get("PAGE_PASSWORD", "")
    if not password:
        raise ConfigError("PAGE_PASSWORD is not set: choose a password for the page")
    feed, dockhand = Feed(), AsyncDockhand()
    dockhand.plugins.register(feed, name="feed")
    receiver = create_receiver(dockhand, inbox=os.environ.get("INBOX", "inbox.db"))
    authority = create_authority(
        os.environ.get("AUTHORITY", "authority.toml"), plugins=dockhand.plugins
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # FastAPI does not run the lifespan of an application that it mounts. The token endpoint has
        # none; that of the receiver runs here, and ends before the connections are closed.
        async with dockhand, receiver.lifespan():
            with closed_by_signals(feed):
                yield

    def log_in(sent: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
        if not secrets.compare_digest(sent.password.encode(), password.encode()):
            raise HTTPException(401, "wrong password", {"WWW-Authenticate": "Basic"})

    async def browser() -> AsyncIterator[None]:
        if feed.browsers >= MAX_BROWSERS:
            raise HTTPException(503, "too many browsers")
        feed.browsers += 1
        try:
            yield
        finally:
            feed.browsers -= 1

    pages = APIRouter(dependencies=[Depends(log_in)])

    @pages.get("/")
    async def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        policy += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(PAGE.replace("NONCE", nonce).replace("KEPT", str(KEPT)), 200, headers)

    @pages.get("/events", response_class=EventSourceResponse, dependencies=[Depends(browser)])
    async def events(last_event_id: Annotated[str, Header()] = "") -> AsyncIterator[Any]:
        async for event in feed.events(last_event_id):
            yield event

    @pages.get("/api/tags")
    async def tags(repository: str, connection: str | None = None) -> list[str]:
        return [tag async for tag in dockhand.connection(connection).tags(repository)]

    @pages.get("/api/image")
    async def image(
        repository: str, reference: str, connection: str | None = None
    ) -> dict[str, Any]:
        found = await dockhand.connection(connection).manifest(repository, reference)
        platforms = [str(each.platform) for each in getattr(found, "manifests", ())]
        return {"digest": found.digest, "type": found.media_type, "platforms": platforms,
                "annotations": found.annotations, "size": found.size}  # fmt: skip

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.include_router(pages)
    app.mount("/hooks", receiver)
    app.mount("/auth", authority)

    @app.exception_handler(DockhandError)
    async def failed(_: Request, error: DockhandError) -> JSONResponse:
        status = 404 if isinstance(error, NotFound | ConfigError) else 502
        status = 400 if isinstance(error, DigestInvalid | NameInvalid | TagInvalid) else status
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status)

    return app


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Registry events</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style nonce="NONCE">
  :root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
  body { max-width: 60rem; margin: 0 auto; padding: 1rem }
  ol { list-style: none; padding: 0 }
  li { border-top: 1px solid #8886; padding: .6rem 0; overflow-wrap: anywhere }
  .class { font-weight: 600; margin-right: .5rem } .small, time { font-size: .85rem; opacity: .75 }
  button { font: inherit; font-size: .85rem; padding: .3rem .7rem; margin-left: .5rem }
  pre { white-space: pre-wrap; background: #8882; padding: .6rem; border-radius: .3rem }
</style>
<h1>Registry events</h1><p id="state" role="status">Connecting …</p><ol id="events"></ol>
<script nonce="NONCE">
const here = location.origin + location.pathname, list = document.getElementById("events");
const state = document.getElementById("state");
function add(parent, name, text, kind) {  // text never becomes HTML
  const element = parent.appendChild(document.createElement(name));
  element.textContent = text; element.className = kind || ""; return element;
}
function show(event) {
  const item = document.createElement("li");
  if (event.missed) add(item, "p", event.missed + " events before this one were missed", "small");
  add(item, "span", event.class, "class");
  add(item, "span", event.repository + (event.tag ? ":" + event.tag : ""));
  if (event.class.startsWith("ManifestPu") && event.digest) {
    const button = add(item, "button", "Details"), output = document.createElement("pre");
    const query = {repository: event.repository, reference: event.digest};
    if (event.connection) query.connection = event.connection;
    button.onclick = async () => {
      const reply = await fetch(here + "api/image?" + new URLSearchParams(query));
      output.textContent = JSON.stringify(await reply.json(), null, 2); item.append(output);
    };
  }
  const line = [event.digest, event.actor && "by " + event.actor, event.connection];
  add(item, "div", line.filter(Boolean).join(" · "), "small");
  add(item, "time", new Date(event.time).toLocaleString());
  list.prepend(item);
  while (list.children.length > KEPT) list.lastChild.remove();
}
function connect() {  // a browser reconnects by itself, except after an error status
  const source = new EventSource(here + "events");
  source.onopen = () => { state.textContent = "Connected: events appear as they arrive."; };
  source.onmessage = message => show(JSON.parse(message.data));
  source.onerror = () => {
    state.textContent = "Disconnected; trying again …";
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000);
  };
}
connect();
</script>
</html>
"""

try:
    app = create_app()
except DockhandError as problem:
    sys.exit(f"{type(problem).__name__}: {problem}")
