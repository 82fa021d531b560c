"""A wrapper with which a test uses the async client like the sync client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, cast

from dockhand_core import AsyncRegistryClient, RegistryClient


class BlockingLoop:
    """An event loop that runs only while a blocking call needs it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def resolve(self, value: Any) -> Any:
        """Make a result of the async client usable in blocking code.

        An awaitable is run, an async context manager is wrapped, and an async iterator
        becomes an iterator. Other values are returned unchanged.
        """
        if inspect.isawaitable(value):
            return self.resolve(self._runner.run(_await(value)))
        if hasattr(value, "__aenter__"):
            return _BlockingProxy(self, value)
        if isinstance(value, AsyncIterator):
            return self._iterate(value)
        return value

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._runner.run(_next(items, end))) is not end:
            yield item

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()


async def _await(value: Any) -> Any:
    return await value


async def _next(items: AsyncIterator[Any], end: object) -> Any:
    return await anext(items, end)


class _BlockingProxy:
    """A wrapper around an async reader, writer or client whose methods block."""

    def __init__(self, loop: BlockingLoop, inner: Any) -> None:
        self._loop, self._inner = loop, inner

    def __enter__(self) -> Self:
        self._loop.resolve(_await(self._inner.__aenter__()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.resolve(_await(self._inner.__aexit__(kind, error, trace)))

    def __iter__(self) -> Iterator[Any]:
        return cast("Iterator[Any]", self._loop.resolve(aiter(self._inner)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            values = {name: _unwrapped(value) for name, value in options.items()}
            return self._loop.resolve(found(*map(_unwrapped, args), **values))

        return call


def _unwrapped(value: Any) -> Any:
    """The async client itself, where a wrapped one is passed to another."""
    return value._inner if isinstance(value, _BlockingProxy) else value


def as_blocking(loop: BlockingLoop, client: AsyncRegistryClient) -> RegistryClient:
    """Wrap an async client, so that a test can use it like a sync client."""
    return cast("RegistryClient", _BlockingProxy(loop, client))
