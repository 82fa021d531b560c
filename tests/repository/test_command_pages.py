"""The pages of `docs/commands/` are up to date, and every command has its example and its JSON."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dockhand_cli.common_options import common_options
from dockhand_cli.json_forms import forms_of
from help_examples import PLUGIN_COMMANDS, all_commands, examples_of

ROOT = Path(__file__).parents[2]
PACKAGES = PLUGIN_COMMANDS | {
    "events": "dockhand_webhook",
    "notify-token": "dockhand_webhook",
    "keys": "dockhand_auth_jwt",
}

# The commands without a documented form of --json.
_PROGRAM = "a program, which ends when it is stopped, and whose log lines are its output"
WITHOUT_JSON = {
    "serve registry": _PROGRAM,
    "serve webhook": _PROGRAM,
    "serve authority": _PROGRAM,
    "events work": _PROGRAM,
    "events tail": "its lines are the events, as docs of dockhand-webhook describe them",
    "events dead": "its lines are dead letters, as docs of dockhand-webhook describe them",
}


COMMANDS = all_commands()


def test_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/command_pages.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_command_is_explained(words: str) -> None:
    """A command has a help text, an example, and help for each argument and option."""
    command = COMMANDS[words]
    assert command.help
    assert command.help.split("\n\n")[0].rstrip().endswith("."), command.help
    assert any(f"dockhand {words}" in example for example in examples_of(command))
    missing = [param.name for param in command.params if not param.help]
    assert not missing


@pytest.mark.parametrize("words", COMMANDS)
def test_document_of_json_is_described(words: str) -> None:
    """A command has a documented form of `--json`, or is on the list of those without one."""
    package = PACKAGES.get(words.partition(" ")[0], "dockhand_cli")
    assert (not forms_of(words, package)) == (words in WITHOUT_JSON)


def test_list_of_commands_without_json_is_right() -> None:
    assert set(WITHOUT_JSON) <= set(COMMANDS)


# `dockhand inspect IMAGE --config` shows the image's config.
_OTHER_MEANING = {("inspect", "--config")}


def test_options_with_one_name_mean_one_thing() -> None:
    """An option has the same short name and the same kind of value in all commands."""
    common = {option.name for option in common_options()}
    seen: dict[str, tuple[str, Any]] = {}
    for words, command in COMMANDS.items():
        for param in command.params:
            names = [name for name in param.opts if name.startswith("--")]
            if not names or param.name in common or (words, names[0]) in _OTHER_MEANING:
                continue
            kind = (sorted(param.opts), bool(getattr(param, "is_flag", False)))
            first = seen.setdefault(names[0], (words, kind))
            assert first[1] == kind, f"{names[0]} of {words} and of {first[0]}"
