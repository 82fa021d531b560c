"""Plain errors for mistakes in flows, such as a forgotten `yield from`.

The checks cost a correct flow next to nothing: they look at a flow when something has failed.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from pathlib import Path
from types import FrameType, GeneratorType
from typing import Any, NoReturn, TypeVar, cast

from dockhand_core.errors import PluginError

__all__ = [
    "YieldFrom",
    "caller",
    "check_blocking",
    "described",
    "dispose",
    "is_flow",
    "needs_yield_from",
    "position_of",
    "yield_from_hint",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_LIBRARIES = frozenset({"dockhand_core", "functools", "httpx", "json", "pydantic", "urllib"})


class YieldFrom(Generator[Any, Any, T]):
    """The steps of a function such as `call` or `blocking`; `yield from` gives their result.

    Without `yield from`, an author would go on with this object instead of the result. So it
    refuses to become text or bytes, and has none of the result's attributes.

    Args:
        name: the function's name, for messages.
        steps: the generator of the steps.
    """

    __slots__ = ("_name", "_steps")

    def __init__(self, name: str, steps: Generator[Any, Any, T]) -> None:
        self._name, self._steps = name, steps

    def __iter__(self) -> Generator[Any, Any, T]:
        # `yield from` runs this generator itself, as fast as if there were no object around it.
        return self._steps

    def __next__(self) -> Any:
        return next(self._steps)

    def send(self, value: Any) -> Any:
        """Resume the steps with a result."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the steps."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """End the steps."""
        self._steps.close()

    def _refuse(self, *_: Any) -> NoReturn:
        raise PluginError(f"{caller()}: {self._name}(…) is used without `yield from` before it")

    __str__ = __bytes__ = __format__ = __bool__ = __getitem__ = __add__ = __radd__ = _refuse
    __len__ = __contains__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __eq__ = __ne__ = _refuse
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse()

    def __repr__(self) -> str:
        return f"<{self._name}(…) without `yield from`>"


def needs_yield_from(function: F) -> F:
    """Decorate a generator function, so that its result is only of use after `yield from`."""
    name = function.__name__

    @functools.wraps(function)
    def make(*args: Any, **options: Any) -> Any:
        return YieldFrom(name, function(*args, **options))

    return cast("F", make)


def check_blocking(function: object) -> None:
    """Refuse an argument of `blocking` that is not a plain function."""
    if not callable(function):
        raise PluginError(
            f"{caller()}: blocking(…) was given {described(function)}; give it the function and "
            "its arguments, and do not call the function"
        )
    if inspect.iscoroutinefunction(function):
        raise PluginError(
            f"{caller()}: blocking(…) was given an `async def`; it calls plain functions only"
        )


def caller() -> str:
    """The name of the function that is running, outside Dockhand and the libraries it uses."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES:
            return frame.f_code.co_qualname
        frame = frame.f_back
    return "a plugin"


def is_flow(value: object) -> bool:
    """Whether a value is a generator, as flows and an auth driver's `auth_flow` are."""
    return isinstance(value, (GeneratorType, Generator))  # faster than a union


def described(value: object) -> str:
    """Describe a value for a message by its kind; its content, which may be secret, is left out."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, YieldFrom):
        return f"{value._name}(…)"
    if isinstance(value, Coroutine):
        return "a coroutine (`async def`)"
    if isinstance(value, AsyncGenerator):
        return "an async generator (`async def`)"
    if isinstance(value, Generator):
        return f"the generator {getattr(value, '__qualname__', type(value).__name__)}(…)"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__qualname__', '?')}, which was not called"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def yield_from_hint(value: object) -> str:
    """Return the advice to write `yield from`, if a value is a generator, or an empty string."""
    return "; write `yield from` instead of `yield`" if isinstance(value, Generator) else ""


def dispose(value: object) -> None:
    """Close a coroutine that nothing awaits, so that Python does not warn about it."""
    if isinstance(value, Coroutine):
        value.close()


def _inner(flow: object) -> object:
    """The flow that a flow waits for: by `yield from`, or in `ListBudget.metered`."""
    frame = getattr(flow, "gi_frame", None)
    if frame is not None and frame.f_code.co_qualname == "ListBudget.metered":
        return frame.f_locals["flow"]
    return getattr(flow, "gi_yieldfrom", None)


def position_of(flow: object) -> str:
    """Name the function in which a suspended flow is, with file and line."""
    found = flow._steps if isinstance(flow, YieldFrom) else flow
    while isinstance(inner := _inner(found), GeneratorType):
        found = inner
    name = getattr(found, "__qualname__", type(found).__name__)
    frame = getattr(found, "gi_frame", None)
    if frame is None:
        return name
    return f"{name} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
