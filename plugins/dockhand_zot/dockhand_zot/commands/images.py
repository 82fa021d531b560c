"""The commands that search and list images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.arguments import ConnectionArgument, RepositoryArgument
from dockhand_cli.completion import complete_image
from dockhand_cli.help_texts import examples

from dockhand_zot.commands.clients import (
    zot_client,
    zot_image,
    zot_repository,
)
from dockhand_zot.commands.forms import (
    Image,
    Images,
    Repository,
    image_form,
    repository_form,
    show_images,
    show_repositories,
)

if TYPE_CHECKING:
    from dockhand_zot import ImageSummary

__all__ = ["SearchResults", "app", "write_images"]

app = typer.Typer()
TAGGED = "the image: HOST/REPOSITORY:TAG or @CONNECTION/REPOSITORY:TAG"


class SearchResults(TypedDict):
    """The document of `dockhand zot search --json`; one of the lists is empty.

    Attributes:
        repositories: the repositories that match.
        images: the images that match.
    """

    repositories: list[Repository]
    images: list[Image]


@app.command(
    epilog=examples("dockhand zot search nginx staging", "dockhand zot search app:1 localhost:5000")
)
def search(
    context: typer.Context,
    text: Annotated[
        str, typer.Argument(help="part of a repository's name, or REPOSITORY:TAG or a digest")
    ],
    connection: ConnectionArgument = None,
) -> None:
    """Search the repositories of a zot by a part of their name, or its images.

    With a colon, images are searched: REPOSITORY:TAG, in which the tag may be incomplete or empty,
    or a digest of a manifest, config or layer.
    """
    output = session_of(context).output
    found = zot_client(context, connection).global_search(text)
    if output.as_json:
        output.document(
            SearchResults(
                repositories=list(map(repository_form, found.repositories)),
                images=list(map(image_form, found.images)),
            )
        )
        return
    if found.repositories:
        show_repositories(output, found.repositories)
    if found.images:
        show_images(output, found.images)


@app.command(epilog=examples("dockhand zot images @staging/team/app"))
def images(
    context: typer.Context,
    repository: RepositoryArgument,
) -> None:
    """List the tagged images of a repository, with their sizes, times and platforms."""
    place = zot_repository(context, repository)
    write_images(context, place.client.images(place.repository))


@app.command(epilog=examples("dockhand zot base-images @staging/team/app:v1"))
def base_images(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help=TAGGED, autocompletion=complete_image)],
) -> None:
    """List the possible base images: the image's layers begin with all of theirs."""
    place = zot_image(context, image)
    write_images(context, place.client.base_images(place.image))


@app.command(epilog=examples("dockhand zot derived-images @staging/team/base:v1"))
def derived_images(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help=TAGGED, autocompletion=complete_image)],
) -> None:
    """List the images that may be built on an image: their layers begin with all of its layers."""
    place = zot_image(context, image)
    write_images(context, place.client.derived_images(place.image))


def write_images(context: typer.Context, images: list[ImageSummary]) -> None:
    """Write a list of images."""
    output = session_of(context).output
    if output.as_json:
        output.document(Images(images=list(map(image_form, images))))
    else:
        show_images(output, images)
