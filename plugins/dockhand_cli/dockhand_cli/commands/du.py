"""The command `dockhand du`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import typer

from dockhand_cli.arguments import RepositoryArgument
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of
from dockhand_cli.values import Size

if TYPE_CHECKING:
    from dockhand_cli.values import Cell
    from dockhand_core.operations import RepositoryUsage

app = typer.Typer()


class TagSize(TypedDict):
    """A tag and its sizes.

    Attributes:
        size: bytes of all manifests and blobs that the tag needs.
        shared_size: bytes of these that other tags of the repository need, too.
        unique_size: bytes of these that no other tag of the repository needs.
    """

    tag: str
    digest: str
    size: int
    shared_size: int
    unique_size: int


class RepositorySize(TypedDict):
    """The document of `dockhand du --json`.

    Attributes:
        size: bytes of all manifests and blobs that the tags need, each counted once.
        manifests: number of these manifests and indexes.
        blobs: number of these configs and layers.
        tags: the tags, the largest first.
        broken: the tags without a manifest.
    """

    repository: str
    size: int
    manifests: int
    blobs: int
    tags: list[TagSize]
    broken: list[str]


@app.command(
    epilog=examples("dockhand du localhost:5000/team/app", "dockhand du @staging/app --json")
)
def du(
    context: typer.Context,
    repository: RepositoryArgument,
) -> None:
    """Show how large a repository is, with the shared and the unique size of each tag.

    A blob that several tags need is counted once in the total. Deleting a tag frees its unique size
    at most, after the registry's garbage collection. Blobs that no tag needs are not counted,
    because registries do not list them.
    """
    from dockhand_cli.step_progress import show_steps
    from dockhand_core.operations import repository_usage

    session = session_of(context)
    client, name = session.repository(repository)
    with show_steps(session.output, f"Reading {name}") as progress:
        usage = client.run(repository_usage(client.driver, name, progress))
    document = _document(name, usage)
    if session.output.as_json:
        session.output.document(document)
        return
    for tag in document["broken"]:
        session.output.warning(f"the tag {tag} has no manifest")
    rows: list[tuple[Cell, ...]] = [
        (tag["tag"], Size(tag["size"]), Size(tag["shared_size"]), Size(tag["unique_size"]))
        for tag in document["tags"]
    ]
    # no tag has a parenthesis
    rows.append(("(total)", Size(document["size"]), None, None))
    session.output.table(("TAG", "SIZE", "SHARED SIZE", "UNIQUE SIZE"), rows)


def _document(name: str, usage: RepositoryUsage) -> RepositorySize:
    tags = sorted(usage.tags, key=lambda tag: (-tag.size, tag.tag))
    return RepositorySize(
        repository=name,
        size=usage.size,
        manifests=usage.manifests,
        blobs=usage.blobs,
        tags=[
            TagSize(
                tag=tag.tag,
                digest=tag.digest,
                size=tag.size,
                shared_size=tag.shared_size,
                unique_size=tag.unique_size,
            )
            for tag in tags
        ],
        broken=list(usage.broken),
    )
