"""The commands `dockhand manifest …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from dockhand_cli.arguments import ImageArgument, OutputFile
from dockhand_cli.completion import complete_image, complete_platform
from dockhand_cli.exact_bytes import STDIO, input_file, replace_file, show_text, write_stdout
from dockhand_cli.exit_codes import CommandFailed
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of
from dockhand_cli.values import Size

app = typer.Typer(no_args_is_help=True, help="Fetch, push and look at manifests and indexes.")

_MAX_SIZE = 8 << 20  # bytes; the core reads no larger manifest


class FetchedManifest(TypedDict):
    """The document of `dockhand manifest get --json`.

    Attributes:
        digest: digest of the manifest's exact bytes.
        size: number of these bytes.
        output: the file that the bytes were written to, or null.
        manifest: the manifest itself; null with --output.
    """

    repository: str
    digest: str
    media_type: str
    size: int
    output: str | None
    manifest: dict[str, Any] | None


class HeadedManifest(TypedDict):
    """The document of `dockhand manifest head --json`; the size is in bytes."""

    repository: str
    digest: str
    media_type: str
    size: int


class PushedManifest(TypedDict):
    """The document of `dockhand manifest put --json`.

    Attributes:
        tag: the tag; null if the manifest was pushed by digest.
    """

    repository: str
    tag: str | None
    digest: str
    size: int


_Platform = Annotated[
    str | None,
    typer.Option(
        metavar="OS/ARCH[/VARIANT]",
        help="of an index, the manifest of this platform's image",
        autocompletion=complete_platform,
    ),
]


@app.command(
    epilog=examples(
        "dockhand manifest get localhost:5000/app:v1",
        "dockhand manifest get @staging/app:v1 --platform linux/arm64 --output manifest.json",
    )
)
def get(
    context: typer.Context,
    image: ImageArgument,
    platform: _Platform = None,
    output: OutputFile = None,
) -> None:
    """Fetch a manifest or index, and write its exact bytes.

    The bytes are verified against the digest before the first of them is written. In a pipe and in
    a file, nothing is added to them, not even a line end.
    """
    session = session_of(context)
    client, repository, reference = session.place(image)
    found = (
        client.manifest(repository, reference)
        if platform is None
        else client.image(repository, reference, platform=platform)
    )
    to_file = output is not None and output != STDIO
    if to_file:
        assert output is not None
        replace_file(output, found.raw)
    if session.output.as_json:
        session.output.document(
            FetchedManifest(
                repository=repository,
                digest=found.digest,
                media_type=found.media_type,
                size=len(found.raw),
                output=str(output) if to_file else None,
                manifest=None if to_file else json.loads(found.raw),
            )
        )
    elif to_file:
        session.output.message(f"{output}: {found.digest}, {len(found.raw)} bytes")
    elif session.output.is_terminal:
        show_text(found.raw.decode(errors="backslashreplace"))
    else:
        write_stdout(found.raw)


@app.command(
    epilog=examples(
        "dockhand manifest head localhost:5000/app:v1", "dockhand manifest head @staging/app --json"
    )
)
def head(context: typer.Context, image: ImageArgument, platform: _Platform = None) -> None:
    """Print the digest, size and media type of a manifest, without fetching it.

    With --platform the index is fetched, because it lists the digests of its images. If the
    manifest does not exist, the exit status is 3.
    """
    session = session_of(context)
    client, repository, reference = session.place(image)
    found = (
        client.manifest_head(repository, reference)
        if platform is None
        else client.image(repository, reference, platform=platform).descriptor()
    )
    if session.output.as_json:
        session.output.document(
            HeadedManifest(
                repository=repository,
                digest=found.digest,
                media_type=found.media_type,
                size=found.size,
            )
        )
        return
    columns = ("Digest", "Size", "Type")
    row = (found.digest, Size(found.size), found.media_type)
    if session.output.is_terminal:  # lines, because the digest would be folded in a table
        session.output.facts(zip(columns, row, strict=True))
    else:
        session.output.table(columns, [row])


@app.command(
    epilog=examples(
        "dockhand manifest put localhost:5000/app:v2 manifest.json",
        "dockhand manifest get @staging/app:v1 | dockhand manifest put @production/app:v1 -",
    )
)
def put(
    context: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            help="the image: HOST/REPOSITORY:TAG or @CONNECTION/REPOSITORY:TAG; without a tag, or "
            "with @DIGEST, the manifest is pushed by digest",
            autocompletion=complete_image,
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(help="the file with the manifest; - for standard input", allow_dash=True),
    ],
    media_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="the media type to send; by default the one that it states"
        ),
    ] = None,
) -> None:
    """Push a manifest or index as it is, and print its digest.

    The blobs that it names must be in the repository already.
    """
    from dockhand_core import Digest

    session = session_of(context)
    place = image_place(session, image)
    data = _read(file)
    result = place.client.put_manifest(
        place.repository, place.digest or place.tag or Digest.of(data), data, media_type=media_type
    )
    if session.output.as_json:
        tag = None if place.digest else place.tag
        session.output.document(
            PushedManifest(
                repository=place.repository, tag=tag, digest=result.digest, size=len(data)
            )
        )
    session.output.text(result.digest)


def _read(file: Path) -> bytes:
    """Read a manifest from a file or from standard input."""
    with input_file(file) as opened:
        data = opened.read(_MAX_SIZE + 1)
    if len(data) > _MAX_SIZE:
        raise CommandFailed(
            f"{file}: a manifest has at most {_MAX_SIZE >> 20} MiB; for other data use "
            "`dockhand blob put`",
            code=2,
        )
    return data
