"""The command `dockhand referrers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from dockhand_cli.arguments import ImageArgument
from dockhand_cli.completion import complete_platform
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of
from dockhand_cli.values import Cell, size_text

if TYPE_CHECKING:
    from rich.tree import Tree

    from dockhand_core.operations import ReferrerNode

app = typer.Typer()


class Referrer(TypedDict):
    """A referrer.

    Attributes:
        subject: digest that it refers to: the image's, or that of another referrer.
        artifact_type: type of the artifact, or null; also null for a tag of cosign.
        size: size of its manifest in bytes.
        tag: tag of cosign that names it; null if the registry lists it as a referrer.
    """

    subject: str
    digest: str
    media_type: str
    artifact_type: str | None
    size: int
    tag: str | None
    annotations: dict[str, str]


class Referrers(TypedDict):
    """The document of `dockhand referrers --json`.

    Attributes:
        reference: the reference, as it was given.
        digest: digest of the image.
        referrers: all referrers, also those of other referrers, each after its subject.
    """

    reference: str
    repository: str
    digest: str
    referrers: list[Referrer]


@app.command(
    epilog=examples(
        "dockhand referrers localhost:5000/app:v1",
        "dockhand referrers @staging/app:v1 --artifact-type application/spdx+json",
    )
)
def referrers(
    context: typer.Context,
    image: ImageArgument,
    artifact_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="only referrers of this type")
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="OS/ARCH[/VARIANT]",
            help="of an index, the referrers of this platform's image instead of its own",
            autocompletion=complete_platform,
        ),
    ] = None,
) -> None:
    """Show the referrers of an image, such as signatures and SBOMs, and the referrers of these.

    The signatures that cosign attaches by tags such as `sha256-….sig` are shown, too. In a pipe,
    each referrer is a line: its digest, its type, the size of its manifest, the digest of its
    subject, and cosign's tag.
    """
    from dockhand_core import Digest
    from dockhand_core.operations import referrer_tree

    session = session_of(context)
    output = session.output
    client, repository, reference = session.place(image)
    digest: str
    if platform is not None:
        digest = client.image(repository, reference, platform=platform).digest
    else:
        digest = client.manifest_head(repository, reference).digest
    nodes = client.run(referrer_tree(client.driver, repository, Digest(digest), artifact_type))
    found = list(_referrers(digest, nodes))
    if output.as_json:
        output.document(
            Referrers(reference=image, repository=repository, digest=digest, referrers=found)
        )
    elif output.is_terminal:
        output.render(_tree(image, digest, nodes))
    else:
        output.table((), map(_line, found))
    if not found:
        output.message(f"nothing refers to {image}")


def _referrers(subject: str, nodes: Sequence[ReferrerNode]) -> Iterator[Referrer]:
    for node in nodes:
        found = node.descriptor
        yield Referrer(
            subject=subject,
            digest=found.digest,
            media_type=found.media_type,
            artifact_type=found.artifact_type,
            size=found.size,
            tag=node.tag,
            annotations=found.annotations,
        )
        yield from _referrers(found.digest, node.referrers)


def _line(found: Referrer) -> Sequence[Cell]:
    kind = found["artifact_type"] or found["media_type"]
    return found["digest"], kind, found["size"], found["subject"], found["tag"]


def _tree(image: str, digest: str, nodes: Sequence[ReferrerNode]) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    from dockhand_core.text import printable

    def add(tree: Tree, referrers: Sequence[ReferrerNode]) -> None:
        for node in referrers:
            found = node.descriptor
            kind = node.tag or found.artifact_type or found.media_type
            label = Text.assemble((printable(kind), "bold"), f"  {size_text(found.size)}\n")
            label.append(printable(found.digest))
            for key, value in found.annotations.items():
                label.append(f"\n{printable(f'{key}={value}')}", "dim")
            add(tree.add(label), node.referrers)

    root = Tree(Text.assemble((printable(image), "bold"), f"\n{printable(digest)}"))
    add(root, nodes)
    return root
