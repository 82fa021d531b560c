"""The auth driver `google`, which logs in to Artifact Registry with Google's credentials."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google.auth
from google.auth import impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request as GoogleRequest
from requests import RequestException

from dockhand_core import AuthDriver, ConnectionFailed, DockhandError
from dockhand_core.auth import Request, Response
from dockhand_core.text import printable

__all__ = ["CredentialsNotFound", "GoogleAuth", "TokenRefused"]

_TIMEOUT = 30.0  # seconds; the connection's is used if the request has it
_DEFAULT_LIFETIME = 300.0  # seconds, for a token that does not say when it expires
# google-auth raises the later ones if a reply or a file is not as it expects
_ERRORS = (GoogleAuthError, OSError, AttributeError, LookupError, TypeError, ValueError)
_LONGEST_TEXT = 300  # characters of a reply that an error quotes


class CredentialsNotFound(DockhandError):
    """There are no credentials, or their file cannot be used; the message says what to do."""


class TokenRefused(DockhandError):
    """Google gives no access token for the credentials; the message says what to check."""


class GoogleAuth(AuthDriver):
    """Adds an access token of Google to each request, and gets a new one when it expires."""

    class Settings(AuthDriver.Settings):
        """The keys of the connection's `auth` table, beside `driver`.

        Attributes:
            credentials_file: file of a service account's key, of workload identity federation, or
                of a user's login. None for Application Default Credentials: the file that
                `GOOGLE_APPLICATION_CREDENTIALS` names, gcloud's login, or the machine's account.
            impersonate: e-mail address of a service account whose token to get instead.
            scopes: OAuth scopes of the token.
        """

        credentials_file: Path | None = None
        impersonate: str | None = None
        scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._credentials: Any = None

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Add an access token to the request; after a 401, send it once more with a new one."""
        timeout = request.extensions.get("timeout", {}).get("connect") or _TIMEOUT

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            return (yield from self.blocking(self._ask_google, timeout))

        token = yield from self.cached_token("token", obtain)
        request.headers["Authorization"] = f"Bearer {token}"
        response: Response = yield request
        if response.status_code == 401:
            renewed = yield from self.cached_token("token", obtain, refused=token)
            if renewed != token:  # a metadata server keeps its token until it nearly expires
                request.headers["Authorization"] = f"Bearer {renewed}"
                yield request

    def _ask_google(self, timeout: float) -> tuple[str, float]:
        """Get a new access token, and its lifetime in seconds.

        Only one thread at a time is here, because `cached_token` makes the others wait.
        """
        transport: Any = _Transport(timeout)
        credentials, self._credentials = self._credentials, None  # found anew after a failure
        failed: DockhandError | None = None
        try:
            credentials = credentials or self._find(transport)
            credentials.refresh(transport)
        except _ERRORS as error:
            failed = self._as_dockhand_error(error, found=credentials is not None)
        finally:
            transport.session.close()
        if failed is not None:  # raised here, so that it does not hold Google's error with a reply
            raise failed
        token, expiry = credentials.token, credentials.expiry
        if not isinstance(token, str) or not token:
            raise TokenRefused("Google's reply has no access token")
        self._credentials = credentials
        if expiry is None:
            return token, _DEFAULT_LIFETIME
        return token, (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()

    def _find(self, transport: Any) -> Any:
        settings, scopes = self.settings, list(self.settings.scopes)
        if settings.credentials_file is None:
            found, _ = google.auth.default(scopes=scopes, request=transport)
        else:
            found, _ = google.auth.load_credentials_from_file(
                str(settings.credentials_file), scopes=scopes, request=transport
            )
        if settings.impersonate is None:
            return found
        return impersonated_credentials.Credentials(
            source_credentials=found, target_principal=settings.impersonate, target_scopes=scopes
        )

    def _as_dockhand_error(self, error: Exception, *, found: bool) -> DockhandError:
        """Make the error that reaches the caller, without the reply, which may have a token."""
        reason = _reason(error)
        if _is_of_network(error):
            return ConnectionFailed(f"no access token from Google: {reason}")
        if not found and self.settings.credentials_file is not None:
            return CredentialsNotFound(f"{self.settings.credentials_file}: {reason}")
        if not found:
            return CredentialsNotFound(
                f"no Google credentials: {reason}. Set credentials_file in the auth table or "
                "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`; "
                "on Google Cloud, give the machine or the pod a service account"
            )
        if self.settings.impersonate is not None:
            return TokenRefused(
                f"no access token for {self.settings.impersonate}: {reason}. The account of the "
                "credentials needs roles/iam.serviceAccountTokenCreator on it, and the project the "
                "API iamcredentials.googleapis.com"
            )
        return TokenRefused(
            f"no access token from Google: {reason}. A key may be deleted, a login may have to be "
            "renewed (`gcloud auth application-default login`), the clock may be wrong, or the "
            "machine may have no service account"
        )


class _Transport:
    """Google's transport on requests, with the connection's timeout instead of two minutes."""

    def __init__(self, timeout: float) -> None:
        self._request: Any = GoogleRequest()
        self._timeout = timeout
        self.session = self._request.session  # google-auth adds adapters to it

    def __call__(self, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._request(*args, timeout=timeout or self._timeout, **options)


def _is_of_network(error: BaseException | None) -> bool:
    """Whether the error, or one that it was raised from, is one of requests."""
    while error is not None:
        if isinstance(error, RequestException):
            return True
        error = error.__cause__
    return False


def _reason(error: Exception) -> str:
    """The first argument of an error of google-auth; the second one may be the whole reply."""
    while isinstance(error, GoogleAuthError) and error.args:
        if not isinstance(error.args[0], Exception):
            return printable(str(error.args[0]))[:_LONGEST_TEXT].rstrip(".")
        error = error.args[0]
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"a reply or the credentials are malformed ({type(error).__name__})"
