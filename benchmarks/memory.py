"""The memory that large transfers add to the peak of a process; each runs in a fresh process."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from pathlib import Path

from benchmarks.measure import Row, run_python
from benchmarks.server import BLOBS, Server
from benchmarks.transfer import Blob
from dockhand_core import async_connect, connect

__all__ = ["transfer_memory"]

LIMIT_MIB = 64.0
ACTIONS = ("push", "pull", "download")


def transfer_memory(server: Server, blob: Blob) -> list[Row]:
    """Measure push, pull and download; return the highest peaks of sync and async as two rows."""
    rows = []
    target = str(blob.path.with_suffix(".copy"))
    for kind in ("sync", "async"):
        blob.change()  # so that the registry does not have the blob already
        digest = blob.hash()
        peaks: dict[str, float] = {}
        for action in ACTIONS:
            given = str(blob.path) if action == "push" else digest
            (peaks[action],) = run_python(
                "-m", "benchmarks.memory", kind, action, server.url, given, target
            )
        Path(target).unlink(missing_ok=True)
        server.drop(digest)
        worst = max(peaks, key=peaks.__getitem__)
        rows.append(
            Row(
                f"memory of push, pull, pull to a file, {kind}",
                "at start",
                peaks[worst],
                LIMIT_MIB,
                ours=", ".join(f"{peaks[action]:.0f}" for action in ACTIONS),
                unit=" MiB",
                strict=True,
                why=f"The highest peak is that of {worst}.",
            )
        )
    return rows


def peak_memory() -> float:
    """Return the peak memory of this process, in MiB."""
    # on Linux, ru_maxrss includes the peak of the process that started this one, so do not use it
    try:
        status = Path("/proc/self/status").read_text("ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def sync_peak(action: str, url: str, given: str, target: str) -> float:
    """Return the MiB that one transfer adds to the peak of a process with a sync client."""
    with connect(url) as client:
        before = peak_memory()
        if action == "push":
            client.upload_blob(BLOBS, given)
        elif action == "pull":
            with client.open_blob(BLOBS, given) as reader:
                for _ in reader:
                    pass
        else:
            client.download_blob(BLOBS, given, target)
        return peak_memory() - before


async def async_peak(action: str, url: str, given: str, target: str) -> float:
    """Return the MiB that one transfer adds to the peak of a process with an async client."""
    async with async_connect(url) as client:
        before = peak_memory()
        if action == "push":
            await client.upload_blob(BLOBS, given)
        elif action == "pull":
            async with client.open_blob(BLOBS, given) as reader:
                async for _ in reader:
                    pass
        else:
            await client.download_blob(BLOBS, given, target)
        return peak_memory() - before


if __name__ == "__main__":
    world, *arguments = sys.argv[1:]
    print(sync_peak(*arguments) if world == "sync" else asyncio.run(async_peak(*arguments)))
