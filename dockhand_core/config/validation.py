"""Validation of tables of settings with pydantic models.

Each error message names the key, and what is wrong with it. The value is left out, because it may
be a secret. The path in a key `<key>_file` is shown only if it looks like a path, since it may be
the secret itself, written under the wrong key.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError

from dockhand_core.errors import ConfigError
from dockhand_core.text import did_you_mean

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = [
    "FromVariable",
    "TableFromVariable",
    "check_variables",
    "did_you_mean",
    "is_pem",
    "secret_keys",
    "shown_path",
    "validate_table",
    "variable_of",
]

_PREFIX = "DOCKHAND_"
# Beginnings of variables that set keys in the table of a connection or plugin.
CONNECTIONS, PLUGINS = f"{_PREFIX}CONNECTIONS__", f"{_PREFIX}PLUGINS__"

M = TypeVar("M", bound=BaseModel)

# pydantic's words for the types of Python, and those of TOML.
_WORDS = {
    "tuple": "list",
    "set": "list",
    "frozenset": "list",
    "dictionary": "table",
    "Tuple": "List",
    "Set": "List",
    "Frozenset": "List",
    "Dictionary": "Table",
}


class FromVariable(str):
    """A setting's value from an environment variable; errors name the variable.

    Attributes:
        variable: the variable's name.
    """

    __slots__ = ("variable",)
    variable: str

    def __new__(cls, text: str, variable: str) -> FromVariable:
        made = super().__new__(cls, text)
        made.variable = variable
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # for copies and pickles
        return str(self), self.variable


class TableFromVariable(dict[str, Any]):
    """A table in JSON from an environment variable; errors name the variable.

    Attributes:
        variable: the variable's name.
    """

    def __init__(self, table: Mapping[str, Any], variable: str) -> None:
        super().__init__(table)
        self.variable = variable


def variable_of(value: object, keys: Iterable[object] = ()) -> str:
    """The start of a message about a value in a table: `VARIABLE: `, or an empty text.

    Args:
        value: the value, or a table with it.
        keys: the keys that lead to the value in the table.
    """
    start = ""
    for key in (*keys, None):
        if isinstance(value, FromVariable | TableFromVariable):
            start = f"{value.variable}: "
        if not isinstance(value, Mapping):
            break
        value = value.get(key, value.get(f"{key}_file"))
    return start


def check_variables(
    environ: Iterable[str], known: Iterable[str], *, with_file: Iterable[str] = ()
) -> None:
    """Refuse misspelt names of environment variables.

    Plugins and other programs may use variables with the prefix `DOCKHAND_`, too. Therefore only an
    unknown name that is similar to a known name is treated as a mistake.

    Args:
        environ: names of the variables that are set.
        known: names of the variables that the caller reads, with the prefix.
        with_file: those of `known` that may also end in `_FILE`. Names are compared without that
            ending: it would make many names of other programs look similar.

    Raises:
        ConfigError: an unknown name is similar to a known name.
    """
    valid = {name.removeprefix(_PREFIX): name for name in known}
    files = {f"{name}_FILE" for name in with_file}
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if variable.startswith((CONNECTIONS, PLUGINS)) or not variable.startswith(_PREFIX):
            continue
        if name in valid or variable in files:
            continue
        if did_you_mean(name, valid):
            hint = did_you_mean(variable, valid.values())
            raise ConfigError(f"the environment variable {variable} is unknown{hint}")


def is_pem(text: str) -> bool:
    """Whether a text is PEM data, and not the path of a PEM file."""
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
    """Convert a table of settings to a model.

    If the model has a secret `<key>`, the table may have a key `<key>_file` instead: the path of a
    file that contains the secret. A list or table may be given as JSON text, since the values of
    environment variables are texts.

    Args:
        model: class of the model.
        table: settings as they were written.
        where: start of error messages, such as `connection 'main': auth`.
        base: folder that relative paths are resolved against.
        also: keys that are valid at this place but are not in `table`; error messages list them
            among the known keys.
        strict: whether an unknown key is an error.

    Raises:
        ConfigError: a key is unknown or missing, or has a wrong value.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}  # hints for lists and tables that are given as texts
    start = where
    for key, given in table.items():
        where = variable_of(table, (key,)) + start
        value = str(given) if isinstance(given, FromVariable) else given
        secret = str(key).removesuffix("_file")
        if key not in fields and secret != key and secret in fields:
            if not _accepts(fields[secret].annotation, SecretStr, SecretBytes):
                raise ConfigError(f"{where}: {key}: only a secret can be given as a file")
            if secret in table:
                raise ConfigError(f"{where}: both {secret} and {key} are given")
            values[secret] = _read_secret(value, where=f"{where}: {key}", base=base)
            continue
        if key not in fields and strict:
            valid = sorted([*fields, *_file_keys(fields), *also])
            raise ConfigError(
                f"{where}: unknown key {key!r}{did_you_mean(str(key), valid)} "
                f"(known: {', '.join(valid) or 'none'})"
            )
        values[key] = value
        if key in fields and isinstance(value, str | Path):
            values[key] = _resolve(fields[key].annotation, value, base)
            if isinstance(value, str) and _is_collection(fields[key].annotation):
                values[key], texts[key] = _from_json(value)
    if _only_strings(model, values):
        return model.model_construct(**values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"] if not _is_union_branch(part))
        reason = first["msg"].removeprefix("Value error, ")
        where = variable_of(table, first["loc"]) + start
        if first["type"] == "missing":
            reason = "is required"
        elif first["type"] == "extra_forbidden":
            reason = "is an unknown key"
        elif first["type"] not in ("value_error", "assertion_error"):
            reason = re.sub(r"(?<=valid )\w+|^\w+", lambda m: _WORDS.get(m[0], m[0]), reason)
        if first["type"] != "missing" and len(first["loc"]) == 1:
            reason += texts.get(key, "")
        reason = _without_secrets(reason, fields, values)
    place = f"{where}: {key}" if key else where
    raise ConfigError(f"{place}: {reason}")


def _file_keys(fields: Mapping[str, FieldInfo]) -> list[str]:
    """The keys `<key>_file` that a table may have for the secrets of a model."""
    return [
        f"{key}_file"
        for key, field in fields.items()
        if _accepts(field.annotation, SecretStr, SecretBytes)
    ]


def _without_secrets(
    reason: str, fields: Mapping[str, FieldInfo], values: Mapping[str, Any]
) -> str:
    """Remove secrets from the text of a validator, which may quote the value that it refuses."""
    from dockhand_core.http.secrets import Secrets  # here: only for errors

    secret = [
        value
        for key, value in values.items()
        if isinstance(value, str)
        and key in fields
        and _accepts(fields[key].annotation, SecretStr, SecretBytes)
    ]
    return Secrets(secret).text(reason)


def _only_strings(model: type[BaseModel], values: Mapping[str, Any]) -> bool:
    """Whether all values are strings that pydantic would accept without a change.

    This is so for a connection that is only a URL. Its models need no validators then, which take
    longer to make than the first request. Only the core's models are looked at: their fields of the
    type `str` have no validators and no aliases.
    """
    if model.__module__.partition(".")[0] != "dockhand_core":
        return False
    fields = model.model_fields
    return all(
        type(value) is str and key in fields and fields[key].annotation is str
        for key, value in values.items()
    ) and not any(field.is_required() and key not in values for key, field in fields.items())


def shown_path(value: object, base: Path) -> str:
    """The text of a path for an error message, or a placeholder if it may be a secret instead.

    It is shown if the file exists, if the text begins like a path, or if it ends in a suffix.

    Args:
        value: the path, as the configuration states it.
        base: folder that a relative path is resolved against.
    """
    text = str(value)
    try:
        exists = (base / text).exists()
    except (OSError, ValueError):  # such as a text that is too long
        exists = False
    like_path = re.fullmatch(r"(?:\.{0,2}|~\w*|[A-Za-z]:)[/\\][^\n]{0,200}", text)
    with_suffix = re.fullmatch(r"[\w/ -]{1,100}\.[a-z]{2,5}", text)
    return text if exists or like_path or with_suffix else "(a path that is not shown)"


def _is_union_branch(part: object) -> bool:
    """Whether a part of pydantic's error location is a union's branch: `bool` in `verify.bool`."""
    return isinstance(part, str) and part in {"bool", "path", "str", "int", "float", "function"}


def _read_secret(value: Any, *, where: str, base: Path) -> str:
    try:
        text = (base / Path(value).expanduser()).read_text("utf-8")
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read as a text file"
        shown = shown_path(value, base)
        hint = "" if shown == str(value) else f" (relative paths start at {base})"
        raise ConfigError(f"{where}: {shown}: {reason}{hint}") from None
    return text.removesuffix("\n").removesuffix("\r")


def secret_keys(model: type[BaseModel], table: Iterable[str]) -> frozenset[str]:
    """Find the keys of a table that hold secrets of a model, or the paths of files with them.

    A list, a table or a model that has a secret in it counts as one, too.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    secret = {key for key, field in fields.items() if _has_secret(field.annotation)}
    return frozenset(
        key
        for key in table
        if key in secret or (key not in fields and key.removesuffix("_file") in secret)
    )


def _has_secret(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether a value of this annotation may have a secret in it."""
    if annotation in (SecretStr, SecretBytes):
        return True
    parts: Iterable[Any] = typing.get_args(annotation)
    if isinstance(annotation, type):
        if issubclass(annotation, Secret):
            return True
        if issubclass(annotation, BaseModel) and annotation not in seen:
            seen = (*seen, annotation)
            parts = [field.annotation for field in annotation.model_fields.values()]
    return any(_has_secret(part, seen) for part in parts)


def _is_collection(annotation: Any) -> bool:
    """Whether a field holds a list, a table or another collection, and never a text."""
    if _accepts(annotation, str, bytes, SecretStr, SecretBytes, Any):
        return False
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_collection(part) for part in typing.get_args(annotation))
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, (Collection, BaseModel))


