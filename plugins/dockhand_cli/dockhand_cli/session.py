"""The session of a command: the options of every command, the connections, and the output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from dockhand_cli.exit_codes import UsageError
from dockhand_cli.output import Output

if TYPE_CHECKING:
    import typer

    from dockhand_cli.progress import TransferProgress
    from dockhand_core import Dockhand, Place, RegistryClient
    from dockhand_core.config import DockhandConfig

__all__ = ["FILE_PREFIXES", "Options", "Repository", "Session", "is_file", "session_of"]

FILE_PREFIXES = ("oci:", "oci-archive:", "docker-archive:")

_TRANSPORTS = ("dir:", "containers-storage:", "docker-daemon:")  # of skopeo and podman
_PATH = re.compile(r"\.{0,2}/.*|[^/:@]*\.(tar|tgz)(\.\w+)?")
_SHOWN = 300  # characters of an argument that an error repeats
_HOST_AND_PORT = re.compile(r"(localhost|[^/:@]*\.[^/:@]*):\d+|[^/@]*:\d+/")


def session_of(context: typer.Context) -> Session:
    """The session of a command's context."""
    session = context.find_object(Session)
    assert session is not None, "the context is not one of the command dockhand"
    return session


def is_file(text: str) -> bool:
    """Whether an argument names a file, such as `oci-archive:nginx.tar`, and not an image."""
    return text.startswith(FILE_PREFIXES)


def _check_image(text: str, *, bare: bool) -> None:
    """Refuse arguments that would name an image of Docker Hub, but are certainly meant otherwise.

    Args:
        text: the argument.
        bare: whether it is an image of a connection; then `my.app:123` is one.

    Raises:
        UsageError: the text is a file, a path, a transport of skopeo, or a host and a port alone.
    """
    if is_file(text):
        prefix = text.partition(":")[0]
        raise UsageError(f"{text}: an image of a registry is expected here, not {prefix}: …")
    if text.startswith(_TRANSPORTS) or _PATH.fullmatch(text):
        known = ", ".join(FILE_PREFIXES)
        raise UsageError(
            f"{text}: an image of a registry is expected here; in `dockhand cp`, files begin with "
            f"{known}"
        )
    if not bare and _HOST_AND_PORT.fullmatch(text):
        host = text.removesuffix("/")
        raise UsageError(
            f"{text}: the repository is missing: {host}/REPOSITORY; `dockhand ls {host}` lists "
            "those of the registry"
        )


@dataclass
class Options:
    """The options of every command.

    Attributes:
        config: path of the configuration file, or None for the usual one.
        connection: name of the connection of bare repositories, or None.
        as_json: write results as JSON.
        quiet: write nothing but results and errors.
        verbosity: 1 logs requests on standard error, 2 logs all that is known of them.
        debug: show the traceback of an error.
    """

    config: Path | None = None
    connection: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbosity: int = 0
    debug: bool = False


class Repository(NamedTuple):
    """A repository of a registry.

    Attributes:
        client: the client of the registry.
        name: the repository's name.
    """

    client: RegistryClient
    name: str


