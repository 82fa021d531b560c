"""The commands `dockhand artifact …`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from dockhand_cli.arguments import AnnotationOption, ImageArgument, annotations_of
from dockhand_cli.completion import complete_image
from dockhand_cli.exit_codes import CommandFailed, UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of
from dockhand_cli.values import parse_size

if TYPE_CHECKING:
    from dockhand_core import ArtifactFile

app = typer.Typer(
    no_args_is_help=True, help="Push and pull files and folders as artifacts, as oras does."
)

_FILES_HELP = "files and folders, each FILE or FILE:MEDIA_TYPE"


class PushedArtifact(TypedDict):
    """The document of `dockhand artifact push --json` and `dockhand artifact attach --json`.

    Attributes:
        tag: the tag; null if the artifact was pushed by digest.
        subject: digest of the manifest that the artifact is attached to, or null.
    """

    repository: str
    tag: str | None
    digest: str
    subject: str | None


class PulledArtifact(TypedDict):
    """The document of `dockhand artifact pull --json`.

    Attributes:
        files: paths of the files and folders that were written.
    """

    repository: str
    digest: str
    files: list[str]


_TypeOption = Annotated[
    str | None, typer.Option(metavar="TYPE", help="type of the artifact, a media type")
]


@app.command(
    epilog=examples(
        "dockhand artifact push localhost:5000/docs:v1 manual.pdf site/",
        "dockhand artifact push @staging/docs:v1 notes.txt:text/plain "
        "--artifact-type application/vnd.example.docs",
    )
)
def push(
    context: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            help="the artifact's name: HOST/REPOSITORY:TAG or @CONNECTION/REPOSITORY:TAG; without "
            "a tag it is pushed by digest",
            autocompletion=complete_image,
        ),
    ],
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE…", help=_FILES_HELP)] = None,
    artifact_type: _TypeOption = None,
    annotation: AnnotationOption = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="TAG|DIGEST",
            help="attach the artifact to this manifest of the same repository",
        ),
    ] = None,
    artifact_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="the config of the artifact, FILE or FILE:MEDIA_TYPE"),
    ] = None,
) -> None:
    """Push files and folders as an artifact, and print the digest of its manifest.

    The name of a file in the artifact is its path, if that is relative and below the working
    folder, and otherwise its last part. A folder is packed. The text after the last colon of FILE
    is the media type; for a file that exists under the whole name, the whole name is the path.
    """
    _push(
        context,
        image,
        files or [],
        artifact_type=artifact_type,
        annotation=annotation,
        subject=subject,
        config=artifact_config,
    )


@app.command(
    epilog=examples(
        "dockhand artifact attach localhost:5000/app:v1 sbom.spdx.json "
        "--artifact-type application/spdx+json",
        "dockhand artifact attach @staging/app:v1 --artifact-type application/vnd.example.approval "
        "--annotation org.example.by=alice",
    )
)
def attach(
    context: typer.Context,
    image: ImageArgument,
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE…", help=_FILES_HELP)] = None,
    artifact_type: _TypeOption = None,
    annotation: AnnotationOption = None,
) -> None:
    """Attach files and folders to an image, and print the digest of the artifact's manifest.

    The artifact has no tag: it is a referrer of the image, and `dockhand referrers IMAGE` lists it.
    Files are named as by `dockhand artifact push`. Without a file, the artifact consists of its
    annotations.
    """
    if artifact_type is None:
        raise UsageError(
            "--artifact-type is missing: the type of the attached artifact, such as "
            "application/spdx+json"
        )
    session = session_of(context)
    _push(
        context,
        image,
        files or [],
        artifact_type=artifact_type,
        annotation=annotation,
        subject=session.place(image).reference,
        by_digest=True,
    )


def _push(
    context: typer.Context,
    image: str,
    files: list[str],
    *,
    artifact_type: str | None,
    annotation: list[str] | None,
    subject: str | None,
    config: str | None = None,
    by_digest: bool = False,
) -> None:
    """Push an artifact to the place of an image, and report its digest."""
    from dockhand_core import ArtifactInvalid, Descriptor

    session = session_of(context)
    if not files and not annotation:
        raise UsageError("there is nothing to push: give a FILE or an --annotation")
    place = image_place(session, image)
    tag = None if by_digest else place.tag
    if place.digest is not None and not by_digest:
        raise UsageError(
            f"{image}: an artifact is pushed to a tag, or without a tag and digest by its digest"
        )
    annotations = annotations_of(annotation or ())
    layers = [_file(text) for text in files]
    described = None
    if subject is not None:  # asked here, because the output states its digest
        head = place.client.manifest_head(place.repository, subject)
        described = Descriptor(media_type=head.media_type, digest=head.digest, size=head.size)
    verb = "Attaching to" if by_digest else "Pushing"
    with session.progress(f"{verb} {image}") as progress:
        try:
            result = place.client.push_artifact(
                place.repository,
                tag,
                layers,
                artifact_type=artifact_type,
                subject=described,
                annotations=annotations,
                config=None if config is None else _file(config),
                progress=progress.total,
                blob_progress=progress.blob,
            )
        except ArtifactInvalid as error:
            raise UsageError(
                str(error).replace(
                    "use ArtifactFile(name=…)", "give relative paths below the working folder"
                )
            ) from None
    if session.output.as_json:
        session.output.document(
            PushedArtifact(
                repository=place.repository,
                tag=tag,
                digest=result.digest,
                subject=None if described is None else described.digest,
            )
        )
    session.output.text(result.digest)


def _file(text: str) -> ArtifactFile:
    """The file that an argument `FILE` or `FILE:MEDIA_TYPE` names.

    Raises:
        UsageError: there is no such file.
    """
    from dockhand_core import ArtifactFile

    path, colon, media_type = text.rpartition(":")
    if not colon or Path(text).exists():
        path, media_type = text, ""
    if not Path(path).exists():
        raise UsageError(f"{path}: there is no such file or folder")
    return ArtifactFile(path, media_type=media_type or None)


@app.command(
    epilog=examples(
        "dockhand artifact pull localhost:5000/docs:v1",
        "dockhand artifact pull @staging/docs:v1 --output docs --overwrite",
    )
)
def pull(
    context: typer.Context,
    image: ImageArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            file_okay=False,
            help="the folder to write into; it is made if it does not exist",
        ),
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace existing files")] = False,
    max_size: Annotated[
        int,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="the most that is written in total, such as 500MB or 8GiB",
        ),
    ] = "4GiB",  # type: ignore[assignment]  # parsed as a given value is
) -> None:
    """Pull the files and folders of an artifact, all of them or none, and print their paths.

    Nothing is written outside the folder, even if names and links of the artifact point there.
    """
    from dockhand_core import ArtifactFileExists, ArtifactInvalid

    session = session_of(context)
    client, repository, reference = session.place(image)
    digest = client.manifest_head(repository, reference).digest
    with session.progress(f"Pulling {image}") as progress:
        try:
            paths = client.pull_artifact(
                repository,
                digest,
                output,
                overwrite=overwrite,
                max_size=max_size,
                progress=progress.total,
                blob_progress=progress.blob,
            )
        except ArtifactInvalid as error:
            raise CommandFailed(str(error).replace("max_size", "--max-size")) from None
        except ArtifactFileExists as error:
            existing = str(error).partition(" exists already")[0]
            raise CommandFailed(
                f"{existing} exists already; --overwrite replaces the files that the artifact has"
            ) from None
    if session.output.as_json:
        session.output.document(
            PulledArtifact(repository=repository, digest=digest, files=[str(p) for p in paths])
        )
    for path in paths:
        session.output.text(str(path))
    if not paths:
        session.output.warning(
            f"{image} has no files with a name, so nothing was pulled; "
            "`dockhand pull` saves an image"
        )
