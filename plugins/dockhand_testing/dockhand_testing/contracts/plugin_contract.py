"""The base of the contracts of drivers: the plugin under test, its settings and clients."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from dockhand_core import AsyncDockhand, ConfigError, Dockhand, Plugins, RegistryClient
from dockhand_core.config import validate_table
from dockhand_testing.blocking import BlockingLoop, as_blocking
from dockhand_testing.playing import Player
from dockhand_testing.pytest_plugin import register
from dockhand_testing.rules import rule

__all__ = ["DriverContract", "OpenClient", "PluginContract", "finish", "hidden_in", "secrets_in"]

OpenClient = Callable[..., RegistryClient]

_SECRET_NAMES = ("api_key", "password", "private_key", "secret", "token")
_SHORTEST = 6  # characters
_NOT_A_KEY = "no_such_setting"


class PluginContract:
    """The plugin under test, its settings, and clients of both kinds.

    Attributes:
        driver: name of the driver under test.
        settings: the driver's settings, as they stand in the configuration.
        plugin: the plugin under test, if its package is not installed in the test's environment: an
            object or module with hooks, or where to import it from: `package.module`, or
            `package.module:object`.
    """

    driver: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    plugin: ClassVar[Any] = None

    @pytest.fixture(params=["sync", "async"])
    def mode(self, request: pytest.FixtureRequest) -> str:
        """The kind of client: `sync` or `async`."""
        return str(request.param)

    @pytest.fixture
    def plugins(self, dockhand: Dockhand) -> Plugins:
        """The plugins of a manager with the plugin under test."""
        return dockhand.plugins

    @pytest.fixture
    def open_client(self, before_clients: None) -> Iterator[OpenClient]:  # noqa: ARG002
        """Provide a function that opens a client, from a mode and a connection's table."""
        with ExitStack() as stack:

            def connect(mode: str, **table: Any) -> RegistryClient:
                config = {"connections": {"default": {"logging": {"driver": "null"}, **table}}}
                if mode == "sync":
                    manager = stack.enter_context(Dockhand(config))
                    register(manager, self.plugin)
                    return manager.connection()
                loop = stack.enter_context(closing(BlockingLoop()))
                inner = AsyncDockhand(config)
                stack.callback(lambda: loop.resolve(inner.close()))
                register(inner, self.plugin)
                return as_blocking(loop, inner.connection())

            yield connect

    @pytest.fixture
    def before_clients(self) -> None:
        """Fixtures that outlive the clients; a contract whose clients need a server requests it."""

    @pytest.fixture
    def own_settings(self) -> dict[str, Any]:
        """The driver's settings; override it for settings that need a fixture, such as a file."""
        return dict(self.settings)


class DriverContract(PluginContract):
    """The base of the contracts of registry drivers and auth drivers."""

    kind: ClassVar[str]  # set by the contracts

    @pytest.fixture
    def driver_class(self, plugins: Plugins) -> Any:
        """The class of the driver under test."""
        return plugins.driver(self.kind, self.driver)

    def table(self, **settings: Any) -> dict[str, Any]:
        """The connection's table for these settings of the driver."""
        raise NotImplementedError

    @rule(
        "Unknown settings are errors, which name the setting.",
        why="a misspelt setting would be ignored, such as one that keeps something secret",
        where="RegistryDriver.Settings and AuthDriver.Settings: extra='forbid'",
    )
    def test_unknown_settings_are_refused(
        self, open_client: OpenClient, own_settings: dict[str, Any]
    ) -> None:
        table = self.table(**own_settings, **{_NOT_A_KEY: "x"})
        with pytest.raises(ConfigError) as caught:
            open_client("sync", **table)
        assert _NOT_A_KEY in str(caught.value)

    @rule(
        "Settings and driver hide secrets in repr() and str(), and so do errors in settings.",
        why="they are printed in tracebacks, logs and bug reports",
        where="AuthDriver: a secret is a pydantic.SecretStr",
    )
    def test_settings_hide_secrets(
        self, open_client: OpenClient, driver_class: Any, own_settings: dict[str, Any]
    ) -> None:
        model = valid_settings(driver_class, own_settings)
        secrets = secrets_in(model)
        made = driver_class(model)
        for shown in (repr(model), str(model), repr(made), str(made)):
            assert hidden_in(shown, secrets), f"a secret is in {type(made).__name__}'s text"
        with pytest.raises(ConfigError) as caught:
            open_client("sync", **self.table(**own_settings, **{_NOT_A_KEY: "x"}))
        assert hidden_in(f"{caught.value!r} {caught.value}", secrets), "a secret is in the error"

    @rule(
        "A setting that is a secret is a SecretStr or SecretBytes.",
        why="a plain string is printed with the settings, and the core cannot remove it from logs",
        where="AuthDriver, in its example: `token: SecretStr`",
    )
    def test_secret_settings_have_secret_types(self, driver_class: Any) -> None:
        for name, field in driver_class.Settings.model_fields.items():
            plain = field.annotation in (str, bytes, str | None, bytes | None)
            assert not (plain and name.endswith(_SECRET_NAMES)), f"the setting {name!r} is plain"

    @rule(
        "The settings of a connection are frozen.",
        why="a connection is made once, and a later change would have no effect",
        where="RegistryDriver.Settings and AuthDriver.Settings: frozen=True",
    )
    def test_settings_are_frozen(self, driver_class: Any) -> None:
        assert driver_class.Settings.model_config.get("frozen"), "Settings can be changed"


def valid_settings(driver_class: Any, settings: Mapping[str, Any]) -> BaseModel:
    """Validate settings as a connection does, without what belongs to the core."""
    names = {field.alias or name for name, field in driver_class.Settings.model_fields.items()}
    names |= {f"{name}_file" for name in names}
    own = {name: value for name, value in settings.items() if name in names}
    model: BaseModel = validate_table(driver_class.Settings, own, where="settings", base=Path.cwd())
    return model


def secrets_in(value: Any) -> set[str]:
    """The secrets in settings, which are not empty."""
    if isinstance(value, SecretStr):
        return {value.get_secret_value()} - {""}
    if isinstance(value, SecretBytes):
        return {value.get_secret_value().decode("latin-1")} - {""}
    if isinstance(value, BaseModel):
        return set().union(*(secrets_in(each) for _, each in value))
    if isinstance(value, Mapping):
        return set().union(*map(secrets_in, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return set().union(*map(secrets_in, value))
    return set()


def hidden_in(text: str, secrets: set[str]) -> bool:
    """Whether a text has none of the secrets, plain or as Python and JSON write them.

    Short secrets are not looked for, since they occur by chance.
    """
    long = [secret for secret in secrets if len(secret) >= _SHORTEST]
    forms = {form for secret in long for form in (secret, repr(secret)[1:-1])}
    return not any(form in text for form in forms)


def finish(result: object, *, flow: bool = True) -> None:
    """Finish the method `close` of a plugin, if it is a coroutine function or a flow.

    Args:
        result: the result of the method.
        flow: whether the method may be a flow; its requests get 204.
    """
    if isinstance(result, Generator):
        assert flow, "close() is a generator function, so nothing of it runs; write a plain one"
        Player(itertools.repeat(204)).run(result)
    if inspect.isawaitable(result):
        asyncio.run(_awaited(result))


async def _awaited(result: Awaitable[object]) -> None:
    await result
