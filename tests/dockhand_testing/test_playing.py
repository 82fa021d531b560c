"""`play`: flows by hand."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from dockhand_auth_token.driver import TokenAuth
from dockhand_distribution import DistributionDriver
from dockhand_testing import build_image, play
from pydantic import SecretStr

from dockhand_core import BlobUnknown, ConnectionFailed, Digest, ServerError
from dockhand_core.auth import Request, Response
from dockhand_core.flow import Call, Flow, Reply, blocking, call, drain, parallel, pause, take

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


def driver() -> DistributionDriver:
    return DistributionDriver(DistributionDriver.Settings(base_uri="http://registry.test"))


def test_calls_and_result() -> None:
    flow = driver().tag_page("library/nginx", limit=2, after=None)
    link = {"Link": '</v2/library/nginx/tags/list?n=2&last=b>; rel="next"'}
    played = play(flow, [(200, link, {"name": "library/nginx", "tags": ["a", "b"]})])
    calls, page = played
    assert (calls[0].method, calls[0].path) == ("GET", "library/nginx/tags/list")
    assert isinstance(calls[0], Call)
    assert page.items == ("a", "b")
    assert page.has_more
    assert (played.calls, played.result) == (calls, page)


def test_an_unexpected_status_is_the_error_of_the_client() -> None:
    with pytest.raises(BlobUnknown, match="HEAD .*: 404"):
        play(driver().blob_size("library/nginx", DIGEST), [404])
    with pytest.raises(ServerError):
        play(driver().blob_size("library/nginx", DIGEST), [(503, "busy")])
    assert play(driver().is_online(), [401]).result is True
    with pytest.raises(ConnectionFailed, match="gone"):
        play(driver().blob_size("library/nginx", DIGEST), [ConnectionFailed("gone")])


def test_the_class_for_a_status_is_that_of_the_call() -> None:
    def flow() -> Flow[Reply]:
        return (yield from call("GET", "/api/quota", refusals={404: BlobUnknown}))

    refusal = {"errors": [{"code": "UNSUPPORTED", "message": "no such path"}]}
    with pytest.raises(BlobUnknown, match=r"GET http://registry\.test/api/quota: 404"):
        play(flow(), [(404, refusal)])


def test_an_image() -> None:
    image = build_image("linux/arm64/v8")
    manifest = (200, {"Content-Type": image.manifest.media_type}, image.raw)
    _, found = play(driver().manifest("library/nginx", "v1"), [manifest])
    assert found.digest == image.digest
    config = image.blobs[image.manifest.config.digest]
    calls, result = play(driver().image_config("library/nginx", image.manifest), [config])
    assert str(result.platform) == "linux/arm64"  # v8 is the only variant, and left out
    assert len(calls) == 1


def everything() -> Flow[Any]:
    seen: list[bytes] = []
    first = yield from call("GET", "a", stream=True)
    yield from drain(first.stream, seen.append)
    yield from pause(3)
    both = yield from parallel([one("b"), one("c")])
    item = yield from take(iter([7]))
    length = yield from blocking(len, "four")
    return seen, both, item, length


def one(path: str) -> Flow[int]:
    reply = yield from call("GET", path, expect=frozenset({200, 204}))
    return reply.status


def test_other_effects() -> None:
    given: list[Any] = [
        b"streamed",
        Reply(204, {}, "http://other.test/b"),
        lambda each: len(each.path) + 199,
    ]
    played = play(everything(), given)
    assert played.result == ([b"streamed"], [204, 200], 7, 4)
    assert played.pauses == (3,)
    assert [each.path for each in played.calls] == ["a", "b", "c"]


def test_too_few_and_too_many_replies() -> None:
    with pytest.raises(AssertionError, match="no reply for request 2, GET c"):
        play(parallel([one("b"), one("c")]), [200])
    with pytest.raises(AssertionError, match="after 1 requests; 2 replies are left"):
        play(one("b"), [200, 200, 200])
    with pytest.raises(AssertionError, match="a flow is due, not int"):
        play(3)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="no effect; is a `yield from` missing"):
        play(wrong())


def wrong() -> Generator[Any, Any, None]:
    yield "not an effect"


def test_an_auth_flow() -> None:
    settings = TokenAuth.Settings(username="alice", password=SecretStr("s3cret"))
    request = Request("GET", "https://registry.test/v2/")
    challenge = 'Bearer realm="https://auth.test/token",service="registry.test"'
    calls, result = play(
        TokenAuth(settings).auth_flow(request),
        [(401, {"WWW-Authenticate": challenge}, b""), {"token": "granted"}, Response(200)],
    )
    assert result is None
    assert [str(each.url.host) for each in calls] == ["registry.test", "auth.test", "registry.test"]
    assert calls[-1].headers["Authorization"] == "Bearer granted"
