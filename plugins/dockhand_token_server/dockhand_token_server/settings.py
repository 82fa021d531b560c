"""Settings of the token endpoint, read from `authority.toml` or from a mapping."""

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
_RESOURCE_TYPE = re.compile(r"[a-z0-9]+(\([a-z0-9]+\))?")
_MAX_NAME = 255


def _refuse_boolean(value: object) -> object:
    """Refuse `true` and `false`, which pydantic would read as the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _path_or_pem(value: object) -> object:
    if isinstance(value, str):
        return SecretStr(value) if is_pem(value) else Path(value)
    return value


NotBoolean = BeforeValidator(_refuse_boolean)


class _Table(BaseModel):
    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


class Rule(_Table):
    """A rule, which allows actions on resources to a user or to the members of a group.

    The actions of all matching rules are granted.

    Args:
        user: the name of a user. `*` stands for every authenticated user, and the empty string for
            an anonymous client.
        group: instead of `user`, the name of a group. The rule applies to the group's members.
        repository: a pattern for repository names. `*` matches one path component, `**` matches
            any number of components, and `{user}` matches the name of the user.
        type: instead of `repository`, another type of resource, such as `registry`.
        name: with `type`, a pattern for the names of resources of that type, such as `catalog`.
        actions: the allowed actions: `pull`, `push`, `delete`, or `*` for all of them.
    """

    user: str | None = None
    group: str | None = None
    repository: str | None = None
    type: str | None = None
    name: str | None = None
    actions: frozenset[str]

    @field_validator("user", "group")
    @classmethod
    def _check_user_or_group(cls, value: str | None) -> str | None:
        if value is not None and not _is_user_or_group_name(value):
            raise ValueError(
                f"must be a name of at most {_MAX_NAME} characters, without control characters or "
                "':'"
            )
        return value

    @field_validator("actions", mode="before")
    @classmethod
    def _check_actions(cls, value: object) -> object:
        if not isinstance(value, list | tuple | set | frozenset) or not value:
            raise ValueError('must be a list of at least one action, such as ["pull", "push"]')
        for action in value:
            if not isinstance(action, str) or not _ACTION.fullmatch(action):
                raise ValueError(f"{action!r} is neither a lower-case word nor '*'")
        return value

    @field_validator("repository")
    @classmethod
    def _check_repository(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value:
            raise ValueError("must not be empty; '**' matches every repository")
        for component in Pattern.parse(value).components:
            literal = component.replace("{user}", "u")
            if component not in {"*", "**"} and not is_component(literal):
                raise ValueError(
                    f"{value!r}: {component!r} is not valid as a component of a repository's name"
                )
        return value

    @field_validator("type")
    @classmethod
    def _check_type(cls, value: str | None) -> str | None:
        if value is not None and not _RESOURCE_TYPE.fullmatch(value):
            raise ValueError("must be a lower-case word, such as 'registry'")
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None:
            Pattern.parse(value)
        return value

    @model_validator(mode="after")
    def _check_combination(self) -> Rule:
        if (self.user is None) == (self.group is None):
            raise ValueError("give either user or group")
        if self.group == "":
            raise ValueError("group must not be empty")
        if (self.repository is None) == (self.type is None):
            raise ValueError("give either repository, or type and name")
        if (self.type is None) != (self.name is None):
            raise ValueError("give type and name together")
        return self

    @property
    def pattern(self) -> Pattern:
        """The pattern for the resource's name."""
        return Pattern.parse(self.repository if self.repository is not None else self.name or "")


class LoginLimit(_Table):
    """The limit on failed logins, for each address and for each user.

    Args:
        failures: the number of failed logins after which more logins are refused with status 429.
        seconds: the time in which a count of `failures` decreases to zero. The count decreases
            steadily, by one every `seconds / failures` seconds.
    """

    failures: Annotated[int, Field(ge=1, le=10_000), NotBoolean] = 10
    seconds: Annotated[float, Field(gt=0, le=86_400), NotBoolean] = 60.0


