"""Lists of registries that send no `Link`, ignore `n` or `last`, or never end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply

from dockhand_core import (
    Page,
    RegistryClient,
    ResponseInvalid,
    ResponseTooLarge,
    Unsupported,
    async_connect,
    connect,
)

MakeClient = Callable[..., RegistryClient]
QUIET = {"driver": "null"}
ITEMS = [f"v{n}" for n in range(1, 10)]
Handler = Callable[[ReceivedRequest], bytes]


def listing(items: Any, **headers: str) -> bytes:
    """Return a reply with the same items as tags and as repositories."""
    body = json.dumps({"name": "a/b", "tags": items, "repositories": items}).encode()
    return reply(200, body, length=None, **headers)


def registry(
    items: list[str],
    *,
    cap: int | None = None,
    honours_n: bool = True,
    honours_last: bool = True,
    inclusive: bool = False,
) -> Handler:
    """Return a handler that lists `items` without `Link`.

    Args:
        items: the items, in the registry's order.
        cap: the largest, and default, number of items per reply.
        honours_n: whether the registry obeys `n`.
        honours_last: whether the registry obeys `last`.
        inclusive: whether a page begins with the item `last`.
    """

    def handle(request: ReceivedRequest) -> bytes:
        rest = items
        last = request.query.get("last")
        if honours_last and last is not None:
            start = items.index(last) + 1 if last in items else len(items)
            rest = items[start - 1 if inclusive and start else start :]
        sizes = [int(request.query["n"])] if honours_n and "n" in request.query else []
        sizes += [cap] if cap else []
        return listing(rest[: min(sizes, default=len(rest))])

    return handle


def both(client: RegistryClient, size: int | None) -> list[list[str]]:
    """List the tags, and the repositories."""
    return [list(client.tags("a/b", page_size=size)), list(client.repositories(page_size=size))]


def by_pages(client: RegistryClient, size: int) -> list[list[str]]:
    """List the tags, and the repositories, page by page; check that each page is full enough."""
    found: list[list[str]] = []
    lists: tuple[Callable[[str | None], Page[str]], ...] = (
        lambda after: client.tag_page("a/b", limit=size, after=after),
        lambda after: client.repository_page(limit=size, after=after),
    )
    for page_after in lists:
        items: list[str] = []
        page = page_after(None)
        for _ in range(100):
            items += page.items
            assert len(page.items) <= size
            if not page.has_more:
                break
            page = page_after(page.next)
            assert page.items, "there was said to be more"
        found.append(items)
    return found


BEHAVIOURS: dict[str, dict[str, Any]] = {
    "no link": {},
    "ignores n": {"honours_n": False},
    "ignores last": {"honours_last": False},
    "ignores n and last": {"honours_n": False, "honours_last": False},
    "last is included": {"inclusive": True},
}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 9, 10, 20])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_lists_without_links_are_complete(
    make_client: MakeClient, server: ScriptedServer, behaviour: str, size: int
) -> None:
    server.handler = registry(ITEMS, **BEHAVIOURS[behaviour])
    client = make_client(server.url)
    assert both(client, size) == [ITEMS, ITEMS]
    assert by_pages(client, size) == [ITEMS, ITEMS]


def test_a_full_page_is_followed_by_one_asked_with_last(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    server.handler = registry(ITEMS[:4])
    assert list(make_client(server.url).tags("a/b", page_size=2)) == ITEMS[:4]
    assert [request.target.partition("?")[2] for request in server.requests] == [
        "n=2",
        "n=2&last=v2",
        "n=2&last=v4",
    ]


def test_a_short_page_is_the_last(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = registry(ITEMS)
    client = make_client(server.url)
    assert both(client, None) == [ITEMS, ITEMS]
    assert both(client, 12) == [ITEMS, ITEMS]
    assert len(server.requests) == 4


@pytest.mark.parametrize("size", [None, 200])
@pytest.mark.parametrize("count", [99, 100, 101, 250])
def test_a_cap_of_the_registrys_own(
    make_client: MakeClient, server: ScriptedServer, size: int | None, count: int
) -> None:
    """A registry may send at most 100 items, whatever `n` is, and no `Link`."""
    items = [f"v{n:04}" for n in range(count)]
    server.handler = registry(items, cap=100)
    assert both(make_client(server.url), size) == [items, items]


def test_all_tags_in_one_reply(server: ScriptedServer) -> None:
    """Distribution 2.8 ignores `n`: 300,000 tags come in one reply of 12 MiB, asked for once."""
    tags = [f"release-2024-01-02-build-{n:016}" for n in range(300_000)]
    body = json.dumps({"name": "a/b", "tags": tags}).encode()
    assert len(body) > 12 << 20
    server.handler = lambda request: reply(200, body)
    with connect(server.url, logging=QUIET) as client:
        assert list(client.tags("a/b", page_size=100)) == tags
        assert client.tag_page("a/b", limit=2).items == tuple(tags[:2])

    async def with_async_client() -> list[str]:
        async with async_connect(server.url, logging=QUIET) as client:
            return [tag async for tag in client.tags("a/b", page_size=100)]

    assert asyncio.run(with_async_client()) == tags
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"tags":[' + b"[]," * (3 << 20) + b"[]]}",
        b'{"x":' + b"[{}," * (3 << 20) + b'1],"tags":["v1"]}',
        b'{"tags":["v1"' + b" " * (9 << 20),
        b'{"tags":["v1",1' + b" " * (9 << 20) + b"]}",
        b"\xff" * (9 << 20),
    ],
)
def test_a_large_reply_that_is_no_list(
    make_client: MakeClient, server: ScriptedServer, body: bytes
) -> None:
    """A large reply is not parsed into objects that take many times its size."""
    server.handler = lambda request: reply(200, body)
    with pytest.raises((ResponseInvalid, ResponseTooLarge), match="/tags/list"):
        list(make_client(server.url).tags("a/b"))


@pytest.mark.parametrize("size", [None, 2])
def test_the_limit_of_one_reply(
    make_client: MakeClient, server: ScriptedServer, size: int | None
) -> None:
    server.handler = lambda request: listing([f"v{n}" for n in range(1000)])
    client = make_client(server.url, list_limit=4000)
    operations: tuple[Callable[[], object], ...] = (
        lambda: list(client.tags("a/b", page_size=size)),
        lambda: list(client.repositories(page_size=size)),
        lambda: client.tag_page("a/b"),
        client.repository_page,
    )
    for operation in operations:
        with pytest.raises(ResponseTooLarge, match="list_limit") as caught:
            operation()
        assert caught.value.setting == "list_limit"
        assert str(caught.value).count("list_limit") == 1


@pytest.mark.parametrize("links", [True, False])
def test_the_limit_of_all_pages(
    make_client: MakeClient, server: ScriptedServer, links: bool
) -> None:
    """Pages that never end, and always have something new, exceed the limit in the end."""

    def handle(request: ReceivedRequest) -> bytes:
        start = int(request.query.get("last", "v0000000")[1:])
        items = [f"v{start + n:07}" for n in (1, 2)]
        link = {"Link": f'<{request.path}?n=2&last={items[-1]}>; rel="next"'} if links else {}
        return listing(items, **link)

    server.handler = handle
    client = make_client(server.url, list_limit=4000)
    operations: tuple[Callable[[], object], ...] = (
        lambda: list(client.tags("a/b", page_size=2)),
        lambda: list(client.repositories(page_size=2)),
    )
    for operation in operations:
        server.requests.clear()
        with pytest.raises(ResponseTooLarge, match="list_limit"):
            operation()
        assert 10 < len(server.requests) < 100


LINKS = [
    "http://elsewhere.example:1234{path}?n=2&last={last}",
    "https://elsewhere.example{path}?n=2&last={last}",
    "ftp://elsewhere.example/x?last={last}",
    "//elsewhere.example{path}?last={last}&n=2",
    "/another/path?last={last}&n=2",
    "?n=2&last={last}",
    "https://127.0.0.1/prefix{path}?foo=1&last={last}",
    "http://user:secret@elsewhere.example{path}?last={last}",
]


@pytest.mark.parametrize("link", LINKS)
def test_a_link_with_the_right_last(
    make_client: MakeClient, server: ScriptedServer, link: str
) -> None:
    """The page after `last` is asked at home, wherever the link leads."""
    pages = {None: (["v1", "v2"], "v2"), "v2": (["v3", "v4"], "v4"), "v4": (["v5"], None)}

    def handle(request: ReceivedRequest) -> bytes:
        items, last = pages[request.query.get("last")]
        target = link.format(path=request.path, last=last)
        return listing(items, **({"Link": f'<{target}>; rel="next"'} if last else {}))

    server.handler = handle
    client = make_client(server.url + "/base")
    assert both(client, 2) == [ITEMS[:5]] * 2
    assert both(client, None) == [ITEMS[:5]] * 2
    assert by_pages(client, 2) == [ITEMS[:5]] * 2
    assert {r.path for r in server.requests} == {
        "/base/v2/a/b/tags/list",
        "/base/v2/_catalog",
    }


@pytest.mark.parametrize(
    "link",
    [
        "http://elsewhere.example{path}?n=2&next_page={token}",
        "https://127.0.0.1/{path}?next_page={token}",
        "/v2/tags?next_page={token}",
    ],
)
def test_a_link_with_a_token(make_client: MakeClient, server: ScriptedServer, link: str) -> None:
    """Quay's links have a token instead of `last`; its query is asked at home."""
    pages = {"": (["v1", "v2"], "t1"), "t1": (["v3", "v4"], "t2"), "t2": (["v5", "v6"], "")}

    def handle(request: ReceivedRequest) -> bytes:
        items, token = pages[request.query.get("next_page", "")]
        target = link.format(path=request.path, token=token)
        return listing(items, **({"Link": f'<{target}>; rel="next"'} if token else {}))

    server.handler = handle
    client = make_client(server.url + "/base")
    assert both(client, 2) == [ITEMS[:6]] * 2
    assert by_pages(client, 2) == [ITEMS[:6]] * 2


