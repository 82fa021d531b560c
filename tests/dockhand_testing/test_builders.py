"""Builders of images, indexes and artifacts, pushed to real and embedded registries."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile

from dockhand_testing import build_artifact, build_image, build_index

from dockhand_core import Digest, ImageIndex, async_connect, connect
from dockhand_core.models import media


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert build_image().raw == build_image().raw
    assert build_image().digest != build_image("linux/arm64").digest
    assert build_image().digest != build_image(labels={"a": "b"}).digest
    assert build_index().digest == build_index("linux/amd64", "linux/arm64/v8").digest


def test_an_image() -> None:
    tar = b"not compressed" + bytes(1000)
    image = build_image(
        "linux/arm/v7",
        layers=[{"etc/motd": b"hello"}, tar],
        labels={"team": "a"},
        annotations={"note": "n"},
        config={"Entrypoint": ["/run"]},
    )
    packed, plain = image.manifest.layers
    assert (packed.media_type, plain.media_type) == (media.OCI_LAYER_GZIP, media.OCI_LAYER)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(image.blobs[packed.digest]))) as files:
        assert files.getnames() == ["etc/motd"]
    config = json.loads(image.blobs[image.manifest.config.digest])
    assert config["rootfs"]["diff_ids"] == [
        Digest.of(gzip.decompress(image.blobs[packed.digest])),
        Digest.of(tar),
    ]
    assert config["config"] == {"Labels": {"team": "a"}, "Entrypoint": ["/run"]}
    assert image.manifest.annotations == {"note": "n"}
    assert str(image.descriptor().platform) == "linux/arm/v7"


def test_pushed_and_read() -> None:
    with connect("", driver="embedded", root=":memory:", logging={"driver": "null"}) as client:
        index = build_index("linux/amd64", build_image("linux/s390x")).push(client, "a/b", "v1")
        found = client.manifest("a/b", "v1")
        assert isinstance(found, ImageIndex)
        assert found.raw == index.raw
        assert client.image("a/b", "v1", platform="linux/s390x").digest == index.images[1].digest
        signature = build_artifact({"s": b"1"}, artifact_type="application/x-sig", subject=index)
        signature.push(client, "a/b")
        (referrer,) = client.referrers("a/b", index.digest).manifests
        assert (referrer.digest, referrer.artifact_type) == (signature.digest, "application/x-sig")
        config = client.image_config("a/b", client.image("a/b", "v1", platform="linux/amd64"))
        assert config.created is not None


def test_pushed_by_an_async_client() -> None:
    async def push() -> list[str]:
        async with async_connect("", driver="embedded", root=":memory:") as client:
            await build_index().async_push(client, "a/b", "v1", "v2")
            return [tag async for tag in client.tags("a/b")]

    assert asyncio.run(push()) == ["v1", "v2"]
