"""The commands `dockhand blob …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, BinaryIO, TypedDict

import typer

from dockhand_cli.arguments import OutputFile, RepositoryArgument
from dockhand_cli.completion import complete_repository
from dockhand_cli.confirmation import Yes, ask_yes, can_ask
from dockhand_cli.exact_bytes import STDIO, existing_file, input_file, is_stream, show_text, text_of
from dockhand_cli.exit_codes import CommandFailed, UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import ImagePlace, digest_place
from dockhand_cli.session import Session, session_of
from dockhand_cli.values import Size, for_people

app = typer.Typer(no_args_is_help=True, help="Download, upload, look at and delete single blobs.")

BLOB_HELP = "the blob: HOST/REPOSITORY@DIGEST or @CONNECTION/REPOSITORY@DIGEST"
_DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of examples
_TEXT_LIMIT = 1 << 20  # bytes of a blob that a terminal shows


class DownloadedBlob(TypedDict):
    """The document of `dockhand blob get --json`, which needs --output.

    Attributes:
        output: path of the file.
    """

    repository: str
    digest: str
    size: int
    output: str


class UploadedBlob(TypedDict):
    """The document of `dockhand blob put --json`.

    Attributes:
        uploaded: false if the repository had the blob already.
    """

    repository: str
    digest: str
    uploaded: bool


class BlobSize(TypedDict):
    """The document of `dockhand blob head --json`; the size is in bytes."""

    repository: str
    digest: str
    size: int


class DeletedBlob(TypedDict):
    """The document of `dockhand blob rm --json`; the size is in bytes."""

    repository: str
    digest: str
    size: int


_BlobArgument = Annotated[
    str,
    typer.Argument(metavar="REPOSITORY@DIGEST", help=BLOB_HELP, autocompletion=complete_repository),
]


@app.command(
    epilog=examples(
        f"dockhand blob get localhost:5000/app@{_DIGEST} --output layer.tar.gz",
        f"dockhand blob get @staging/app@{_DIGEST} | tar -tz",
    )
)
def get(
    context: typer.Context,
    blob: _BlobArgument,
    output: OutputFile = None,
) -> None:
    """Download a blob, and verify it against its digest.

    With --output, the file appears only when it is complete and verified, and an interrupted
    download resumes when it is run again. Without it, the blob is written to standard output as it
    arrives, so trust the bytes only if the exit status is 0. On a terminal, only text is shown.
    """
    session = session_of(context)
    place = digest_place(session, blob)
    if output is None or output == STDIO:
        if session.output.as_json:
            raise UsageError("--json needs --output FILE: standard output is the blob itself")
        _write_blob(session, place)
    elif is_stream(output):
        with output.open("wb") as file:
            size = _stream(place, file)
        _report(session, place, size, output)
    else:
        with session.progress(f"Downloading {place.reference[:19]}") as progress:
            place.client.download_blob(
                place.repository, place.reference, output, progress=progress.total
            )
        _report(session, place, output.stat().st_size, output)


def _write_blob(session: Session, place: ImagePlace) -> None:
    """Write a blob to standard output; on a terminal only if it is text."""
    if not session.output.is_terminal:
        _stream(place, sys.stdout.buffer)
        return
    with place.client.open_blob(place.repository, place.reference) as reader:
        data = reader.read(_TEXT_LIMIT + 1)
    text = None if len(data) > _TEXT_LIMIT else text_of(data)
    if text is None:
        raise CommandFailed(
            "the blob is binary or long, and is not shown on a terminal: use --output FILE or a "
            "pipe",
            code=2,
        )
    show_text(text)


def _stream(place: ImagePlace, file: BinaryIO) -> int:
    """Write a blob to a stream in constant memory, and return its size."""
    with place.client.open_blob(place.repository, place.reference) as reader:
        for block in reader:
            file.write(block)
        file.flush()
        return reader.position


def _report(session: Session, place: ImagePlace, size: int, output: Path) -> None:
    if session.output.as_json:
        session.output.document(
            DownloadedBlob(
                repository=place.repository,
                digest=place.reference,
                size=size,
                output=str(output),
            )
        )
    session.output.message(f"{output}: {for_people(Size(size))}, verified")


@app.command(
    epilog=examples(
        "dockhand blob put localhost:5000/app layer.tar.gz",
        "tar -cz site | dockhand blob put @staging/site -",
    )
)
def put(
    context: typer.Context,
    repository: RepositoryArgument,
    file: Annotated[
        Path,
        typer.Argument(help="the file to upload; - for standard input", allow_dash=True),
    ],
    digest: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST", help="the digest that the data must have; otherwise nothing is stored"
        ),
    ] = None,
) -> None:
    """Upload a blob, and print its digest.

    A file that the repository has already is not sent again. Registries remove blobs that no
    manifest names, so push a manifest next.
    """
    session = session_of(context)
    client, name = session.repository(repository)
    # the core sends a path fastest, but a pipe such as `<(tar …)` can be read only once
    data = input_file(file) if file == STDIO or is_stream(file) else existing_file(file)
    with session.progress(f"Uploading {file}") as progress:
        result = client.upload_blob(name, data, digest=digest, progress=progress.total)
    if session.output.as_json:
        session.output.document(
            UploadedBlob(repository=name, digest=result.digest, uploaded=result.uploaded)
        )
    session.output.text(result.digest)


@app.command(
    epilog=examples(
        f"dockhand blob head localhost:5000/app@{_DIGEST}",
        f"dockhand blob head @staging/app@{_DIGEST} --json",
    )
)
def head(context: typer.Context, blob: _BlobArgument) -> None:
    """Print the size of a blob in bytes, without downloading it.

    If the repository does not have the blob, the exit status is 3.
    """
    session = session_of(context)
    place = digest_place(session, blob)
    size = place.client.blob_size(place.repository, place.reference)
    if session.output.as_json:
        session.output.document(
            BlobSize(repository=place.repository, digest=place.reference, size=size)
        )
    people = f"{size} ({for_people(Size(size))})"
    session.output.text(people if session.output.is_terminal else str(size))


@app.command(
    epilog=examples(
        f"dockhand blob rm localhost:5000/app@{_DIGEST}",
        f"dockhand blob rm @staging/app@{_DIGEST} --yes",
    )
)
def rm(context: typer.Context, blob: _BlobArgument, yes: Yes = False) -> None:
    """Delete a blob from a repository, after a typed yes.

    Images of the repository that have the blob as a layer or config can no longer be pulled. To
    delete images, use `dockhand rm` or `dockhand prune`: the registry's garbage collection then
    removes their blobs.
    """
    session = session_of(context)
    place = digest_place(session, blob)
    size = place.client.blob_size(place.repository, place.reference)
    if not yes:
        if not can_ask(session.output):
            raise UsageError(f"{blob}: nothing was deleted; a blob is deleted only with --yes here")
        session.output.text(
            f"{place.reference} of {place.repository}, {for_people(Size(size))}: images that need "
            "it can no longer be pulled"
        )
        ask_yes("Delete this blob?")
    place.client.delete_blob(place.repository, place.reference)
    if session.output.as_json:
        session.output.document(
            DeletedBlob(repository=place.repository, digest=place.reference, size=size)
        )
    session.output.text(f"deleted {place.reference}")
