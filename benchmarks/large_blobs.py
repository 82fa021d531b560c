"""Pull and push of one large blob with the async client, beside the whole process of crane."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.measure import Row, compare, ratio_row
from benchmarks.server import BLOBS, Server
from benchmarks.transfer import Blob
from benchmarks.whole_process import find_crane, write_layout
from dockhand_core import async_connect

__all__ = ["async_against_crane"]

PULL_WHY = "Ours is flushed to disk before it is renamed; crane's is not."


def async_against_crane(server: Server, blob: Blob, folder: Path, rounds: int) -> list[Row]:
    """Compare with crane: a verified pull to a file, reading a blob, and a push.

    crane's layout states the digest of the blob; `against_crane` says more.

    Args:
        server: the registry.
        blob: the blob.
        folder: a folder for files.
        rounds: the number of rounds.
    """
    crane = find_crane()
    host, size = server.url.partition("://")[2], f"{blob.size >> 20} MiB"
    copy, layout, numbers = folder / "copy", folder / "layout", count()
    rows: list[Row] = []
    with asyncio.Runner() as loop:
        client = async_connect(server.url)

        async def read() -> None:
            async with client.open_blob(BLOBS, digest) as reader:
                async for _ in reader:
                    pass

        def push(stated: str | None) -> None:
            loop.run(client.upload_blob(BLOBS, blob.path, digest=stated))

        def crane_pull() -> None:
            with copy.open("wb") as file:
                command = [crane, "blob", "--insecure", f"{host}/{BLOBS}@{digest}"]
                subprocess.run(command, stdout=file, check=True)

        def crane_push() -> None:
            target = f"{host}/bench/crane{next(numbers)}:v1"
            command = [crane, "push", "--insecure", str(layout), target]
            subprocess.run(command, capture_output=True, check=True)

        def without_copy() -> None:
            copy.unlink(missing_ok=True)
            os.sync()

        def without_blob() -> None:
            server.drop(digest)
            os.sync()

        try:
            digest = loop.run(client.upload_blob(BLOBS, blob.path)).digest
            blob.digest = str(digest)
            pair = compare(
                lambda: loop.run(client.download_blob(BLOBS, digest, copy)),
                crane_pull,
                rounds,
                prepare=without_copy,
            )
            what = f"verified pull of {size} to a file, async"
            rows.append(ratio_row(what, "crane blob, process", pair, 0.9, why=PULL_WHY))
            pair = compare(lambda: loop.run(read()), crane_pull, rounds, prepare=without_copy)
            rows.append(
                ratio_row(f"verified read of {size}, async", "crane blob, process", pair, 0.9)
            )
            write_layout(layout, blob)
            for how, stated, target in (
                ("digest stated", digest, 0.9),
                ("hashed first", None, None),
            ):
                pair = compare(partial(push, stated), crane_push, rounds, prepare=without_blob)
                what = f"push of {size}, {how}, async"
                rows.append(ratio_row(what, "crane push, process", pair, target))
        finally:
            loop.run(client.close())
            copy.unlink(missing_ok=True)
            shutil.rmtree(layout, ignore_errors=True)
        server.drop(digest)
    return rows
