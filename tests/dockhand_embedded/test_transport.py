"""The transport for the sync and the async client of httpx."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

MIB = 1024 * 1024


def async_client(api: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=api.transport, base_url="http://embedded")


def test_async_round_trip(api: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(40):
            await asyncio.sleep(0)
            yield bytes([number]) * 100_000

    data = b"".join(bytes([number]) * 100_000 for number in range(40))
    digest = api.digest_of(data)

    async def run() -> None:
        async with async_client(api) as http:
            location = (await http.post("/v2/a/blobs/uploads/")).headers["location"]
            reply = await http.patch(location, content=body())
            assert reply.headers["range"] == f"0-{len(data) - 1}"
            assert (await http.put(location, params={"digest": digest})).status_code == 201
            async with http.stream("GET", f"/v2/a/blobs/{digest}") as reply:
                assert reply.headers["content-length"] == str(len(data))
                pieces = [piece async for piece in reply.aiter_raw()]
            assert b"".join(pieces) == data
            assert max(map(len, pieces)) <= MIB
            assert (await http.head(f"/v2/a/blobs/{digest}")).content == b""
            assert (await http.get("/v2/a/manifests/x")).status_code == 404

    asyncio.run(run())


def test_sync_and_async_clients_share_content(api: Any) -> None:
    manifest = api.push_image("a", "v1", b"layer")

    async def run() -> bytes:
        async with async_client(api) as http:
            return (await http.get("/v2/a/manifests/v1")).content

    assert asyncio.run(run()) == manifest
    api.transport.close()
    assert api.client.get("/v2/a/manifests/v1").content == manifest


def test_a_sync_body_in_the_async_client(api: Any) -> None:
    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"ab"
            yield b"c"

    async def run() -> int:
        request = httpx.Request(
            "POST",
            f"http://embedded/v2/a/blobs/uploads/?digest={api.digest_of(b'abc')}",
            stream=Body(),
        )
        reply: httpx.Response = await api.transport.handle_async_request(request)
        return reply.status_code

    assert asyncio.run(run()) == 201


def test_an_async_body_in_the_sync_client(api: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(RuntimeError):
        api.client.post("/v2/a/blobs/uploads/", content=body())


def test_concurrent_copies_within_one_registry(api: Any) -> None:
    """Many uploads whose bodies are read from the same registry must not deadlock."""
    data = bytes(range(256)) * 8192
    digest = api.push_blob("source", data)

    async def copy(http: httpx.AsyncClient, number: int) -> int:
        async with http.stream("GET", f"/v2/source/blobs/{digest}") as source:
            reply = await http.post(
                f"/v2/target{number}/blobs/uploads/",
                params={"digest": digest},
                content=source.aiter_raw(100_000),
            )
        return reply.status_code

    async def run() -> list[int]:
        async with async_client(api) as http, asyncio.timeout(30):
            return await asyncio.gather(*(copy(http, number) for number in range(64)))

    assert asyncio.run(run()) == [201] * 64


def test_slow_uploads_occupy_no_threads(api: Any) -> None:
    async def run() -> int:
        gate = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"x" * MIB
            await gate.wait()

        async with async_client(api) as http:
            locations = [
                (await http.post("/v2/a/blobs/uploads/")).headers["location"] for _ in range(100)
            ]
            uploads = [asyncio.ensure_future(http.patch(at, content=body())) for at in locations]
            while True:
                replies = [await http.get(at) for at in locations]
                if all(reply.headers["range"] == f"0-{MIB - 1}" for reply in replies):
                    break
                await asyncio.sleep(0.01)
            busy = threading.active_count()
            gate.set()
            assert {reply.status_code for reply in await asyncio.gather(*uploads)} == {202}
            return busy

    assert asyncio.run(asyncio.wait_for(run(), 60)) < 50


def test_cancelled_upload_can_be_continued(api: Any) -> None:
    location = api.start_upload("a")

    async def run() -> None:
        reached = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"x" * MIB
            reached.set()
            await asyncio.sleep(3600)

        async with async_client(api) as http:
            upload = asyncio.ensure_future(http.patch(location, content=body()))
            await reached.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload

    asyncio.run(asyncio.wait_for(run(), 30))
    assert api.client.get(location).headers["range"] == f"0-{MIB - 1}"
    digest = api.digest_of(b"x" * MIB)
    assert api.client.put(location, params={"digest": digest}).status_code == 201


def test_failing_async_body_keeps_received_bytes(api: Any) -> None:
    location = api.start_upload("a")

    async def run() -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"12345"
            raise ConnectionResetError("gone")

        async with async_client(api) as http:
            with pytest.raises(ConnectionResetError):
                await http.patch(location, content=body())

    asyncio.run(run())
    assert api.client.get(location).headers["range"] == "0-4"


@pytest.mark.parametrize("method", ["append", "finish"])
def test_uploads_do_not_block_the_event_loop(
    api: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = api.start_upload("a")
    with api.storage.open_upload("a", location.rpartition("/")[2]) as upload:
        kind = type(upload)
    real = getattr(kind, method)
    threads = []

    def recorded(self: Any, argument: Any) -> Any:
        threads.append(threading.current_thread())
        return real(self, argument)

    monkeypatch.setattr(kind, method, recorded)

    async def run() -> int:
        async with async_client(api) as http:
            url = f"{location}?digest={api.digest_of(b'data')}"
            return (await http.put(url, content=b"data")).status_code

    assert asyncio.run(run()) == 201
    assert threads
    assert threading.main_thread() not in threads


def test_replies_are_closed(api: Any) -> None:
    digest = api.push_blob("a", bytes(3 * MIB))
    with api.client.stream("GET", f"/v2/a/blobs/{digest}") as reply:
        file = reply.stream._stream._body.file if hasattr(reply.stream, "_stream") else None
        assert next(reply.iter_raw()) == bytes(MIB)
    assert file is not None
    assert file.closed


def test_paths_are_decoded(api: Any) -> None:
    manifest = api.push_image("a/b", "v1", b"layer")
    reply = api.client.get(f"/v2/a%2Fb/manifests/{api.digest_of(manifest).replace(':', '%3A')}")
    assert reply.content == manifest
    assert api.client.get("/v2/a%00b/tags/list").status_code == 400
