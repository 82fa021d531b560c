"""Descriptions of plugins' exceptions, and warnings about plugins and settings."""

from __future__ import annotations

import functools
import logging
import re
import sys
from typing import TYPE_CHECKING, TypeGuard

from dockhand_core.http.urls import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

__all__ = ["exception_chain", "reason_of", "warn", "warn_once"]

_USER_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]*@")


def reason_of(error: BaseException) -> str:
    """Describe an exception in one line without control characters.

    Credentials in URLs and the input that a pydantic model refused are left out.
    """
    try:
        if _is_validation_error(error):
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            text = f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            text = str(error)
    except Exception:  # the exception of a plugin may not even be printable
        text = ""
    flat = one_line(_USER_IN_URL.sub("", text))
    return f"{type(error).__name__}: {flat}" if flat else type(error).__name__


def exception_chain(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an exception, its causes and contexts, and the members of groups, each once.

    The links of an exception are read after it was given, so the caller may remove one.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _is_validation_error(error: BaseException) -> TypeGuard[ValidationError]:
    """Whether an exception is pydantic's. If pydantic is not loaded, nothing has raised it."""
    pydantic = sys.modules.get("pydantic_core")
    return pydantic is not None and isinstance(error, pydantic.ValidationError)


def warn(text: str, logger: str = "dockhand.plugins") -> None:
    """Log a warning, and make sure that it is on standard error.

    If the application has set up logging to another place, or not at all, the warning is written to
    standard error, too: otherwise nobody would notice why a plugin or a setting does nothing. The
    level `ERROR` for the logger silences both.

    Args:
        text: the warning.
        logger: the logger's name.
    """
    log = logging.getLogger(logger)
    if not log.isEnabledFor(logging.WARNING):
        return
    handlers = _handlers(log)
    if handlers:
        log.warning("%s", text)
    if sys.stderr is not None and not any(_is_stderr(handler) for handler in handlers):
        sys.stderr.write(f"WARNING {logger}: {text}\n")


@functools.lru_cache(128)
def warn_once(text: str, logger: str = "dockhand.plugins") -> None:
    """Log a warning like `warn`, but not the same text again."""
    warn(text, logger)


def _handlers(log: logging.Logger) -> list[logging.Handler]:
    """The handlers that get the logger's records; `NullHandler`s write nothing and do not count."""
    found: list[logging.Handler] = []
    logger: logging.Logger | None = log
    while logger is not None:
        found += [each for each in logger.handlers if not isinstance(each, logging.NullHandler)]
        logger = logger.parent if logger.propagate else None
    return found


def _is_stderr(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return stream in (sys.stderr, sys.__stderr__) and handler.level <= logging.WARNING
