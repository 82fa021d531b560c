"""Make the reference of the site from the code: settings, environment, hooks, events and errors.

A setting, variable or event without a description is an error, which names it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dockhand_auth_jwt
import dockhand_auth_token
import dockhand_celery
import dockhand_token_server
import dockhand_webhook
import dockhand_zot
import pydantic
from dockhand_token_server.settings import LoginLimit, Rule
from dockhand_token_server.settings import Settings as AuthoritySettings
from docstrings import entries, markdown, sections
from environment_names import environment

import dockhand_core
from dockhand_core import DockhandError, Plugins, RegistryError, hookspecs
from dockhand_core.config import ConnectionConfig, DockhandConfig
from dockhand_core.events import EVENTS, RegistryBaseEvent, RegistryEvent
from dockhand_core.logs import BUILTIN, LogSettings

REGISTRY_DRIVERS = ("distribution", "zot", "embedded")
AUTH_DRIVERS = ("null", "basic", "bearer", "apikey", "jwt", "token")
PACKAGES = (
    dockhand_core,
    dockhand_auth_jwt,
    dockhand_auth_token,
    dockhand_celery,
    dockhand_token_server,
    dockhand_webhook,
    dockhand_zot,
)
_MADE = "This page is made from the code."


def reference() -> dict[str, str]:
    """Make the pages of the reference: the text of each, by its path in the site."""
    return {
        "reference/settings.md": settings(),
        "reference/environment.md": environment(),
        "reference/hooks.md": hooks(),
        "reference/events.md": events(),
        "reference/errors.md": errors(),
    }


# -- settings ------------------------------------------------------------------------------


def settings() -> str:
    """Make the page of all settings."""
    plugins = Plugins()
    parts = [
        "# Settings",
        (
            f"{_MADE} A connection is a table of `dockhand.toml`, or of the mapping that "
            "`Dockhand` "
            "gets. It has the keys below, and those of its driver. For a secret `<key>`, there is "
            "a setting `<key>_file`: the path of a file with the secret. Relative paths "
            "start at the "
            "folder of `dockhand.toml`, but those of `<key>_file` in a variable at the working "
            "folder. [Environment](environment.md) says how variables set them, how lists and "
            "tables are written there, and which of the two wins."
        ),
        "## The file",
        _settings_table(DockhandConfig, skip=("base",)),
        "## A connection",
        _settings_table(ConnectionConfig),
        "### The table `logging`",
        (
            f"{_intro(LogSettings)} Log drivers of the core: "
            f"{', '.join(f'`{name}`' for name in sorted(BUILTIN))}."
        ),
        _settings_table(LogSettings),
        "## Registry drivers",
        "Their settings stand beside those of the connection.",
    ]
    for name in REGISTRY_DRIVERS:
        parts += [f"### Driver `{name}`", *_driver(plugins.driver("registry", name))]
    parts += ["## Auth drivers", "Their settings stand in the connection's table `auth`."]
    for name in AUTH_DRIVERS:
        parts += [f"### Auth driver `{name}`", *_driver(plugins.driver("auth", name))]
    parts += [
        "## The token endpoint",
        "The file `authority.toml`, or the mapping for `create_app` of `dockhand_token_server`.",
        _settings_table(AuthoritySettings),
        "### A rule",
        _intro(Rule),
        _settings_table(Rule),
        "### The table `login_limit`",
        _settings_table(LoginLimit),
    ]
    return _page(parts)


def _driver(driver: Any) -> Iterator[str]:
    yield sections(driver)[""].split("\n\n")[0]
    model = driver.Settings
    if not model.model_fields:
        yield "It has no settings."
        return
    yield _settings_table(model, {"base_uri": "URL of the registry, with or without `/v2/`."})


def _intro(thing: Any) -> str:
    return markdown(sections(thing)[""])


def _settings_table(
    model: type[pydantic.BaseModel],
    also: dict[str, str] | None = None,
    skip: tuple[str, ...] = (),
) -> str:
    found = sections(model)
    texts = (also or {}) | entries(found.get("Args", "") or found.get("Attributes", ""))
    rows = ["| Setting | |", "|---|---|"]
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        if name not in texts:
            raise KeyError(f"the docstring of {model.__qualname__} does not describe {name}")
        default = "required" if field.is_required() else f"default {_default(field)}"
        about = f"{kind(field.annotation)}, {default}".removesuffix(", default none")
        rows.append(f"| `{name}` | *{about}*: {_cell(texts[name])} |")
    return "\n".join(rows)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, pydantic.BaseModel):
        return "none"  # its own table has the defaults
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value!r}`" if isinstance(value, int | float) else f'`"{value}"`'


def kind(annotation: Any) -> str:
    """The type of a setting in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind(args[0])
    if origin is typing.Literal:
        return ", ".join(f"`{str(each).lower()}`" for each in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind(each) for each in args if each is not type(None)))
    if origin in (tuple, frozenset, list):
        return f"list of {kind(args[0])}"
    if origin is dict:
        return f"table of {kind(args[1])}".replace("of table", "of tables", 1)
    names = {
        str: "text", int: "integer", float: "number", bool: "boolean", Path: "path",
        pydantic.SecretStr: "secret",
    }  # fmt: skip
    if annotation in names:
        return names[annotation]
    name = getattr(annotation, "__name__", str(annotation))
    return name if name.startswith("IPv") else "table"


