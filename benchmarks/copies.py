"""Copies between two registries, beside the whole processes of crane and regctl."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Pair, Row, ratio_row, run_python
from benchmarks.memory import LIMIT_MIB, peak_memory
from benchmarks.server import find_distribution, running_distribution
from dockhand_core import Descriptor, ImageManifest, RegistryClient, async_connect, connect
from dockhand_core.models import media

__all__ = ["copies", "copies_of_tags"]

MIB = 1 << 20
LARGE, SMALL = "bench/large", "bench/small"
LAYERS = 5  # of each small image
SAMPLE = 20  # images that the other programs copy, one process each
WHY = "crane and regctl are compiled; Python starts an interpreter and imports modules."


@dataclass(frozen=True)
class Registries:
    """Two registries; the second one is emptied before each copy.

    Attributes:
        source, target: their URLs.
        storage: the folder of the second one.
    """

    source: str
    target: str
    storage: Path

    def empty(self) -> None:
        """Delete all that the second registry has, and flush the disks."""
        shutil.rmtree(self.storage / "docker", ignore_errors=True)
        os.sync()
        gc.collect()


@contextmanager
def _registries(folder: Path) -> Iterator[Registries]:
    program = find_distribution(3)
    one, two = folder / "copies-source", folder / "copies-target"
    one.mkdir()
    two.mkdir()
    with running_distribution(program, one) as (a, _), running_distribution(program, two) as (b, _):
        yield Registries(a, b, two / "storage")
    shutil.rmtree(one)
    shutil.rmtree(two)


def _push_image(registry: RegistryClient, repository: str, tag: str, sizes: list[int]) -> None:
    def pushed(data: bytes, kind: str) -> Descriptor:
        digest = registry.upload_blob(repository, data).digest
        return Descriptor(media_type=kind, digest=digest, size=len(data))

    config = pushed(
        b'{"os":"linux","architecture":"amd64","v":"%s"}' % tag.encode(), media.OCI_CONFIG
    )
    layers = tuple(pushed(os.urandom(size), media.OCI_LAYER_GZIP) for size in sizes)
    registry.put_manifest(repository, tag, ImageManifest(config=config, layers=layers))


def _program(name: str) -> str | None:
    cached = Path.home() / ".cache/dockhand-live/bin" / name
    return shutil.which(name) or (str(cached) if cached.exists() else None)


def _others(both: Registries, repository: str) -> dict[str, Callable[[str], None]]:
    """The other programs that are installed, each with a function that copies a tag."""
    host, other = (url.removeprefix("http://") for url in (both.source, both.target))
    commands = {
        "crane": ["copy", "--insecure"],
        "regctl": [
            *("image", "copy"),
            *("--host", f"reg={host},tls=disabled"),
            *("--host", f"reg={other},tls=disabled"),
        ],
    }
    found: dict[str, Callable[[str], None]] = {}
    for name, options in commands.items():
        program = _program(name)
        if program is None:
            print(f"left out: {name} is not installed", file=sys.stderr, flush=True)
            continue

        def run(tag: str, command: tuple[str, ...] = (program, *options)) -> None:
            names = [f"{host}/{repository}:{tag}", f"{other}/{repository}:{tag}"]
            subprocess.run([*command, *names], check=True, capture_output=True)

        found[name] = run
    return found


def _rounds(
    both: Registries, sides: dict[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
    """Run all sides in turns; return the seconds of each round by side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            both.empty()
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return times


