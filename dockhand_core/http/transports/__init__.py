"""Transports: httpx is the interface; the library that carries the requests is chosen here.

Blocking clients use httpx itself. Asynchronous clients use aiohttp, which moves small replies over
many connections several times faster. The choice does not depend on what is installed.

Every transport behaves alike: one attempt, no redirect followed, no cookie kept, no header added
beyond those that HTTP/1.1 needs, the URL sent as it was given, timeouts taken from
``request.extensions["timeout"]``, and an `httpx.TransportError` where no whole reply arrives.
"""

from __future__ import annotations

# not `import httpx`: the module of that name in this package would replace it
from httpx import AsyncBaseTransport, BaseTransport, Limits

from dockhand_core.errors import ConfigError
from dockhand_core.http.transports.options import (
    KEEPALIVE_SECONDS,
    TransportOptions,
    environment_proxy,
    parse_proxy,
    ssl_context,
)

__all__ = [
    "ASYNC_TRANSPORTS",
    "SYNC_TRANSPORTS",
    "TRANSPORTS",
    "TransportOptions",
    "build_async_transport",
    "build_transport",
    "environment_proxy",
]

SYNC_TRANSPORTS = ("httpx",)
"""Names that `build_transport` takes; the first is the default."""

ASYNC_TRANSPORTS = ("aiohttp", "httpx")
"""Names that `build_async_transport` takes; the first is the default."""

TRANSPORTS = tuple(sorted({*SYNC_TRANSPORTS, *ASYNC_TRANSPORTS}))
"""Every name that a connection's `transport` setting may have."""


def build_transport(options: TransportOptions) -> BaseTransport:
    """Make the transport of a blocking client; threads may share it.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    from dockhand_core.http.transports.httpx import HttpxTransport

    _choose(options.name, SYNC_TRANSPORTS, "blocking")
    return HttpxTransport(
        verify=ssl_context(options),
        proxy=parse_proxy(options),
        limits=_limits(options, options.max_connections),
    )


def build_async_transport(options: TransportOptions) -> AsyncBaseTransport:
    """Make the transport of an asynchronous client, for one event loop.

    Raises:
        ConfigError: no such transport, or a file or a proxy that cannot be used.
    """
    name = _choose(options.name, ASYNC_TRANSPORTS, "asynchronous")
    context, proxy = ssl_context(options), parse_proxy(options)
    if name == "aiohttp":
        from dockhand_core.http.transports.aiohttp import AiohttpTransport

        return AiohttpTransport(context, proxy, options.max_connections)
    from dockhand_core.http.transports.httpx import AsyncHttpxTransport

    limits = _limits(options, None)  # the transport's slots count the connections
    return AsyncHttpxTransport(options.max_connections, verify=context, proxy=proxy, limits=limits)


def _choose(name: str | None, offered: tuple[str, ...], kind: str) -> str:
    if name is None:
        return offered[0]
    if name not in offered:
        raise ConfigError(
            f"transport {name!r} cannot carry {kind} clients; choose from: {', '.join(offered)}"
        )
    return name


def _limits(options: TransportOptions, max_connections: int | None) -> Limits:
    return Limits(
        max_connections=max_connections,
        max_keepalive_connections=options.max_connections,
        keepalive_expiry=KEEPALIVE_SECONDS,
    )
