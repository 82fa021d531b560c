"""Settings of plugins: the tables `[plugins.<name>]`, and the calls of `dockhand_configure`."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dockhand_core.errors import ConfigError, DockhandError, PluginError
from dockhand_core.plugin_discovery import normal
from dockhand_core.plugin_failures import exception_chain, reason_of
from dockhand_core.text import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["PluginSettings", "SettingsTables", "call_configure"]

M = TypeVar("M", bound="BaseModel")

# Keys whose values are removed from the messages of errors.
_SECRET_KEY = re.compile(r"(pass|secret|token|credential|key|webhook|dsn)(?!.*_file$)", re.I)


class PluginSettings(dict[str, Any]):
    """The settings of a plugin, as its table in the configuration has them.

    It is a dict of the table's keys and values: empty if the configuration has no such table. In a
    file, `${NAME}` has been replaced. A value from an environment variable is a string. `parse`
    checks the settings, and converts them to a model.

    Attributes:
        name: the plugin's name.
        base: folder that relative paths start at: that of `dockhand.toml`, or the working folder.
    """

    def __init__(self, name: str, table: Mapping[str, Any], base: Path) -> None:
        super().__init__(_copy(table))
        self.name, self.base = name, base
        self._parsed: list[BaseModel] = []

    def parse(self, model: type[M]) -> M:
        """Check the settings against a pydantic model, by the rules for settings of drivers.

        An unknown key is an error. A secret `<key>`, a `SecretStr` of the model, may be given as
        `<key>_file`. A relative `Path` starts at `base`. A list or table may be given as JSON text.

        Args:
            model: class of the model; `BaseModel` itself stands for no settings.

        Raises:
            ConfigError: a key is unknown or missing, or has a wrong value; the message names the
                plugin and the key, and has no value.
            PluginError: `model` is not a class of models.
        """
        from pydantic import BaseModel, create_model

        from dockhand_core.config.validation import validate_table

        if not isinstance(model, type) or not issubclass(model, BaseModel):
            from dockhand_core.flow.checks import described

            raise PluginError(f"settings.parse got {described(model)}, not a class of models")
        if model is BaseModel:  # has no fields, and cannot be instantiated
            model = cast("type[M]", create_model("NoSettings"))
        parsed = validate_table(model, self, where=f"plugin {self.name!r}", base=self.base)
        self._parsed.append(parsed)
        return parsed

    def cleaned(self, text: str) -> str:
        """Remove secrets from a text: the values of keys such as `token`, and parsed secrets."""
        from dockhand_core.http.secrets import Secrets, secrets_of

        secrets = [*_secrets(self), *secrets_of([*self._parsed, self])]
        for url in (each for each in secrets if "://" in each):  # the whole URL of a webhook
            text = text.replace(url, "...")
        return Secrets(secrets).text(text)

    def clean(self, error: BaseException) -> None:
        """Remove secrets from an exception of the plugin, its notes and its causes."""
        for each in exception_chain(error):
            each.args = tuple(self._cleaned_value(value) for value in each.args)
            for name, value in list(vars(each).items()):  # the notes are one of them
                vars(each)[name] = self._cleaned_value(value)
            for name in ("strerror", "filename", "filename2"):  # of `OSError`, which shows these
                if isinstance(value := getattr(each, name, None), str):
                    setattr(each, name, self._cleaned_value(value))

    def _cleaned_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.cleaned(value)
        return [self._cleaned_value(item) for item in value] if isinstance(value, list) else value

    def __repr__(self) -> str:
        return f"<PluginSettings {self.name}: {', '.join(self) or 'none'}>"  # without the values


def _copy(value: Any) -> Any:
    """Copy tables and lists, so that a plugin which changes them does not change others'."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _secrets(value: Any, secret: bool = False) -> Iterator[str]:
    """Yield the strings in settings that are secrets according to their keys, and users in URLs."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, secret or bool(_SECRET_KEY.search(str(key))))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, secret)
    elif isinstance(value, str):
        if secret:
            yield value
        else:
            user = value.partition("://")[2].partition("/")[0].rpartition("@")[0]
            yield from filter(None, (user, user.partition(":")[2]))


class SettingsTables:
    """The tables of all plugins in a configuration. Names are compared as those of packages are.

    Args:
        tables: the tables by the name of the plugin.
        base: folder that relative paths start at.
        dockhand: the manager, the second argument of the hook.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Any]], base: Path, dockhand: Any) -> None:
        self._tables = {normal(name): (name, table) for name, table in tables.items()}
        self._settings: dict[str, PluginSettings] = {}
        self._base, self._dockhand = base, dockhand

    def __contains__(self, plugin: str) -> bool:
        return normal(plugin) in self._tables

    def configure(self, plugin: str, hook: Callable[..., Any]) -> None:
        """Call the hook of a plugin with its settings; `call_configure` has the errors."""
        _, table = self._tables.get(normal(plugin), (plugin, {}))
        settings = self._settings[normal(plugin)] = PluginSettings(plugin, table, self._base)
        call_configure(hook, settings, self._dockhand)

    def clean(self, plugin: str, error: BaseException) -> None:
        """Remove the secrets of a plugin's settings from an exception that it raised."""
        settings = self._settings.get(normal(plugin))
        if settings:
            settings.clean(error)

    def hiding(self, plugin: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of a plugin, so that its exceptions have no secrets of its settings."""
        settings = self._settings.get(normal(plugin))
        if not settings:
            return function

        async def awaited(answer: Awaitable[Any]) -> Any:
            try:
                return await answer
            except Exception as error:
                settings.clean(error)
                raise

        @functools.wraps(function)  # so that `async` can be detected
        def call(**arguments: Any) -> Any:
            try:
                answer = function(**arguments)
            except Exception as error:
                settings.clean(error)
                raise
            return awaited(answer) if inspect.isawaitable(answer) else answer

        return call

    def check(
        self,
        taking: set[str],
        not_taking: set[str],
        ignored: set[str],
        *,
        complete: bool,
    ) -> None:
        """Check that each table is of a plugin that takes settings.

        Args:
            taking: names of the plugins with the hook `dockhand_configure`.
            not_taking: names of the other plugins.
            ignored: normalised names of disabled plugins, and of those that cannot be loaded.
            complete: whether no more plugins will be registered, so that a table of an unknown
                plugin is an error. Until then, it is one only if its name is similar to that of an
                installed plugin that takes settings, and has none.

        Raises:
            ConfigError: a table is of no such plugin.
        """
        known, others = {*map(normal, taking)}, {*map(normal, not_taking)}
        without_table = [name for name in sorted(taking) if normal(name) not in self._tables]
        for key, (name, _) in self._tables.items():
            if key in known or key in ignored:
                continue
            if key in others:
                raise ConfigError(
                    f"plugins.{name}: the plugin {name!r} takes no settings, since it has no hook "
                    "dockhand_configure"
                )
            similar = did_you_mean(name, taking if complete else without_table)
            if complete or similar:
                raise ConfigError(
                    f"plugins.{name}: no plugin named {name!r} is installed or registered"
                    f"{similar}{' If' if similar else '; if'} another program needs the table, set "
                    f"DOCKHAND_DISABLE_PLUGINS={key}"
                )


def call_configure(hook: Callable[..., Any], settings: PluginSettings, dockhand: Any) -> None:
    """Call a plugin's `dockhand_configure`.

    Args:
        hook: the function.
        settings: the plugin's settings.
        dockhand: the manager.

    Raises:
        ConfigError: the hook raised a `ConfigError` or a `ValueError`: a setting is wrong.
        PluginError: it raised another exception, or is asynchronous.
    """
    where = f"plugin {settings.name!r}"
    failure: DockhandError | None = None
    try:
        answer = hook(settings=settings, dockhand=dockhand)
        if inspect.isawaitable(answer):
            from dockhand_core.flow.checks import dispose

            dispose(answer)
            raise PluginError("dockhand_configure returned an awaitable; it is a plain function")
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # of a plugin, even SystemExit
        failure = _error(where, raised, settings)
    if (
        failure is not None
    ):  # not in `except`: the exception of the plugin may show a setting's value
        raise failure


def _error(where: str, raised: BaseException, settings: PluginSettings) -> DockhandError:
    kind = ConfigError if isinstance(raised, ConfigError | ValueError) else PluginError
    if isinstance(raised, DockhandError):
        # in front of the plugin may be the variable that a wrong value is from
        variable, _, text = f": {raised}".partition(f": {where}: ")
        if text and (not variable or variable.startswith(": DOCKHAND_")):
            return kind(settings.cleaned(f"{variable[2:]}: {where}: {text}".removeprefix(": ")))
        text = str(raised)
    else:
        text = f"dockhand_configure failed: {reason_of(raised)}{_place(raised)}"
    return kind(f"{where}: {settings.cleaned(text)}")


def _place(raised: BaseException) -> str:
    """The line of the plugin that raised an exception."""
    trace = raised.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
