"""The errors of an exchange: those of httpx, and those of a wrong call, become Dockhand's."""

from __future__ import annotations

import httpx

from dockhand_core.errors import ConnectionFailed, PluginError, Timeout
from dockhand_core.flow import Call
from dockhand_core.http.bodies import UploadBody
from dockhand_core.http.secrets import Secrets
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.plugin_failures import reason_of

__all__ = ["explained_errors", "translated_errors"]


class explained_errors:
    """A context manager that explains an error that a wrong argument of `call` causes.

    Like the next one, it is a class because generators take several times longer, and each request
    uses a few of them.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, AttributeError | TypeError):
            where = f"{self._call.method} {redacted_url(self._call.path)}"
            raise PluginError(
                f"{where}: call(…) has a wrong argument: {reason_of(error)}"
            ) from error


class translated_errors:
    """A context manager that converts httpx's exceptions to `ConnectionFailed` or `Timeout`.

    If the source of the request's body raised an exception, that exception is raised instead.
    """

    def __init__(self, method: str, url: str, request: httpx.Request, secrets: Secrets) -> None:
        self._method, self._url, self._request, self._secrets = method, url, request, secrets

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, httpx.HTTPError):
            return
        body = self._request.stream
        if isinstance(body, UploadBody) and body.error is not None:
            raise body.error from None
        where = f"{self._method} {redacted_url(self._url)}"
        reason = one_line(self._secrets.text(str(error), reply=True)) or type(error).__name__
        kind: type[ConnectionFailed] = ConnectionFailed
        text = reason
        if isinstance(error, httpx.TimeoutException):
            kind, text = Timeout, f"no answer in time ({reason})"
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        local = isinstance(error, httpx.PoolTimeout)
        raise kind(f"{where}: {text}", unsent=unsent, local=local) from None
