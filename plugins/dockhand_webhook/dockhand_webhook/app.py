"""The receiver as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import os
import time
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
from dockhand_core.server import load_manager
from dockhand_webhook import environment
from dockhand_webhook.dispatch.dispatcher import DeliveryExecutor, Dispatcher, InProcessExecutor
from dockhand_webhook.endpoint import (
    MAX_BODY,
    NotificationEndpoint,
    unauthorized_reply,
    unavailable_reply,
)
from dockhand_webhook.errors import InboxError
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.inbox import Counts, Inbox
from dockhand_webhook.inbox.tokens import TokenAuthenticator
from dockhand_webhook.metrics import CONTENT_TYPE_LATEST, exposition

__all__ = ["Receiver", "create_app"]

_PROBE_INTERVAL = 1.0  # seconds
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
    executor: DeliveryExecutor | None = None,
    timeout: float = 30.0,
    concurrency: int = 16,
    backoff: Backoff | None = None,
    lease: float = 15.0,
    max_body: int = MAX_BODY,
) -> Receiver:
    """Create an ASGI application that stores notifications and calls handlers with their events.

    Serve the application alone, or mount it in another application. Async handlers run in the event
    loop of the server, and other handlers in threads. Plugins registered after this call are
    ignored.

    Args:
        dockhand: the manager, or its `plugins`, that provides the handlers and the parsers of
            notifications. Unless given, the installed plugins, which get the settings in
            `dockhand.toml` and the environment; `Plugins` that are passed must be configured.
        inbox: the path of an SQLite file, created if it does not exist; or an `Inbox`.
        route: the path that registries post to. They may append `/` and the name of a connection.
            Default: `DOCKHAND_NOTIFICATIONS_ROUTE`, or `/dockhand/notify`.
        enabled: accept notifications at `route`. Default: `DOCKHAND_NOTIFICATIONS_ENABLED`, or
            true.
        tokens: tokens that registries may send, in addition to the tokens in the inbox, which
            `notify-token` makes. Default: the token in `DOCKHAND_NOTIFY_TOKEN`.
        anonymous: accept notifications and requests for metrics without a token.
        dispatch: call handlers; pass false if only other processes call them.
        executor: calls the handlers, for example in Celery's workers; unless given, they are called
            in this process.
        timeout: seconds that a handler may take for an event; ignored if `executor` is given.
        concurrency: maximum number of repositories in progress for each handler.
        backoff: when failed deliveries are retried, and how often.
        lease: seconds after which another process takes over the deliveries of this process if this
            process has died.
        max_body: size in bytes above which a notification is refused with status 413. A registry
            repeats a refused notification endlessly, so the limit should be generous.

    Raises:
        ConfigError: a setting is wrong or of an unknown plugin, the inbox cannot be used, or there
            is no token and `anonymous` is false.
        PluginConflict: two plugins with the same name handle the same events.
        PluginError: a plugin is broken, and `DOCKHAND_STRICT_PLUGINS` is set.
    """
    if max_body < 1:
        raise ConfigError("max_body must be a number of bytes above 0")
    plugins = _plugins_of(dockhand)
    inbox = inbox if isinstance(inbox, Inbox) else Inbox(inbox)
    path = environment.route(route)
    given = environment.notify_tokens() if tokens is None else tokens
    fixed = [SecretStr(token) if isinstance(token, str) else token for token in given]
    if not all(token.get_secret_value() for token in fixed):
        raise ConfigError("one of the tokens is empty; remove it, or give its value")
    authenticator = TokenAuthenticator(inbox.tokens, fixed, anonymous=anonymous)
    environment.check_names()
    is_enabled = environment.is_enabled() if enabled is None else enabled
    if is_enabled and authenticator.rejects_all:
        raise ConfigError(
            "there is no token to authenticate registries with: make one with "
            f"`dockhand notify-token --inbox {inbox.database.path}` (or `python -m "
            "dockhand_webhook notify-token …`), or set DOCKHAND_NOTIFY_TOKEN; or accept "
            "notifications without a token with anonymous (--anonymous)"
        )
    if not is_enabled:
        _log.warning("notifications are off: DOCKHAND_NOTIFICATIONS_ENABLED is false")
    handlers = event_handlers(plugins) if dispatch else {}
    _log.info("handlers: %s", ", ".join(sorted(handlers)) or "none")

    def make_dispatcher() -> Dispatcher:
        return Dispatcher(
            inbox,
            handlers,
            executor or InProcessExecutor(handlers, timeout),
            concurrency=concurrency,
            backoff=backoff,
            lease=lease,
        )

    return Receiver(
        inbox,
        authenticator,
        NotificationEndpoint(inbox, authenticator, EventParsers(plugins), max_body),
        path if is_enabled else None,
        make_dispatcher if handlers else None,
    )


def _plugins_of(dockhand: Dockhand | AsyncDockhand | Plugins | None) -> Plugins:
    if dockhand is None:
        return load_manager().plugins
    plugins = dockhand if isinstance(dockhand, Plugins) else dockhand.plugins
    plugins.check()
    return plugins


class Receiver(Starlette):
    """The ASGI application that `create_app` returns.

    An application that mounts a receiver should run the receiver's lifespan as its own:
    `FastAPI(lifespan=receiver.lifespan)`. Without a lifespan, the receiver starts with its first
    request, and does not wait for deliveries in progress when the process ends; these are made
    again.

    Attributes:
        inbox: the inbox that stores the events.
    """

    def __init__(
        self,
        inbox: Inbox,
        authenticator: TokenAuthenticator,
        endpoint: NotificationEndpoint,
        path: str | None,
        make_dispatcher: Callable[[], Dispatcher] | None,
    ) -> None:
        self.inbox = inbox
        self._authenticator, self._endpoint = authenticator, endpoint
        self._make_dispatcher = make_dispatcher
        self._dispatcher: Dispatcher | None = None
        self._starting = asyncio.Lock()
        self._started = False
        self._probe: asyncio.Task[None] | None = None
        self._probed_at = 0.0  # of `time.monotonic`
        routes = []
        if path is not None:
            routes.append(Route(path, endpoint, methods=["POST"]))
            routes.append(Route(f"{path}/{{connection}}", endpoint, methods=["POST"]))
        routes.append(Route("/healthz", self._health, methods=["GET"]))
        routes.append(Route("/metrics", self._metrics, methods=["GET"]))
        super().__init__(routes=routes, lifespan=self.lifespan)
        # Behind a proxy that terminates TLS, a redirect to the path with another slash is to http,
        # and clients would send their token there.
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; start the dispatcher first if no lifespan has done so."""
        if not self._started and scope["type"] == "http":
            try:
                await self._start()
            except InboxError as error:
                _log.error("nothing can be taken: %s", error)
                await unavailable_reply()(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """Run the dispatcher until the context is left.

        An application that mounts the receiver uses this method as its own lifespan.
        """
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
            if self._make_dispatcher is not None:
                self._dispatcher = self._make_dispatcher()
                await self._dispatcher.start()
                self._endpoint.on_stored = self._dispatcher.wake
            self._started = True

    def counts(self) -> Counts:
        """Read the counts of the inbox from disk.

        Raises:
            InboxError: the inbox cannot be read.
        """
        return self.inbox.counts()

    async def _probe_inbox(self) -> None:
        """Check that the inbox can be written, at most once a second.

        Anybody may ask without a token, and each check writes to the disk. Requests share a check,
        and its success holds for a second. After a failure, the next check waits for its second.
        """
        loop, now, probe = asyncio.get_running_loop(), time.monotonic(), self._probe
        if probe is None or probe.get_loop() is not loop:
            probe = self._probe = loop.create_task(self._probe_after(0.0))
        elif probe.done():
            wait = self._probed_at + _PROBE_INTERVAL - now
            if wait <= 0 or probe.cancelled() or probe.exception() is not None:
                probe = self._probe = loop.create_task(self._probe_after(wait))
        await asyncio.shield(probe)

    async def _probe_after(self, wait: float) -> None:
        await asyncio.sleep(max(0.0, wait))
        self._probed_at = time.monotonic()
        await self.inbox.database.probe()

    async def _health(self, _: Request) -> Response:
        try:
            await self._probe_inbox()
        except InboxError as error:
            _log.error("not healthy: %s", error)
            return JSONResponse({"status": "the inbox cannot be written"}, 503)
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        if not self._authenticator.accepts(request.headers.get("authorization"), ""):
            return unauthorized_reply()
        try:
            counts = await asyncio.to_thread(self.inbox.counts)
        except InboxError as error:
            _log.error("no metrics: %s", error)
            return Response("the inbox cannot be read\n", 503, media_type="text/plain")
        return Response(
            exposition(counts, self._endpoint.refused),
            headers={"content-type": CONTENT_TYPE_LATEST},
        )
