"""Many small requests: HEADs in sequence, manifests on 32 connections, and the memory used."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx

from benchmarks.measure import Row, compare, ratio_row, run_python
from benchmarks.server import MANIFESTS, Server
from dockhand_core import AsyncRegistryClient, async_connect, connect
from dockhand_core.models import media

__all__ = ["flat_memory", "heads", "many_manifests"]

CONNECTIONS = 32
HEADERS = {"Accept": media.ACCEPT, "Accept-Encoding": "identity"}
FLAT_MIB = 2.0


def heads(server: Server, rounds: int) -> Row:
    """Measure HEADs of manifests in sequence: each round sends 100, and the row shows 1,000."""
    part = server.tags[:100]
    with connect(server.url) as client, httpx.Client(headers=HEADERS) as raw:

        def ours() -> None:
            for tag in part:
                client.manifest_head(MANIFESTS, tag)

        def theirs() -> None:
            for tag in part:
                raw.head(server.manifest_url(tag)).raise_for_status()

        pair = compare(ours, theirs, rounds)
    return ratio_row(
        "1,000 x manifest_head",
        "raw httpx",
        pair,
        0.8,
        times=1000 // len(part),
    )


def many_manifests(server: Server, rounds: int) -> list[Row]:
    """Measure 1,000 manifests on 32 connections, compared with bare aiohttp.

    Dockhand verifies and parses each manifest; the function for aiohttp only reads the bytes.
    """
    tags = thousand_of(server.tags)
    why = "Each manifest is hashed and becomes a model; bare aiohttp only reads bytes."
    with asyncio.Runner() as loop:
        session = loop.run(_session())
        usual, other = async_connect(server.url), async_connect(server.url, transport="httpx")

        def ours(client: AsyncRegistryClient) -> Callable[[], None]:
            return lambda: loop.run(fetch_all(tags, lambda t: client.manifest(MANIFESTS, t)))

        async def read(tag: str) -> bytes:
            async with session.get(server.manifest_url(tag)) as reply:
                reply.raise_for_status()
                return await reply.read()

        def theirs() -> None:
            loop.run(fetch_all(tags, read))

        try:
            pair = compare(ours(usual), theirs, rounds)
            plain = compare(ours(other), theirs, max(1, rounds // 3))
        finally:
            loop.run(session.close())
            loop.run(usual.close())
            loop.run(other.close())
    what = "1,000 manifests on 32 connections, async"
    return [
        ratio_row(what, "bare aiohttp", pair, 2.0, why=why),
        ratio_row(what + ', transport="httpx"', "bare aiohttp", plain, None),
    ]


def thousand_of(tags: list[str]) -> list[str]:
    """Return 1,000 tags, repeated if there are fewer."""
    return list(itertools.islice(itertools.cycle(tags), 1000))


async def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, headers=HEADERS, auto_decompress=False)


async def fetch_all(tags: list[str], fetch: Callable[[str], Awaitable[object]]) -> None:
    """Fetch each tag with `fetch`, as many at a time as there are connections."""
    left = iter(tags)

    async def worker() -> None:
        for tag in left:
            await fetch(tag)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


def flat_memory(server: Server, rounds: int) -> Row:
    """Measure the memory that 2,000 manifests add after 1,000; each round is a fresh process."""
    grown = [
        run_python("-m", "benchmarks.small_requests", server.url, *server.tags)[0]
        for _ in range(rounds)
    ]
    return Row(
        "memory between 1,000 and 3,000 manifests, async",
        "at 1,000",
        statistics.median(grown),
        FLAT_MIB,
        unit=" MiB",
        spread=(min(grown), max(grown)),
    )


def resident_memory() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / (1 << 20)


async def memory_growth(url: str, tags: list[str]) -> float:
    """Return the MiB that 2,000 manifests add to the memory of a process after 1,000."""
    async with async_connect(url) as client:

        async def thousand() -> None:
            await fetch_all(thousand_of(tags), lambda tag: client.manifest(MANIFESTS, tag))

        await thousand()
        before = resident_memory()
        await thousand()
        await thousand()
        return resident_memory() - before


if __name__ == "__main__":
    print(asyncio.run(memory_growth(sys.argv[1], sys.argv[2:])))
