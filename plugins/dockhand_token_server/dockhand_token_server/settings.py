"""What an authority is told: `authority.toml`, or the same as a mapping."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from dockhand_auth_jwt.keys import KeyId
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from dockhand_core import ConfigError
from dockhand_core.config import is_pem, read_toml, validate_table
from dockhand_token_server.patterns import Pattern, is_component

__all__ = ["LoginLimit", "Rule", "Settings", "load_settings"]

_ACTION = re.compile(r"[a-z]+|\*")
_TYPE = re.compile(r"[a-z0-9]+(\([a-z0-9]+\))?")
_NAME_LIMIT = 255


def _no_boolean(value: object) -> object:
    """Pydantic takes `true` for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _key(value: object) -> object:
    """A key is a file, or the PEM itself."""
    if isinstance(value, str):
        return SecretStr(value) if is_pem(value) else Path(value)
    return value


Number = BeforeValidator(_no_boolean)


class _Table(BaseModel):
    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


class Rule(_Table):
    """Who may do what. Every rule that matches adds its actions to what is granted.

    Args:
        user: a user's name; `*` is whoever is logged in, the empty string an anonymous client.
        group: instead of `user`: whoever is in that group.
        repository: a pattern: `*` is one path component, `**` any number of them, `{user}` the
            name of whoever asks.
        type: instead of `repository`: the kind of resource, such as `registry`.
        name: with `type`: a pattern for the resource's name, such as `catalog`.
        actions: `pull`, `push`, `delete`; `*` is all of them.
    """

    user: str | None = None
    group: str | None = None
    repository: str | None = None
    type: str | None = None
    name: str | None = None
    actions: frozenset[str]

    @field_validator("user", "group")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not _is_name(value):
            raise ValueError(
                f"is a name of {_NAME_LIMIT} characters at most, without control characters or ':'"
            )
        return value

    @field_validator("actions", mode="before")
    @classmethod
    def _are_actions(cls, value: object) -> object:
        if not isinstance(value, list | tuple | set | frozenset) or not value:
            raise ValueError('is a list of at least one action, such as ["pull", "push"]')
        for action in value:
            if not isinstance(action, str) or not _ACTION.fullmatch(action):
                raise ValueError(f"{action!r} is neither a lower-case word nor '*'")
        return value

    @field_validator("repository")
    @classmethod
    def _is_repository(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value:
            raise ValueError("is empty; '**' matches every repository")
        for part in Pattern.parse(value).parts:
            if part not in {"*", "**"} and not is_component(part.replace("{user}", "u")):
                raise ValueError(f"{value!r}: no repository's name has a component {part!r}")
        return value

    @field_validator("type")
    @classmethod
    def _is_type(cls, value: str | None) -> str | None:
        if value is not None and not _TYPE.fullmatch(value):
            raise ValueError("is a lower-case word, such as 'registry'")
        return value

    @field_validator("name")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            Pattern.parse(value)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if (self.user is None) == (self.group is None):
            raise ValueError("either user or group is given")
        if self.group == "":
            raise ValueError("group is empty")
        if (self.repository is None) == (self.type is None):
            raise ValueError("either repository, or type and name are given")
        if (self.type is None) != (self.name is None):
            raise ValueError("type and name are given together")
        return self

    @property
    def pattern(self) -> Pattern:
        """What the resource's name has to be like."""
        return Pattern.parse(self.repository if self.repository is not None else self.name or "")


class LoginLimit(_Table):
    """How many failed logins there may be, from one address and for one user.

    Args:
        failures: so many at once, before more are refused with 429.
        seconds: in which that number is forgotten again, little by little.
    """

    failures: Annotated[int, Field(ge=1, le=10_000), Number] = 10
    seconds: Annotated[float, Field(gt=0, le=86_400), Number] = 60.0


class Settings(_Table):
    """An authority.

    Args:
        issuer: the authority's name, which the registry knows it by.
        services: the registries that it signs tokens for, by the names they call themselves.
        private_key: what signs: a PEM file, or the PEM itself.
        private_key_password: where that is encrypted.
        certificate: a PEM file that goes out with every token (`x5c`); one is made from the key
            unless given.
        key_id: how a token says which key signed it: `x5c`, `libtrust` or `rfc7638`.
        other_keys: PEM files of keys that the JWKS shows as well: the one before, as long as its
            tokens live, and the one to come.
        users: an htpasswd file with bcrypt hashes.
        groups: the members of each group.
        rules: who may do what.
        backend: `rules`, or the name of a plugin whose `dockhand_authorize` says it instead.
        token_lifetime: seconds.
        refresh_tokens: an SQLite file for refresh tokens, made if it is not there; or false, and
            none are given.
        refresh_token_lifetime: seconds.
        login_limit: of failed logins.
        trusted_proxies: networks of the proxies whose `X-Forwarded-For` says where a client is.
    """

    issuer: str = Field(min_length=1, max_length=_NAME_LIMIT)
    services: tuple[Annotated[str, Field(min_length=1, max_length=_NAME_LIMIT)], ...] = Field(
        min_length=1
    )
    private_key: Annotated[Path | SecretStr, BeforeValidator(_key)]
    private_key_password: SecretStr | None = None
    certificate: Path | None = None
    key_id: KeyId | None = None
    other_keys: tuple[Path, ...] = ()
    users: Path | None = None
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    backend: str = Field("rules", min_length=1)
    # docker's client takes less for this much
    token_lifetime: Annotated[int, Field(ge=60, le=86_400), Number] = 300
    refresh_tokens: Path | Literal[False] = Path("refresh_tokens.db")
    refresh_token_lifetime: Annotated[int, Field(ge=60), Number] = 90 * 86_400
    login_limit: LoginLimit = Field(default_factory=LoginLimit)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    @field_validator("services", "trusted_proxies", "other_keys", mode="before")
    @classmethod
    def _is_list(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("is a list")
        return value

    @model_validator(mode="after")
    def _one_backend(self) -> Settings:
        if self.backend != "rules" and self.rules:
            raise ValueError(
                f"backend is the plugin {self.backend!r}, so that the rules would not be asked: "
                "leave out one of the two"
            )
        return self

    @classmethod
    def parse(
        cls,
        data: Mapping[str, Any],
        *,
        base: str | os.PathLike[str] | None = None,
        where: str = "authority",
    ) -> Settings:
        """The settings that a mapping holds; nothing else is read but what `<secret>_file` names.

        Args:
            data: as in `authority.toml`.
            base: the folder that relative paths start at; the working folder unless given.
            where: what a message begins with.

        Raises:
            ConfigError: a key is unknown, missing or has a wrong value; the message names it.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: settings are a mapping, not {type(data).__name__}")
        folder = Path(base) if base is not None else Path.cwd()
        table = dict(data)
        table.setdefault("refresh_tokens", "refresh_tokens.db")
        if isinstance(table.get("other_keys"), list | tuple):
            table["other_keys"] = [
                folder / Path(each).expanduser() if isinstance(each, str) else each
                for each in table["other_keys"]
            ]
        table["rules"] = _rules(table.get("rules", ()), f"{where}: rules", folder)
        if isinstance(table.get("login_limit"), Mapping):
            place = f"{where}: login_limit"
            table["login_limit"] = validate_table(
                LoginLimit, table["login_limit"], where=place, base=folder
            )
        return validate_table(cls, table, where=where, base=folder)


def _rules(values: Any, where: str, base: Path) -> tuple[Rule, ...]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{where}: is a list of tables, each begun by a line [[rules]]")
    rules = []
    for number, value in enumerate(values, 1):
        place = f"{where}: number {number}"
        if isinstance(value, Rule):
            rules.append(value)
        elif isinstance(value, Mapping):
            rules.append(validate_table(Rule, value, where=place, base=base))
        else:
            raise ConfigError(f"{place}: is not a table")
    return tuple(rules)


def _is_name(text: str) -> bool:
    """Whether a user or a group can be called so."""
    return len(text) <= _NAME_LIMIT and ":" not in text and (text == "" or text.isprintable())


def load_settings(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> Settings:
    """What a file says.

    Args:
        path: a TOML file; `${NAME}` in it reads the environment, and relative paths start at it.
        environ: the environment; the process's unless given.

    Raises:
        ConfigError: something is wrong; the message names the file, the table and the key.
    """
    file = Path(path).absolute()
    try:
        data = read_toml(file, os.environ if environ is None else environ)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(file)) else f"{file}: {text}") from None
    return Settings.parse(data, base=file.parent, where=str(path))