# -- hooks ---------------------------------------------------------------------------------


def hook_names() -> list[str]:
    """The names of all hooks, in the order of the module."""
    return [name for name in vars(hookspecs) if name.startswith("dockhand_")]


def hooks() -> str:
    """Make the page of all hooks."""
    parts = [
        "# Hooks",
        (
            f"{_MADE} A plugin implements the hooks that it needs, as functions with the decorator "
            "`hookimpl` of `dockhand_core`. A function may leave out arguments, but not "
            "rename them. "
            "[Writing plugins](../plugins/index.md) shows whole packages."
        ),
    ]
    events_of = {each.hook: name for name, each in EVENTS.items()}
    for name in hook_names():
        function = getattr(hookspecs, name)
        found = sections(function)
        signature = ", ".join(
            f"{each.name}: {each.annotation}"
            for each in inspect.signature(function).parameters.values()
        )
        returned = function.__annotations__["return"]
        parts += [f"## {name}", f"```py\ndef {name}({signature}) -> {returned}: ...\n```"]
        parts.append(markdown(found[""]))
        if name in events_of:
            parts.append(f"The class: [`{events_of[name]}`](events.md#{events_of[name].lower()}).")
        if "Args" in found:
            parts.append(_definitions(entries(found["Args"])))
        if "Returns" in found:
            parts.append(f"**Returns**: {' '.join(found['Returns'].split())}")
    return _page(parts)


# -- events --------------------------------------------------------------------------------


def events() -> str:
    """Make the page of all classes of events."""
    parts = [
        "# Events",
        (
            f"{_MADE} Each class is in `dockhand_core.events`. A handler is a hook with one "
            "argument, "
            "`event`; the hook `dockhand_event` gets every event."
        ),
    ]
    classes: list[type[RegistryBaseEvent]] = [RegistryBaseEvent, RegistryEvent, *EVENTS.values()]
    for each in classes:
        found = sections(each)
        base = each.__mro__[1].__name__
        hook = getattr(each, "hook", "") or "dockhand_event"
        parts += [f"## {each.__name__}", markdown(found[""])]
        if base in ("RegistryBaseEvent", "RegistryEvent"):
            parts.append(f"It has the attributes of [`{base}`](#{base.lower()}), too.")
        if each is not RegistryBaseEvent and each is not RegistryEvent:
            parts.append(f"Hook: [`{hook}`](hooks.md#{hook}).")
        if "Attributes" in found:
            parts.append(_definitions(entries(found["Attributes"])))
    return _page(parts)


# -- errors --------------------------------------------------------------------------------


def error_classes() -> dict[str, list[type[Exception]]]:
    """All public exceptions by package."""
    found: dict[str, list[type[Exception]]] = {}
    for package in PACKAGES:
        values = [getattr(package, name) for name in package.__all__]
        own = [each for each in values if inspect.isclass(each) and issubclass(each, Exception)]
        if own:
            found[package.__name__] = own
    return found


def errors() -> str:
    """Make the page of all exceptions."""
    from dockhand_core import errors as module

    tree = (inspect.getdoc(module) or "").split("\n\n")
    parts = [
        "# Errors",
        (
            f"{_MADE} Every exception of Dockhand and of its packages derives from "
            "[`DockhandError`](#dockhanderror). No exception of an HTTP library or of "
            "pydantic leaves "
            "a public method."
        ),
        "```text\n" + inspect.cleandoc("\n" + tree[1]) + "\n```",
        *tree[2:],
        "## Error codes of registries",
        (
            "The code in a registry's reply decides the class; without a code, as in the "
            "reply to a "
            "HEAD request, the operation and the status decide."
        ),
        _codes(),
    ]
    for package, classes in error_classes().items():
        parts.append(f"## `{package}`")
        ordered = sorted(classes, key=lambda each: (each is not DockhandError, each.__name__))
        for each in ordered:
            found = sections(each)
            bases = ", ".join(_base(base) for base in each.__bases__)
            parts += [f"### {each.__name__}", f"Bases: {bases}.", markdown(found[""])]
            if "Attributes" in found:
                parts.append(_definitions(entries(found["Attributes"])))
    return _page(parts)


def _codes() -> str:
    rows = ["| Code | Exception |", "|---|---|"]
    for code, each in sorted(RegistryError.by_code.items()):
        rows.append(f"| `{code}` | [`{each.__name__}`](#{each.__name__.lower()}) |")
    return "\n".join(rows)


def _base(base: type) -> str:
    documented = {each for classes in error_classes().values() for each in classes}
    return (
        f"[`{base.__name__}`](#{base.__name__.lower()})"
        if base in documented
        else (f"`{base.__name__}`")
    )


# -- shared --------------------------------------------------------------------------------


def _definitions(texts: dict[str, str]) -> str:
    rows = [f"| `{name}` | {_cell(text)} |" for name, text in texts.items()]
    return "\n".join(["| Name | |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"
