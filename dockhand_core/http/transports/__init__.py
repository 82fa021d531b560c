"""Transports, which send HTTP requests. All have httpx's transport interface.

Sync clients use h11 by default, over the network streams of httpcore: the parser of httpx, without
its layers. Async clients use aiohttp by default, which is several times faster than httpx for small
replies over many connections. The defaults do not depend on which libraries are installed. Tools
that record or mock the requests of httpx, such as vcrpy, need ``transport="httpx"``.

Every transport behaves in the same way:

- It sends a request once, and follows no redirects.
- It stores no cookies, and adds no headers except those that HTTP/1.1 requires.
- It sends the URL unchanged.
- It takes the timeouts from ``request.extensions["timeout"]``. The timeout `pool` applies to a wait
  during which no other request makes progress.
- It chooses the proxy for the URL of each request, and shows the client certificate to the
  registry's origin only.
- It connects only to addresses that the rule in ``request.extensions[ADDRESSES]`` allows, if there
  is one, and raises the rule's error otherwise. If a proxy carries the request, only a URL that has
  an IP address in place of a host name is checked.
- It raises an `httpx.TransportError` if no complete reply arrives.
"""

from __future__ import annotations

# not `import httpx`: importing this package's own submodule `httpx` would overwrite that name
from httpx import AsyncBaseTransport, BaseTransport

from dockhand_core.errors import ConfigError
from dockhand_core.http.transports.options import TransportOptions
from dockhand_core.http.transports.proxies import environment_proxy
from dockhand_core.http.transports.routes import Routes

__all__ = [
    "ASYNC_TRANSPORTS",
    "SYNC_TRANSPORTS",
    "TRANSPORTS",
    "TransportOptions",
    "build_async_transport",
    "build_transport",
    "environment_proxy",
]

SYNC_TRANSPORTS = ("h11", "httpx")
"""Names of transports that `build_transport` accepts; the first is the default."""

ASYNC_TRANSPORTS = ("aiohttp", "httpx")
"""Names of transports that `build_async_transport` accepts; the first is the default."""

TRANSPORTS = tuple(sorted({*SYNC_TRANSPORTS, *ASYNC_TRANSPORTS}))
"""All values that a connection's setting `transport` may have."""


def build_transport(options: TransportOptions) -> BaseTransport:
    """Make the transport of a sync client; threads may share it.

    Raises:
        ConfigError: there is no sync transport of that name, a certificate or key file cannot be
            read, or the proxy is not valid.
    """
    name = _choose(options.name, SYNC_TRANSPORTS, "blocking")
    routes = Routes(options)
    if name == "h11":
        from dockhand_core.http.transports.h11 import H11Transport

        return H11Transport(routes, options.max_connections)
    from dockhand_core.http.transports.httpx import HttpxTransport

    return HttpxTransport(routes, options.max_connections)


def build_async_transport(options: TransportOptions) -> AsyncBaseTransport:
    """Make the transport of an async client, for use in one event loop.

    Raises:
        ConfigError: there is no async transport of that name, a certificate or key file cannot be
            read, or the proxy is not valid.
    """
    name = _choose(options.name, ASYNC_TRANSPORTS, "asynchronous")
    routes = Routes(options)
    if name == "aiohttp":
        from dockhand_core.http.transports.aiohttp import AiohttpTransport

        return AiohttpTransport(routes, options.max_connections)
    from dockhand_core.http.transports.httpx import AsyncHttpxTransport

    return AsyncHttpxTransport(routes, options.max_connections)


def _choose(name: str | None, offered: tuple[str, ...], kind: str) -> str:
    if name is None:
        return offered[0]
    if name not in offered:
        raise ConfigError(
            f"transport {name!r} cannot carry {kind} clients; choose from: {', '.join(offered)}"
        )
    return name
