"""The commands `inspect`, `referrers` and `du`."""

from __future__ import annotations

import hashlib
import json

import pytest
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_blob, push_image, push_index
from json_forms import check
from terminal import shown_on_terminal

from dockhand_core import Descriptor, ImageIndex, ImageManifest, Platform, RegistryClient
from dockhand_core.models import media

ATTESTED = "vnd.docker.reference.digest"


def test_an_index_and_its_images(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    index = push_index(registry, "app", "v1")
    name = f"{host}/app:v1"
    document = dockhand.json("inspect", name)
    check(document, "inspect")
    assert (document["digest"], document["media_type"]) == (index.digest, media.OCI_INDEX)
    platforms = [entry["platform"] for entry in document["manifests"]]
    assert platforms == ["linux/amd64", "linux/arm64/v8"]
    assert (document["size"], document["layers"], document["settings"]) == (None, [], None)

    arm = index.manifests[1]
    document = dockhand.json("inspect", name, "--platform", "linux/arm64")
    check(document, "inspect")
    assert (document["digest"], document["platform"]) == (arm.digest, "linux/arm64")
    assert document["created"] == "2026-01-02T03:04:05.678901Z"
    assert document["settings"]["env"] == ["PATH=/bin", "A=b=c"]
    assert document["settings"]["entrypoint"] == ["/run"]
    assert document["annotations"] == {"made": "by a test"}
    (layer,) = document["layers"]
    assert document["size"] == layer["size"] + registry.blob_size("app", document["config"])
    assert "linux/s390x" in dockhand.error("inspect", name, "--platform", "linux/s390x", code=3)


def test_exact_bytes(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    index = push_index(registry, "app", "v1")
    name = f"{host}/app:v1"
    assert dockhand.run_bytes("inspect", name, "--raw").stdout == index.raw
    arm = registry.image("app", "v1", platform="linux/arm64")
    raw = dockhand.run_bytes("inspect", name, "--raw", "--platform", "linux/arm64").stdout
    assert raw == arm.raw
    config = dockhand.run_bytes("inspect", name, "--raw", "--config").stdout
    amd = registry.image("app", "v1")
    assert hashlib.sha256(config).hexdigest() == amd.config.digest.encoded
    assert json.loads(dockhand.out("inspect", name, "--config")) == json.loads(config)
    settings = dockhand.folder / "other.toml"
    settings.write_text(f'[connections.main]\nbase_uri = "http://{host}"\n')
    document = dockhand.out("--config", settings, "inspect", "@main/app:v1", "--config")
    assert json.loads(document) == json.loads(config)
    assert "contradict" in dockhand.error("inspect", name, "--raw", "--json", code=2)


def test_attestations_are_marked(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    image = push_image(registry, "app", "one")
    attestation = push_image(registry, "app", "two", architecture="arm64")
    marked = attestation.descriptor().model_copy(
        update={
            "annotations": {ATTESTED: image.digest, "vnd.docker.reference.type": "attestation"},
            "platform": Platform("unknown", "unknown"),
        }
    )
    entry = image.descriptor().model_copy(update={"platform": Platform("linux", "amd64")})
    registry.put_manifest("app", "v1", ImageIndex(manifests=(entry, marked)))
    entries = dockhand.json("inspect", f"{host}/app:v1")["manifests"]
    assert [each["attests"] for each in entries] == [None, image.digest]
    assert [each["platform"] for each in entries] == ["linux/amd64", None]
    shown = shown_on_terminal(dockhand, "inspect", f"{host}/app:v1", columns=90)
    assert f"attestation of {image.digest[:19]}" in shown


EVIL = "\x1b[31m[red]red[/red]\x9b2J\n\u202eabc\x07"
ESCAPED = r"\x1b[31m[red]red[/red]\x9b2J\n\u202eabc\x07"


def hostile_image(registry: RegistryClient) -> ImageManifest:
    """Push an image `app:v1` with control characters and markup in all its texts."""
    settings = {
        "architecture": "amd64\x1b[1m",
        "os": "linux",
        "created": "0001-01-01T00:00:00+14:00",
        "author": EVIL,
        "config": {"Labels": {EVIL: EVIL}, "Env": [f"A={EVIL}"], "Cmd": [EVIL], "User": EVIL},
        "history": [{"created_by": EVIL}],
    }
    config = push_blob(registry, "app", json.dumps(settings).encode(), media.OCI_CONFIG)
    layer = push_blob(registry, "app", b"layer", media.OCI_LAYER)
    image = ImageManifest(config=config, layers=(layer,), annotations={"note": EVIL})
    registry.put_manifest("app", "v1", image)
    referrer = image.model_copy(
        update={
            "subject": image.descriptor(),
            "artifact_type": "application/x",
            "annotations": {"a": EVIL},
        }
    )
    registry.put_manifest("app", referrer.digest, referrer)
    return image


@pytest.mark.parametrize("columns", [40, 100])
def test_hostile_text_is_escaped(
    dockhand: CommandLine, registry: RegistryClient, host: str, columns: int
) -> None:
    hostile_image(registry)
    for command in ("inspect", "referrers"):
        shown = shown_on_terminal(dockhand, command, f"{host}/app:v1", columns=columns)
        assert all(c.isprintable() for c in shown.replace("\n", "")), repr(shown)
        assert max(map(len, shown.splitlines())) <= columns
        assert ESCAPED in "".join(part.strip(" │├─└") for part in shown.splitlines())
    piped = dockhand.out("inspect", f"{host}/app:v1")
    assert f"label\t{ESCAPED}={ESCAPED}\n" in piped
    assert f"author\t{ESCAPED}\n" in piped
    assert (
        dockhand.out("inspect", f"{host}/app:v1", "--json").isprintable() is False
    )  # the line end
    assert dockhand.json("inspect", f"{host}/app:v1")["author"] == EVIL
    assert "\x1b" not in shown_on_terminal(dockhand, "inspect", f"{host}/app:v1", "--raw")


def test_a_config_that_is_missing_or_no_json(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    config = push_blob(registry, "app", b"\x00\x01", media.OCI_CONFIG)
    registry.put_manifest("app", "v1", ImageManifest(config=config))
    done = dockhand.run("inspect", f"{host}/app:v1")
    assert done.stderr.startswith("warning: the image's config cannot be read: ")
    assert "digest\t" in done.stdout
    assert "is not JSON" in dockhand.error("inspect", f"{host}/app:v1", "--config", code=1)
    raw = dockhand.run_bytes("inspect", f"{host}/app:v1", "--config", "--raw").stdout
    assert raw == b"\x00\x01"


def attach(registry: RegistryClient, subject: Descriptor, kind: str) -> ImageManifest:
    """Push a referrer of a type, and return it."""
    empty = push_blob(registry, "app", b"{}", media.OCI_EMPTY)
    referrer = ImageManifest(config=empty, artifact_type=kind, subject=subject)
    registry.put_manifest("app", referrer.digest, referrer)
    return referrer


def test_referrers(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    image = push_image(registry, "app", "v1")
    sbom = attach(registry, image.descriptor(), "application/sbom")
    attach(registry, image.descriptor(), "application/note")
    signature = attach(registry, sbom.descriptor(), "application/signature")
    cosign = f"sha256-{image.digest.encoded}.sig"
    push_image(registry, "app", cosign, architecture="arm64")
    document = dockhand.json("referrers", f"{host}/app:v1")
    check(document, "referrers")
    found = {each["artifact_type"]: each for each in document["referrers"]}
    assert found["application/sbom"]["subject"] == image.digest
    assert found["application/signature"]["subject"] == sbom.digest
    assert found["application/signature"]["digest"] == signature.digest
    assert found[None]["tag"] == cosign
    assert len(document["referrers"]) == 4

    (line,) = dockhand.lines("referrers", f"{host}/app:v1", "--artifact-type", "application/sbom")
    assert line.split("\t")[:2] == [sbom.digest, "application/sbom"]
    shown = shown_on_terminal(dockhand, "referrers", f"{host}/app:v1", columns=90).splitlines()
    at = next(i for i, line in enumerate(shown) if "application/sbom" in line)
    assert "── application/sbom" in shown[at]
    assert "└── application/signature" in "".join(shown[at : at + 4])
    dockhand.error("referrers", f"{host}/app:v2", code=3)


def test_du(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    push_index(registry, "app", "v1")  # with the tags `amd64` and `arm64` of its images
    alone = push_blob(registry, "app", b"x" * 5000, media.OCI_LAYER)
    shared = registry.image("app", "amd64")
    image = ImageManifest(config=shared.config, layers=(*shared.layers, alone))
    registry.put_manifest("app", "big", image)
    document = dockhand.json("du", f"{host}/app")
    check(document, "du")
    tags = {tag["tag"]: tag for tag in document["tags"]}
    assert document["tags"][0]["tag"] == "big"
    assert tags["big"]["unique_size"] == 5000 + len(image.raw)
    assert tags["big"]["shared_size"] == shared.size
    assert tags["amd64"]["unique_size"] == 0
    index = registry.manifest("app", "v1")
    assert tags["v1"]["unique_size"] == len(index.raw)
    parts = {index.digest: len(index.raw), image.digest: len(image.raw)}
    for each in (image, shared, registry.image("app", "arm64")):
        parts[each.digest] = len(each.raw)
        parts |= {blob.digest: blob.size for blob in (each.config, *each.layers)}
    assert document["size"] == sum(parts.values())
    assert (document["manifests"], document["blobs"]) == (4, 5)
    assert document["broken"] == []

    lines = dockhand.lines("du", f"{host}/app")
    assert lines[0].split("\t")[0] == "big"
    assert lines[-1].split("\t") == ["(total)", str(document["size"]), "", ""]
    shown = shown_on_terminal(dockhand, "du", f"{host}/app").splitlines()
    (line,) = [line for line in shown if line.startswith("big ")]
    assert line.split() == ["big", "5.8", "kB", "281", "bytes", "5.5", "kB"]
    dockhand.error("du", f"{host}/nothing", code=3)
