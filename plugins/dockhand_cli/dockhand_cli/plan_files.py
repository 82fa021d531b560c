"""Files with retention plans, and the connections that the plans belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_cli.exact_bytes import replace_file
from dockhand_cli.exit_codes import UsageError

if TYPE_CHECKING:
    from dockhand_cli.session import Session
    from dockhand_core import RegistryClient, RetentionPlan

__all__ = ["check_target", "client_of_plan", "read_plans", "registry_name", "write_plans"]


def read_plans(path: Path) -> list[RetentionPlan]:
    """Read a file with one or more plans, one after the other.

    Raises:
        RetentionPlanInvalid: the file has something else than plans, or none.
        OSError: the file cannot be read.
    """
    from json import JSONDecodeError, JSONDecoder

    from dockhand_core import RetentionPlan
    from dockhand_core.errors import RetentionPlanInvalid

    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise RetentionPlanInvalid(f"{path}: the file is not text") from None
    plans: list[RetentionPlan] = []
    at = 0
    try:
        while at < len(text) or not plans:
            _, end = JSONDecoder().raw_decode(text, at)
            plans.append(RetentionPlan.from_json(text[at:end]))
            at = len(text) - len(text[end:].lstrip())
    except (JSONDecodeError, RecursionError) as error:
        raise RetentionPlanInvalid(f"{path}: the retention plan is not JSON: {error}") from None
    except RetentionPlanInvalid as error:
        raise RetentionPlanInvalid(f"{path}: {error}") from None
    return plans


def check_target(path: Path, *, force: bool) -> None:
    """Check that a plan can be written to a file, before the plan is made.

    Raises:
        UsageError: the file exists, or its folder does not.
    """
    if str(path) == "-":
        raise UsageError("--out names a file; --json writes the plan to standard output")
    if path.is_dir() or (path.exists() and not force):
        hint = "" if path.is_dir() else "; --force replaces it"
        raise UsageError(f"{path} exists already{hint}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.absolute().parent}")


def write_plans(path: Path, plans: Sequence[RetentionPlan]) -> None:
    """Write plans to a file, which appears when it is complete.

    Raises:
        OSError: the file cannot be written.
    """
    text = "".join(f"{plan.to_json()}\n" for plan in plans)
    replace_file(path, text.encode())


def registry_name(registry: str) -> str:
    """The registry of a plan as references name it: without the scheme and its default port."""
    scheme, _, host = registry.rpartition("://")
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, "/"))


def client_of_plan(session: Session, plan: RetentionPlan) -> RegistryClient:
    """Find the client of a plan's registry.

    It is that of the option `--connection`; else that of the registry's host, as for a reference;
    else the first configured connection to the registry.

    Raises:
        UsageError: no connection belongs to the registry.
        ConfigError: there is no connection of the given name, or it is wrong.
    """
    from dockhand_core import DockhandError

    if session.options.connection is not None:
        return session.client()
    name = registry_name(plan.registry)
    try:
        client = session.place(f"{name}/{plan.repository}").client
        if client.driver.identity() == plan.registry:
            return client
    except (DockhandError, UsageError):
        pass  # a registry without a host, or with a path
    for connection in session.dockhand.connections:
        try:
            client = session.client(f"@{connection}")
        except DockhandError:
            continue  # its settings are wrong, so it cannot be meant
        if client.driver.identity() == plan.registry:
            return client
    raise UsageError(
        f"no connection belongs to {plan.registry}, for which the plan was made; name one with "
        "--connection"
    )
