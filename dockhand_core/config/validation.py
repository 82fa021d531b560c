"""Checking a table of settings against a model, with messages a person can act on.

No message holds a value: it may be a secret.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from dockhand_core.errors import ConfigError

__all__ = ["did_you_mean", "is_pem", "validate_table"]

M = TypeVar("M", bound=BaseModel)


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing where no valid name is near."""
    import difflib  # for mistakes alone

    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.7)
    return f"; did you mean {found[0]!r}?" if found else ""


def is_pem(text: str) -> bool:
    """Whether a text is a PEM rather than the path of one."""
    return text.lstrip().startswith("-----BEGIN ")


def validate_table(
    model: type[M],
    table: Mapping[str, Any],
    *,
    where: str,
    base: Path,
    also: Iterable[str] = (),
    strict: bool = True,
) -> M:
    """A table as a model: `<secret>_file` read, relative paths made whole.

    Args:
        model: what the table must be like.
        table: what was written.
        where: what a message begins with, such as `connection 'main': auth`.
        base: the folder that relative paths start at.
        also: keys that are valid at this place beside the model's, for suggestions.
        strict: whether an unknown key is an error.

    Raises:
        ConfigError: a key is unknown, missing or has a wrong value.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    for key, value in table.items():
        plain = str(key).removesuffix("_file")
        if key not in fields and plain != key and plain in fields:
            if not _holds(fields[plain].annotation, SecretStr, SecretBytes):
                raise ConfigError(f"{where}: {key}: only a secret can be given as a file")
            if plain in table:
                raise ConfigError(f"{where}: both {plain} and {key} are given")
            values[plain] = _secret(value, where=f"{where}: {key}", base=base)
            continue
        if key not in fields and strict:
            valid = sorted([*fields, *also])
            raise ConfigError(
                f"{where}: unknown key {key!r}{did_you_mean(str(key), valid)} "
                f"(known: {', '.join(valid) or 'none'})"
            )
        located = key in fields and isinstance(value, str | Path)
        values[key] = _placed(fields[key].annotation, value, base) if located else value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            reason = "is required"
    place = f"{where}: {key}" if key else where
    raise ConfigError(f"{place}: {reason}")


def _is_branch(part: object) -> bool:
    """Pydantic names the branches of a union in an error's place: `verify.bool`."""
    return isinstance(part, str) and part in {"bool", "path", "str", "int", "float", "function"}


def _secret(value: Any, *, where: str, base: Path) -> str:
    try:
        text = (base / Path(value).expanduser()).read_text("utf-8")
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read as a text file"
        raise ConfigError(f"{where}: {value}: {reason}") from None
    return text.removesuffix("\n").removesuffix("\r")


def _placed(annotation: Any, value: str | Path, base: Path) -> str | Path:
    """A path that starts at the file it was written in; other values as they are."""
    if not _holds(annotation, Path):
        return value
    if isinstance(value, str) and is_pem(value):
        return value
    if isinstance(value, str) and (
        (_holds(annotation, bool) and value.lower() in {"true", "false", "1", "0", "yes", "no"})
        or value in _literals(annotation)
    ):
        return value
    return base / Path(value).expanduser()


def _holds(annotation: Any, *wanted: type) -> bool:
    """Whether an annotation is one of some types, or a union with one."""
    if annotation in wanted:
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_holds(part, *wanted) for part in typing.get_args(annotation))
    return False


def _literals(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return tuple(x for part in typing.get_args(annotation) for x in _literals(part))
