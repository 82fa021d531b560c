"""The documented forms of `--json`: the `TypedDict`s of the command's modules.

The form of `dockhand blob head --json` is the class whose docstring names this command line.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import dockhand_cli.commands
from pydantic import ConfigDict, TypeAdapter, create_model

__all__ = ["check", "form_of", "forms"]


def forms() -> list[Any]:
    """All `TypedDict`s of the command's modules."""
    found: list[Any] = []
    for info in pkgutil.iter_modules(dockhand_cli.commands.__path__):
        module = importlib.import_module(f"dockhand_cli.commands.{info.name}")
        found += [each for each in vars(module).values() if is_typeddict(each)]
    return found


def form_of(command: str) -> Any:
    """The form of a command's documents, or of its lines.

    Args:
        command: the command's words, such as `blob head`.
    """
    named = f"`dockhand {command} --json`"
    (form,) = {each for each in forms() if named in " ".join((each.__doc__ or "").split())}
    return form


def check(value: Any, command: str) -> None:
    """Check that a value has the form of a command: all fields, no others, each of its type.

    Args:
        value: the document, or one of the lines.
        command: the command's words, such as `blob head`.
    """
    TypeAdapter(_validated(form_of(command))).validate_python(value, strict=True)


def _validated(annotation: Any) -> Any:
    """Replace each `TypedDict` in a type by a model that forbids other fields.

    pydantic validates the `TypedDict` of the standard library on Python 3.12 and newer only.
    """
    if is_typeddict(annotation):
        fields: dict[str, Any] = {
            name: (_validated(kind), ...) if name in annotation.__required_keys__
            else (_validated(kind), None)
            for name, kind in get_type_hints(annotation).items()
        }  # fmt: skip
        config = ConfigDict(extra="forbid", strict=True)
        return create_model(annotation.__name__, __config__=config, **fields)
    arguments = tuple(_validated(each) for each in get_args(annotation))
    if not arguments:
        return annotation
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        return Union[arguments]  # noqa: UP007
    return get_origin(annotation)[arguments]
