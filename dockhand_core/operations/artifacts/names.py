"""Names of the files in artifacts: the rules for names and for symbolic links."""

from __future__ import annotations

import re
from collections.abc import Callable

from dockhand_core.errors import ArtifactInvalid
from dockhand_core.text import shown

__all__ = ["DEPTH", "LONGEST_NAME", "Parts", "link_fault", "split_name"]

Parts = tuple[str, ...]  # the components of a relative path

LONGEST_NAME = 4096  # bytes of a whole name
LONGEST_COMPONENT = 255  # bytes
DEPTH = 100  # components of a name
STEPS = 256  # components that are followed to the end of a symbolic link

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def split_name(name: str, subject: str) -> Parts:
    """Split the name of a file in an artifact into its components, without `.` and empty ones.

    Args:
        name: the name, with `/` between components.
        subject: the start of error messages.

    Returns:
        the components; none of them for the folder itself.

    Raises:
        ArtifactInvalid: on some system, the name could name a file outside the folder, or no file.
    """
    fault = _text_fault(name)
    parts: Parts = ()
    if fault is None:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/"):
            fault = "is absolute"
        elif ".." in parts:
            fault = "leads out of the folder with '..'"
        elif len(parts) > DEPTH:
            fault = f"has more than {DEPTH} components"
        elif any(len(part.encode()) > LONGEST_COMPONENT for part in parts):
            fault = f"has a component of more than {LONGEST_COMPONENT} bytes"
    if fault is not None:
        raise ArtifactInvalid(f"{subject}: the name {shown(name)} {fault}")
    return parts


def _text_fault(text: str) -> str | None:
    """Find the reason why a name or the target of a link is refused as a text."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if not text:
        return "is empty"
    if size > LONGEST_NAME:
        return f"has more than {LONGEST_NAME} bytes"
    if _CONTROL.search(text):
        return "has a control character"
    if "\\" in text:
        return "has a backslash, which separates folders on Windows"
    if _DRIVE.match(text):
        return "begins with the letter of a drive"
    return None


def link_fault(link: Parts, target: str, lookup: Callable[[Parts], str | None]) -> str | None:
    """Find the reason why a symbolic link is refused; None if it stays in its folder.

    The target is followed through other links, as the operating system does it. So a link that is
    harmless by itself is refused if it leads out by way of another one.

    Args:
        link: the place of the link, relative to the folder that it must not leave.
        target: the target.
        lookup: returns the target of the symbolic link at a place of the folder, or None if there
            is no symbolic link.
    """
    fault = _text_fault(target)
    if fault is not None:
        return f"{shown(target)} {fault}"
    here = list(link[:-1])
    rest = _components(target)
    for _ in range(STEPS):
        if not rest:
            return None
        part = rest.pop()
        if part == "/" or (part == ".." and not here):
            return f"{shown(target)} leads out of the folder"
        if part == "..":
            here.pop()
            continue
        onward = lookup((*here, part))
        if onward is None:
            here.append(part)
        else:
            rest += _components(onward)
    return f"{shown(target)} has more than {STEPS} components, or leads in a circle"


def _components(target: str) -> list[str]:
    """The components of a link's target, the last one first; `/` for the root."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    return [*reversed(parts), "/"] if target.startswith("/") else parts[::-1]
