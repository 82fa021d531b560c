"""A nightly clean-up: deletes old tags by the policies of a TOML file.

    python nightly_cleanup.py nightly_cleanup.toml            # print the plan, and delete nothing
    python nightly_cleanup.py nightly_cleanup.toml --apply    # print the plan, and carry it out

`nightly_cleanup.toml` has a table for each policy:

    max_delete = 500                     # of the whole run (500): with more, nothing is deleted

    [[policies]]
    connection = "main"                  # of dockhand.toml; if absent, the default connection
    repositories = ["team/app", "ci/*"]  # names, and patterns for the registry's list of names
    tags = ["build-*"]                   # this and the other keys are those of RetentionPolicy
    keep = ["build-*-release"]
    keep_last = 10
    keep_newer_than = "30d"

The connections are those of `dockhand.toml` in the working folder, or of the file that the
variable `DOCKHAND_CONFIG` names. The plan is on standard output. The log is on standard error, a
JSON document in each line; the last one, `finished` or `refused`, has the counts.

Exit status: 0 success; 1 a repository could not be planned, or a deletion failed; 2 the command or
a setting is wrong; 3 more deletions than `max_delete`; 4 another run holds the lock. After 2, 3 and
4 nothing was deleted. A run that was killed is simply repeated: the next one does what is left.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dockhand_core import (
    ConfigError,
    Dockhand,
    DockhandError,
    RegistryClient,
    RetentionPlan,
    RetentionPolicy,
)
from dockhand_core.config import read_toml

FAILED, WRONG, TOO_MANY, LOCKED = 1, 2, 3, 4  # exit statuses
MAX_DELETE = 500


class Policy:
    """A table `[[policies]]`: the connection, the repositories, and the rules.

    Raises:
        ConfigError: a key is missing, unknown or has a wrong value.
    """

    def __init__(self, number: int, table: Any, dockhand: Dockhand) -> None:
        where = f"policies, table {number}"
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: a table is expected, [[policies]]")
        rules = {"tags": [], **table}
        self.name = rules.pop("connection", None)
        self.repositories = rules.pop("repositories", None)
        if not is_list_of_text(self.repositories):
            raise ConfigError(f"{where}: repositories is a list of names, such as ['team/app']")
        if not isinstance(self.name, str | None):
            raise ConfigError(f"{where}: connection is {self.name!r}; it is a name")
        known = sorted(field.name for field in dataclasses.fields(RetentionPolicy))
        if unknown := rules.keys() - known:
            names = ", ".join(["connection", "repositories", *known])
            raise ConfigError(f"{where}: unknown key {min(unknown)!r} (known: {names})")
        try:
            self.rules = RetentionPolicy(**rules)
            self.client: RegistryClient = dockhand.connection(self.name)
        except DockhandError as error:
            raise ConfigError(f"{where}: {error}") from None

    def matching(self) -> Iterator[str]:
        """The names of the repositories; the registry is asked for its list only for patterns."""
        patterns = [name for name in self.repositories if any(mark in name for mark in "*?[")]
        found = [name for name in self.repositories if name not in patterns]
        if patterns:
            names = list(self.client.repositories())
            for pattern in patterns:
                matched = [name for name in names if fnmatchcase(name, pattern)]
                if not matched:
                    log("nothing_matches", connection=self.name, pattern=pattern)
                found += matched
        yield from dict.fromkeys(found)


def is_list_of_text(value: Any) -> bool:
    """Whether a value is a list of strings, with at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def log(event: str, **values: Any) -> None:
    """Write a line of the log."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
    print(json.dumps(line), file=sys.stderr, flush=True)


def read_settings(path: Path, dockhand: Dockhand) -> tuple[list[Policy], int]:
    """Read the policies, and the largest number of deletions.

    Raises:
        ConfigError: the file cannot be read, or a setting is wrong.
    """
    settings = read_toml(path, os.environ)  # `${NAME}` in it is replaced from the environment
    limit, tables = settings.pop("max_delete", MAX_DELETE), settings.pop("policies", None)
    if settings:
        raise ConfigError(f"{path}: unknown key {min(settings)!r} (known: max_delete, policies)")
    if type(limit) is not int or limit < 0:
        raise ConfigError(f"{path}: max_delete is {limit!r}; it is a number from 0 on")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{path}: there is no policy; add a table [[policies]]")
    try:
        return [Policy(number, table, dockhand) for number, table in enumerate(tables, 1)], limit
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock during the block; the value is False if another process has it.

    The operating system frees the lock when the process ends, however it ends.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def make_plans(policies: list[Policy]) -> tuple[list[tuple[Policy, RetentionPlan]], int]:
    """Make and print the plan of each repository; return the plans and the number of failures."""
    plans, failed = [], 0
    for policy in policies:
        try:
            for repository in policy.matching():
                try:
                    plan = policy.client.plan_retention(repository, policy.rules)
                except DockhandError as error:
                    failed += 1
                    log(
                        "not_planned",
                        connection=policy.name,
                        repository=repository,
                        error=show(error),
                    )
                    continue
                plans.append((policy, plan))
                print_plan(policy, plan)
        except DockhandError as error:  # the list of repositories
            failed += 1
            log("not_listed", connection=policy.name, error=show(error))
    return plans, failed


def print_plan(policy: Policy, plan: RetentionPlan) -> None:
    """Print what is deleted, and what is left alone though no rule keeps it."""
    counts = f"{len(plan.delete)} deletions, {len(plan.keep)} kept, {len(plan.unknown)} without age"
    place = f"@{policy.name}/{plan.repository}" if policy.name else plan.repository
    print(f"{place}: {counts}, {len(plan.blocked)} blocked, frees {plan.freed / 1e6:.1f} MB")
    for word, items in (("delete", plan.delete), ("blocked", plan.blocked)):
        for item in items:
            print(f"  {word} {' '.join(item.tags) or 'untagged'} {item.digest}: {item.reason}")


def show(error: Exception) -> str:
    """An error with its class."""
    return f"{type(error).__name__}: {error}"


def clean_up(policies: list[Policy], limit: int, *, apply: bool) -> int:
    """Plan all repositories, then delete; return the exit status."""
    begin = time.monotonic()
    plans, failed = make_plans(policies)
    planned = sum(len(plan.delete) for _, plan in plans)
    if planned > limit:
        log("refused", planned=planned, max_delete=limit, failed=failed)
        return TOO_MANY
    deleted = changed = 0
    for policy, plan in plans if apply else ():
        if not plan.delete:
            continue
        where = {"connection": policy.name, "repository": plan.repository}
        try:
            done = policy.client.apply_retention(plan)
        except DockhandError as error:
            failed += 1
            log("not_applied", **where, error=show(error))
            continue
        deleted, changed = deleted + len(done.deleted), changed + len(done.changed)
        failed += len(done.failed)
        log("applied", **where, deleted=[item.digest for item in done.deleted],
            changed=len(done.changed), gone=len(done.gone))  # fmt: skip
        for item in done.failed:
            log("not_deleted", **where, tags=item.tags, digest=item.digest, error=item.error)
    seconds = round(time.monotonic() - begin, 1)
    log("finished", applied=apply, repositories=len(plans), planned=planned, deleted=deleted,
        changed=changed, failed=failed, seconds=seconds)  # fmt: skip
    return FAILED if failed else 0


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Delete old tags by the policies of a TOML file.")
    parser.add_argument("settings", type=Path, help="the file with the policies")
    parser.add_argument("--apply", action="store_true", help="carry out the plan")
    parser.add_argument("--lock", type=Path, help="the lock file (the settings with .lock added)")
    options = parser.parse_args()
    try:
        with (
            Dockhand() as dockhand,
            locked(options.lock or Path(f"{options.settings}.lock")) as is_mine,
        ):
            policies, limit = read_settings(options.settings, dockhand)
            if not is_mine:
                log("locked", error="another run is in progress")
                return LOCKED
            return clean_up(policies, limit, apply=options.apply)
    except (DockhandError, OSError) as error:
        log("not_started", error=show(error))
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
