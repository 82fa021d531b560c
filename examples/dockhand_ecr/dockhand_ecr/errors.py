"""The exceptions of the driver, made from those of botocore.

They quote neither keys nor tokens: a reply about a wrong signature may hold the session token, and
the message of a credential process anything.
"""

from __future__ import annotations

from typing import Any

from botocore import exceptions as aws

from dockhand_core import (
    ConfigError,
    ConnectionFailed,
    Denied,
    DockhandError,
    RegistryError,
    ServerError,
    Timeout,
    TooManyRequests,
    Unauthorized,
)
from dockhand_core.http.urls import redacted_url

__all__ = ["ClockSkewed", "CredentialsNotFound", "SessionExpired", "from_botocore", "from_reply"]


class CredentialsNotFound(DockhandError):
    """There are no AWS credentials, or they cannot be read."""


class SessionExpired(Unauthorized):
    """The session of temporary credentials, such as one of `aws sso login`, has expired."""


class ClockSkewed(Unauthorized):
    """The clock of this machine differs too much from that of AWS."""


_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_SKEWED = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_WRONG_KEY = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_EXPIRED_SESSIONS = (
    aws.LoginError,
    aws.SSOTokenLoadError,
    aws.TokenRetrievalError,
    aws.UnauthorizedSSOTokenError,
)
_WRONG_SETTINGS = (
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.InvalidConfigError,
    aws.InvalidRegionError,
    aws.ProfileNotFound,
    aws.UnknownEndpointError,
)


def from_reply(error: Any, profile: str | None) -> RegistryError:
    """Make the exception for an error that AWS replied, a botocore `ClientError`."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = str(error.response.get("Error", {}).get("Message", ""))
    meta = error.response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0))
    action = f"AWS refuses {error.operation_name}"
    if code in _EXPIRED:
        return SessionExpired(
            f"{action}: the session has expired; {_renew(profile)}", status=status
        )
    if code in _SKEWED or text.startswith(("Signature expired", "Signature not yet current")):
        date = meta.get("HTTPHeaders", {}).get("date", "more than five minutes away")
        return ClockSkewed(
            f"{action}: the clock of this machine is wrong, AWS's time is {date}; set the clock, "
            "and let NTP keep it",
            status=status,
        )
    if code in _DENIED:
        return Denied(
            f"{action}: {_line(text)}. The identity needs a policy that allows this action; "
            "for tokens, ecr:GetAuthorizationToken on the resource *",
            status=status,
        )
    if code in _WRONG_KEY:
        return Unauthorized(
            f"{action}: the access key is wrong or was deleted ({code}); try the same credentials "
            f"with `aws sts get-caller-identity{_option(profile)}`",
            status=status,
        )
    if status == 429 or code in ("Throttling", "ThrottlingException", "TooManyRequestsException"):
        return TooManyRequests(f"{action}: too many requests; try again later", status=status)
    kind = Denied if status in (401, 403) else ServerError if status >= 500 else RegistryError
    return kind(f"{action}, with status {status} ({_line(code)})", status=status)


def from_botocore(error: Any, profile: str | None, region: str) -> DockhandError:
    """Make the exception for a `BotoCoreError`: no credentials, no connection, a wrong setting."""
    place = redacted_url(str(error.kwargs.get("endpoint_url") or f"Amazon ECR in {region}"))
    match error:
        case aws.ReadTimeoutError() | aws.ConnectTimeoutError():
            return Timeout(f"{place}: no reply within the connection's `timeout`")
        case aws.ProxyConnectionError():
            return ConnectionFailed(f"{place}: the proxy of HTTPS_PROXY cannot be reached")
        case aws.SSLError():
            return ConnectionFailed(
                f"{place}: the TLS connection failed; the variable AWS_CA_BUNDLE can name a file "
                "with the certificates to trust"
            )
        case aws.ConnectionError() | aws.HTTPClientError():
            return ConnectionFailed(
                f"{place} cannot be reached, or ended the connection; check the network, "
                "`endpoint_url`, and whether this region has ECR"
            )
    if isinstance(error, _EXPIRED_SESSIONS):
        return SessionExpired(f"the AWS session has expired; {_renew(profile)}", status=None)
    if isinstance(error, _WRONG_SETTINGS):
        return ConfigError(f"AWS's configuration: {_line(str(error))}")
    if isinstance(error, aws.NoCredentialsError):
        return CredentialsNotFound(
            "no AWS credentials found: run `aws configure` or `aws sso login`, set `profile` or "
            "`access_key_id` in the connection's `auth` table, or give the machine a role"
        )
    if isinstance(error, aws.PartialCredentialsError):
        return CredentialsNotFound(f"AWS's configuration: {_line(str(error))}")
    return CredentialsNotFound(
        f"AWS credentials cannot be used ({type(error).__name__}); see why with "
        f"`aws sts get-caller-identity{_option(profile)}`"
    )


def _renew(profile: str | None) -> str:
    return f"run `aws sso login{_option(profile)}`, or get new temporary keys"


def _option(profile: str | None) -> str:
    return f" --profile {profile}" if profile else ""


def _line(text: str) -> str:
    """A text of AWS in one line of limited length, without its full stop."""
    return " ".join(text.split())[:300].rstrip(".")
