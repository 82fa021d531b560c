"""Checks of documents of `--json` against the documented forms."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from dockhand_cli.json_forms import form_of
from pydantic import ConfigDict, TypeAdapter, create_model

__all__ = ["check"]


def check(value: Any, command: str, package: str = "dockhand_cli") -> None:
    """Check that a value has the form of a command: all fields, no others, each of its type.

    Args:
        value: the document, or one of the lines.
        command: the command's words, such as `blob head`.
        package: the package that has the command.
    """
    form = form_of(command, package)
    assert form is not None, f"no TypedDict describes `dockhand {command} --json`"
    TypeAdapter(_validated(form)).validate_python(value, strict=True)


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
