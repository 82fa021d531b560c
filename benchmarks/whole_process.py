"""Comparisons with crane: Dockhand's call inside a process against crane's whole process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.embedded import NoPeerError
from benchmarks.measure import Row, compare, ratio_row
from benchmarks.server import BLOBS, Server
from benchmarks.transfer import Blob
from dockhand_core import connect
from dockhand_core.models import media

__all__ = ["against_crane", "find_crane", "write_layout"]

TARGET = 0.9
FILE_WHY = "Ours is flushed to disk before it is renamed; crane's output is not."


def find_crane() -> str:
    """Return the path of the program `crane`: of the PATH, or the one that `make live` builds."""
    cached = Path.home() / ".cache/dockhand-live/bin/crane"
    found = shutil.which("crane") or (str(cached) if cached.exists() else None)
    if found is None:
        raise NoPeerError("crane is not installed: `make live` builds it")
    return found


def against_crane(server: Server, blob: Blob, rounds: int) -> list[Row]:
    """Compare the pull of a blob to a file, and the push of a blob, with the sync client.

    crane pushes an image with one layer, the blob, and thus a small config and a manifest too. Its
    layout states the blob's digest, so it is stated to Dockhand in one row. In the other, Dockhand
    has to hash the file before it can ask for it.
    """
    crane, host = find_crane(), urlsplit(server.url).netloc
    copy, layout = blob.path.with_suffix(".copy"), blob.path.with_suffix(".layout")
    size = f"{blob.size >> 20} MiB"
    with connect(server.url) as client:

        def pull_crane() -> None:
            with copy.open("wb") as file:
                subprocess.run(
                    [crane, "blob", f"{host}/{BLOBS}@{digest}", "--insecure"],
                    stdout=file,
                    check=True,
                )

        def prepare_pull() -> None:
            copy.unlink(missing_ok=True)
            os.sync()

        def prepare_push() -> None:
            server.drop(blob.digest)
            blob.change()
            blob.digest = blob.hash()
            write_layout(layout, blob)
            os.sync()

        def push_crane() -> None:
            subprocess.run(
                [crane, "push", str(layout), f"{host}/{BLOBS}:crane", "--insecure"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )

        pair = compare(
            lambda: client.upload_blob(BLOBS, blob.path, digest=blob.digest),
            push_crane,
            rounds,
            prepare=prepare_push,
        )
        what = f"push {size}, digest stated, sync"
        rows = [ratio_row(what, "crane's whole process", pair, TARGET)]
        pair = compare(
            lambda: client.upload_blob(BLOBS, blob.path), push_crane, rounds, prepare=prepare_push
        )
        what = f"push {size}, hashed first, sync"
        rows.append(ratio_row(what, "crane's whole process", pair, None))
        digest = client.upload_blob(BLOBS, blob.path).digest
        pair = compare(
            lambda: client.download_blob(BLOBS, digest, copy),
            pull_crane,
            rounds,
            prepare=prepare_pull,
        )
        what = f"verified pull of {size} to a file, sync"
        rows.append(ratio_row(what, "crane's whole process", pair, TARGET, why=FILE_WHY))
    copy.unlink(missing_ok=True)
    shutil.rmtree(layout, ignore_errors=True)
    server.drop(blob.digest)
    return rows


def write_layout(folder: Path, blob: Blob) -> None:
    """Write an image layout with an image whose only layer is the blob."""
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(document: object, media_type: str) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    os.link(blob.path, blobs / blob.digest.removeprefix("sha256:"))
    rootfs = {"type": "layers", "diff_ids": [blob.digest]}
    config = add({"architecture": "amd64", "os": "linux", "rootfs": rootfs}, media.OCI_CONFIG)
    layer = {"mediaType": media.OCI_LAYER, "digest": blob.digest, "size": blob.size}
    image = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": config,
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "manifests": [add(image, media.OCI_MANIFEST)]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