def copies(folder: Path, size: int, rounds: int) -> list[Row]:
    """Measure the copy of an image of 20 layers, within a process and as a whole process.

    Args:
        folder: the folder for the registries.
        size: bytes of each layer.
        rounds: number of rounds.
    """
    rows: list[Row] = []
    with (
        _registries(folder) as both,
        connect(both.source) as here,
        connect(both.target) as there,
        asyncio.Runner() as loop,
    ):
        _push_image(here, LARGE, "v1", [size] * 20)
        pair = async_connect(both.source), async_connect(both.target)
        others = _others(both, LARGE)
        sides: dict[str, Callable[[], None]] = {
            "sync": lambda: _copied(here.copy(LARGE, "v1", to=there).blobs_copied),
            "async": lambda: _copied(loop.run(pair[0].copy(LARGE, "v1", to=pair[1])).blobs_copied),
            **{
                f"{kind} process": lambda kind=kind: _run(kind, both)  # type: ignore[misc]
                for kind in ("sync", "async")
            },
            **{name: lambda run=run: run("v1") for name, run in others.items()},  # type: ignore[misc]
        }
        times = _rounds(both, sides, rounds)
        for client in pair:
            loop.run(client.close())
        title = f"copy of 20 layers of {size // MIB} MiB"
        for other in others:
            for kind in ("sync", "async"):
                goal = 1.0 if other == "crane" else None
                measured = Pair(times[kind], times[other])
                rows.append(ratio_row(f"{title}, {kind}", f"{other}, process", measured, goal))
                goal = 1.3 if other == "crane" else None
                measured = Pair(times[f"{kind} process"], times[other])
                what = f"{title}, {kind}, process"
                rows.append(ratio_row(what, f"{other}, process", measured, goal, why=WHY))
        for kind in ("sync", "async"):
            both.empty()
            (peak,) = run_python("-m", "benchmarks.copies", kind, both.source, both.target)
            rows.append(
                Row(f"memory of a {title}, {kind}", "at start", peak, LIMIT_MIB, unit=" MiB")
            )
    return rows


def copies_of_tags(folder: Path, count: int, rounds: int) -> list[Row]:
    """Measure `copy_tags` of small images, beside a process of another program for each tag.

    Args:
        folder: the folder for the registries.
        count: number of images.
        rounds: number of rounds.
    """
    rows: list[Row] = []
    with (
        _registries(folder) as both,
        connect(both.source) as here,
        connect(both.target) as there,
        asyncio.Runner() as loop,
    ):
        tags = [f"t{number:03}" for number in range(count)]
        for tag in tags:
            _push_image(here, SMALL, tag, [2000 + 100 * n for n in range(LAYERS)])
        pair = async_connect(both.source), async_connect(both.target)

        async def copy_all() -> int:
            return len([r async for r in pair[0].copy_tags(SMALL, to=pair[1]) if not r.error])

        def each(run: Callable[[str], None]) -> None:
            for tag in tags[:SAMPLE]:
                run(tag)

        others = _others(both, SMALL)
        sides: dict[str, Callable[[], None]] = {
            "sync": lambda: _copied(
                len([r for r in here.copy_tags(SMALL, to=there) if not r.error]), count
            ),
            "async": lambda: _copied(loop.run(copy_all()), count),
            **{name: lambda run=run: each(run) for name, run in others.items()},  # type: ignore[misc]
        }
        times = _rounds(both, sides, rounds)
        for client in pair:
            loop.run(client.close())
        for other in others:
            theirs = [seconds / min(SAMPLE, count) for seconds in times[other]]
            for kind in ("sync", "async"):
                measured = Pair([seconds / count for seconds in times[kind]], theirs)
                what = f"copy_tags of {count} images, per tag, {kind}"
                rows.append(ratio_row(what, f"{other}, a process per tag", measured, 1.0))
    return rows


def _copied(count: int, expected: int = 21) -> None:
    assert count == expected, f"{count} instead of {expected} were copied"


# Whole programs, which import nothing but Dockhand.
_PROGRAMS = {
    "sync": """
import sys
from dockhand_core import connect
with connect(sys.argv[1]) as here, connect(sys.argv[2]) as there:
    here.copy(sys.argv[3], "v1", to=there)
""",
    "async": """
import asyncio, sys
from dockhand_core import async_connect
async def main():
    async with async_connect(sys.argv[1]) as here, async_connect(sys.argv[2]) as there:
        await here.copy(sys.argv[3], "v1", to=there)
asyncio.run(main())
""",
}


def _run(kind: str, both: Registries) -> None:
    run_python("-c", _PROGRAMS[kind], both.source, both.target, LARGE)


async def _async_copy(source: str, target: str) -> float:
    async with async_connect(source) as here, async_connect(target) as there:
        before = peak_memory()
        await here.copy(LARGE, "v1", to=there)
        return peak_memory() - before


def _sync_copy(source: str, target: str) -> float:
    with connect(source) as here, connect(target) as there:
        before = peak_memory()
        here.copy(LARGE, "v1", to=there)
        return peak_memory() - before


if __name__ == "__main__":
    world, *urls = sys.argv[1:]
    print(_sync_copy(*urls) if world == "sync" else asyncio.run(_async_copy(*urls)))
