"""The command `dockhand index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from dockhand_cli.arguments import AnnotationOption, annotations_of
from dockhand_cli.completion import complete_image
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of

if TYPE_CHECKING:
    from dockhand_cli.image_places import ImagePlace
    from dockhand_cli.session import Session

app = typer.Typer()


class PushedIndex(TypedDict):
    """The document of `dockhand index --json`.

    Attributes:
        repository: the repository's name.
        tag: the tag of the index, or null if it was pushed by digest.
        digest: the digest of the index.
    """

    repository: str
    tag: str | None
    digest: str


@app.command(
    epilog=examples(
        "dockhand index localhost:5000/team/app:v1 v1-amd64 v1-arm64",
        "dockhand index @staging/app:v1 sha256:4f53cda1… sha256:9a271f2a… "
        "--annotation org.opencontainers.image.version=1.0",
    )
)
def index(
    context: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            help="the index to write: HOST/REPOSITORY:TAG or @CONNECTION/REPOSITORY:TAG",
            autocompletion=complete_image,
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="tags or digests of the images in the same repository; of an index, all of its "
            "images",
        ),
    ],
    annotation: AnnotationOption = None,
    media_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="the media type: that of an OCI index, which is the default, or "
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
    ] = None,
) -> None:
    """Make an index of the images for several platforms.

    The platforms are those in the images' configs.
    """
    session = session_of(context)
    place = image_place(session, image)
    if place.tag and place.digest:
        raise UsageError(f"{image}: the index has a tag or a digest, not both")
    annotations = annotations_of(annotation or ())
    pushed = place.client.put_index(
        place.repository,
        place.reference,
        [_source(session, place, each) for each in sources],
        annotations=annotations or None,
        media_type=media_type,
    )
    output = session.output
    if output.as_json:
        output.document(
            PushedIndex(repository=place.repository, tag=place.named_tag, digest=str(pushed.digest))
        )
    output.text(place.with_reference(place.named_tag, str(pushed.digest)))


def _source(session: Session, place: ImagePlace, text: str) -> str:
    """The tag or digest that an argument names, perhaps with the same repository."""
    if "/" not in text:
        return text
    source = image_place(session, text)
    if (source.client, source.repository) != (place.client, place.repository):
        raise UsageError(
            f"{text}: the images of an index are in its repository {place.name}; copy this one "
            f"there first: dockhand cp {text} {place.name}"
        )
    return source.reference
