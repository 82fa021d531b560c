"""Transfers of images between registries and archives, and their reports."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from dockhand_cli.exit_codes import CommandFailed, UsageError, exit_code_of
from dockhand_cli.values import counted, size_text

if TYPE_CHECKING:
    from dockhand_cli.image_places import ImagePlace
    from dockhand_cli.progress import TransferProgress
    from dockhand_cli.session import Session
    from dockhand_cli.transfer_places import ArchivePlace
    from dockhand_core import CopyResult, Descriptor

__all__ = [
    "Dropped",
    "TagCopy",
    "Transfer",
    "copy_report",
    "load_archive",
    "option_names",
    "report_transfer",
    "save_archive",
    "tag_report",
    "warn_of_dropped",
]


class Dropped(TypedDict):
    """A referrer that a copy left out; the size is that of its manifest, in bytes."""

    digest: str
    media_type: str
    artifact_type: str | None
    size: int


class _Counts(TypedDict):
    """The fields of all transfers.

    Attributes:
        source: the image or file that was copied, as an argument of `dockhand cp`.
        target: the image, with its tag, or the file that was written.
        tag: the tag that was written, in an archive the image's name; or null.
        manifests: number of manifests and indexes that were written; null for archives.
        blobs_copied: number of blobs that were transferred.
        blobs_mounted: number of blobs that the registry took from another repository.
        blobs_skipped: number of blobs that were there already.
        bytes_copied: number of bytes of the blobs that were transferred.
        dropped: the referrers that were left out.
    """

    source: str
    target: str
    tag: str | None
    manifests: int | None
    blobs_copied: int
    blobs_mounted: int
    blobs_skipped: int
    bytes_copied: int
    dropped: list[Dropped]


class Transfer(_Counts):
    """The document of `dockhand cp --json`, `dockhand pull --json` and `dockhand push --json`.

    Attributes:
        digest: the digest of the manifest or index at the target.
        seconds: the duration.
    """

    digest: str
    seconds: float


class TagCopy(_Counts):
    """A line of `dockhand cp --all-tags --json`.

    Attributes:
        digest: the digest at the target; null if the tag failed before it was known.
        error: the error of a tag that failed, or null.
    """

    digest: str | None
    error: str | None


def _counts(source: str, target: str, result: CopyResult) -> _Counts:
    return _Counts(
        source=source,
        target=target,
        tag=result.tag,
        manifests=result.manifests,
        blobs_copied=result.blobs_copied,
        blobs_mounted=result.blobs_mounted,
        blobs_skipped=result.blobs_skipped,
        bytes_copied=result.bytes_copied,
        dropped=[_dropped(each) for each in result.dropped],
    )


def _dropped(referrer: Descriptor) -> Dropped:
    return Dropped(
        digest=str(referrer.digest),
        media_type=referrer.media_type,
        artifact_type=referrer.artifact_type,
        size=referrer.size,
    )


def copy_report(source: str, target: str, result: CopyResult, seconds: float) -> Transfer:
    """The report of a copy between registries."""
    counts = _counts(source, target, result)
    return Transfer(**counts, digest=str(result.digest), seconds=round(seconds, 3))


def tag_report(source: str, target: str, result: CopyResult) -> TagCopy:
    """The report of one of several tags."""
    return TagCopy(
        **_counts(source, target, result),
        digest=None if result.digest is None else str(result.digest),
        error=None if result.error is None else str(result.error),
    )


def _archive_report(
    source: str,
    target: str,
    tag: str | None,
    digest: str,
    progress: TransferProgress,
    seconds: float,
) -> Transfer:
    """The report of a transfer from or to an archive."""
    return Transfer(
        source=source,
        target=target,
        tag=tag,
        manifests=None,
        blobs_copied=progress.count("copied"),
        blobs_mounted=progress.count("mounted"),
        blobs_skipped=progress.count("skipped"),
        bytes_copied=progress.bytes_copied(),
        dropped=[],
        digest=digest,
        seconds=round(seconds, 3),
    )


@contextmanager
def option_names(archive: ArchivePlace | None = None, **names: str) -> Iterator[None]:
    """In messages of the library, replace hints to its arguments by hints to options.

    Args:
        archive: the archive, which messages about its content shall name.
        names: the option for the hint to an argument, by the argument's name.
    """
    from dockhand_core.errors import ArchiveInvalid, DockhandError

    try:
        yield
    except DockhandError as error:
        text = str(error)
        for name, option in names.items():
            text = re.sub(rf"\b{name}=('[a-z-]+'|…)", option, text)
        if archive is not None and isinstance(error, ArchiveInvalid):
            if not text.startswith(f"{archive.path} "):
                text = f"{archive.path}: {text}"
            if "not a tar file" in text:
                text += "; of other files, `dockhand artifact push` makes an artifact"
        if text == str(error):
            raise
        raise CommandFailed(text, exit_code_of(error)) from error


def save_archive(
    session: Session,
    source: ImagePlace,
    target: ArchivePlace,
    *,
    platform: str | None,
    platforms: Sequence[str] | None,
    overwrite: bool,
    name: str | None = None,
) -> Transfer:
    """Save an image into an archive, and report it.

    Args:
        session: the session.
        source: the image.
        target: the archive.
        platform, platforms: as for `RegistryClient.save_image`.
        overwrite: whether an existing file may be replaced.
        name: the image's name in the archive; None for the target's, or else that of the source.

    Raises:
        UsageError: a docker-archive cannot hold several platforms.
        CommandFailed: a file exists, or an error of the library.
        DockhandError: as `RegistryClient.save_image`.
    """
    if platforms and target.format == "docker-archive":
        raise UsageError("a docker-archive holds one image: give --platform, not --platforms")
    target.check_writable(overwrite=overwrite)
    name = name or target.name or source.named_tag
    if name and target.format == "docker-archive" and not (":" in name or "/" in name):
        name = f"{source.repository}:{name}"
    begin = time.monotonic()
    title = f"Saving {source} to {target.text}"
    with option_names(target, format="the format oci-archive"), session.progress(title) as progress:
        saved = source.client.save_image(
            source.repository,
            source.reference,
            target.path,
            format=target.format,
            platform=platform,
            platforms=platforms,
            name=name,
            progress=progress.total,
            blob_progress=progress.blob,
        )
    seconds = time.monotonic() - begin
    return _archive_report(str(source), target.text, name, saved.digest, progress, seconds)


def load_archive(
    session: Session,
    source: ArchivePlace,
    target: ImagePlace,
    *,
    image: str | None,
    image_option: str,
    platforms: Sequence[str] | None,
) -> Transfer:
    """Push an image from an archive, and report it.

    Args:
        session: the session.
        source: the archive.
        target: the image.
        image: the tag, name or digest of the image in the archive, or None.
        platforms: as for `RegistryClient.load_image`.
        image_option: the way to name the image, for the message if there are several.

    Raises:
        CommandFailed: there is no such file, or an error of the library.
        DockhandError: as `RegistryClient.load_image`.
    """
    source.check_readable()
    reference = target.digest or target.tag or "latest"
    begin = time.monotonic()
    title = f"Pushing {source.text} to {target}"
    with option_names(source, source=image_option), session.progress(title) as progress:
        pushed = target.client.load_image(
            source.path,
            target.repository,
            reference,
            source=image,
            platforms=platforms,
            progress=progress.total,
            blob_progress=progress.blob,
        )
    seconds = time.monotonic() - begin
    tag = target.named_tag
    text = target.with_reference(tag)
    return _archive_report(source.text, text, tag, pushed.digest, progress, seconds)


def report_transfer(session: Session, transfer: Transfer) -> None:
    """Write the result of a transfer: `TARGET@DIGEST`, and for a person the numbers of blobs."""
    output = session.output
    if output.as_json:
        output.document(transfer)
        return
    output.text(f"{transfer['target']}@{transfer['digest']}")
    output.message(_summary(transfer))


def _summary(transfer: Transfer) -> str:
    """The numbers of a transfer in one line."""
    copied = f"{counted(transfer['blobs_copied'], 'blob')} copied"
    parts = [f"{copied} ({size_text(transfer['bytes_copied'])})"]
    parts += [
        f"{count} {state}"
        for count, state in (
            (transfer["blobs_mounted"], "mounted"),
            (transfer["blobs_skipped"], "there already"),
        )
        if count
    ]
    if transfer["manifests"] is not None:
        parts.append(counted(transfer["manifests"], "manifest"))
    return f"{', '.join(parts)}, in {transfer['seconds']:.1f} s"


def warn_of_dropped(session: Session, dropped: Iterable[Dropped], *, changed: bool) -> None:
    """Write a warning if a copy left out referrers.

    Args:
        session: the session.
        dropped: the referrers that were left out.
        changed: whether the options select platforms or convert manifests.
    """
    found = list(dropped)
    if not found:
        return
    reason = "the source lists them, but does not have them"
    if changed:
        reason = (
            "they refer to a manifest that the copy replaces by another one, or the source does "
            "not have them"
        )
    names = ", ".join(f"{each['digest']} ({each['artifact_type']})" for each in found)
    session.output.warning(f"{counted(len(found), 'referrer')} left out, as {reason}: {names}")
