"""The token endpoint as an ASGI application."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dockhand_core import Plugins
from dockhand_core.server import client_address, load_manager
from dockhand_token_server.settings import Settings, load_settings
from dockhand_token_server.token_issuer import IssuedToken, TokenIssuer
from dockhand_token_server.token_requests import TokenRequestError, read_form, read_query

__all__ = ["create_app"]

_CHALLENGE = 'Basic realm="dockhand", charset="UTF-8"'
_JWKS_MAX_AGE = 300  # seconds that clients may cache the JWKS


def create_app(
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    *,
    plugins: Plugins | None = None,
) -> Starlette:
    """Create an ASGI application that answers `/token` and `/.well-known/jwks.json`.

    The application can be served alone or mounted in another application:
    `Mount("/auth", create_app("authority.toml"))`. It does not use the ASGI lifespan.

    Args:
        settings: the path of a file such as `authority.toml`, a mapping with the same keys
            (relative paths start at the working folder), or `Settings`.
        plugins: the plugins whose hooks are called. The default is all installed plugins, which
            get the settings in `dockhand.toml` and the environment. Pass the attribute `plugins` of
            a `Dockhand` to include plugins that are registered on it.

    Raises:
        ConfigError: a setting is wrong; the message names the setting.
        PluginError: the plugin that the setting `backend` names is missing; or a plugin is broken,
            and `DOCKHAND_STRICT_PLUGINS` is set.

    Follows: Distribution's "Docker Registry v2 authentication via central service" and "Docker
    Registry v2 authentication using OAuth2"; RFC 7517, section 5, for the JWKS.
    """
    if isinstance(settings, str | os.PathLike):
        settings = load_settings(settings)
    elif not isinstance(settings, Settings):
        settings = Settings.parse(settings)
    if plugins is None:
        plugins = load_manager().plugins
    else:
        plugins.check()
    handlers = _RequestHandlers(settings, TokenIssuer(settings, plugins))
    app = Starlette(
        routes=[
            Route("/token", handlers.token, methods=["GET", "POST"]),
            Route("/.well-known/jwks.json", handlers.jwks, methods=["GET"]),
        ],
        exception_handlers={
            TokenRequestError: _token_request_error_response,
            HTTPException: _http_exception_response,
        },
    )
    # Behind a proxy that terminates TLS, a redirect to the path with another slash is to http, and
    # clients would send their password there.
    app.router.redirect_slashes = False
    return app


class _RequestHandlers:
    """The handlers of the application's routes."""

    def __init__(self, settings: Settings, issuer: TokenIssuer) -> None:
        self._trusted_proxies = settings.trusted_proxies
        self._issuer = issuer

    async def token(self, request: Request) -> Response:
        token_request = (
            await read_form(request) if request.method == "POST" else read_query(request)
        )
        peer = request.client.host if request.client else ""
        forwarded = request.headers.getlist("x-forwarded-for")
        address = client_address(peer, forwarded, self._trusted_proxies)
        return _token_response(await self._issuer.issue(token_request, address))

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(
            await self._issuer.keys.jwks(),
            media_type="application/jwk-set+json",
            headers={"Cache-Control": f"public, max-age={_JWKS_MAX_AGE}"},
        )


def _token_response(issued: IssuedToken) -> Response:
    content = {
        "token": issued.token,
        "access_token": issued.token,  # some clients read this field instead of `token`
        "token_type": "Bearer",
        "expires_in": issued.lifetime,
        "issued_at": issued.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scope": " ".join(map(str, issued.scopes)),
    }
    if issued.refresh_token is not None:
        content["refresh_token"] = issued.refresh_token
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


async def _token_request_error_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, TokenRequestError)
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    return JSONResponse(error.body, error.status, headers)


async def _http_exception_response(request: Request, error: Exception) -> Response:
    """Refuse a request with an unknown path or method, in the format of all other errors."""
    assert isinstance(error, HTTPException)
    body = TokenRequestError(
        error.status_code, "UNSUPPORTED", f"{request.method}: {error.detail}"
    ).body
    return JSONResponse(body, error.status_code, error.headers)
