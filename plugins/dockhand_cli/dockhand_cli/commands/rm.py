"""The command `dockhand rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from dockhand_cli.completion import complete_image
from dockhand_cli.confirmation import DryRun, Yes, ask_yes, can_ask
from dockhand_cli.exit_codes import CommandFailed, UsageError, code_of_several, exit_code_of
from dockhand_cli.help_texts import examples
from dockhand_cli.session import Session, session_of
from dockhand_cli.values import counted

if TYPE_CHECKING:
    from dockhand_cli.removals import Removal

app = typer.Typer()


class RemovalReport(TypedDict):
    """A deletion in the document of `dockhand rm`.

    Attributes:
        registry: the registry's URL.
        repository: the repository's name.
        tag: the tag that goes alone; null if the manifest goes with all of its tags.
        digest: the digest; null if it is not known.
        tags: the tags that go.
        other_tags: the other tags of a tag's digest, which stay; null if they were not looked up.
        indexes: the tags of indexes that list the manifest, which stay.
        referrers: the number of referrers of the manifest, which stay.
        status: `planned` if it was not tried, else `deleted` or `failed`.
        error: the error, or null.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None
    tags: list[str]
    other_tags: list[str] | None
    indexes: list[str]
    referrers: int
    status: Literal["planned", "deleted", "failed"]
    error: str | None


class RemovalReports(TypedDict):
    """The document of `dockhand rm --json`.

    Attributes:
        removals: the deletions, one for each argument.
    """

    removals: list[RemovalReport]


@app.command(
    epilog=examples(
        "dockhand rm localhost:5000/team/app:v1 localhost:5000/team/app:v2",
        "dockhand rm @staging/team/app:v1 --dry-run",
        "dockhand rm localhost:5000/team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b82"
        "2cd15d6c15b0f00a08 --yes",
    )
)
def rm(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME:TAG|NAME@DIGEST",
            help="the tags and manifests to delete; a tag or a digest has to be given",
            autocompletion=complete_image,
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete tags, or manifests with all of their tags.

    NAME:TAG deletes this tag and nothing else: the manifest and its other tags stay. This is never
    asked about, nor in a pipe; --dry-run shows it. Some registries cannot delete a tag alone, such
    as Distribution 2.8; nothing is changed then.

    NAME@DIGEST deletes a manifest with all tags that point to it. They are listed first, and a
    terminal asks for a typed yes; in a pipe and with --json, nothing is deleted without --yes.
    Images that an index lists are not deleted with it, and referrers stay; prune deletes both.

    NAME:TAG@DIGEST deletes the tag, if it still points to the digest.

    All arguments are looked up before anything is deleted. To name the other tags of a tag's
    digest, each tag of the repository is looked up with a request; with --quiet this is left out.
    A registry frees the bytes of layers with its own garbage collection.
    """
    from dockhand_cli.removals import parse_removal

    session = session_of(context)
    output = session.output
    if dry_run and yes:
        raise UsageError("--dry-run and --yes contradict each other")
    removals = [parse_removal(session, text) for text in dict.fromkeys(images)]
    try:
        _look_at(session, removals)
        if not dry_run:
            asked = _allow(session, removals, yes=yes)
            _delete(session, removals, again=asked)
    finally:  # also after Ctrl-C: some are deleted
        if output.as_json:
            output.document(RemovalReports(removals=[_report(each) for each in removals]))
    failures = [exit_code_of(each.error) for each in removals if each.error is not None]
    if failures:
        raise typer.Exit(code_of_several(failures, len(removals)))


def _look_at(session: Session, removals: list[Removal]) -> None:
    """Look up each deletion, and show it with everything that goes with it."""
    from dockhand_cli.removals import Lookup
    from dockhand_cli.step_progress import show_steps
    from dockhand_core import DockhandError

    quiet = session.options.quiet
    with show_steps(session.output, "Reading tags") as progress:
        lookup = Lookup(progress, relatives=not quiet)
        for removal in removals:
            try:
                lookup.complete(removal)
            except (DockhandError, CommandFailed) as error:
                _fail(session, removal, error)
            else:
                if removal.tag is None or not quiet:
                    session.output.text(_description(removal))


def _allow(session: Session, removals: list[Removal], *, yes: bool) -> bool:
    """Ask before manifests are deleted; return whether the question was asked.

    Raises:
        UsageError: there is no terminal to ask on, and `--yes` was not given.
        typer.Abort: the answer is not `yes`.
    """
    manifests = [each for each in removals if each.tag is None and each.error is None]
    if yes or not manifests:
        return False
    tags = {(each.client, each.repository, tag) for each in manifests for tag in each.tags}
    many = f"{counted(len(manifests), 'manifest')} with {counted(len(tags), 'tag')}"
    if not can_ask(session.output):
        raise UsageError(f"{many} would go, so this needs --yes; nothing was deleted")
    ask_yes(f"Delete {many}?")
    return True


def _delete(session: Session, removals: list[Removal], *, again: bool) -> None:
    """Make the deletions; a failed one does not stop the others."""
    from dockhand_cli.removals import delete
    from dockhand_cli.step_progress import show_steps
    from dockhand_core import DockhandError

    # A tag goes before the manifest, with which it would go.
    for removal in sorted(removals, key=lambda each: each.tag is None):
        if removal.error is not None:
            continue
        try:
            with show_steps(session.output, f"Deleting in {removal.repository}") as progress:
                delete(removal, progress, again=again)
        except (DockhandError, CommandFailed) as error:
            _fail(session, removal, error)
        else:
            session.output.text(f"deleted {removal.text}")


def _fail(session: Session, removal: Removal, error: Exception) -> None:
    from dockhand_cli.advice import error_text

    removal.error = error
    text = error_text(error)
    session.output.error(text if removal.text in text else f"{removal.text}: {text}")


def _description(removal: Removal) -> str:
    """A line about the tags that go with a deletion, and those that stay."""
    if removal.tag is not None:
        left = f"stays with {_names(removal.other_tags or [])}"
        if not removal.other_tags:
            left = "stays" if removal.other_tags is None else "then has no tag"
        return f"{removal.text}: the tag goes; its manifest {removal.digest} {left}"
    goes = f"goes with {_names(removal.tags)}" if removal.tags else "goes; it has no tag"
    parts = [f"the manifest {goes}"]
    if removal.indexes:
        parts.append(f"it is listed by the index of {_names(removal.indexes)}, which stays")
    if removal.referrers:
        parts.append(f"its {counted(removal.referrers, 'referrer')} will be left without it")
    return f"{removal.text}: {'; '.join(parts)}"


def _names(tags: list[str]) -> str:
    return f"the {'tag' if len(tags) == 1 else 'tags'} {', '.join(tags)}"


def _report(removal: Removal) -> RemovalReport:
    status: Literal["planned", "deleted", "failed"] = "planned"
    if removal.error is not None:
        status = "failed"
    elif removal.deleted:
        status = "deleted"
    return RemovalReport(
        registry=removal.client.driver.identity(),
        repository=removal.repository,
        tag=removal.tag,
        digest=removal.digest,
        tags=removal.tags,
        other_tags=removal.other_tags,
        indexes=removal.indexes,
        referrers=removal.referrers,
        status=status,
        error=None if removal.error is None else str(removal.error),
    )
