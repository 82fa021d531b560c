"""The command `dockhand pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dockhand_cli.arguments import ImageArgument, platforms_of
from dockhand_cli.completion import complete_platform
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of
from dockhand_cli.transfer_places import ArchiveFormat, archive_to_write
from dockhand_cli.transfers import report_transfer, save_archive

app = typer.Typer()


@app.command(
    epilog=examples(
        "dockhand pull docker.io/library/nginx:1.27 nginx.tar",
        "dockhand pull @staging/app:v1 layout/",
        "dockhand pull localhost:5000/app:v1 app.tar --format docker-archive",
    )
)
def pull(
    context: typer.Context,
    image: ImageArgument,
    path: Annotated[
        Path,
        typer.Argument(
            help="the file to write, or the folder, to which the image is added; the format may "
            "stand before it, as in oci-archive:FILE"
        ),
    ],
    format: Annotated[  # noqa: A002
        ArchiveFormat | None,
        typer.Option(
            help="oci is a folder with an OCI image layout, oci-archive a tar file of one, and "
            "docker-archive is for docker load. By default oci-archive for a PATH that ends in "
            ".tar, and oci for others",
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="OS/ARCH[/VARIANT]",
            help="save the image for this platform alone, such as linux/arm64",
            autocompletion=complete_platform,
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(metavar="PLATFORM,PLATFORM", help="save an index with these platforms alone"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="the image's name in the archive; by default the tag, in a docker-archive "
            "REPOSITORY:TAG",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing file")
    ] = False,
) -> None:
    """Save an image into a file or a folder.

    The archive appears when it is complete and verified. A folder keeps the images that it has.
    """
    session = session_of(context)
    chosen = platforms_of(platforms or ())
    if platform is not None and chosen is not None:
        raise UsageError(
            "--platform saves one image and --platforms an index; they exclude each other"
        )
    saved = save_archive(
        session,
        image_place(session, image),
        archive_to_write(path, format),
        platform=platform,
        platforms=chosen,
        overwrite=overwrite,
        name=name,
    )
    report_transfer(session, saved)
