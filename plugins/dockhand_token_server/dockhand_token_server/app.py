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
from dockhand_token_server.authority import Authority, Grant
from dockhand_token_server.limits import client_address
from dockhand_token_server.requests import Refused, read_form, read_query
from dockhand_token_server.settings import Settings, load_settings

__all__ = ["create_app"]

_CHALLENGE = 'Basic realm="dockhand", charset="UTF-8"'
_JWKS_SECONDS = 300  # so long may those who verify keep what they fetched


def create_app(
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    *,
    plugins: Plugins | None = None,
) -> Starlette:
    """An ASGI application that answers `/token` and `/.well-known/jwks.json`.

    Serve it alone, or mount it: `Mount("/auth", create_app("authority.toml"))`. It needs no
    lifespan.

    Args:
        settings: what the authority is told: a file such as `authority.toml`, a mapping with the
            same keys (relative paths start at the working folder), or `Settings`.
        plugins: whose hooks are asked; those installed unless given (`dockhand.plugins` has those
            registered on a manager as well).

    Raises:
        ConfigError: something in the settings is wrong; the message names it.
        PluginError: the plugin that is to be the backend is not there.

    Follows: Distribution's "Docker Registry v2 authentication via central service" and "… using
    OAuth2"; RFC 7517, section 5, for the set of keys.
    """
    if isinstance(settings, str | os.PathLike):
        settings = load_settings(settings)
    elif not isinstance(settings, Settings):
        settings = Settings.parse(settings)
    endpoint = _Endpoint(settings, Authority(settings, plugins or Plugins()))
    return Starlette(
        routes=[
            Route("/token", endpoint.token, methods=["GET", "POST"]),
            Route("/.well-known/jwks.json", endpoint.jwks, methods=["GET"]),
        ],
        exception_handlers={Refused: _refusal, HTTPException: _http_error},
    )


class _Endpoint:
    def __init__(self, settings: Settings, authority: Authority) -> None:
        self._trusted = settings.trusted_proxies
        self._authority = authority

    async def token(self, request: Request) -> Response:
        wanted = await read_form(request) if request.method == "POST" else read_query(request)
        peer = request.client.host if request.client else ""
        forwarded = request.headers.getlist("x-forwarded-for")
        address = client_address(peer, forwarded, self._trusted)
        return _reply(await self._authority.answer(wanted, address))

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(
            await self._authority.keys.jwks(),
            media_type="application/jwk-set+json",
            headers={"Cache-Control": f"public, max-age={_JWKS_SECONDS}"},
        )


def _reply(grant: Grant) -> Response:
    content = {
        "token": grant.token,
        "access_token": grant.token,  # some clients read this one
        "token_type": "Bearer",
        "expires_in": grant.lifetime,
        "issued_at": grant.issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scope": " ".join(map(str, grant.scopes)),
    }
    if grant.refresh_token is not None:
        content["refresh_token"] = grant.refresh_token
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    return JSONResponse(error.body, error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """A path or a method that there is not, in the form that clients read."""
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, "UNSUPPORTED", f"{request.method}: {error.detail}")
    return JSONResponse(refused.body, error.status_code, error.headers)
