"""The command `dockhand prune`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, cast

import typer

from dockhand_cli.arguments import REPOSITORY_HELP
from dockhand_cli.completion import complete_repository
from dockhand_cli.confirmation import DryRun, Yes, ask_yes, can_ask
from dockhand_cli.exit_codes import (
    FAILED,
    CommandFailed,
    UsageError,
    code_of_several,
    exit_code_of,
)
from dockhand_cli.help_texts import examples
from dockhand_cli.session import Session, session_of

if TYPE_CHECKING:
    from dockhand_core import RetentionItem, RetentionPlan, RetentionPolicy

app = typer.Typer()


class PlanItem(TypedDict):
    """A manifest of a plan; the fields are those of `RetentionItem`.

    Attributes:
        tags: the tags that the plan is about.
        digest: the digest; null if the tags point to no manifest.
        created: the time that counts as the age, or null.
        size: bytes of the manifest, its configs and layers.
        reason: the reason for the decision.
        tags_only: whether only the tags go, and the manifest stays.
        after: digests of manifests that have to be gone first.
        error: always null in a plan.
    """

    tags: list[str]
    digest: str | None
    created: str | None
    size: int
    reason: str
    tags_only: bool
    after: list[str]
    error: str | None


class Plan(TypedDict):
    """A line of `dockhand prune --json`, a plan for each repository; `--apply` reads such lines.

    The fields are those of `RetentionPlan`.

    Attributes:
        version: version of this form.
        registry: URL of the registry.
        made_at: time when the plan was made.
        delete: manifests and tags to delete, in this order.
        keep: manifests that stay.
        unknown: tags that stay because their age is not known.
        blocked: tags that the registry cannot delete without a tag that stays.
        freed: estimated size in bytes of the blobs that nothing else in the repository needs.
    """

    version: int
    registry: str
    repository: str
    made_at: str
    delete: list[PlanItem]
    keep: list[PlanItem]
    unknown: list[PlanItem]
    blocked: list[PlanItem]
    freed: int


class Outcome(TypedDict):
    """A line of `dockhand prune --apply --json`, for each deletion. With `--yes`, it follows plans.

    Attributes:
        registry: the registry, as the plan names it.
        repository: the repository's name.
        tags: the tags.
        digest: the digest.
        tags_only: whether only the tags go.
        outcome: `deleted`; `changed` if it was left alone, because a tag has moved or was added
            since the plan was made; `failed`; or `gone` if it did not exist any more.
        reason: the reason for the outcome, or for the deletion.
        error: the error of a deletion that failed, or null.
    """

    registry: str
    repository: str
    tags: list[str]
    digest: str
    tags_only: bool
    outcome: Literal["deleted", "changed", "failed", "gone"]
    reason: str
    error: str | None


@app.command(
    epilog=examples(
        "dockhand prune localhost:5000/team/app --tags '*' --keep-last 10",
        "dockhand prune @staging/team/app --tags 'pr-*' --keep-newer-than 30d --out plan.json",
        "dockhand prune --apply plan.json",
    )
)
def prune(
    context: typer.Context,
    repositories: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REPOSITORY", help=REPOSITORY_HELP, autocompletion=complete_repository
        ),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="the tags in question: a glob, or re: and a regular expression; can be repeated",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="keep the tags that match; can be repeated"),
    ] = None,
    keep_last: Annotated[
        int | None,
        typer.Option(metavar="N", help="keep the N newest digests that --keep does not match"),
    ] = None,
    keep_newer_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="keep tags that are newer: 36h, 30d or 8w")
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIGEST", help="keep this manifest with all its tags; can be repeated"
        ),
    ] = None,
    max_delete: Annotated[
        int | None,
        typer.Option(metavar="N", help="refuse a plan with more deletions in a repository"),
    ] = None,
    untagged_older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="also delete manifests that nothing needs, and that are older; few registries can "
            "list them",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PLAN", help="write the plan to this file, and do not ask"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file PLAN")] = False,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN",
            help="make the deletions of the plans in this file",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete old tags of repositories, and the manifests that nothing else needs.

    The plan is shown first: the deletions with their reasons, the tags without a usable age, and
    the blocked ones. A terminal then asks for a typed yes. In a pipe and with --json nothing is
    deleted, unless --yes is given. With --out the plan is written to a file, one file for all
    repositories, and --apply makes the deletions of such a file.

    A tag stays if --keep matches, if its digest is among the --keep-last newest or given with
    --protect, or if it is newer than --keep-newer-than. Other tags than those of --tags stay.
    Manifests that a remaining tag needs are never deleted. Signatures and referrers go with their
    image.

    The age is the time of the push where the connection's driver knows it. The driver zot does, if
    zot's extension search is on; the specification has no such time, so the driver distribution
    does not. Without it, the age is the time of the build, so an old image that was mirrored today
    is old. A tag without a time is unknown, and stays.

    Before each deletion all tags are looked at again: tags and manifests that have changed since
    the plan was made are left alone. A plan that was interrupted can be applied again. A registry
    frees the bytes of layers with its own garbage collection.
    """
    session = session_of(context)
    if dry_run and yes:
        raise UsageError("--dry-run and --yes contradict each other")
    policy_given = any(
        value is not None and value != []
        for value in (
            *(tags, keep, keep_last, keep_newer_than, protect, max_delete, untagged_older_than),
            *(repositories, out),
        )
    )
    if apply is not None:
        if policy_given:
            raise UsageError(
                "--apply takes repositories and rules from the plan alone; give no others"
            )
        _apply_file(session, apply, dry_run=dry_run)
        return
    if not repositories:
        raise UsageError("name a repository, or with --apply the file of a plan")
    if not tags and untagged_older_than is None:
        raise UsageError("name the tags in question, such as --tags '*'")
    policy = _policy(
        tags=tags or (),
        keep=keep or (),
        keep_last=keep_last,
        keep_newer_than=keep_newer_than,
        protect=protect or (),
        max_delete=max_delete,
        untagged_older_than=untagged_older_than,
    )
    _prune(session, repositories, policy, out=out, force=force, yes=yes, dry_run=dry_run)


