"""The request for an authorization token, with botocore. It blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from dockhand_core import DockhandError, ResponseInvalid
from dockhand_ecr.errors import from_botocore, from_reply

__all__ = ["Access", "get_authorization_token"]

# At the level DEBUG, these loggers write requests, signatures and replies, which hold secrets.
_TALKATIVE = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
_quiet = ContextVar("dockhand_ecr_quiet", default=False)


class Access(NamedTuple):
    """The credentials and the URL for requests to AWS; each None is botocore's default."""

    profile: str | None
    keys: tuple[str | None, ...] | None  # access key ID, secret access key, session token
    endpoint_url: str | None


def get_authorization_token(
    service: str, region: str, access: Access, timeout: float
) -> tuple[str, float]:
    """Request an authorization token.

    Each call has a session of its own, so it finds credentials that were renewed meanwhile, and
    may run in any thread.

    Args:
        service: `ecr` or `ecr-public`.
        region: AWS region.
        access: the credentials and the URL.
        timeout: time in seconds to connect, and for each receive.

    Returns:
        the token, which is `AWS:<password>` in base64, and the Unix time when it expires.

    Raises:
        DockhandError: no token; see `dockhand_ecr.errors`.
    """
    failure: DockhandError
    try:
        with _without_debug_lines():
            reply = _request(service, region, access, timeout)
    except ClientError as error:
        failure = from_reply(error, access.profile)
    except BotoCoreError as error:
        failure = from_botocore(error, access.profile, region)
    except ResponseParserError:
        failure = ResponseInvalid(f"Amazon ECR in {region}: the reply is malformed", status=200)
    else:
        data = reply.get("authorizationData")
        if isinstance(data, list):  # of `ecr`; `ecr-public` has a single object
            data = data[0] if data else None
        if data and data.get("authorizationToken") and data.get("expiresAt"):
            return str(data["authorizationToken"]), float(data["expiresAt"].timestamp())
        failure = ResponseInvalid(f"Amazon ECR in {region}: the reply has no token", status=200)
    raise failure  # not in the `except`, where botocore's exception would be its context


def _request(service: str, region: str, access: Access, timeout: float) -> Any:
    session = botocore.session.Session(profile=access.profile)
    if access.keys:
        session.set_credentials(*access.keys)
    config = Config(
        connect_timeout=timeout,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    client = session.create_client(
        service, region_name=region, endpoint_url=access.endpoint_url, config=config
    )
    with closing(client):
        return client.get_authorization_token()


class _NoDebugLines(logging.Filter):
    """Drops the debug lines of requests that this module sends, and of no others."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not _quiet.get()


for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_NoDebugLines())


@contextmanager
def _without_debug_lines() -> Iterator[None]:
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)