@pytest.mark.parametrize("circle", [1, 2, 3])
@pytest.mark.parametrize("tokens", [True, False])
def test_pages_in_a_circle(
    make_client: MakeClient, server: ScriptedServer, circle: int, tokens: bool
) -> None:
    """Pages that repeat raise an error, by their positions or by their items."""
    count = 0

    def handle(request: ReceivedRequest) -> bytes:
        nonlocal count
        count += 1
        at = count % circle
        target = f"?token={count}" if tokens else f"?last={(at + 1) % circle}"
        return listing([f"v{at}"], Link=f'<{target}>; rel="next"')

    server.handler = handle
    client = make_client(server.url)
    operations: tuple[Callable[[], object], ...] = (
        lambda: list(client.tags("a/b")),
        lambda: list(client.repositories()),
    )
    for operation in operations:
        server.requests.clear()
        with pytest.raises(ResponseInvalid, match="circle"):
            operation()
        assert len(server.requests) < 10


def test_olareg(make_client: MakeClient, server: ScriptedServer) -> None:
    """olareg lists no tags for an unknown repository, and has no catalog."""

    def handle(request: ReceivedRequest) -> bytes:
        if request.path == "/v2/_catalog":
            return reply(405, b'{"errors":[{"code":"UNSUPPORTED","message":"no catalog"}]}')
        return reply(200, b'{"name":"a/b","tags":[]}')

    server.handler = handle
    client = make_client(server.url)
    assert list(client.tags("a/b")) == []
    assert list(client.tags("a/b", page_size=1)) == []
    assert client.tag_page("a/b").has_more is False
    with pytest.raises(Unsupported, match="no catalog"):
        list(client.repositories())


