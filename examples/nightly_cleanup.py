"""A nightly clean-up: deletes old tags by the policies of a TOML file.

    python nightly_cleanup.py nightly_cleanup.toml            # print the plan, and delete nothing
    python nightly_cleanup.py nightly_cleanup.toml --apply    # print the plan, and carry it out

`nightly_cleanup.toml` has a table for each policy:

    max_delete = 500                     # of the whole run (500): with more, nothing is deleted

    [[policies]]
    connection = "main"                  # of dockhand.toml; if absent, the default connection
    repositories = ["team/app", "ci/*"]  # names; * is any text within a component, ** any text
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
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from dockhand_core import (
    ConfigError,
    Dockhand,
    DockhandError,
    RegistryClient,
    RetentionPlan,
    RetentionPolicy,
)
from dockhand_core.config import read_toml, validate_table

FAILED, WRONG, TOO_MANY, LOCKED = 1, 2, 3, 4  # exit statuses


class Policy(BaseModel):
    """A table `[[policies]]`; the keys below `repositories` are those of `RetentionPolicy`."""

    connection: str | None = None
    repositories: list[str] = Field(min_length=1)
    tags: list[str] = []
    keep: list[str] = []
    keep_last: int | None = None
    keep_newer_than: str | float | None = None
    protect: list[str] = []
    untagged_older_than: str | float | None = None
    max_delete: int | None = None


class Settings(BaseModel):
    """The settings of the file."""

    policies: list[dict[str, Any]] = Field(min_length=1)
    max_delete: int = Field(500, ge=0)


@dataclass(frozen=True)
class Job:
    """A policy, and the client of its connection."""

    connection: str | None
    client: RegistryClient
    repositories: list[str]
    rules: RetentionPolicy

    def matching(self) -> list[str]:
        """The names of the repositories; the registry is asked for its list only for patterns."""
        found = [name for name in self.repositories if "*" not in name]
        if patterns := [name for name in self.repositories if "*" in name]:
            names = list(self.client.repositories())
            for pattern in patterns:
                matched = list(filter(glob(pattern).fullmatch, names))
                if not matched:
                    log("nothing_matches", connection=self.connection, pattern=pattern)
                found += matched
        return list(dict.fromkeys(found))


def glob(pattern: str) -> re.Pattern[str]:
    """Convert a pattern of repositories: `*` is any text within a component, `**` any text."""
    return re.compile(re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*"))


def log(event: str, **values: Any) -> None:
    """Write a line of the log."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
    print(json.dumps(line), file=sys.stderr, flush=True)


def read_settings(path: Path, dockhand: Dockhand) -> tuple[list[Job], int]:
    """Read the policies, and the largest number of deletions.

    Raises:
        ConfigError: the file cannot be read, or a setting is wrong.
    """
    found = read_toml(path, os.environ)  # `${NAME}` in it is replaced from the environment
    settings = validate_table(Settings, found, where=str(path), base=path.parent)
    jobs = []
    for number, table in enumerate(settings.policies, 1):
        where = f"{path}: policies, table {number}"
        policy = validate_table(Policy, table, where=where, base=path.parent)
        rules = policy.model_dump(exclude={"connection", "repositories"})
        try:
            client: RegistryClient = dockhand.connection(policy.connection)
            jobs.append(
                Job(policy.connection, client, policy.repositories, RetentionPolicy(**rules))
            )
        except DockhandError as error:
            raise ConfigError(f"{where}: {error}") from None
    return jobs, settings.max_delete


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


def make_plans(jobs: list[Job]) -> tuple[list[tuple[Job, RetentionPlan]], int]:
    """Make and print the plan of each repository; return the plans and the number of failures."""
    plans, failed = [], 0
    for job in jobs:
        where = {"connection": job.connection}
        try:
            names = job.matching()
        except DockhandError as error:
            failed += 1
            log("not_listed", **where, error=show(error))
            continue
        for name in names:
            try:
                plan = job.client.plan_retention(name, job.rules)
            except DockhandError as error:
                failed += 1
                log("not_planned", **where, repository=name, error=show(error))
            else:
                plans.append((job, plan))
                print_plan(job, plan)
    return plans, failed


def print_plan(job: Job, plan: RetentionPlan) -> None:
    """Print what is deleted, and what is left alone though no rule keeps it."""
    counts = f"{len(plan.delete)} deletions, {len(plan.keep)} kept, {len(plan.unknown)} without age"
    place = f"@{job.connection}/{plan.repository}" if job.connection else plan.repository
    print(f"{place}: {counts}, {len(plan.blocked)} blocked, frees {plan.freed / 1e6:.1f} MB")
    for word, items in (("delete", plan.delete), ("blocked", plan.blocked)):
        for item in items:
            print(f"  {word} {' '.join(item.tags) or 'untagged'} {item.digest}: {item.reason}")


def show(error: Exception) -> str:
    """An error with its class."""
    return f"{type(error).__name__}: {error}"


def clean_up(jobs: list[Job], limit: int, *, apply: bool) -> int:
    """Plan all repositories, then delete; return the exit status."""
    begin = time.monotonic()
    plans, failed = make_plans(jobs)
    planned = sum(len(plan.delete) for _, plan in plans)
    if planned > limit:
        log("refused", planned=planned, max_delete=limit, failed=failed)
        return TOO_MANY
    deleted = changed = 0
    for job, plan in plans if apply else ():
        if not plan.delete:
            continue
        where = {"connection": job.connection, "repository": plan.repository}
        try:
            done = job.client.apply_retention(plan)
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
        with Dockhand() as dockhand:
            jobs, limit = read_settings(options.settings, dockhand)
            with locked(options.lock or Path(f"{options.settings}.lock")) as is_mine:
                if not is_mine:
                    log("locked", error="another run is in progress")
                    return LOCKED
                return clean_up(jobs, limit, apply=options.apply)
    except (DockhandError, OSError) as error:
        log("not_started", error=show(error))
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
