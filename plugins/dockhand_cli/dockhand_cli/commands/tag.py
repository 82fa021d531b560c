"""The command `dockhand tag`."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer

from dockhand_cli.arguments import ImageArgument
from dockhand_cli.exit_codes import CommandFailed, UsageError, code_of_several, exit_code_of
from dockhand_cli.help_texts import examples
from dockhand_cli.image_places import image_place
from dockhand_cli.session import session_of
from dockhand_cli.values import counted

app = typer.Typer()


class WrittenTag(TypedDict):
    """One of the tags of an image that `dockhand tag` writes.

    Attributes:
        error: the error, or null if the tag was written.
    """

    tag: str
    error: str | None


class TaggedImage(TypedDict):
    """The document of `dockhand tag --json`.

    Attributes:
        repository: the repository's name.
        digest: the digest that the tags have; null if none was written.
        tags: the tags, in the order of the arguments.
    """

    repository: str
    digest: str | None
    tags: list[WrittenTag]


@app.command(
    epilog=examples(
        "dockhand tag localhost:5000/team/app:v1.2.3 v1.2 v1 latest",
        "dockhand tag @staging/app@sha256:4f53cda1… stable",
    )
)
def tag(
    context: typer.Context,
    image: ImageArgument,
    tags: Annotated[
        list[str], typer.Argument(metavar="TAG…", help="tags of the same repository to write")
    ],
) -> None:
    """Give an image further tags. No blob is transferred."""
    from dockhand_cli.advice import error_text
    from dockhand_core.errors import DockhandError, NotFound
    from dockhand_core.models import check_tag

    session = session_of(context)
    output = session.output
    for each in tags:
        if "/" in each or ":" in each:
            raise UsageError(
                f"{each}: a tag of the same repository is expected here; `dockhand cp` copies to "
                "another repository"
            )
        check_tag(each)
    place = image_place(session, image)
    reference = place.reference
    digest: str | None = None
    written: list[WrittenTag] = []
    failures: list[int] = []
    for each in dict.fromkeys(tags):
        try:
            result = place.client.copy(place.repository, reference, to_reference=each)
        except NotFound:  # there is no such image
            raise
        except DockhandError as error:
            failures.append(exit_code_of(error))
            written.append(WrittenTag(tag=each, error=str(error)))
            output.error(f"{place.with_reference(each)}: {error_text(error)}")
            continue
        # all tags get the same image, even if somebody moves the tag of the source meanwhile
        reference = digest = str(result.digest)
        written.append(WrittenTag(tag=each, error=None))
        output.text(place.with_reference(each, digest))
    if output.as_json:
        output.document(TaggedImage(repository=place.repository, digest=digest, tags=written))
    if failures:
        code = code_of_several(failures, len(written))
        raise CommandFailed(f"{len(failures)} of {counted(len(written), 'tag')} failed", code)
