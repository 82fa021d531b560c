"""Push of files and folders as an artifact.

Follows: OCI Image Specification 1.1, "Guidelines for Artifact Usage"; OCI Distribution
Specification 1.1, "Pushing Manifests with Subject"; the conventions of oras 1.3.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ArtifactInvalid
from dockhand_core.flow import Flow, Progress, blocking, parallel
from dockhand_core.models import (
    BlobState,
    Descriptor,
    Digest,
    PushResult,
    check_reference,
    check_repository,
    media,
)
from dockhand_core.operations.artifacts.files import CREATED, ArtifactFile
from dockhand_core.operations.artifacts.names import Parts
from dockhand_core.operations.transfers import CONCURRENCY, BlobFunction, TransferProgress
from dockhand_core.text import shown

if TYPE_CHECKING:
    from dockhand_core.operations.artifacts.packing import PackedFile

__all__ = ["AnyFile", "push_artifact"]

AnyFile = str | os.PathLike[str] | ArtifactFile

UNKNOWN_TYPE = "application/vnd.unknown.artifact.v1"
UNKNOWN_CONFIG = "application/vnd.unknown.config.v1+json"
EMPTY = b"{}"  # the content of an empty config, and of the layer of an artifact without files

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.A)
_PARAMETERS = re.compile(r"(?:\s*;[\x20-\x7e]*)?")


def push_artifact(
    driver: RegistryDriver,
    repository: str,
    reference: str | Descriptor | None,
    files: Iterable[AnyFile],
    *,
    artifact_type: str | None,
    subject: str | Descriptor | None,
    annotations: Mapping[str, str] | None,
    config: ArtifactFile | None,
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[PushResult]:
    """Push an artifact; `ImageClient.push_artifact` describes the arguments."""
    check_repository(repository)
    if isinstance(reference, str):
        check_reference(reference)
    if isinstance(files, str | bytes | os.PathLike | ArtifactFile):
        raise ArtifactInvalid("the files of an artifact are a list, even if it is only one")
    packages = yield from blocking(_checked_files, list(files))
    if config is not None and not isinstance(config, ArtifactFile):
        raise ArtifactInvalid("the config of an artifact is an ArtifactFile")
    described = _checked_annotations(annotations)
    described.setdefault(CREATED, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    _check_time(described[CREATED])
    _check_media_type(artifact_type)
    if config is not None:
        _check_media_type(config.media_type)
    fields: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST}
    if artifact_type is not None or config is None:
        fields["artifactType"] = artifact_type or UNKNOWN_TYPE
    refers_to = None
    if subject is not None:
        refers_to = yield from _subject(driver, repository, subject)
    folder = _TemporaryFolder()
    try:
        yield from blocking(folder.make)
        packed = yield from blocking(_packed_config, config)
        layers: list[PackedFile] = []
        for number, file in enumerate(packages):
            layers.append((yield from blocking(_pack, file, folder.path / str(number))))
        fields["config"] = _descriptor(packed)
        fields["layers"] = [_descriptor(layer) for layer in layers or [_empty()]]
        if refers_to is not None:
            fields["subject"] = refers_to
        fields["annotations"] = dict(sorted(described.items()))
        contents = [packed, *(layers or [_empty()])]
        yield from _upload(driver, repository, contents, progress, blob_progress)
    except GeneratorExit:
        folder.remove()
        raise
    except BaseException:
        yield from blocking(folder.remove)
        raise
    yield from blocking(folder.remove)
    raw = _json(fields)
    target = Digest.of(raw) if reference is None else reference
    return (yield from driver.put_manifest(repository, target, raw, media_type=media.OCI_MANIFEST))


class _TemporaryFolder:
    """A folder for the packed folders of an artifact; made by `make`, not when it is constructed.

    So it can be removed even if the task is cancelled while the folder is made.
    """

    path: Path

    def make(self) -> None:
        from tempfile import mkdtemp

        self.path = Path(mkdtemp(prefix="dockhand-"))

    def remove(self) -> None:
        from shutil import rmtree

        if hasattr(self, "path"):
            rmtree(self.path, ignore_errors=True)


def _checked_files(files: list[AnyFile]) -> list[ArtifactFile]:
    """Check files and their names, before anything is read or sent."""
    checked = [ArtifactFile.of(file) for file in files]
    named: dict[Parts, ArtifactFile] = {}
    for file in checked:
        _checked_annotations(file.annotations)
        _check_media_type(file.media_type, parameters=True)
        name = "/".join(file.parts)
        if file.parts in named:
            raise ArtifactInvalid(
                f"two files of the artifact have the name {shown(name)}: use ArtifactFile(name=…)"
            )
        named[file.parts] = file
    for parts in named:
        for length in range(len(parts)):
            above = named.get(parts[:length])
            if above is None:
                continue
            outer = above.content
            if isinstance(outer, bytes) or not outer.is_dir():
                raise ArtifactInvalid(
                    f"{shown('/'.join(parts))} lies below {shown('/'.join(parts[:length]))}, "
                    "which is a file of the artifact"
                )
            if os.path.lexists(outer.joinpath(*parts[length:])):
                raise ArtifactInvalid(
                    f"{shown('/'.join(parts))} is a file of the artifact by itself, and in the "
                    f"folder {shown('/'.join(parts[:length]) or '.')}: leave one of them out"
                )
    return checked


def _checked_annotations(annotations: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(annotations or {})
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ArtifactInvalid(f"the annotation {name!r} is not a pair of strings")
    return found


def _check_time(text: str) -> None:
    try:
        known = "T" in text and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise ArtifactInvalid(
            f"the annotation {CREATED} is not a time such as 2026-01-31T12:00:00Z: {shown(text)}"
        )


def _check_media_type(stated: str | None, *, parameters: bool = False) -> None:
    if stated is None:
        return
    found = _MEDIA_TYPE.match(stated) if isinstance(stated, str) else None
    rest = stated[found.end() :] if found else stated
    if not found or (rest and not (parameters and _PARAMETERS.fullmatch(rest))):
        raise ArtifactInvalid(f"not a media type such as application/spdx+json: {stated!r}")


def _subject(
    driver: RegistryDriver, repository: str, subject: str | Descriptor
) -> Flow[dict[str, Any]]:
    if isinstance(subject, Descriptor):
        found = (subject.media_type, subject.digest, subject.size)
    else:
        check_reference(subject)
        head = yield from driver.manifest_head(repository, subject)
        found = (head.media_type, head.digest, head.size)
    return dict(zip(("mediaType", "digest", "size"), found, strict=True))


def _pack(file: ArtifactFile, temporary: Path) -> PackedFile:
    from dockhand_core.operations.artifacts.packing import pack

    return pack(file, temporary)


def _empty() -> PackedFile:
    from dockhand_core.operations.artifacts.packing import PackedFile

    return PackedFile(EMPTY, media.OCI_EMPTY, Digest.of(EMPTY), len(EMPTY), {})


def _packed_config(config: ArtifactFile | None) -> PackedFile:
    from dockhand_core.operations.artifacts.packing import PackedFile

    if config is None:
        return _empty()
    content = config.content
    data = content if isinstance(content, bytes) else content.read_bytes()
    return PackedFile(
        data,
        config.media_type or UNKNOWN_CONFIG,
        Digest.of(data),
        len(data),
        dict(config.annotations),
    )


def _descriptor(packed: PackedFile) -> dict[str, Any]:
    found: dict[str, Any] = {
        "mediaType": packed.media_type,
        "digest": packed.digest,
        "size": packed.size,
    }
    if packed.annotations:
        found["annotations"] = dict(sorted(packed.annotations.items()))
    if packed.media_type == media.OCI_EMPTY and packed.content == EMPTY:
        found["data"] = "e30="
    return found


def _upload(
    driver: RegistryDriver,
    repository: str,
    packages: list[PackedFile],
    progress: Progress | None,
    blob_progress: BlobFunction | None,
) -> Flow[None]:
    """Upload the contents, each digest once."""
    distinct = {package.digest: package for package in packages}
    blobs = [
        Descriptor(
            media_type=package.media_type,
            digest=package.digest,
            size=package.size,
            annotations=package.annotations,
        )
        for package in distinct.values()
    ]
    total = TransferProgress(progress, blob_progress)
    total.plan(blobs)

    def upload(package: PackedFile, sent: Callable[[int], None]) -> Flow[BlobState]:
        pushed = yield from driver.upload_blob(
            repository,
            package.content,
            digest=package.digest,
            progress=lambda done, _: sent(done),
        )
        return "copied" if pushed.uploaded else "skipped"

    yield from parallel(
        [total.transfer(blob, partial(upload, distinct[blob.digest])) for blob in blobs],
        limit=CONCURRENCY,
    )


def _json(fields: dict[str, Any]) -> bytes:
    """Write a manifest as `oras` does, so that the same artifact has the same digest."""
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ArtifactInvalid("an annotation of the artifact is not valid Unicode") from None
