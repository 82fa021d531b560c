"""Calls of the `close` methods of drivers, auth drivers and loggers, for a client that closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import (
    isasyncgen,
    isawaitable,
    iscoroutinefunction,
    isgeneratorfunction,
)
from typing import TYPE_CHECKING, Any

from dockhand_core.auth import AuthDriver
from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import DockhandError, PluginError
from dockhand_core.flow import Flow
from dockhand_core.flow.checks import described, dispose, is_flow
from dockhand_core.plugin_failures import reason_of

if TYPE_CHECKING:
    from dockhand_core.http.exchange import RegistryEndpoint
    from dockhand_core.http.secrets import Secrets

__all__ = [
    "CloseErrors",
    "check_closed",
    "closers",
    "closing_flow",
    "closing_runner",
    "may_block",
    "noting",
    "wrapped_logger",
]

# The runner whose drivers' `close` methods run in this context: they may still send requests.
closing_runner: ContextVar[object] = ContextVar("closing_runner", default=None)


def closers(plugins: Iterable[object]) -> Iterator[tuple[object, Callable[[], object]]]:
    """Iterate over the objects that have a `close` method: the object and the method of each."""
    for plugin in plugins:
        # Looked up in the class: structlog's loggers turn any attribute into a method that logs.
        if callable(getattr(type(plugin), "close", None)):
            yield plugin, getattr(plugin, "close")  # noqa: B009  # any class


def wrapped_logger(log: object) -> object:
    """The object that a structlog logger writes to; for any other logger, the logger itself."""
    return getattr(log, "_logger", log)


def may_block(close: Callable[[], object]) -> bool:
    """Whether a method `close` may block, so that an async client calls it in a thread."""
    function = getattr(close, "__func__", close)
    if function in (AuthDriver.close, RegistryDriver.close):
        return False
    return not (iscoroutinefunction(close) or isgeneratorfunction(close))


def closing_flow(plugin: object, answer: Any, endpoint: RegistryEndpoint) -> Flow[Any] | None:
    """The flow that a method `close` has returned, or None if it returned something else.

    Args:
        plugin: the object that is closed.
        answer: the result of its method `close`.
        endpoint: the registry's endpoint, which sends the requests of auth drivers.

    Raises:
        PluginError: the object cannot be closed by a flow, or the result is an async generator.
    """
    if isasyncgen(answer):
        raise PluginError(
            "close() is an async generator function; write a plain `def` with `yield from`"
        )
    if not is_flow(answer):
        return None
    if isinstance(plugin, AuthDriver):
        return endpoint.close_auth(plugin, answer)
    if isinstance(plugin, RegistryDriver):
        return answer  # type: ignore[no-any-return]  # `is_flow` was true
    raise PluginError(
        "close() is a generator function, which only drivers of registries and auth drivers may "
        "have; write a plain function"
    )


def check_closed(answer: object, close: Callable[[], object]) -> None:
    """Refuse an awaitable that a method `close` has returned to a blocking client.

    Args:
        answer: the result of the method.
        close: the method.
    """
    if not isawaitable(answer):
        return
    text = f"close() returned {described(answer)}"
    if iscoroutinefunction(close):
        text = "close() is a coroutine function"
    dispose(answer)
    raise PluginError(
        f"{text}, which is for async clients only; a plain function, or in a driver a generator "
        "function with `yield from`, serves both"
    )


@contextmanager
def noting(error: BaseException | None) -> Iterator[None]:
    """Add an error of closing to the error that ended a `with` block, which it would replace.

    Args:
        error: the error that ended the block, or None.
    """
    try:
        yield
    except DockhandError as failure:
        if error is None:
            raise
        error.add_note(f"afterwards, closing failed: {failure}")


class CloseErrors:
    """Collects the errors of `close` methods, so that one failure does not skip the others.

    Args:
        secrets: the connection's secrets, which are removed from the errors.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._first: PluginError | None = None

    @contextmanager
    def collected(self, plugin: object) -> Iterator[None]:
        """Catch an exception of the `with` block, and keep it as a `PluginError`.

        Args:
            plugin: the object that is closed; the message names its class.
        """
        try:
            yield
        except Exception as error:
            text = str(error) if isinstance(error, PluginError) else reason_of(error)
            failure = PluginError(f"{type(plugin).__name__}.close: {text}")
            failure.__cause__ = error
            self._secrets.clean(failure)
            self._first = self._first or failure

    def raise_first(self) -> None:
        """Raise the first error, if there was one."""
        if self._first is not None:
            raise self._first
