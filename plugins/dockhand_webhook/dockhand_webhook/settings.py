"""What the environment says of the receiver."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from dockhand_core import ConfigError

__all__ = ["is_enabled", "notify_tokens", "route"]

ROUTE = "/dockhand/notify"
_ROUTE = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
_WORDS = {"true": True, "1": True, "yes": True, "on": True}
_WORDS |= {"false": False, "0": False, "no": False, "off": False}


def is_enabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether notifications are taken: `DOCKHAND_NOTIFICATIONS_ENABLED`, true unless it is set.

    Raises:
        ConfigError: it is neither true nor false.
    """
    text = environ.get("DOCKHAND_NOTIFICATIONS_ENABLED", "true")
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise ConfigError("DOCKHAND_NOTIFICATIONS_ENABLED is neither true nor false") from None


def route(given: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """The path that notifications are posted to: `DOCKHAND_NOTIFICATIONS_ROUTE`.

    Args:
        given: the path, if it is not for the environment to say.
        environ: the environment.

    Raises:
        ConfigError: it is no path.
    """
    text = given or environ.get("DOCKHAND_NOTIFICATIONS_ROUTE") or ROUTE
    text = "/" + text.strip("/")
    if not _ROUTE.fullmatch(text):
        raise ConfigError(
            f"DOCKHAND_NOTIFICATIONS_ROUTE is a path such as {ROUTE!r}, of letters, digits and "
            "'-._~' between slashes"
        )
    return text


def notify_tokens(environ: Mapping[str, str] = os.environ) -> list[SecretStr]:
    """The token in `DOCKHAND_NOTIFY_TOKEN`, or in the file that `DOCKHAND_NOTIFY_TOKEN_FILE` names.

    Raises:
        ConfigError: the file cannot be read.
    """
    token = environ.get("DOCKHAND_NOTIFY_TOKEN", "")
    file = environ.get("DOCKHAND_NOTIFY_TOKEN_FILE")
    if file:
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise ConfigError(f"DOCKHAND_NOTIFY_TOKEN_FILE: {file}: {reason}") from None
    return [SecretStr(token.strip())] if token.strip() else []
