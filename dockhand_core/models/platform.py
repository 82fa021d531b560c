"""Platforms: written as `os/architecture[/variant]`, matched by containerd's rules.

Follows: OCI Image Specification 1.1, "Image Index"; containerd's `platforms` package for
normalisation and for the variants that each variant can run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from dockhand_core.errors import ConfigError

__all__ = ["Platform"]

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_OS = {"macos": "darwin"}
_ARCHITECTURE = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# Variants that are the default of their architecture, so a normalised platform omits them.
_DEFAULT_VARIANT = {("amd64", "v1"): "", ("arm64", "8"): "", ("arm64", "v8"): ""}


class Platform(BaseModel):
    """An operating system and a processor architecture.

    Args:
        os: operating system: `linux`, `windows`, `darwin` …
        architecture: processor architecture in Go's names: `amd64`, `arm64`, `386` …
        variant: variant of the architecture, such as `v7` or `v8`, or None.
        os_version: version of the operating system, such as `10.0.20348.1` for a Windows build.
        os_features: features of the operating system that the image requires.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow", populate_by_name=True)

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = Field(default=None, alias="os.version")
    os_features: tuple[str, ...] | None = Field(default=None, alias="os.features")

    if TYPE_CHECKING:

        def __init__(
            self,
            os: str,
            architecture: str,
            variant: str | None = None,
            *,
            os_version: str | None = None,
            os_features: tuple[str, ...] | None = None,
        ) -> None: ...
    else:

        def __init__(self, *parts: Any, **fields: Any) -> None:
            """Accept `os`, `architecture` and `variant` as positional arguments, too."""
            names = ("os", "architecture", "variant")
            if len(parts) > len(names) or any(name in fields for name in names[: len(parts)]):
                raise TypeError("Platform(os, architecture, variant=None) is expected")
            super().__init__(**dict(zip(names, parts, strict=False)), **fields)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os/architecture[/variant]`, and resolve aliases such as `x86_64`.

        Raises:
            ConfigError: the text is not of this form.
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise ConfigError(
                f"{text!r} is not a platform: os/architecture[/variant], such as linux/arm64/v8"
            )
        variant = parts[2] if parts[2:] else None
        return cls(os=parts[0], architecture=parts[1], variant=variant).normalized()

    def normalized(self) -> Platform:
        """Return this platform with the names that containerd compares.

        The names are in lower case, aliases such as `x86_64` are resolved, and a default variant
        is omitted.
        """
        os = self.os.lower()
        architecture, variant = self.architecture.lower(), (self.variant or "").lower()
        architecture, implied = _ARCHITECTURE.get(architecture, (architecture, variant))
        variant = implied or variant
        if architecture == "arm":
            variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
        variant = _DEFAULT_VARIANT.get((architecture, variant), variant)
        return self.model_copy(
            update={
                "os": _OS.get(os, os),
                "architecture": architecture,
                "variant": variant or None,
            }
        )

    def runs(self) -> list[Platform]:
        """Return the platforms whose images this platform can run, the most suitable first."""
        own = self.normalized()
        unversioned = {"os_version": None, "os_features": None}
        architectures = [(own.architecture, own.variant)]
        version = _version(own.variant)
        if own.architecture == "amd64":
            if version:
                architectures += [("amd64", f"v{n}" if n > 1 else None) for n in _down(version, 1)]
            architectures.append(("386", None))
        elif own.architecture == "arm" and version:
            architectures += [("arm", f"v{n}") for n in _down(version, 5)]
        elif own.architecture == "arm64":
            # containerd assumes that an arm64 processor also runs 32-bit arm images
            if version:
                architectures += [("arm64", f"v{n}" if n > 8 else None) for n in _down(version, 8)]
            architectures += [("arm", f"v{n}") for n in (8, 7, 6, 5)]
        return [
            own.model_copy(update={"architecture": a, "variant": v, **unversioned})
            for a, v in architectures
        ]

    def best(self, candidates: Iterable[Platform]) -> int | None:
        """Return the position of the candidate that suits this platform best, or None."""
        ranks = self.ranks(candidates)
        ranked = [(rank, position) for position, rank in enumerate(ranks) if rank is not None]
        return min(ranked)[1] if ranked else None

    def ranks(self, candidates: Iterable[Platform]) -> list[int | None]:
        """Return how well each candidate suits this platform: 0 suits best, None not at all."""
        runnable = [(p.os, p.architecture, p.variant) for p in self.runs()]
        ranks: list[int | None] = []
        for candidate in candidates:
            other = candidate.normalized()
            key = (other.os, other.architecture, other.variant)
            # The operating system of an attestation is `unknown`.
            suits = key in runnable and other.os != "unknown"
            same_build = _same_build(self.os_version, other.os_version)
            ranks.append(runnable.index(key) if suits and same_build else None)
        return ranks

    def __str__(self) -> str:
        parts = [self.os, self.architecture, self.variant]
        text = "/".join(part for part in parts if part)
        return f"{text} ({self.os_version})" if self.os_version else text


def _version(variant: str | None) -> int | None:
    """The number of a variant such as `v7`; None for other variants."""
    match = re.fullmatch(r"v(\d{1,3})", variant or "")
    return int(match[1]) if match else None


def _down(start: int, end: int) -> range:
    """The numbers below `start`, descending to `end`."""
    return range(start - 1, end - 1, -1)


def _same_build(wanted: str | None, offered: str | None) -> bool:
    """Whether two Windows builds are compatible: their first three numbers are equal."""
    if not wanted or not offered:
        return True
    return wanted.split(".")[:3] == offered.split(".")[:3]
