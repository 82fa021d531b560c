"""`play`: runs a flow by hand, with replies in place of a registry."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeAlias

from dockhand_core.auth import Request, Response
from dockhand_core.errors import DockhandError
from dockhand_core.flow import (
    At,
    Blocking,
    Call,
    Discard,
    Drain,
    Parallel,
    Reply,
    Reserve,
    Sleep,
    Take,
    Until,
)
from dockhand_core.http.error_replies import error_from_reply
from dockhand_core.http.urls import resolve_url

__all__ = ["Played", "play"]

BASE = "http://registry.test/v2/"

Given: TypeAlias = (
    Reply
    | Response
    | int
    | bytes
    | dict[str, Any]
    | list[Any]
    | tuple[int, Any]
    | tuple[int, dict[str, str], Any]
    | BaseException
    | Callable[[Any], Any]
)


class _CallsAndResult(NamedTuple):
    calls: list[Any]
    result: Any


class Played(_CallsAndResult):
    """The calls of a flow and its result, as a tuple of the two.

    Attributes:
        calls: the requests in order: `Call` objects, or `Request` objects of an auth flow.
        result: the value that the flow returned.
        pauses: the seconds that the flow wanted to wait; `play` does not wait.
    """

    pauses: tuple[float, ...] = ()


def play(flow: Generator[Any, Any, Any], replies: Iterable[Given] = ()) -> Played:
    """Run a flow of a registry driver, or the `auth_flow` of an auth driver, without a network.

    Functions that block are called, pauses are skipped, and parallel flows run one after the other.

    Args:
        flow: the flow, such as `driver.tag_page("library/nginx", limit=None, after=None)` or
            `auth.auth_flow(request)`.
        replies: the replies to the flow's requests, in order. Each is a `Reply` (or a `Response`);
            a status; a body, as bytes or as a value to send as JSON; a tuple `(status, body)` or
            `(status, headers, body)`; an exception, which is raised in the flow; or a function that
            takes the request and returns one of these.

    Returns:
        the calls and the result. `calls, result = play(…)` works.

    Raises:
        AssertionError: the flow sent more requests than there are replies, or fewer; or it waits
            for something that never happens.
        DockhandError: the flow's own error, such as that of a status that the call did not expect.
    """
    player = Player(replies)
    result = player.run(flow)
    left = len(list(player.replies))
    assert not left, f"the flow ended after {len(player.calls)} requests; {left} replies are left"
    played = Played(player.calls, result)
    played.pauses = tuple(player.pauses)
    return played


class Player:
    """Runs flows with the given replies, and keeps their calls."""

    def __init__(self, replies: Iterable[Given]) -> None:
        self.replies = iter(replies)
        self.calls: list[Any] = []
        self.pauses: list[float] = []

    def run(self, flow: Generator[Any, Any, Any]) -> Any:
        """Run a flow, and return its result."""
        if not isinstance(flow, Generator):
            raise AssertionError(
                f"a flow is due, not {type(flow).__name__}: call a generator function"
            )
        try:
            effect = next(flow)
            while True:
                try:
                    result = self._perform(effect)
                except AssertionError:
                    flow.close()
                    raise
                except BaseException as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as end:
            return end.value

    def _perform(self, effect: Any) -> Any:
        match effect:
            case Call() | Request():
                self.calls.append(effect)
                return self._reply(effect)
            case Blocking():
                return effect.function()
            case Sleep():
                self.pauses.append(effect.seconds)
                return None
            case Parallel():
                return [self.run(each) for each in effect.flows]
            case At():
                return self.run(effect.flow)
            case Drain():
                for block in effect.stream.iterate():
                    effect.sink(block)
                return None
            case Discard():
                effect.stream.close()
                return None
            case Reserve():
                return _nothing
            case Take():
                return _next_item(effect.iterator)
            case Until():
                return _waited(effect.done)
        raise AssertionError(
            f"the flow yielded {effect!r}, which is no effect; is a `yield from` missing?"
        )

    def _reply(self, call: Any) -> Any:
        nothing = object()
        given: Any = next(self.replies, nothing)
        where = f"request {len(self.calls)}, {_described(call)}"
        assert given is not nothing, f"there is no reply for {where}"
        if not isinstance(given, Reply | Response | type) and callable(given):
            given = given(call)
        if isinstance(given, BaseException):
            raise given
        if isinstance(given, Reply | Response):
            return given
        status, headers, body = _parts(given)
        if isinstance(call, Request):
            return Response(status, headers=headers, content=body, request=call)
        url = resolve_url(BASE, call.path)
        if status not in call.expect:
            raise _error(call, url, status, headers, body)
        if call.stream:
            return Reply(status, headers, url, unread=_Body(body))
        return Reply(status, headers, url, body)


def _described(call: Any) -> str:
    return f"{call.method} {call.path if isinstance(call, Call) else call.url}"


def _parts(given: Any) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of a reply that is given in a short form."""
    status, headers, body = 200, dict[str, str](), given
    if isinstance(given, bool) or given is None:
        raise AssertionError(f"{given!r} is no reply; `play` describes the forms of replies")
    if isinstance(given, int):
        status, body = given, b""
    elif isinstance(given, tuple):
        status, *between, body = given
        headers = {name.lower(): value for part in between for name, value in part.items()}
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content-type", "application/json")
    headers.setdefault("content-length", str(len(body)))
    return status, headers, body


def _error(call: Call, url: str, status: int, headers: Any, body: bytes) -> DockhandError:
    return error_from_reply(
        method=call.method,
        url=url,
        kind=call.kind,
        repository=call.repository,
        status=status,
        headers=headers,
        body=body,
        refusals=call.refusals,
    )


def _nothing() -> None:
    """Release nothing."""


def _next_item(iterator: Any) -> Any:
    if isinstance(iterator, AsyncIterator):
        raise AssertionError("play(…) takes no async iterators; give the flow a plain one")
    return next(iterator, None)


def _waited(done: Future[None]) -> None:
    assert done.done(), "the flow waits for another thread or task; there is none"


class _Body:
    """The unread body of a reply."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def length(self) -> int | None:
        return len(self._data)

    def iterate(self) -> Generator[bytes, None, None]:
        data, self._data = self._data, b""
        if data:
            yield data

    async def aiterate(self) -> AsyncGenerator[bytes, None]:
        for block in self.iterate():
            yield block

    def close(self) -> None:
        self._data = b""

    async def aclose(self) -> None:
        self.close()
