"""One test body for the sync and the async client: the latter, driven as if it blocked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, cast

from dockhand_core import AsyncRegistryClient, RegistryClient


class Loop:
    """An event loop that a test drives."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def finish(self, value: Any) -> Any:
        """What an async client's method gave, as the sync one would give it."""
        if inspect.isawaitable(value):
            return self.finish(self._runner.run(_await(value)))
        if hasattr(value, "__aenter__"):
            return _Handle(self, value)
        if isinstance(value, AsyncIterator):
            return self._iterate(value)
        return value

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._runner.run(_next(items, end))) is not end:
            yield item

    def close(self) -> None:
        """End the loop."""
        self._runner.close()


async def _await(value: Any) -> Any:
    return await value


async def _next(items: AsyncIterator[Any], end: object) -> Any:
    return await anext(items, end)


class _Handle:
    """An async reader, writer or client."""

    def __init__(self, loop: Loop, inner: Any) -> None:
        self._loop, self._inner = loop, inner

    def __enter__(self) -> Self:
        self._loop.finish(_await(self._inner.__aenter__()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.finish(_await(self._inner.__aexit__(kind, error, trace)))

    def __iter__(self) -> Iterator[Any]:
        return cast("Iterator[Any]", self._loop.finish(aiter(self._inner)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        return lambda *args, **options: self._loop.finish(found(*args, **options))


def driven(loop: Loop, client: AsyncRegistryClient) -> RegistryClient:
    """An async client with the sync one's face."""
    return cast("RegistryClient", _Handle(loop, client))
