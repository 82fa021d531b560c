"""The receiver as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dockhand_core import AsyncDockhand, ConfigError, Dockhand, Plugins
from dockhand_core.events import EventParsers, event_handlers
from dockhand_webhook import settings
from dockhand_webhook.dispatch.dispatcher import Dispatcher, InProcess, Runner
from dockhand_webhook.endpoint import Notify, failure, refusal
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.deliveries import Backoff
from dockhand_webhook.inbox.inbox import Counts, Inbox
from dockhand_webhook.inbox.tokens import Door
from dockhand_webhook.metrics import CONTENT_TYPE_LATEST, exposition

__all__ = ["Receiver", "create_app"]

_log = logging.getLogger("dockhand.webhook")


def create_app(
    dockhand: Dockhand | AsyncDockhand | Plugins | None = None,
    inbox: Inbox | str | os.PathLike[str] = "inbox.db",
    *,
    route: str | None = None,
    enabled: bool | None = None,
    tokens: Iterable[str | SecretStr] | None = None,
    anonymous: bool = False,
    dispatch: bool = True,
    runner: Runner | None = None,
    timeout: float = 30.0,
    concurrency: int = 16,
    backoff: Backoff | None = None,
    lease: float = 15.0,
) -> Receiver:
    """An ASGI application that takes notifications in, and calls the handlers with their events.

    Serve it alone, or mount it. Handlers run in the event loop that serves it, or in threads; they
    are those that the manager's plugins have by now.

    Args:
        dockhand: whose plugins have the handlers and the parsers; the installed ones' unless given.
        inbox: an SQLite file, made if it is not there; or an `Inbox`.
        route: the path that registries post to, with or without a connection's name behind it;
            `DOCKHAND_NOTIFICATIONS_ROUTE`, or `/dockhand/notify`, unless given.
        enabled: whether that path is there; `DOCKHAND_NOTIFICATIONS_ENABLED`, or true, unless
            given.
        tokens: those that registries may show, beside those that `notify-token` made;
            `DOCKHAND_NOTIFY_TOKEN` unless given.
        anonymous: take notifications from everybody, and show the counts to everybody.
        dispatch: whether handlers are called here; if not, other processes do it.
        runner: what calls them; this process does unless given.
        timeout: seconds that a handler may take for an event in this process.
        concurrency: so many repositories at once for each handler.
        backoff: when failed deliveries are tried again, and how often.
        lease: seconds after which another process takes over what this one had, when it died.

    Raises:
        ConfigError: a setting is wrong, the inbox cannot be used, or there is no token and
            `anonymous` is not true.
        PluginConflict: two plugins of one name handle the same events.
    """
    plugins = _plugins(dockhand)
    inbox = inbox if isinstance(inbox, Inbox) else Inbox(inbox)
    path = settings.route(route)
    given = settings.notify_tokens() if tokens is None else tokens
    fixed = [SecretStr(each) if isinstance(each, str) else each for each in given]
    if not all(each.get_secret_value() for each in fixed):
        raise ConfigError("a token that registries show is empty")
    door = Door(inbox.tokens, fixed, anonymous=anonymous)
    on = settings.is_enabled() if enabled is None else enabled
    if on and door.is_locked:
        raise ConfigError(
            "nobody could be told from anybody else: make a token with `python -m "
            f"dockhand_webhook notify-token --inbox {inbox.database.path}`, or set "
            "DOCKHAND_NOTIFY_TOKEN; or take notifications from everybody with anonymous "
            "(--anonymous)"
        )
    if not on:
        _log.warning("notifications are off: DOCKHAND_NOTIFICATIONS_ENABLED is false")
    handlers = event_handlers(plugins) if dispatch else {}

    def dispatcher() -> Dispatcher:
        calls = runner or InProcess(handlers, timeout)
        return Dispatcher(
            inbox, handlers, calls, concurrency=concurrency, backoff=backoff, lease=lease
        )

    notify = Notify(inbox, door, EventParsers(plugins))
    return Receiver(inbox, door, notify, path if on else None, dispatcher if handlers else None)


def _plugins(dockhand: Dockhand | AsyncDockhand | Plugins | None) -> Plugins:
    if dockhand is None:
        return Plugins()
    return dockhand if isinstance(dockhand, Plugins) else dockhand.plugins


class Receiver(Starlette):
    """What `create_app` gives.

    An application that it is mounted in passes its lifespan on: `FastAPI(lifespan=receiver.
    lifespan)`. Without that it begins with its first request, and what was under way when the
    process ended is called again.

    Attributes:
        inbox: where events are kept.
    """

    def __init__(
        self,
        inbox: Inbox,
        door: Door,
        notify: Notify,
        path: str | None,
        dispatcher: Callable[[], Dispatcher] | None,
    ) -> None:
        self.inbox = inbox
        self._door, self._notify, self._make = door, notify, dispatcher
        self._dispatcher: Dispatcher | None = None
        self._starting = asyncio.Lock()
        self._started = False
        routes = []
        if path is not None:
            routes.append(Route(path, notify, methods=["POST"]))
            routes.append(Route(f"{path}/{{connection}}", notify, methods=["POST"]))
        routes.append(Route("/healthz", self._health, methods=["GET"]))
        routes.append(Route("/metrics", self._metrics, methods=["GET"]))
        super().__init__(routes=routes, lifespan=self.lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; the first one starts what no lifespan has started."""
        if not self._started and scope["type"] == "http":
            try:
                await self._start()
            except InboxError as error:
                _log.error("nothing can be taken: %s", error)
                await failure()(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """Call handlers as long as this is entered; for applications that mount this one."""
        await self._start()
        try:
            yield
        finally:
            if self._dispatcher is not None:
                await self._dispatcher.stop()
            await asyncio.to_thread(self.inbox.close)
            self._dispatcher, self._started = None, False

    async def _start(self) -> None:
        async with self._starting:
            if self._started:
                return
            if self._make is not None:
                self._dispatcher = self._make()
                await self._dispatcher.start()
                self._notify.taken = self._dispatcher.wake
            self._started = True

    def counts(self) -> Counts:
        """What the inbox has seen; reads the disk.

        Raises:
            InboxError: the inbox cannot be read.
        """
        return self.inbox.counts()

    async def _health(self, _: Request) -> Response:
        try:
            await self.inbox.database.probe()
        except InboxError as error:
            _log.error("not healthy: %s", error)
            return JSONResponse({"status": "the inbox cannot be written"}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        if not self._door.admits(request.headers.get("authorization"), ""):
            return refusal()
        try:
            counts = await asyncio.to_thread(self.inbox.counts)
        except InboxError as error:
            _log.error("no metrics: %s", error)
            return Response("the inbox cannot be read\n", 503, media_type="text/plain")
        return Response(
            exposition(counts, self._notify.refused), headers={"content-type": CONTENT_TYPE_LATEST}
        )
