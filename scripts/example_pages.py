"""Make the pages of the examples: the README of each package, followed by its source."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
_LANGUAGES = {
    ".cnf": "ini",
    ".html": "html",
    ".json": "json",
    ".py": "python",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_LEFT_OUT = re.compile(r"\.|_{2}pycache|build$|dist$|.*\.egg-info$")  # folders that tools make
# The hooks that make a package a plugin of a kind.
_KINDS = {
    "dockhand_auth_drivers": "auth driver",
    "dockhand_registry_drivers": "registry driver",
    "dockhand_event_parsers": "event parser",
    "dockhand_log_drivers": "log driver",
    "dockhand_commands": "commands",
    "dockhand_inboxes": "inbox",
}
_HANDLER = re.compile(
    r"dockhand_(?:event|(?:manifest|blob|tag|repository|image)_"
    r"(?:pushed|pulled|mounted|deleted|created|scanned|lint_failed))"
)
_SOURCE = re.compile(r"^<!-- source: (\S+) -->$", re.MULTILINE)
_TABLE = "<!-- table: examples -->"


def example_sources() -> dict[str, str]:
    """The path in the site of each example's page, by the path of its README."""
    return {
        f"examples/{path.parent.name}/README.md": (
            f"examples/{path.parent.name.replace('_', '-')}.md"
        )
        for path in sorted(EXAMPLES.glob("*/README.md"))
        if (path.parent / "pyproject.toml").exists()
    }


def with_source(text: str, folder: Path) -> str:
    """The text of an example's page: its README, and a section with its source.

    Args:
        text: the README.
        folder: the folder of the example.
    """
    parts = [text.rstrip(), "## Source"]
    for file in files(folder):
        parts.append(titled(file, file.relative_to(folder).as_posix()))
    return "\n\n".join([*parts, ""])


def files(folder: Path) -> list[Path]:
    """The files of an example, in the order of reading: settings, package, tests, others."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix in _LANGUAGES
        and path.is_file()
        and path.stat().st_size
        and not any(map(_LEFT_OUT.match, path.relative_to(folder).parts[:-1]))
    ]

    def place(path: Path) -> tuple[int, str]:
        first = path.relative_to(folder).parts[0]
        order = {"pyproject.toml": 0, folder.name: 1, "tests": 2}
        return order.get(first, 3), path.as_posix()

    return sorted(found, key=place)


def titled(file: Path, title: str) -> str:
    """A block of code with a title."""
    text = file.read_text("utf-8").rstrip()
    longest = max((len(run) for run in re.findall(r"^ *(`{3,})", text, re.MULTILINE)), default=2)
    fence = "`" * (longest + 1)
    return f'{fence}{_LANGUAGES[file.suffix]} title="{title}"\n{text}\n{fence}'


def filled(text: str, page: str) -> str:
    """Replace the comments of a page that stand for source, and for the table of examples.

    Args:
        text: the page.
        page: its path in the repository, for the message.

    Raises:
        SystemExit: a file does not exist.
    """

    def shown(match: re.Match[str]) -> str:
        file = ROOT / match[1]
        if not file.is_file():
            sys.exit(f"{page}: the source {match[1]} does not exist")
        return titled(file, match[1])

    return _SOURCE.sub(shown, text).replace(_TABLE, _table())


def kinds(folder: Path) -> list[str]:
    """The kinds of plugins that an example is, by the hooks that it implements."""
    found = set()
    for file in (folder / folder.name).rglob("*.py"):
        for hook in re.findall(r"def (dockhand_\w+)\(", file.read_text("utf-8")):
            if hook in _KINDS:
                found.add(_KINDS[hook])
            elif _HANDLER.fullmatch(hook):
                found.add("handler")
    return sorted(found)


def _table() -> str:
    lines = ["| Example | Kind | |", "|---|---|---|"]
    for readme, place in example_sources().items():
        folder = (ROOT / readme).parent
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        kind = ", ".join(kinds(folder)) or "program"
        lines.append(
            f"| [`{project['name']}`]({Path(place).name}) | {kind} | {project['description']} |"
        )
    if len(lines) == 2:
        return ""
    return "\n".join(lines)
