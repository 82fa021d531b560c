"""Write the pages of `docs/commands/` from the help texts of the command `dockhand`.

With `--check`, write nothing, and exit with status 1 if a page is not up to date.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints, is_typeddict

import typer
from dockhand_cli.command_table import _PANEL_OF, OWN_COMMANDS
from dockhand_cli.common_options import common_options
from dockhand_cli.json_forms import form_of
from dockhand_cli.main import root_command
from typer.cli import get_docs_for_click
from typer.core import TyperGroup

FOLDER = Path(__file__).parents[1] / "docs" / "commands"


def pages() -> dict[str, str]:
    """Make all pages: the text of each, by the file's name."""
    root = root_command()
    made = {"README.md": _overview(root)}
    for names in OWN_COMMANDS.values():
        for name in filter(_PANEL_OF.__contains__, names):
            parts = _command(root.commands[name], ("dockhand", name), depth=0)
            made[f"{name}.md"] = "\n\n".join(parts).rstrip() + "\n"
    return made


def _overview(root: Any) -> str:
    lines = ["# The command `dockhand`", "", root.help, ""]
    for panel, names in OWN_COMMANDS.items():
        lines += [f"## {panel}", "", "| Command | |", "|---|---|"]
        for name in filter(_PANEL_OF.__contains__, names):
            help_line = root.commands[name].get_short_help_str(limit=200)
            lines.append(f"| [`dockhand {name}`]({name}.md) | {help_line} |")
        lines.append("")
    lines += ["## Options of every command", ""]
    context = typer.Context(root, info_name="dockhand")
    for option in common_options():
        record = option.get_help_record(context)
        assert record is not None
        lines.append(f"* `{record[0].strip()}`: {record[1]}")
    return "\n".join([*lines, "", root.epilog, ""])


def _command(command: Any, words: tuple[str, ...], depth: int) -> Iterator[str]:
    """Make the parts of a command's page; the commands of a group follow it."""
    hidden = {option.name for option in common_options()}
    params, command.params = command.params, [p for p in command.params if p.name not in hidden]
    epilog, command.epilog = command.epilog, None
    commands = command.commands if isinstance(command, TyperGroup) else {}
    if commands:
        command.commands = {}  # typer would write them without the documents of --json
    context = typer.Context(command, info_name=words[-1])
    yield get_docs_for_click(
        obj=command, ctx=context, indent=depth, name=words[-1], call_prefix=" ".join(words[:-1])
    ).rstrip()
    command.params, command.epilog = params, epilog
    if epilog:
        yield _epilog(epilog)
    form = form_of(" ".join(words[1:]))
    if form is not None:
        yield _documented(form)
    if commands:
        command.commands = commands
        for name, each in commands.items():
            yield from _command(each, (*words, name), depth + 1)


def _epilog(epilog: str) -> str:
    """Write the examples of a help text as a block of commands."""
    first, *lines = epilog.split("\n\n")
    if first != "Examples:":
        return epilog
    return "\n".join(["**Examples**:", "", "```sh", *lines, "```"])


def _documented(form: Any) -> str:
    """Describe a form and the forms that its fields have."""
    parts, waiting, seen = [], [form], {form}
    while waiting:
        each = waiting.pop(0)
        module = importlib.import_module(each.__module__)
        doc, meanings = _parsed(inspect.getdoc(each) or "")
        title = "**With `--json`**: " if each is form else f"`{each.__name__}`: "
        rows = []
        for name, kind in each.__annotations__.items():
            text = kind.__forward_arg__ if hasattr(kind, "__forward_arg__") else str(kind)
            shown = text.replace("|", "\\|")
            rows.append(f"| `{name}` | `{shown}` | {meanings.get(name, '')} |")
            for word in re.findall(r"\w+", text):
                nested = getattr(module, word, None)
                if is_typeddict(nested) and nested not in seen:
                    seen.add(nested)
                    waiting.append(nested)
        parts.append("\n".join([title + doc, "", "| Field | Type | |", "|---|---|---|", *rows]))
        get_type_hints(each)  # every name in the annotations exists
    return "\n\n".join(parts)


def _parsed(doc: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text, and the meaning of each attribute."""
    text, _, attributes = doc.partition("Attributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        found = re.match(r" {4}([a-z_, ]+): (.*)", line)
        if found:
            names = found[1].split(", ")
            meanings |= dict.fromkeys(names, found[2])
        elif line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    return text.strip(), meanings


def main() -> None:
    """Write the pages, or check them."""
    made = pages()
    found = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    if "--check" in sys.argv[1:]:
        old = sorted(
            name for name in made.keys() | found.keys() if made.get(name) != found.get(name)
        )
        if old:
            sys.exit(f"not up to date: {', '.join(old)}; run python scripts/command_pages.py")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in found.keys() - made.keys():
        (FOLDER / name).unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")
    print(f"{len(made)} pages in {FOLDER}")


if __name__ == "__main__":
    main()
