"""Flows: the types of effects and their helpers, and the parsing of replies."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

import pytest
from pydantic import BaseModel

from dockhand_core import ResponseInvalid
from dockhand_core.flow import (
    BytesSource,
    Call,
    Effect,
    Flow,
    Reply,
    blocking,
    call,
    parallel,
    take,
)
from dockhand_core.http.sync_runner import run_sync

URL = "http://user:secret@registry.example.com/v2/x?token=secret"


class Tag(BaseModel):
    name: str
    size: int = 0


def reply(body: bytes, **headers: str) -> Reply:
    return Reply(200, headers, URL, body)


def typed_flow() -> Flow[int]:
    """A flow with each kind of effect; mypy checks the type of each result."""
    answer = yield from call("GET", "x", limit=10, stream=False)
    assert_type(answer, Reply)
    assert_type((yield from blocking(len, b"abc")), int)
    assert_type((yield from parallel([typed_flow()])), list[int])
    assert_type((yield from take(iter(["a"]))), str | None)
    return answer.status


def test_helpers_have_types() -> None:
    flow = typed_flow()
    assert_type(flow, Generator[Effect, Any, int])
    assert isinstance(next(flow), Call)


def test_a_misspelt_option_is_a_type_error() -> None:
    """mypy checks this test: it reports a missing `type: ignore` and an unneeded one."""
    with pytest.raises(TypeError):
        next(call("GET", "x", stram=True))  # type: ignore[call-arg]
    next(call("GET", "x", limit="10"))  # type: ignore[arg-type]
    next(call("GET", "x", kind="manifests"))  # type: ignore[arg-type]


def test_options_reach_the_call() -> None:
    body = BytesSource(b"abc")
    effect = next(call("PUT", "x", body=body, repeatable=False, expect=frozenset({201})))
    assert effect == Call(
        method="PUT", path="x", body=body, repeatable=False, expect=frozenset({201})
    )


def test_a_body_in_memory_is_not_in_its_repr() -> None:
    assert "secret" not in repr(BytesSource(b"secret"))


def test_results_are_sent_into_the_flow() -> None:
    performed: list[Effect] = []

    def perform(effect: Effect) -> Any:
        performed.append(effect)
        return reply(b"{}") if isinstance(effect, Call) else None

    def flow() -> Flow[int]:
        answer = yield from call("GET", "x")
        return answer.status

    assert run_sync(flow(), perform) == 200
    assert [type(effect) for effect in performed] == [Call]


def test_json_has_the_type_that_was_asked_for() -> None:
    assert_type(reply(b"{}").json(), dict[str, Any])
    assert reply(b'{"a": 1}').json() == {"a": 1}
    assert reply(b"[1, 2]").json(list) == [1, 2]
    tag = reply(b'{"name": "v1"}').json(Tag)
    assert_type(tag, Tag)
    assert tag == Tag(name="v1")


def test_json_validates_any_type() -> None:
    assert reply(b"[1, 2]").json(list[int]) == [1, 2]
    assert reply(b'[{"name": "v1"}]').json(list[Tag]) == [Tag(name="v1")]
    with pytest.raises(ResponseInvalid, match=r"not a valid list\[int\]: 1: Input should be"):
        reply(b'[1, "x"]').json(list[int])


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"<html>", dict, r"a JSON object was due, not 6 bytes of text/html"),
        (b"[]", dict, r"a JSON object was due, not 2 bytes"),
        (b"{}", list, r"a JSON array was due, not 2 bytes"),
        (b"[" * 100_000, list, r"a JSON array was due"),
        (b"\xff", Tag, r"a JSON object was due"),
        (b"{}", Tag, r"not a valid Tag: name: Field required"),
        (b"[]", Tag, r"not a valid Tag: Input should be"),
        (b'{"name": "v1", "size": "x"}', Tag, r"not a valid Tag: size: "),
    ],
)
def test_an_unusable_body_is_named(body: bytes, kind: type, message: str) -> None:
    headers = {"content-type": "text/html"}
    with pytest.raises(ResponseInvalid, match=message) as raised:
        reply(body, **headers).json(kind)
    assert raised.value.status == 200
    assert "registry.example.com/v2/x" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_header_in_a_message_is_printable() -> None:
    with pytest.raises(ResponseInvalid) as raised:
        reply(b"null", **{"content-type": "\x1b[31m\nred"}).json()
    assert str(raised.value).isprintable()


def test_a_reply_that_was_not_streamed_has_no_stream() -> None:
    with pytest.raises(TypeError, match="stream=True"):
        _ = reply(b"").stream
