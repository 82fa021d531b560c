"""Entry points of installed plugins, with the names and versions of their packages.

The search, and the import of each plugin, happen once per process.
"""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dockhand_core.hookspecs import GROUP
from dockhand_core.plugin_failures import reason_of

__all__ = ["Entry", "Found", "core_version", "installed", "normal"]


class Entry:
    """An entry point of the group; its plugin is imported on first use, once per process.

    Attributes:
        name: the entry point's name.
        package: the distribution package, or the module if the package is unknown.
        version: the package's version, if it is known.
        reported: the failures that were logged.
    """

    def __init__(self, entry: metadata.EntryPoint) -> None:
        self._entry = entry
        self.name, self.package = entry.name, entry.value.partition(":")[0]
        self.version: str | None = None
        self.reported: set[str] = set()
        with contextlib.suppress(Exception):  # metadata that is damaged: only the name is lost
            if entry.dist is not None:
                name, self.version = _name_and_version(entry.dist)
                self.package = name or self.package

    @functools.cached_property
    def found(self) -> Found:
        plugin, error = None, None
        try:
            plugin = self._entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # an import may raise any exception, even SystemExit
            error = reason_of(raised)
        return Found(self.name, self.package, self.version, plugin, error, self)


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin with its name and package, or the reason why its entry point was not loaded."""

    name: str
    package: str
    version: str | None
    plugin: Any = None
    error: str | None = None
    entry: Entry | None = None


@functools.cache
def installed() -> tuple[Entry, ...]:
    """Find all entry points of the group; done once per process.

    This is `metadata.entry_points(group=GROUP)`, but parses only the files that name the group.
    """
    found: dict[str, metadata.EntryPoints] = {}
    for package in metadata.distributions():
        if GROUP in (package.read_text("entry_points.txt") or ""):
            name, _ = _name_and_version(package)
            # of packages with the same name, Python imports the first one
            found.setdefault(normal(name or ""), package.entry_points.select(group=GROUP))
    return tuple(Entry(entry) for entries in found.values() for entry in entries)


def _name_and_version(package: metadata.Distribution) -> tuple[str | None, str | None]:
    """The name and the version of a distribution package, if they are known.

    `package.metadata` would parse the whole file, with the description, as an email.
    """
    head, _, _ = (package.read_text("METADATA") or package.read_text("PKG-INFO") or "").partition(
        "\n\n"
    )
    fields = dict(reversed(re.findall(r"^(Name|Version):[ \t]*(\S+)[ \t\r]*$", head, re.MULTILINE)))
    return fields.get("Name"), fields.get("Version")


@functools.cache
def core_version() -> str:
    """The version of the core, as it is installed."""
    _, version = _name_and_version(metadata.distribution("dockhand-core"))
    return version or "0"


def normal(name: str) -> str:
    """A name of a package or plugin as it is compared."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
