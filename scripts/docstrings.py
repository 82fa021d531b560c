"""Docstrings in Google's style, split into their text and their sections."""

from __future__ import annotations

import inspect
import re
from typing import Any

_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Follows")


def sections(thing: Any) -> dict[str, str]:
    """Split the docstring of a class or function: the text has the key "", sections their titles.

    A section on one line, such as `Follows: …`, is found, too.
    """
    found: dict[str, str] = {"": ""}
    title = ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        begin = re.match(rf"({'|'.join(_SECTIONS)}):(?: (.*))?$", line)
        if begin:
            title = begin[1]
            found[title] = (begin[2] or "") + "\n"
        else:
            found[title] += line.removeprefix("    ") + "\n" if title else line + "\n"
    return {name: text.strip("\n") for name, text in found.items()}


def entries(section: str) -> dict[str, str]:
    """Read the entries `name: text` of a section; `a, b: text` is an entry for each name."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        begin = re.match(r"([A-Za-z_][\w, ]*): +(.*)", line)
        if begin:
            names = begin[1].split(", ")
            found |= dict.fromkeys(names, begin[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def markdown(text: str) -> str:
    """Convert the text of a docstring to Markdown: a block after `::` is a block of Python."""
    lines: list[str] = []
    block = False
    for line in text.splitlines():
        if block and line.strip() and not line.startswith("    "):
            while lines[-1] == "":
                lines.pop()
            lines += ["```", ""]
            block = False
        if not block and line.endswith("::"):
            lines += [line.removesuffix(":"), "", "```py"]
            block = True
        elif not (block and lines[-1] == "```py" and not line.strip()):
            lines.append(line.removeprefix("    ") if block else line.replace("``", "`"))
    if block:
        lines.append("```")
    return "\n".join(lines)
