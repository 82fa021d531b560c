"""Retention plans and the outcomes of their deletions, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dockhand_cli.output import Output
from dockhand_cli.plan_files import registry_name
from dockhand_cli.values import Cell, Size, counted, for_people, short_digest

if TYPE_CHECKING:
    from dockhand_core import RetentionItem, RetentionPlan

__all__ = ["deletions_text", "item_name", "repository_name", "show_plan"]

_COLUMNS = ("ACTION", "TAGS", "DIGEST", "AGE", "SIZE", "REASON")


def repository_name(plan: RetentionPlan) -> str:
    """The repository of a plan with its registry, as references name them."""
    return f"{registry_name(plan.registry)}/{plan.repository}"


def show_plan(output: Output, plan: RetentionPlan) -> None:
    """Show the deletions of a plan and its undecided tags, and a summary."""
    if plan.delete or plan.unknown or plan.blocked:
        if output.is_terminal:
            output.text(repository_name(plan))
            output.table(_COLUMNS, _rows(plan, short=True))
        else:
            output.table((), ((repository_name(plan), *row) for row in _rows(plan, short=False)))
    freed = ""
    if plan.delete:
        size = for_people(Size(plan.freed)) if output.is_terminal else counted(plan.freed, "byte")
        freed = f"; the registry's garbage collection can free about {size}"
    output.text(
        f"{repository_name(plan)}: {deletions_text([plan])} to delete, {_count(plan.keep)} kept, "
        f"{_count(plan.unknown)} unknown, {_count(plan.blocked)} blocked{freed}"
    )


def deletions_text(plans: list[RetentionPlan]) -> str:
    """The number of deletions of plans, and of their tags: `2 manifests and 3 tags`."""
    items = [item for plan in plans for item in plan.delete]
    manifests = sum(not item.tags_only for item in items)
    return f"{counted(manifests, 'manifest')} and {counted(_count(items), 'tag')}"


def item_name(plan: RetentionPlan, item: RetentionItem) -> str:
    """The manifest of an item with its tags, or only the tags if the manifest stays."""
    name = repository_name(plan)
    if item.tags_only:
        return " ".join(f"{name}:{tag}" for tag in item.tags)
    tags = f" ({', '.join(item.tags)})" if item.tags else ""
    return f"{name}@{item.digest}{tags}"


def _rows(plan: RetentionPlan, *, short: bool) -> Iterator[tuple[Cell, ...]]:
    for decision, items in (
        ("delete", plan.delete),
        ("unknown", plan.unknown),
        ("blocked", plan.blocked),
    ):
        for item in items:
            digest = item.digest and str(item.digest)
            if short and digest:
                digest = short_digest(digest)
            tags = ", ".join(item.tags) if short else " ".join(item.tags)
            yield decision, tags, digest, item.created, Size(item.size), _reason(decision, item)


def _reason(decision: str, item: RetentionItem) -> str:
    if decision == "delete" and item.tags_only:
        return f"{item.reason}; only the tag goes, its manifest stays"
    return item.reason


def _count(items: tuple[RetentionItem, ...] | list[RetentionItem]) -> int:
    """The number of tags of some items."""
    return sum(len(item.tags) for item in items)
