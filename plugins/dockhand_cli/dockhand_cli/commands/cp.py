"""The command `dockhand cp`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from dockhand_cli.arguments import platforms_of
from dockhand_cli.completion import complete_image, complete_platform
from dockhand_cli.exit_codes import CommandFailed, UsageError, code_of_several, exit_code_of
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import ImagePlace
from dockhand_cli.session import Session, is_file, session_of
from dockhand_cli.transfer_places import ArchivePlace, transfer_place
from dockhand_cli.transfers import (
    copy_report,
    load_archive,
    option_names,
    report_transfer,
    save_archive,
    tag_report,
    warn_of_dropped,
)
from dockhand_cli.values import counted

if TYPE_CHECKING:
    from dockhand_core import CopyResult

app = typer.Typer()

_END_HELP = (
    "an image, HOST/REPOSITORY:TAG or @CONNECTION/REPOSITORY:TAG; or a file, oci:FOLDER[:TAG], "
    "oci-archive:FILE or docker-archive:FILE"
)


class _CopyOptions(TypedDict):
    """The options of copies between registries, as arguments of the library."""

    platform: str | None
    platforms: list[str] | None
    referrers: bool
    convert: str | None
    concurrency: int


@app.command(
    epilog=examples(
        "dockhand cp docker.io/library/nginx:1.27 localhost:5000/mirror/nginx",
        "dockhand cp @staging/app:v1 @production/app:stable --referrers",
        "dockhand cp @staging/app @production/app --tags '1.*' --newest 5",
        "dockhand cp localhost:5000/app:v1 docker-archive:app.tar --platform linux/arm64",
        "dockhand cp oci-archive:app.tar localhost:5000/app:v1",
    )
)
def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help=_END_HELP, autocompletion=complete_image)],
    target: Annotated[
        str,
        typer.Argument(
            help="where to copy to, in the same forms; an image without a tag gets the source's",
            autocompletion=complete_image,
        ),
    ],
    all_tags: Annotated[
        bool, typer.Option("--all-tags", help="copy all tags of a repository to another one")
    ] = False,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="copy the tags of a repository that match a glob such as '1.*', or re:REGEX; "
            "can be repeated",
        ),
    ] = None,
    newest: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="of the tags of a repository, copy the N newest"),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="OS/ARCH[/VARIANT]",
            help="copy the image for this platform, such as linux/arm64, without its index",
            autocompletion=complete_platform,
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLATFORM,PLATFORM",
            help="copy an index with these platforms alone, such as linux/amd64,linux/arm64",
        ),
    ] = None,
    referrers: Annotated[
        bool,
        typer.Option("--referrers", help="copy signatures, SBOMs and other referrers, too"),
    ] = False,
    convert: Annotated[
        Literal["oci"] | None,
        typer.Option(help="convert Docker's manifests to OCI's; this changes digests"),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="number of blobs at a time")
    ] = 8,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing archive file")
    ] = False,
) -> None:
    """Copy an image, or many tags, between registries, connections and files.

    Blobs that the target has are skipped, and within one registry the others are mounted. The tag
    is written last, so a client never pulls an incomplete image.
    """
    session = session_of(context)
    chosen = platforms_of(platforms or ())
    if platform is not None and chosen is not None:
        raise UsageError(
            "--platform copies one image and --platforms an index; they exclude each other"
        )
    options = _CopyOptions(
        platform=platform,
        platforms=chosen,
        referrers=referrers,
        convert=convert,
        concurrency=concurrency,
    )
    if all_tags or tags or newest is not None:
        _copy_tags(session, source, target, tags or ["*"], newest, options)
        return
    if is_file(source) and is_file(target):
        raise UsageError(
            "dockhand cp does not copy from file to file; copy the image to a registry, such as "
            f"one of `dockhand serve registry`: dockhand cp {source} localhost:5000/…, and from "
            f"there to {target}"
        )
    start, end = transfer_place(session, source), transfer_place(session, target)
    if isinstance(start, ImagePlace) and isinstance(end, ImagePlace):
        _copy_image(session, start, end, options)
        return
    _refuse_without_registries(options)
    if isinstance(start, ImagePlace) and isinstance(end, ArchivePlace):
        saved = save_archive(
            session, start, end, platform=platform, platforms=chosen, overwrite=overwrite
        )
        report_transfer(session, saved)
    elif isinstance(start, ArchivePlace) and isinstance(end, ImagePlace):
        if platform is not None:
            raise UsageError("of a file, --platforms selects the platforms to push, not --platform")
        if end.tag is None and start.format != "docker-archive" and start.name:
            end = ImagePlace(end.client, end.repository, end.name, start.name, end.digest)
        loaded = load_archive(
            session,
            start,
            end,
            image=start.name,
            image_option=f"{source}:NAME",
            platforms=chosen,
        )
        report_transfer(session, loaded)


def _refuse_without_registries(options: _CopyOptions) -> None:
    """Refuse options that only copies between registries have."""
    for name, given in (
        ("--referrers", options["referrers"]),
        ("--convert", options["convert"] is not None),
    ):
        if given:
            raise UsageError(f"{name} is for copies between registries, not for files")


def _copy_image(
    session: Session, source: ImagePlace, target: ImagePlace, options: _CopyOptions
) -> None:
    """Copy one image or index between registries, and report it."""
    if target.tag and target.digest:
        raise UsageError(f"{target}: TARGET has a tag or a digest, not both")
    reference = target.tag or target.digest or source.named_tag
    if options["platforms"] and (reference is None or ":" in reference):
        raise UsageError(
            "an index with --platforms alone has another digest: give TARGET a tag, or use "
            "--platform for one image"
        )
    begin = time.monotonic()
    shown = target if target.digest else target.with_reference(reference)
    title = f"Copying {source} to {shown}"
    with option_names(convert="--convert oci"), session.progress(title) as progress:
        result = source.client.copy(
            source.repository,
            source.reference,
            to=target.client,
            to_repository=target.repository,
            to_reference=reference,
            progress=progress.total,
            blob_progress=progress.blob,
            **options,
        )
    text = target.with_reference(result.tag)
    transfer = copy_report(str(source), text, result, time.monotonic() - begin)
    report_transfer(session, transfer)
    warn_of_dropped(session, transfer["dropped"], changed=_is_changed(options))


def _copy_tags(
    session: Session,
    source: str,
    target: str,
    patterns: list[str],
    newest: int | None,
    options: _CopyOptions,
) -> None:
    """Copy many tags of a repository; a line for each of them, as soon as it is there."""
    if is_file(source) or is_file(target):
        raise UsageError("--all-tags, --tags and --newest are for repositories, not for files")
    start, end = session.repository(source), session.repository(target)
    failures: list[int] = []
    count = 0
    with session.progress(f"Copying tags of {source} to {target}") as progress:
        for result in start.client.copy_tags(
            start.name,
            to=end.client,
            to_repository=end.name,
            tags=patterns,
            newest=newest,
            progress=progress.total,
            blob_progress=progress.blob,
            **options,
        ):
            count += 1
            _report_tag(session, source, target, result, changed=_is_changed(options))
            if result.error is not None:
                failures.append(exit_code_of(result.error))
    if not count:
        session.output.warning(f"{source}: no tag matches {' or '.join(patterns)}")
    if failures:
        code = code_of_several(failures, count)
        raise CommandFailed(f"{len(failures)} of {counted(count, 'tag')} failed", code)
    session.output.message(f"{counted(count, 'tag')} copied")


def _report_tag(
    session: Session, source: str, target: str, result: CopyResult, *, changed: bool
) -> None:
    """Write the result of one tag."""
    output = session.output
    report = tag_report(f"{source}:{result.tag}", f"{target}:{result.tag}", result)
    if output.as_json or result.error is None:
        output.item(report, f"{report['target']}@{result.digest}")
        sys.stdout.flush()
    if result.error is not None:
        from dockhand_cli.advice import error_text

        output.error(f"{report['target']}: {error_text(result.error)}")
    warn_of_dropped(session, report["dropped"], changed=changed)


def _is_changed(options: _CopyOptions) -> bool:
    """Whether the copies have other manifests than the source."""
    return bool(options["platform"] or options["platforms"] or options["convert"])
