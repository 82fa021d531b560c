"""The command `dockhand push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dockhand_cli.arguments import ImageArgument, platforms_of
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of
from dockhand_cli.transfer_places import archive_to_read
from dockhand_cli.transfers import load_archive, report_transfer

app = typer.Typer()


@app.command(
    epilog=examples(
        "dockhand push app.tar localhost:5000/team/app:v1",
        "dockhand push layout/ @staging/app:v1 --source v1",
    )
)
def push(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            help="a file of docker save, podman save or dockhand pull, also in gzip, or a folder "
            "with an OCI image layout; oci:FOLDER:TAG names an image in it"
        ),
    ],
    image: ImageArgument,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="the tag, name or digest of the image in the archive, if it has several",
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLATFORM,PLATFORM",
            help="push these platforms alone, such as linux/amd64,linux/arm64",
        ),
    ] = None,
) -> None:
    """Push an image from a file or a folder.

    Blobs that the repository has are not sent. The tag is written last.
    """
    session = session_of(context)
    archive = archive_to_read(path)
    pushed = load_archive(
        session,
        archive,
        image_place(session, image),
        image=source or archive.name,
        image_option="--source NAME",
        platforms=platforms_of(platforms or ()),
    )
    report_transfer(session, pushed)