def _policy(**rules: Any) -> RetentionPolicy:
    """Make the policy; its errors name the options."""
    from dockhand_core import RetentionPolicy
    from dockhand_core.errors import RetentionPolicyInvalid, TagPatternInvalid

    try:
        return RetentionPolicy(**rules)
    except (RetentionPolicyInvalid, TagPatternInvalid) as error:
        # an argument's name stands at the start, or in a list of arguments to give
        names = "|".join(rules)
        message = re.sub(
            rf"(^|give |, |or )({names})(?=[:,.; ]|$)",
            lambda found: f"{found[1]}--{found[2].replace('_', '-')}",
            str(error),
        )
        raise UsageError(message) from error


def _prune(
    session: Session,
    repositories: list[str],
    policy: RetentionPolicy,
    *,
    out: Path | None,
    force: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Make and show the plans; write them or carry them out, as the options say."""
    from dockhand_cli.plan_files import check_target, write_plans
    from dockhand_cli.plan_report import deletions_text

    output = session.output
    if out is not None:
        check_target(out, force=force)
    planned, codes = _plan_all(session, repositories, policy)
    plans = [plan for _, plan in planned]
    if out is not None and plans:
        write_plans(out, plans)
        if not yes:
            output.text(f"nothing was deleted; this does it: dockhand prune --apply {out}")
    deletes = any(plan.delete for plan in plans)
    if deletes and not yes and out is None:
        if dry_run or not can_ask(output):
            output.text("nothing was deleted; --yes deletes, and --out writes a plan for --apply")
        else:
            ask_yes(f"Delete {deletions_text(plans)}?")
            yes = True
    if deletes and yes:
        for client, plan in planned:
            codes += _apply(session, client, plan)
    _exit(codes, len(repositories))


def _plan_all(
    session: Session, repositories: list[str], policy: RetentionPolicy
) -> tuple[list[tuple[Any, RetentionPlan]], list[int]]:
    """Make and show the plan of each repository; return them, and the codes of failures."""
    from dockhand_cli.advice import error_text
    from dockhand_cli.step_progress import show_steps
    from dockhand_core import DockhandError
    from dockhand_core.errors import RetentionLimitExceeded, Unsupported

    targets = [session.repository(text) for text in repositories]
    planned = []
    codes = []
    for client, repository in dict.fromkeys(targets):
        try:
            with show_steps(session.output, f"Reading {repository}") as progress:
                plan = client.plan_retention(repository, policy, progress=progress)
        except RetentionLimitExceeded as error:
            _show(session, error.plan)
            session.output.error(str(error).replace("max_delete", "--max-delete"))
            codes.append(exit_code_of(error))
        except Unsupported as error:
            hint = "; leave out --untagged-older-than" if policy.untagged_older_than else ""
            session.output.error(f"{error}{hint}")
            codes.append(exit_code_of(error))
        except DockhandError as error:
            session.output.error(error_text(error))
            codes.append(exit_code_of(error))
        else:
            _show(session, plan)
            planned.append((client, plan))
    return planned, codes


def _apply_file(session: Session, path: Path, *, dry_run: bool) -> None:
    """Carry out the plans of a file."""
    from dockhand_cli.advice import error_text
    from dockhand_cli.plan_files import client_of_plan, read_plans
    from dockhand_core import DockhandError

    plans = read_plans(path)
    codes: list[int] = []
    for plan in plans:
        if dry_run:
            _show(session, plan)
            continue
        try:
            codes += _apply(session, client_of_plan(session, plan), plan)
        except (DockhandError, CommandFailed) as error:
            session.output.error(f"{plan.repository}: {error_text(error)}")
            codes.append(exit_code_of(error))
    _exit(codes, len(plans))


def _apply(session: Session, client: Any, plan: RetentionPlan) -> list[int]:
    """Make the deletions of a plan, with a line each; return the codes of failures."""
    from dockhand_cli.plan_report import item_name, repository_name
    from dockhand_cli.step_progress import show_steps

    output = session.output

    def item_done(outcome: Any, item: RetentionItem) -> None:
        name = item_name(plan, item)
        if output.as_json:
            output.item(_outcome(plan, item, outcome), "")
        elif outcome in ("deleted", "gone"):
            output.text(f"{outcome} {name}")
        elif outcome == "changed":
            output.text(f"changed {name}: {item.reason}; it was left alone")
        if outcome == "failed":
            output.error(f"{name}: {item.reason}{f': {item.error}' if item.error else ''}")
        sys.stdout.flush()  # a record of the deletions, even if this process is killed

    try:
        with show_steps(output, f"Deleting in {plan.repository}") as progress:
            done = client.apply_retention(plan, progress=progress, item_done=item_done)
    except KeyboardInterrupt:
        output.message("interrupted; the remaining deletions were not made")
        raise
    output.text(
        f"{repository_name(plan)}: {len(done.deleted)} deleted, {len(done.changed)} changed, "
        f"{len(done.failed)} failed, {len(done.gone)} gone before"
    )
    return [FAILED] if done.failed else []


def _show(session: Session, plan: RetentionPlan) -> None:
    from dockhand_cli.plan_report import show_plan

    if session.output.as_json:
        session.output.item(_document(plan), "")
    else:
        show_plan(session.output, plan)


def _exit(failures: list[int], count: int) -> None:
    """Exit with the status of the failures, if there are any, of `count` things."""
    if failures:
        raise typer.Exit(code_of_several(failures, count))


def _document(plan: RetentionPlan) -> Plan:
    import json

    version = json.loads(plan.to_json())["version"]
    return cast("Plan", {"version": version, **plan.model_dump(mode="json")})


def _outcome(plan: RetentionPlan, item: RetentionItem, outcome: Any) -> Outcome:
    return Outcome(
        registry=plan.registry,
        repository=plan.repository,
        tags=list(item.tags),
        digest=str(item.digest),
        tags_only=item.tags_only,
        outcome=outcome,
        reason=item.reason,
        error=item.error,
    )
