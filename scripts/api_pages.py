"""Make the pages of the API for mkdocstrings: each public name of the packages is on one page."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterable

# Modules that plugins and programs import from: the stable surface, and the plugins' packages.
MODULES = {
    "dockhand_core": "Connections and clients",
    "dockhand_core.models": "Manifests, images and results",
    "dockhand_core.auth": "Auth drivers",
    "dockhand_core.driver": "Registry drivers",
    "dockhand_core.flow": "Flows",
    "dockhand_core.operations": "Operations on the driver contract",
    "dockhand_core.events": "Events",
    "dockhand_core.logs": "Log drivers",
    "dockhand_core.config": "Configuration",
    "dockhand_core.errors": "Errors",
    "dockhand_core.http.addresses": "Addresses",
    "dockhand_core.http.headers": "Headers",
    "dockhand_core.http.urls": "URLs",
    "dockhand_core.server": "Servers",
    "dockhand_core.server.htpasswd": "Password files",
    "dockhand_core.text": "Texts for people",
    "dockhand_distribution": "Driver distribution",
    "dockhand_zot": "Driver zot",
    "dockhand_embedded": "The embedded registry",
    "dockhand_auth_basic": "Auth driver basic",
    "dockhand_auth_bearer": "Auth driver bearer",
    "dockhand_auth_apikey": "Auth driver apikey",
    "dockhand_auth_jwt": "Keys and tokens",
    "dockhand_auth_token": "Docker's credentials",
    "dockhand_token_server": "The token endpoint",
    "dockhand_webhook": "The receiver of notifications",
    "dockhand_celery": "Celery",
    "dockhand_cli": "The command line",
    "dockhand_testing": "The kit for tests of plugins",
}
# Names of `dockhand_core` that another module of the surface documents.
_ELSEWHERE = (
    "dockhand_core.errors", "dockhand_core.models", "dockhand_core.auth", "dockhand_core.driver",
)  # fmt: skip
# Pages of the reference that describe these names already; the API page only points there.
_DESCRIBED = {"dockhand_core.errors": "errors.md", "dockhand_core.events": "events.md"}
_BRIEF = {"AsyncRegistryClient", "AsyncZotClient", "AsyncDistributionClient", "AsyncDockhand"}
_NOTHING_OWN = {"NullAuth"}  # its members are those of its base class, on the same page
_TWIN = (
    "It has the methods of `{twin}` with the same names and arguments. `await` a method that "
    "returns a value, use `async for` on one that iterates, and `async with` on one that is a "
    "context manager."
)


def home(name: str) -> str:
    """The module whose page documents a name of `dockhand_core`."""
    for module in _ELSEWHERE:
        if name in importlib.import_module(module).__all__:
            return module
    return "dockhand_core"


def api() -> dict[str, str]:
    """Make the pages of the API: the text of each, by its path in the site."""
    pages = {f"reference/api/{module}.md": _module(module) for module in MODULES}
    rows = ["| Module | |", "|---|---|"]
    rows += [f"| [`{module}`]({module}.md) | {title} |" for module, title in MODULES.items()]
    about = (
        "These pages are made from the docstrings. The modules of `dockhand_core` in this list are "
        "[the stable surface](../../about/stable-surface.md); other modules may change at any time."
    )
    pages["reference/api/index.md"] = "\n".join(["# API", "", about, "", *rows, ""])
    return pages


def _module(name: str) -> str:
    module = importlib.import_module(name)
    doc = (inspect.getdoc(module) or "").split("\n\n", maxsplit=1)[0]
    parts = [f"# `{name}`", doc]
    others: dict[str, list[str]] = {}
    for each in _sorted(module, module.__all__):
        value = getattr(module, each)
        where = home(each) if name == "dockhand_core" else name
        described = _DESCRIBED.get(where)
        if described and inspect.isclass(value) and each[0].isupper() and each in _named(where):
            others.setdefault(f"[{described.removesuffix('.md')}](../{described})", []).append(each)
        elif where != name:
            others.setdefault(f"[`{where}`]({where}.md)", []).append(each)
        elif (
            callable(value)
            and typing.get_origin(value) is None  # a type alias is described here
            and not getattr(value, "__module__", "dockhand").startswith("dockhand")
        ):
            others.setdefault(f"the library {value.__module__.partition('.')[0]}", []).append(each)
        elif isinstance(value, types.ModuleType):
            others.setdefault("the module of that name", []).append(each)
        else:
            parts.append(_directive(name, each))
    for where, names in others.items():
        parts.insert(2, f"Described in {where}: {', '.join(f'`{each}`' for each in names)}.")
    return "\n\n".join(parts) + "\n"


def _named(where: str) -> set[str]:
    from reference_pages import error_classes

    from dockhand_core.events import EVENTS

    if where == "dockhand_core.events":
        return {*EVENTS, "RegistryEvent", "RegistryBaseEvent"}
    return {each.__name__ for classes in error_classes().values() for each in classes}


def _sorted(module: types.ModuleType, names: Iterable[str]) -> list[str]:
    """Classes first, then functions, then other values; each kind in alphabetical order.

    An async twin follows its class.
    """

    def rank(name: str) -> tuple[int, int, str, bool]:
        value = getattr(module, name)
        kind = 0 if inspect.isclass(value) else 1 if callable(value) else 2
        first = 0 if name in ("Dockhand", "RegistryClient", "connect") else 1
        return (kind, first, name.removeprefix("Async").lower(), name.startswith("Async"))

    return sorted(names, key=rank)


def _directive(module: str, name: str) -> str:
    lines = [f"::: {module}.{name}"]
    if name in _BRIEF:
        lines += [
            "    options:",
            "      members: false",
            "      inherited_members: false",
            "",
            _TWIN.format(twin=name[5:]),
        ]
    if name in _NOTHING_OWN:
        lines += ["    options:", "      inherited_members: false"]
    return "\n".join(lines)
