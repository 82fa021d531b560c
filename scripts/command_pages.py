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
from dockhand_cli.command_table import OWN_COMMANDS, PluginCommand
from dockhand_cli.common_options import common_options
from dockhand_cli.json_forms import forms_of
from dockhand_cli.main import root_command
from typer.cli import get_docs_for_click
from typer.core import TyperGroup

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "commands"

# The commands that packages of this repository add with the hook `dockhand_commands`; others that
# are installed have no page here.
PLUGIN_COMMANDS = {"new-plugin": "dockhand_testing", "zot": "dockhand_zot"}

# The packages whose programs are commands of `dockhand` itself.
PROGRAM_PACKAGES = {
    "events": "dockhand_webhook",
    "notify-token": "dockhand_webhook",
    "keys": "dockhand_auth_jwt",
}

# Meanings of the fields that need no other description in the docstring of a form.
_MEANINGS = {
    "annotations": "the annotations.",
    "artifact_type": "the artifact type, or null.",
    "connections": "the connections, in the order of the configuration.",
    "digest": "the digest.",
    "media_type": "the media type.",
    "name": "the name.",
    "platform": "the platform, such as `linux/arm64`, or null.",
    "platforms": "the platforms, such as `linux/arm64`.",
    "repository": "the repository's name.",
    "size": "the size in bytes.",
    "tag": "the tag.",
    "url": "the URL.",
}


def pages() -> dict[str, str]:
    """Make all pages: the text of each, by the file's name."""
    root = root_command()
    made = {"README.md": _overview(root)}
    for _, names in _panels(root):
        for name in names:
            command = root.commands[name]
            if isinstance(command, PluginCommand):
                command = command.imported()
            package = (PLUGIN_COMMANDS | PROGRAM_PACKAGES).get(name, "dockhand_cli")
            parts = [*_command(command, ("dockhand", name), package, depth=0), _FOOTER]
            made[f"{name}.md"] = "\n\n".join(parts).rstrip() + "\n"
    return made


_ABOUT = (
    "[The README of the package](../../plugins/dockhand_cli/README.md) explains installation, "
    "references, output and configuration. The pages here are made from the help texts of the "
    "commands, and describe the JSON that they write."
)
_FOOTER = (
    "[All commands](README.md), and [the options that every one of them has]"
    "(README.md#options-of-every-command)."
)


def _panels(root: Any) -> Iterator[tuple[str, list[str]]]:
    for panel, names in OWN_COMMANDS.items():
        yield panel, [name for name in names if name in root.commands]
    yield "Commands of plugins", list(PLUGIN_COMMANDS)


def _overview(root: Any) -> str:
    lines = ["# The command `dockhand`", "", root.help, ""]
    lines += [_ABOUT, ""]
    if _picture("cp"):
        lines += [_picture("cp"), ""]
    for panel, names in _panels(root):
        lines += [f"## {panel}", "", "| Command | |", "|---|---|"]
        for name in names:
            help_line = root.commands[name].get_short_help_str(limit=200)
            lines.append(f"| [`dockhand {name}`]({name}.md) | {help_line} |")
        lines.append("")
    lines += ["## Options of every command", ""]
    lines += ["They are accepted before and after the name of the command.", ""]
    context = typer.Context(root, info_name="dockhand")
    for option in common_options():
        record = option.get_help_record(context)
        assert record is not None
        lines.append(f"* `{record[0].strip()}`: {record[1]}")
    return "\n".join([*lines, "", root.epilog, ""])


def _picture(name: str) -> str:
    """The picture of a command on a terminal, if there is one."""
    if not (DOCS / "pictures" / f"{name}.svg").exists():
        return ""
    return f"![dockhand {name} on a terminal](../pictures/{name}.svg)"


def _command(command: Any, words: tuple[str, ...], package: str, depth: int) -> Iterator[str]:
    """Make the parts of a command's page; the commands of a group follow it."""
    params, shared = command.params, common_options()
    command.params = [param for param in params if not any(param is each for each in shared)]
    epilog, command.epilog = command.epilog, None
    commands = command.commands if isinstance(command, TyperGroup) else {}
    if commands:
        command.commands = {}  # typer would write them without the documents of --json
    context = typer.Context(command, info_name=words[-1])
    text = get_docs_for_click(
        obj=command, ctx=context, indent=depth, name=words[-1], call_prefix=" ".join(words[:-1])
    )
    yield _tidied(text)
    command.params, command.epilog = params, epilog
    if epilog:
        yield _epilog(epilog)
    if depth == 0 and _picture(words[-1]):
        yield _picture(words[-1])
    for form in forms_of(" ".join(words[1:]), package):
        yield _documented(form)
    if commands:
        command.commands = commands
        for name, each in commands.items():
            yield from _command(each, (*words, name), package, depth + 1)


def _tidied(text: str) -> str:
    """Remove the option --help from typer's text, and the types of plain arguments."""
    text = re.sub(r"^\* `.*--help.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*Options\*\*:\n\n(?=\n|$)", "", text)
    return re.sub(r"^(\* `[^`<]*?) <(?:str|path|list\[\w+\])>", r"\1", text, flags=re.M).rstrip()


def _epilog(epilog: str) -> str:
    """Write the examples of a help text as a block of commands."""
    first, *lines = epilog.split("\n\n")
    if first != "Examples:":
        return epilog
    return "\n".join(["**Examples**:", "", "```sh", *lines, "```"])


def _documented(form: Any) -> str:
    """Describe a form and the forms that its fields have.

    Raises:
        KeyError: a field has no description.
    """
    parts, waiting, seen = [], [form], {form}
    while waiting:
        each = waiting.pop(0)
        module = importlib.import_module(each.__module__)
        doc, meanings = _parsed(inspect.getdoc(each) or "")
        for base in _bases(each, module):
            meanings = _parsed(inspect.getdoc(base) or "")[1] | meanings
        title = "**With `--json`**: " if each is form else f"`{each.__name__}`: "
        rows = []
        for name, kind in each.__annotations__.items():
            text = kind.__forward_arg__ if hasattr(kind, "__forward_arg__") else str(kind)
            shown = text.replace("|", "\\|")
            meaning = meanings.get(name) or _MEANINGS.get(name)
            if meaning is None:
                raise KeyError(f"the docstring of {each.__name__} does not describe {name}")
            rows.append(f"| `{name}` | `{shown}` | {meaning} |")
            for word in re.findall(r"\w+", text):
                nested = getattr(module, word, None)
                if is_typeddict(nested) and nested not in seen:
                    seen.add(nested)
                    waiting.append(nested)
        parts.append("\n".join([title + doc, "", "| Field | Type | |", "|---|---|---|", *rows]))
        get_type_hints(each)  # every name in the annotations exists
    return "\n\n".join(parts)


def _bases(form: Any, module: Any) -> Iterator[Any]:
    """The forms of a module that a form derives from; Python 3.11 does not keep them."""
    for each in vars(module).values():
        if is_typeddict(each) and each.__annotations__.items() < form.__annotations__.items():
            yield each


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
