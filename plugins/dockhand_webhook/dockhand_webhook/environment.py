"""Settings of the receiver from environment variables: its route, its token, enabled or not."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from dockhand_core import ConfigError
from dockhand_core.config import check_variables

__all__ = ["check_names", "is_enabled", "notify_tokens", "route"]

_DEFAULT_ROUTE = "/dockhand/notify"
_ROUTE = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
_VARIABLES = (
    "DOCKHAND_NOTIFICATIONS_ENABLED",
    "DOCKHAND_NOTIFICATIONS_ROUTE",
    "DOCKHAND_NOTIFY_TOKEN",
)
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True}
_BOOLEANS |= {"false": False, "0": False, "no": False, "off": False}


def check_names(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse misspelt names of the receiver's environment variables.

    Raises:
        ConfigError: the name of a variable is unknown, and similar to a known name, which the
            message suggests.
    """
    check_variables(environ, _VARIABLES, with_file=["DOCKHAND_NOTIFY_TOKEN"])


def is_enabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether notifications are accepted: `DOCKHAND_NOTIFICATIONS_ENABLED`, true by default.

    Raises:
        ConfigError: the variable's value is not a boolean, such as `true` or `off`.
    """
    text = environ.get("DOCKHAND_NOTIFICATIONS_ENABLED", "true")
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ConfigError(
            f"DOCKHAND_NOTIFICATIONS_ENABLED is neither true nor false: {text!r}"
        ) from None


def route(path: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """The path that registries post notifications to.

    Args:
        path: the path; default: `DOCKHAND_NOTIFICATIONS_ROUTE`, or `/dockhand/notify`.
        environ: the environment variables.

    Raises:
        ConfigError: the path is not valid.
    """
    text = path or environ.get("DOCKHAND_NOTIFICATIONS_ROUTE") or _DEFAULT_ROUTE
    text = "/" + text.strip("/")
    if not _ROUTE.fullmatch(text):
        raise ConfigError(
            f"DOCKHAND_NOTIFICATIONS_ROUTE must be a path such as {_DEFAULT_ROUTE!r}, of letters, "
            "digits and '-._~' between slashes"
        )
    return text


def notify_tokens(environ: Mapping[str, str] = os.environ) -> list[SecretStr]:
    """Read the token in `DOCKHAND_NOTIFY_TOKEN`, or in the file `DOCKHAND_NOTIFY_TOKEN_FILE`.

    Returns:
        a list with the token; an empty list if there is none.

    Raises:
        ConfigError: the file cannot be read.
    """
    token = environ.get("DOCKHAND_NOTIFY_TOKEN", "")
    file = environ.get("DOCKHAND_NOTIFY_TOKEN_FILE")
    if file:
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is not text in UTF-8"
            raise ConfigError(f"DOCKHAND_NOTIFY_TOKEN_FILE: {file}: {reason}") from None
    return [SecretStr(token.strip())] if token.strip() else []