def _from_json(text: str) -> tuple[Any, str]:
    """Decode a list or table in JSON.

    Returns:
        the list or table, and a hint for the error if it is wrong. A text that is not JSON stays
        as it is: a setting may have another form for lists, such as one with commas.
    """
    if text.lstrip()[:1] not in ("[", "{"):
        return text, '; a list or table in a text is JSON, such as ["a", "b"] or {"a": "b"}'
    try:
        return json.loads(text), ""
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            return text, f"; it is not valid JSON: {error.msg} at character {error.pos + 1}"
        return text, "; it is not valid JSON"


def _resolve(annotation: Any, value: str | Path, base: Path) -> str | Path:
    """Resolve a path against the base folder; other values stay unchanged."""
    if not _accepts(annotation, Path):
        return value
    if isinstance(value, str) and is_pem(value):
        return value
    if isinstance(value, str) and (
        (_accepts(annotation, bool) and value.lower() in {"true", "false", "1", "0", "yes", "no"})
        or value in _literals(annotation)
    ):
        return value
    return base / Path(value).expanduser()


def _accepts(annotation: Any, *kinds: type) -> bool:
    """Whether an annotation is one of the given types, or a union with one of them."""
    if annotation in kinds:
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(_accepts(part, *kinds) for part in typing.get_args(annotation))
    return False


def _literals(annotation: Any) -> tuple[Any, ...]:
    """The values of all `Literal` types in an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return tuple(value for part in typing.get_args(annotation) for value in _literals(part))
