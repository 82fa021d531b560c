"""The tag or digest that an argument states, and annotations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dockhand_cli.exit_codes import UsageError

if TYPE_CHECKING:
    from dockhand_cli.session import Session
    from dockhand_core import Place, RegistryClient

__all__ = ["annotations_of", "digest_place", "is_digest", "stated_reference"]


def is_digest(reference: str) -> bool:
    """Whether a reference within a repository is a digest, and not a tag."""
    return ":" in reference


def stated_reference(text: str, place: Place[RegistryClient]) -> str | None:
    """The tag or digest that an argument states; None if it states neither.

    Args:
        text: the argument.
        place: the place that was parsed from it, whose reference is `latest` by default.
    """
    if place.reference == "latest" and not text.endswith(":latest"):
        return None
    return place.reference


def digest_place(session: Session, text: str) -> Place[RegistryClient]:
    """The place of an argument `REPOSITORY@DIGEST`.

    Raises:
        UsageError: the argument has no digest.
        ReferenceInvalid: it is malformed.
        ConfigError: there is no such connection.
    """
    place = session.place(text)
    if not is_digest(place.reference):
        stated = stated_reference(text, place)
        repository = text if stated is None else text[: -len(stated) - 1]
        raise UsageError(f"{text}: a digest is expected here, such as {repository}@sha256:…")
    return place


def annotations_of(values: Iterable[str]) -> dict[str, str]:
    """Parse the values of the option `--annotation`.

    Raises:
        UsageError: a value is not `KEY=VALUE`, or two have the same key.
    """
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise UsageError(f"--annotation {value}: KEY=VALUE is expected")
        if key in found:
            raise UsageError(f"--annotation {value}: the key {key} is given twice")
        found[key] = text
    return found
