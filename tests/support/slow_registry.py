"""A registry on loopback that has one image, and sends its layers slowly."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from dockhand_testing.contracts.samples import config_of
from dockhand_testing.http_server import (
    HANG,
    ReceivedRequest,
    ScriptedServer,
    Step,
    Wait,
    reply,
    scripted_server,
)

from dockhand_core.models import media

_BLOCK = 1 << 16  # bytes


@contextmanager
def slow_registry(
    sizes: Sequence[int],
    *,
    pause: float = 0.05,
    hang_after: int | None = None,
    tags: Sequence[str] = ("bad", "v1", "v2"),
) -> Iterator[ScriptedServer]:
    """Run a registry whose image has layers of some sizes; any repository and tag is the image.

    Args:
        sizes: sizes of the layers in bytes.
        pause: the pause in seconds after each block of 64 KiB.
        hang_after: number of blocks after which a layer stops, or None.
        tags: the tags that are listed.
    """
    made = random.Random(15)
    layers = [made.randbytes(size) for size in sizes]
    blobs = {_digest(data): data for data in (config_of(), *layers)}
    config, *entries = (
        {"mediaType": kind, "digest": digest, "size": len(blobs[digest])}
        for digest, kind in zip(
            blobs, (media.OCI_CONFIG, *[media.OCI_LAYER] * len(layers)), strict=True
        )
    )
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": config,
            "layers": entries,
        }
    ).encode()

    def handle(request: ReceivedRequest) -> list[Step] | bytes:
        name = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            return reply(
                200, manifest, content_type=media.OCI_MANIFEST,
                docker_content_digest=_digest(manifest),
            )  # fmt: skip
        if request.path.endswith("/tags/list"):
            return reply(200, json.dumps({"name": "app", "tags": list(tags)}).encode())
        if name not in blobs:
            return reply(200 if request.path == "/v2/" else 404)
        data = blobs[name]
        if request.method == "HEAD":
            return reply(200, length=len(data))
        steps: list[Step] = [reply(200, length=len(data))]
        for number, start in enumerate(range(0, len(data), _BLOCK)):
            if number == hang_after:
                return [*steps, HANG]
            steps += [data[start : start + _BLOCK], Wait(pause)]
        return steps

    with scripted_server(handle) as server:
        yield server


def _digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"
