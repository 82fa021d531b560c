"""The result of `dockhand inspect`: its JSON form, and its view on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

from dockhand_cli.output import Output
from dockhand_cli.values import (
    Cell,
    DigestCell,
    Size,
    age_text,
    in_utc,
    moment_text,
    short_digest,
)
from dockhand_core import Descriptor, ImageConfig, ImageIndex, ImageManifest
from dockhand_core.models import media

__all__ = ["Inspection", "LayerEntry", "ManifestEntry", "inspection_of", "show_inspection"]

_ATTESTS = "vnd.docker.reference.digest"  # annotation of an attestation: the image's digest
_KINDS = {
    **dict.fromkeys(media.MANIFESTS, "image"),
    **dict.fromkeys(media.INDEXES, "index"),
}


class LayerEntry(TypedDict):
    """A layer of an image or artifact.

    Attributes:
        created_by: command of the build that made the layer, or null if it is not known.
    """

    digest: str
    size: int
    media_type: str
    created_by: str | None
    annotations: dict[str, str]


class ManifestEntry(TypedDict):
    """An entry of an index.

    Attributes:
        size: size of the manifest in bytes.
        attests: digest of the image that the entry is an attestation of, or null.
    """

    digest: str
    size: int
    media_type: str
    artifact_type: str | None
    platform: str | None
    attests: str | None
    annotations: dict[str, str]


class ImageSettings(TypedDict):
    """The settings that an image runs with, from its config.

    Attributes:
        user: the user; empty for root.
        working_dir: the working folder.
        entrypoint: the entrypoint and its arguments.
        cmd: the command, or the arguments of the entrypoint.
        env: the environment variables, as `NAME=value`.
        exposed_ports: the ports, such as `80/tcp`.
        labels: the labels.
    """

    user: str
    working_dir: str
    entrypoint: list[str]
    cmd: list[str]
    env: list[str]
    exposed_ports: list[str]
    labels: dict[str, str]


class Inspection(TypedDict):
    """The document of `dockhand inspect --json`.

    Attributes:
        reference: the reference, as it was given.
        subject: digest of the manifest that this one refers to, or null.
        platform: the platform of an image; null for an index and for an artifact.
        size: size in bytes of the config and the layers together; null for an index.
        created: time of the build of an image, or null.
        author: author of an image, or null.
        config: digest of the config; null for an index.
        settings: the settings of an image; null for an index and for an artifact.
        layers: the layers; empty for an index.
        manifests: the entries of an index; empty for an image.
    """

    reference: str
    repository: str
    digest: str
    media_type: str
    artifact_type: str | None
    subject: str | None
    platform: str | None
    size: int | None
    created: str | None
    author: str | None
    annotations: dict[str, str]
    config: str | None
    settings: ImageSettings | None
    layers: list[LayerEntry]
    manifests: list[ManifestEntry]


def inspection_of(
    reference: str,
    repository: str,
    found: ImageManifest | ImageIndex,
    config: ImageConfig | None,
) -> Inspection:
    """Describe a manifest or index.

    Args:
        reference: the reference, as the user wrote it.
        repository: the repository's name.
        found: the manifest or index.
        config: the image's config; None for an index, an artifact, and if it cannot be read.
    """
    image = None if isinstance(found, ImageIndex) else found
    created = in_utc(config.created) if config is not None and config.created else None
    platform = config.platform if config is not None else None
    return Inspection(
        reference=reference,
        repository=repository,
        digest=found.digest,
        media_type=found.media_type,
        artifact_type=found.artifact_type,
        subject=found.subject.digest if found.subject else None,
        platform=str(platform) if platform else None,
        size=image.size if image else None,
        created=moment_text(created) if created else None,
        author=config.author if config is not None else None,
        annotations=found.annotations,
        config=image.config.digest if image else None,
        settings=_settings(config) if config is not None else None,
        layers=_layers(image, config) if image else [],
        manifests=[_entry(each) for each in found.manifests]
        if isinstance(found, ImageIndex)
        else [],
    )


def _settings(config: ImageConfig) -> ImageSettings:
    return ImageSettings(
        user=config.user,
        working_dir=config.working_dir,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=(config.runtime and config.runtime.env) or [],
        exposed_ports=config.exposed_ports,
        labels=config.labels,
    )


def _layers(image: ImageManifest, config: ImageConfig | None) -> list[LayerEntry]:
    steps = [step for step in (config and config.history) or () if not step.empty_layer]
    if len(steps) != len(image.layers):
        commands: list[str | None] = [None] * len(image.layers)
    else:
        commands = [step.created_by for step in steps]
    return [
        LayerEntry(
            digest=layer.digest,
            size=layer.size,
            media_type=layer.media_type,
            created_by=command,
            annotations=layer.annotations,
        )
        for layer, command in zip(image.layers, commands, strict=True)
    ]


def _entry(entry: Descriptor) -> ManifestEntry:
    attests = entry.annotations.get(_ATTESTS)
    unknown = entry.platform is None or entry.platform.os == "unknown"
    return ManifestEntry(
        digest=entry.digest,
        size=entry.size,
        media_type=entry.media_type,
        artifact_type=entry.artifact_type,
        platform=None if unknown else str(entry.platform),
        attests=attests,
        annotations=entry.annotations,
    )


def show_inspection(output: Output, found: Inspection) -> None:
    """Write an inspection: as sections on a terminal, in a pipe as lines that begin with a key."""
    if not output.is_terminal:
        output.table((), _lines(found))
        return
    output.facts([(key.replace("_", " ").capitalize(), value) for key, value in _facts(found)])
    if found["layers"]:
        output.text("")
        titles = [_title(layer) for layer in found["layers"]]
        rows: list[Sequence[Cell]] = [
            (Size(layer["size"]), DigestCell(layer["digest"]), title)
            for layer, title in zip(found["layers"], titles, strict=True)
        ]
        output.table(("LAYER SIZE", "DIGEST", "CONTENT"), rows)
    if found["manifests"]:
        output.text("")
        output.table(
            ("PLATFORM", "DIGEST", "CONTENT"),
            [
                (entry["platform"], DigestCell(entry["digest"]), _content(entry, short_digest))
                for entry in found["manifests"]
            ],
        )


def _title(layer: LayerEntry) -> str:
    """The content of a layer: the name of a file, or the command that made the layer."""
    title = layer["annotations"].get("org.opencontainers.image.title")
    return title or layer["created_by"] or layer["media_type"]


def _content(entry: ManifestEntry, shown: Callable[[str], str] = str) -> str:
    if entry["attests"]:
        return f"attestation of {shown(entry['attests'])}"
    return entry["artifact_type"] or _KINDS.get(entry["media_type"]) or entry["media_type"]


def _facts(found: Inspection) -> Iterator[tuple[str, Cell]]:
    """The properties of a manifest that have a value, as names and values."""
    yield "reference", found["reference"]
    for key in ("digest", "media_type", "artifact_type", "subject", "platform"):
        if found[key]:
            yield key, found[key]
    if found["size"] is not None:
        yield "size", Size(found["size"])
    if found["created"]:
        yield "created", _when(found["created"])
    if found["author"]:
        yield "author", found["author"]
    for key, value in found["annotations"].items():
        yield "annotation", f"{key}={value}"
    settings = found["settings"]
    if settings is not None:
        for key in ("user", "working_dir"):
            if settings[key]:  # type: ignore[literal-required]
                yield key, settings[key]  # type: ignore[literal-required]
        for key in ("entrypoint", "cmd"):
            if settings[key]:  # type: ignore[literal-required]
                yield key, json.dumps(settings[key], ensure_ascii=False)  # type: ignore[literal-required]
        for port in settings["exposed_ports"]:
            yield "exposed_port", port
        for variable in settings["env"]:
            yield "env", variable
        for key, value in settings["labels"].items():
            yield "label", f"{key}={value}"


def _when(moment: str) -> str:
    from datetime import datetime

    time = datetime.fromisoformat(moment)
    text = f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return text if time.year < 1981 else f"{age_text(time)} ({text})"


def _lines(found: Inspection) -> Iterator[Sequence[Cell]]:
    for key, value in _facts(found):
        yield key, found["created"] if key == "created" else value
    if found["config"]:
        yield "config", found["config"]
    for layer in found["layers"]:
        yield "layer", layer["digest"], layer["size"], layer["media_type"], _title(layer)
    for entry in found["manifests"]:
        platform, content = entry["platform"], _content(entry)
        yield "manifest", entry["digest"], entry["size"], entry["media_type"], platform, content