class Settings(_Table):
    """The settings of a token endpoint.

    Args:
        issuer: the name of the authority; must equal the setting `issuer` of the registries.
        services: the names of the registries that the endpoint signs tokens for. Each name must
            equal the setting `service` of its registry.
        private_key: the private key that signs tokens: the path of a PEM file, or the PEM data.
        private_key_password: the password of an encrypted private key.
        certificate: a PEM file with the certificate that every token carries (`x5c`). By default,
            a certificate is made from the private key.
        key_id: how tokens identify the key: `x5c` (the default), `libtrust` or `rfc7638`; see
            `dockhand_auth_jwt.SigningKey`.
        other_keys: PEM files with more public keys or certificates for the JWKS, such as the
            previous key while its tokens are valid, or the next key.
        users: an htpasswd file with bcrypt hashes.
        groups: the members of each group.
        rules: the rules that grant actions.
        backend: `rules`, or the name of a plugin whose `dockhand_authorize` replaces the rules.
        token_lifetime: the lifetime of tokens, in seconds.
        refresh_tokens: an SQLite file for refresh tokens, created if it does not exist; false
            disables refresh tokens.
        refresh_token_lifetime: the lifetime of refresh tokens, in seconds.
        refresh_token_rotation: when a client that uses a refresh token gets a new one: `always`,
            or only when `requested` by the client.
        login_limit: the limit on failed logins.
        trusted_proxies: the networks of the proxies whose `X-Forwarded-For` header is trusted.
    """

    issuer: str = Field(min_length=1, max_length=_MAX_NAME)
    services: tuple[Annotated[str, Field(min_length=1, max_length=_MAX_NAME)], ...] = Field(
        min_length=1
    )
    private_key: Annotated[Path | SecretStr, BeforeValidator(_path_or_pem)]
    private_key_password: SecretStr | None = None
    certificate: Path | None = None
    key_id: KeyId | None = None
    other_keys: tuple[Path, ...] = ()
    users: Path | None = None
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    backend: str = Field("rules", min_length=1)
    # At least 60 seconds: docker assumes 60 for a shorter lifetime, and would use expired tokens.
    token_lifetime: Annotated[int, Field(ge=60, le=86_400), NotBoolean] = 300
    refresh_tokens: Path | Literal[False] = Path("refresh_tokens.db")
    refresh_token_lifetime: Annotated[int, Field(ge=60), NotBoolean] = 90 * 86_400
    refresh_token_rotation: Literal["always", "requested"] = "always"  # noqa: S105
    login_limit: LoginLimit = Field(default_factory=LoginLimit)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    @field_validator("services", "trusted_proxies", "other_keys", mode="before")
    @classmethod
    def _check_is_list(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list")
        return value

    @model_validator(mode="after")
    def _check_backend(self) -> Settings:
        if self.backend != "rules" and self.rules:
            raise ValueError(
                f"backend is the plugin {self.backend!r}, so that the rules would have no effect: "
                "remove one of the two"
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
        """Parse settings from a mapping.

        This reads the files of secrets, such as `private_key_password_file`, but no other files.

        Args:
            data: the settings, with the same keys as in `authority.toml`.
            base: the folder for relative paths. The default is the working folder.
            where: the beginning of error messages.

        Raises:
            ConfigError: a setting is unknown, missing or has a wrong value; the message names the
                setting.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: settings must be a mapping, not {type(data).__name__}")
        folder = Path(base) if base is not None else Path.cwd()
        table = dict(data)
        table.setdefault("refresh_tokens", "refresh_tokens.db")
        if isinstance(table.get("other_keys"), list | tuple):
            table["other_keys"] = [
                folder / Path(each).expanduser() if isinstance(each, str) else each
                for each in table["other_keys"]
            ]
        table["rules"] = _parse_rules(table.get("rules", ()), f"{where}: rules", folder)
        if isinstance(table.get("login_limit"), Mapping):
            place = f"{where}: login_limit"
            table["login_limit"] = validate_table(
                LoginLimit, table["login_limit"], where=place, base=folder
            )
        return validate_table(cls, table, where=where, base=folder)


def _parse_rules(values: Any, where: str, base: Path) -> tuple[Rule, ...]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{where}: must be a list of tables; begin each with a line [[rules]]")
    rules = []
    for number, value in enumerate(values, 1):
        place = f"{where}: number {number}"
        if isinstance(value, Rule):
            rules.append(value)
        elif isinstance(value, Mapping):
            rules.append(validate_table(Rule, value, where=place, base=base))
        else:
            raise ConfigError(f"{place}: must be a table")
    return tuple(rules)


def _is_user_or_group_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and ":" not in text and (text == "" or text.isprintable())


def load_settings(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> Settings:
    """Load settings from a TOML file.

    Args:
        path: the TOML file. `${NAME}` in the file stands for an environment variable. Relative
            paths start at the folder of the file.
        environ: the environment variables. The default is the environment of the process.

    Raises:
        ConfigError: a setting is wrong; the message names the file, the table and the key.
    """
    file = Path(path).absolute()
    try:
        data = read_toml(file, os.environ if environ is None else environ)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(file)) else f"{file}: {text}") from None
    return Settings.parse(data, base=file.parent, where=str(path))