@pytest.mark.parametrize(
    "link",
    [
        "<{}>; rel='next'",
        '<{}>; title="a, <b>; rel=prev"; rel="next"',
        '{}; rel="next"',
        "<{}>",
        '</v2/x?n=1>; REL=First, < {} > ; Rel = "last NEXT"',
    ],
)
@pytest.mark.parametrize("size", [None, 7])
def test_forms_of_a_link(
    make_client: MakeClient, server: ScriptedServer, link: str, size: int | None
) -> None:
    """A page that is shorter than was asked for is followed by the page of its link."""

    def handle(request: ReceivedRequest) -> bytes:
        start = ITEMS.index(request.query["last"]) + 1 if "last" in request.query else 0
        page = ITEMS[start : start + 4]
        target = f"{request.path}?last={page[-1]}&n=0"
        return listing(page, **({"Link": link.format(target)} if start < 8 else {}))

    server.handler = handle
    assert both(make_client(server.url), size) == [ITEMS] * 2


@pytest.mark.parametrize("last", ["v9", ""])
@pytest.mark.parametrize("inclusive", [True, False])
def test_a_link_on_every_page(
    make_client: MakeClient, server: ScriptedServer, last: str, inclusive: bool
) -> None:
    """An empty page whose link leads nowhere else is the end; no item is listed twice."""

    def handle(request: ReceivedRequest) -> bytes:
        start = ITEMS.index(request.query["last"]) + 1 if "last" in request.query else 0
        page = ITEMS[start - 1 if inclusive and start else start :][:4]
        following = last if start == len(ITEMS) else page[-1]
        return listing(page if start < len(ITEMS) else [], Link=f'<?last={following}>; rel="next"')

    server.handler = handle
    assert both(make_client(server.url), None) == [ITEMS] * 2


@pytest.mark.parametrize("size", [None, 2, 4])
def test_items_that_repeat(
    make_client: MakeClient, server: ScriptedServer, size: int | None
) -> None:
    """Each is listed once, and a full page of repetitions is not the last page."""

    def handle(request: ReceivedRequest) -> bytes:
        rest = [item for item in "aabbcc" if item > request.query.get("last", "")]
        return listing(rest[: int(request.query.get("n", 100))])

    server.handler = handle
    assert both(make_client(server.url), size) == [["a", "b", "c"]] * 2


@pytest.mark.parametrize("body", [b'{"errors":[{"code":"DENIED"}]}', b'{"message":"moved"}'])
def test_a_success_that_is_no_list(
    make_client: MakeClient, server: ScriptedServer, body: bytes
) -> None:
    """A document without the list is an error, unless an empty list was left out."""
    server.handler = lambda request: reply(200, body)
    client = make_client(server.url)
    with pytest.raises(ResponseInvalid, match="/v2/a/b/tags/list: the reply has no 'tags'"):
        list(client.tags("a/b"))
    with pytest.raises(ResponseInvalid, match="/v2/_catalog: the reply has no 'repositories'"):
        list(client.repositories())
    empty = iter([b'{"name":"a/b"}', b"{}", b'{"tags":null,"repositories":null,"x":1}'] * 2)
    server.handler = lambda request: reply(200, next(empty))
    for _ in range(3):
        assert both(client, None) == [[], []]
