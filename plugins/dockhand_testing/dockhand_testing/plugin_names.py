"""The names of a new plugin: of its distribution, its package and its classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["OWN_PACKAGES", "PluginNames"]

# Names of Dockhand's own packages, without `dockhand-`.
OWN_PACKAGES = frozenset(
    {
        "auth-apikey", "auth-basic", "auth-bearer", "auth-jwt", "auth-token", "celery", "cli",
        "core", "distribution", "django", "embedded", "postgres", "testing", "token-server",
        "webhook", "zot",
    }
)  # fmt: skip

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 30  # the lines of the templates are laid out for it


@dataclass(frozen=True)
class PluginNames:
    """The names of a new plugin.

    Attributes:
        name: name of the plugin, its driver or command, and its entry point, such as `my-vault`.
    """

    name: str

    @classmethod
    def of(cls, text: str) -> PluginNames:
        """Check a name that an author has typed; `dockhand-` at its beginning is left out.

        Raises:
            ValueError: the name has a wrong form, or is that of one of Dockhand's own packages.
        """
        name = re.sub(r"^dockhand[-_]", "", text).replace("_", "-")
        if not _NAME.fullmatch(name) or len(name) > _LONGEST:
            raise ValueError(
                f"the name {text!r} is not usable: a name has at most {_LONGEST} lower-case "
                "letters, digits and `-`, and begins with a letter, such as my-vault"
            )
        if name in OWN_PACKAGES:
            raise ValueError(
                f"dockhand-{name} is one of Dockhand's own packages; choose another name"
            )
        return cls(name)

    @property
    def distribution(self) -> str:
        """Name of the distribution, which pip installs, such as `dockhand-my-vault`."""
        return f"dockhand-{self.name}"

    @property
    def package(self) -> str:
        """Name of the import package, such as `dockhand_my_vault`."""
        return self.distribution.replace("-", "_")

    @property
    def class_prefix(self) -> str:
        """Beginning of the names of classes, such as `MyVault`."""
        return "".join(part.capitalize() for part in self.name.split("-"))