class Session:
    """Gives a command its connections and its output.

    The manager of the connections is made when a command first asks for one, from the same file and
    environment as `Dockhand()`, and closed when the command ends.
    """

    def __init__(self) -> None:
        self.options = Options()

    @cached_property
    def output(self) -> Output:
        """The output, as the options describe it."""
        return Output(as_json=self.options.as_json, quiet=self.options.quiet)

    @cached_property
    def dockhand(self) -> Dockhand:
        """The manager of the connections. One whose settings are wrong raises its error when used.

        Raises:
            ConfigError: the file cannot be read, or a setting outside of connections is wrong.
        """
        from dockhand_core import Dockhand
        from dockhand_core.config import load_tables

        self._log_requests()
        with self._naming_file():
            return Dockhand(_without_console_logs(load_tables(self.options.config).config))

    def client(self, name: str | None = None) -> RegistryClient:
        """The client of a connection or of a host.

        Args:
            name: name of a configured connection, with or without `@`; or a host, such as
                `localhost:5000`. None for the option `--connection`, or else the default one.

        Raises:
            UsageError: the name is that of a repository, or a URL; or no connection is configured.
            ConfigError: there is no connection of this name, and it is not a host.
        """
        wanted = self.options.connection if name is None else name
        if wanted == "":
            raise UsageError("the name of the connection or host is empty")
        known = {*self.dockhand.connections, *self.dockhand.config.wrong}
        if wanted is None and not known:
            raise UsageError(
                "no connection is configured: name a registry's host, such as localhost:5000, "
                "write a dockhand.toml with a [connections.<name>] table, or set DOCKHAND_BASE_URI"
            )
        if wanted and "/" in wanted and wanted not in known:
            host = wanted.partition("://")[2] or wanted.lstrip("@")
            raise UsageError(
                f"{wanted}: a connection or a host is expected here, without a scheme and a "
                f"repository: {host.partition('/')[0]}"
            )
        if wanted and _may_be_host(wanted) and wanted not in known:
            with self._naming_file(plugins=False):
                return self.dockhand.locate(f"{wanted}/any").client
        with self._naming_file():
            return self.dockhand.connection(wanted and wanted.removeprefix("@"))

    def place(self, image: str) -> Place[RegistryClient]:
        """The place of an image: its client, its repository, and the tag or digest.

        Args:
            image: a reference, `@connection/repository[:tag][@digest]`, or with the option
                `--connection` a bare `repository[:tag][@digest]`.

        Raises:
            UsageError: the text is the path of a file, or a host without a repository.
            ReferenceInvalid: the text is none of these.
            ConfigError: there is no such connection.
        """
        _check_image(image, bare=self.options.connection is not None)
        text = self._with_connection(image)
        with _naming_argument(image), self._naming_file(plugins=text.startswith("@")):
            return self.dockhand.locate(text)

    def repository(self, text: str) -> Repository:
        """The repository that an argument names, without a tag and a digest.

        Raises:
            UsageError: the text has a tag or a digest.
            ReferenceInvalid: the text names no repository.
            ConfigError: there is no such connection.
        """
        place = self.place(text)
        if ":" in text.rpartition("/")[2]:
            raise UsageError(
                f"{text}: a repository is expected here, without a tag or digest: "
                f"{text[: -len(place.reference) - 1]}"
            )
        return Repository(place.client, place.repository)

    def _with_connection(self, text: str) -> str:
        connection = self.options.connection
        if connection == "":
            raise UsageError("--connection is empty; name a connection or leave it out")
        head, slash, _ = text.partition("/")
        # the first part of a repository has no colon, so this is a host with a port
        is_host = bool(slash) and ":" in head
        if connection is None or text.startswith("@") or is_host:
            return text
        return f"@{connection}/{text}"

    def progress(self, title: str) -> AbstractContextManager[TransferProgress]:
        """The progress of a transfer: bars on a terminal.

        Nothing is shown elsewhere, with `--quiet`, and with `--verbose`, which logs requests.

        Args:
            title: the transfer's name, such as `Copying app:v1`.
        """
        from dockhand_cli.progress import show_progress

        return show_progress(self.output, title, hidden=bool(self.options.verbosity))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that the command used."""
        dockhand = vars(self).pop("dockhand", None)
        if dockhand is not None:
            dockhand.close()

    @contextmanager
    def _naming_file(self, *, plugins: bool = True) -> Iterator[None]:
        """Let errors in the settings begin with the configuration file, if there is one.

        Args:
            plugins: also errors of plugins, whose drivers the settings name.
        """
        from dockhand_core.errors import ConfigError, PluginError

        try:
            yield
        except (ConfigError, PluginError) as error:
            file = self.options.config or os.environ.get("DOCKHAND_CONFIG") or "dockhand.toml"
            # a misspelt variable has nothing to do with the file
            if not plugins and isinstance(error, PluginError):
                raise
            if not Path(file).exists() or str(file) in str(error) or "DOCKHAND_" in str(error):
                raise
            raise type(error)(f"{file}: {error}") from error

    def _log_requests(self) -> None:
        """With `--verbose`, write the log lines of requests to standard error."""
        if not self.options.verbosity:
            return
        import logging
        import sys

        from dockhand_cli.request_log import RequestLogHandler

        log = logging.getLogger("dockhand")
        log.setLevel(logging.DEBUG)
        log.addHandler(RequestLogHandler(sys.stderr, all_fields=self.options.verbosity > 1))
        log.propagate = False


@contextmanager
def _naming_argument(text: str) -> Iterator[None]:
    """Let errors in the form of an argument begin with it, unless it may hold a password."""
    from dockhand_core.errors import NameInvalid, ReferenceInvalid, TagInvalid

    try:
        yield
    except (NameInvalid, ReferenceInvalid, TagInvalid) as error:
        before_digest = text.removeprefix("@").partition("@sha")[0]
        if not 0 < len(text) <= _SHOWN or "@" in before_digest or "://" in text:
            raise
        raise UsageError(f"{text}: {error}") from error


def _may_be_host(name: str) -> bool:
    """Whether a name is that of a host and not of a connection, as in a reference."""
    return not name.startswith("@") and (name == "localhost" or "." in name or ":" in name)


def _without_console_logs(config: DockhandConfig) -> DockhandConfig:
    """Let connections log to the logger that `--verbose` shows, instead of to the terminal.

    A log driver of a plugin stays.
    """
    from dockhand_core.logs import BUILTIN, LogSettings

    quiet = LogSettings(driver="stdlib", level="debug")
    connections = {
        name: table.model_copy(update={"logging": quiet})
        if table.logging.driver in BUILTIN
        else table
        for name, table in config.connections.items()
    }
    return config.model_copy(update={"connections": connections})
