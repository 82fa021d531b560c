"""Calls of the `close` methods of drivers, auth drivers and loggers, for a client that closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from dockhand_core.errors import PluginError

__all__ = ["CloseErrors", "closers", "wrapped_logger"]


def closers(plugins: Iterable[object]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Iterate over the objects that have a `close` method: class name and method of each."""
    for plugin in plugins:
        # Looked up in the class: structlog's loggers turn any attribute into a method that logs.
        if callable(getattr(type(plugin), "close", None)):
            yield type(plugin).__name__, getattr(plugin, "close")  # noqa: B009  # any class


def wrapped_logger(log: object) -> object:
    """The object that a structlog logger writes to; for any other logger, the logger itself."""
    return getattr(log, "_logger", log)


class CloseErrors:
    """Collects the errors of `close` methods, so that one failure does not skip the others."""

    def __init__(self) -> None:
        self._first: PluginError | None = None

    @contextmanager
    def collected(self, plugin: str) -> Iterator[None]:
        """Catch an exception of the `with` block, and keep it as a `PluginError`.

        Args:
            plugin: the name of the plugin's class, for the message.
        """
        try:
            yield
        except Exception as error:
            failure = PluginError(f"{plugin}.close: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._first = self._first or failure

    def raise_first(self) -> None:
        """Raise the first error, if there was one."""
        if self._first is not None:
            raise self._first
