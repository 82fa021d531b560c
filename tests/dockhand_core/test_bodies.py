"""The limits on bodies that are collected in memory."""

from __future__ import annotations

import httpx
import pytest

from dockhand_core import ResponseTooLarge, Timeout
from dockhand_core.http.bodies import BodyCollector, ReplyStream


def stream(**headers: str) -> ReplyStream:
    request = httpx.Request("GET", "http://r/v2/")
    return ReplyStream(httpx.Response(500, headers=headers, request=request))


def collect(collector: BodyCollector, *blocks: bytes) -> bytes:
    for block in blocks:
        if not collector.add(block):
            break
    return collector.body()


@pytest.mark.parametrize(
    "blocks", [[b"abcdefgh"], [b"abc", b"defgh"], [b"abcd", b"efgh"], [b"abcde", b"fgh"]]
)
def test_a_body_is_cut_at_the_limit(blocks: list[bytes]) -> None:
    assert collect(BodyCollector(stream(), 4, 10.0, cut=True), *blocks) == b"abcd"


def test_a_body_within_the_limit_is_whole() -> None:
    assert collect(BodyCollector(stream(), 8, 10.0), b"abc", b"defgh") == b"abcdefgh"
    assert collect(BodyCollector(stream(), 8, 10.0)) == b""


def test_a_body_over_the_limit_is_an_error() -> None:
    with pytest.raises(ResponseTooLarge, match="GET http://r/v2/: the body is larger than 4 bytes"):
        collect(BodyCollector(stream(), 4, 10.0), b"abcdefgh")


def test_an_announced_length_over_the_limit_is_an_error_at_once() -> None:
    with pytest.raises(ResponseTooLarge):
        collect(BodyCollector(stream(**{"Content-Length": "5"}), 4, 10.0), b"a")


def test_a_slow_body_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("dockhand_core.http.bodies.time.monotonic", lambda: now)
    collector = BodyCollector(stream(), 1 << 20, 10.0)
    now = 109.0
    assert collector.add(b"a")
    now = 111.0
    with pytest.raises(Timeout, match="too slowly"):
        collector.add(b"b")
