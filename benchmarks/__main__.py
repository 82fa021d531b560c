"""The command `python -m benchmarks`, which measures everything and prints a table of ratios."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.command_line import command_line
from benchmarks.copies import copies, copies_of_tags
from benchmarks.embedded import NoPeerError, embedded_registry
from benchmarks.imports import import_time
from benchmarks.large_blobs import async_against_crane
from benchmarks.measure import Row, table
from benchmarks.memory import transfer_memory
from benchmarks.notifications import notifications
from benchmarks.peers import against_dxf, against_oras
from benchmarks.server import Server, existing_server, started_server
from benchmarks.small_requests import flat_memory, heads, many_manifests
from benchmarks.tokens import tokens_per_second
from benchmarks.transfer import Blob, async_transfers, sync_transfers
from benchmarks.whole_process import against_crane

MIB = 1 << 20
PACKAGES = {"oras": "oras", "dxf": "python-dxf"}  # in the public index, `dxf` is another package


def main() -> None:
    """Measure everything, and print the table of results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="use smaller blobs and fewer rounds, for a first look"
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="measure on this registry; the benchmarks write to its repositories bench/...",
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="measure only steps with TEXT in the name"
    )
    options = parser.parse_args()
    quick: bool = options.quick
    with (
        tempfile.TemporaryDirectory(prefix="dockhand-bench-") as name,
        _server(options.server, Path(name), 210 if quick else 1010) as server,
    ):
        print(f"{server.name}, Python {platform.python_version()}: {'quick' if quick else 'full'}")
        rows, left_out = measure(server, Path(name), options.only, quick=quick)
    print("\n".join([table(rows), *left_out]))


def measure(
    server: Server, folder: Path, only: str = "", *, quick: bool
) -> tuple[list[Row], list[str]]:
    """Measure the steps whose name contains `only`, and print the progress on standard error.

    Returns:
        The rows of the table, and a line of text for each step that was left out.
    """
    large = Blob(folder / "large", (64 if quick else 512) * MIB)
    middle = Blob(folder / "middle", (16 if quick else 64) * MIB)
    few, some, many = (3, 3, 5) if quick else (5, 7, 15)
    rows: list[Row] = []
    left_out: list[str] = []
    steps: list[tuple[str, Callable[[], list[Row]]]] = [
        ("heads", lambda: [heads(server, 10 if quick else 30)]),
        ("push and pull, sync", lambda: sync_transfers(server, large, few)),
        ("push and pull, async", lambda: async_transfers(server, large, few)),
        ("crane", lambda: against_crane(server, large, few)),
        ("crane, async", lambda: async_against_crane(server, large, folder, few)),
        ("memory", lambda: transfer_memory(server, large)),
        ("copy", lambda: copies(folder, (4 if quick else 16) * MIB, few)),
        ("copy of tags", lambda: copies_of_tags(folder, 50 if quick else 200, few)),
        ("oras-py", lambda: against_oras(server, middle, some)),
        ("dxf", lambda: against_dxf(server, middle, some)),
        ("import", lambda: import_time(server, many)),
        ("command line", lambda: command_line(server, many)),
        ("manifests, async", lambda: many_manifests(server, some)),
        ("memory of manifests", lambda: [flat_memory(server, few)]),
        ("tokens", lambda: tokens_per_second(folder, few)),
        ("notifications", lambda: notifications(folder, few, 20_000 if quick else 200_000)),
        ("embedded registry", lambda: embedded_registry(folder, large, few)),
    ]
    for what, step in [(what, step) for what, step in steps if only in what]:
        print(f"measuring: {what}", file=sys.stderr, flush=True)
        try:
            rows += step()
        except NoPeerError as error:
            left_out.append(f"Left out: {what}: {error}")
        except ModuleNotFoundError as error:
            package = PACKAGES.get(error.name or "")
            if package is None:
                raise
            print(f"left out: {what}: run pip install {package}", file=sys.stderr, flush=True)
            left_out.append(f"Left out: {what}, which is not installed: pip install {package}")
    return rows, left_out


@contextmanager
def _server(url: str | None, folder: Path, count: int) -> Iterator[Server]:
    if url is not None:
        yield existing_server(url, count)
        return
    with started_server(folder, count) as server:
        yield server


if __name__ == "__main__":
    main()
