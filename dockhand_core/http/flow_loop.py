"""The loops that run a flow to its end, sync and async, and the queue of parallel flows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import httpx
from pydantic import ValidationError

from dockhand_core.errors import PluginError
from dockhand_core.flow import Flow
from dockhand_core.flow.checks import (
    caller,
    described,
    dispose,
    is_flow,
    position_of,
    yield_from_hint,
)
from dockhand_core.plugin_failures import reason_of

__all__ = ["FlowQueue", "NotAnEffect", "call_function", "run_async", "run_sync"]

T = TypeVar("T")

# Exceptions that never leave a public method. If a flow raises one itself, its author made a
# mistake, such as a model made of a wrong value.
_INTERNAL = (ValidationError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


class NotAnEffect(Exception):  # never leaves this module
    """Raised by the function `perform` for a value that is not an effect."""


def run_sync(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run a flow to its end and return its result.

    Args:
        flow: the flow.
        perform: performs an effect and returns its result.

    Raises:
        PluginError: `flow` is not a generator, or it yields a value that is not an effect.
    """
    if not is_flow(flow):
        _refuse(flow)
    thrown: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                result = perform(effect)
            except NotAnEffect:
                _refuse_effect(flow, effect)
            except BaseException as error:
                thrown = error
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
    except _INTERNAL as error:
        _raise_own(flow, error, thrown)
    finally:
        thrown = None  # its traceback refers to this frame


async def run_async(flow: Generator[Any, Any, T], perform: Callable[[Any], Any]) -> T:
    """Run a flow to its end and return its result.

    If the task is cancelled, `CancelledError` is raised in the flow, so that the flow can clean up.

    Args:
        flow: the flow.
        perform: performs an effect; returns an awaitable of its result.

    Raises:
        PluginError: `flow` is not a generator, or it yields a value that is not an effect.
    """
    if not is_flow(flow):
        _refuse(flow)
    thrown: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                result = await perform(effect)
            except NotAnEffect:
                _refuse_effect(flow, effect)
            except BaseException as error:
                thrown = error
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
    except _INTERNAL as error:
        _raise_own(flow, error, thrown)
    finally:
        thrown = None  # its traceback refers to this frame


def _refuse(value: object) -> NoReturn:
    """Raise `PluginError` for an object that is not a flow."""
    dispose(value)
    raise PluginError(
        f"{caller()}: a flow is due, not {described(value)}; an operation of a driver has to be a "
        "generator function, for sync and async clients: a plain `def` with `yield from`"
    )


def _refuse_effect(flow: Generator[Any, Any, Any], effect: object) -> NoReturn:
    """End a flow that has yielded a wrong value.

    The error is not raised at the flow's `yield`: the flow might take it for a failed request.
    """
    where = position_of(flow)
    dispose(effect)
    with suppress(Exception):
        flow.close()
    raise PluginError(
        f"{where}: the flow yielded {described(effect)}, which is no effect"
        f"{yield_from_hint(effect)}. A flow does everything with `yield from`, such as "
        "`yield from call(…)`"
    )


def _raise_own(
    flow: Generator[Any, Any, Any], error: Exception, thrown: BaseException | None
) -> NoReturn:
    """Raise an exception of an effect again, and one of the flow's own code as `PluginError`."""
    if error is thrown:
        raise error
    name = getattr(flow, "__qualname__", "a flow")
    raise PluginError(f"{name}: {reason_of(error)}") from error


class FlowQueue:
    """A queue of flows for several workers. It ends early when one of the flows has failed.

    Args:
        flows: the flows.
        stop: called once when a flow has failed, or None.

    Attributes:
        results: the results of the flows that have ended, by position.
        error: the exception of the first flow that failed, or None.
    """

    def __init__(
        self, flows: Iterable[Flow[Any]], stop: Callable[[], object] | None = None
    ) -> None:
        self._flows = enumerate(flows)
        self._stop = stop
        self._lock = threading.Lock()
        self.results: dict[int, Any] = {}
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[tuple[int, Flow[Any]]]:
        while True:
            with self._lock:
                item = None if self.error else next(self._flows, None)
            if item is None:
                return
            yield item

    def failed(self, error: BaseException) -> None:
        """Record an error, which ends the queue."""
        with self._lock:
            first, self.error = self.error is None, self.error or error
        if first and self._stop is not None:
            self._stop()

    def outcome(self) -> list[Any]:
        """Return the results in the order of the flows, or raise the error."""
        if self.error is not None:
            raise self.error
        return [self.results[position] for position in sorted(self.results)]


def call_function(function: Callable[[], Any]) -> Any:
    """Call the function of `blocking`; neither a generator nor a future can raise `StopIteration`.

    asyncio would wait for such a future for ever.
    """
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("the function that blocking(…) called raised StopIteration") from error
