"""Pages of the site as programs: their blocks run one after the other, in a folder of their own.

- A block with a title, such as ```` ```python title="app.py" ````, is written to that file.
- A block of `sh` runs in one shell for the whole page, and a block of `python` in a process of its
  own, with the values that its comments after `print` promise.
- A block of `text` directly after one that runs is its output; `…` stands for any text.
- `<!-- not run: REASON -->` before a block: it is only checked, by `check_block`.
- `<!-- exit 3 -->` before a block of `sh`: its last command ends with this status.
- `<!-- source: examples/app.py -->`: the file is in the folder from the beginning.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dockhand_cli.main import root_command
from registries import free_port
from typer.core import TyperGroup

from dockhand_core import Plugins
from dockhand_core.config import ConnectionConfig, DockhandConfig

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?"
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SOURCE = re.compile(r"^<!-- source: (\S+) -->$", re.MULTILINE)
_PORTS = ("5000", "5001", "8080")
# The programs of a page. `pip install .` announces the package in the folder; other packages are
# there already.
_PROGRAMS = {
    "python": "", "dockhand": "-m dockhand_cli", "uvicorn": "-m uvicorn",
    "pip": shlex.quote(__file__),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        line: the line of the page that it begins in.
        language: `python`, `sh`, `toml` …
        title: name of the file that it is, or None.
        note: the comment before it, or an empty string.
        text: its lines.
    """

    line: int
    language: str
    title: str | None
    note: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page."""
    text = page.read_text("utf-8")
    return [
        Block(
            text[: match.start()].count("\n") + 1,
            match["language"],
            match["title"],
            match["note"] or "",
            re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
        )
        for match in _BLOCK.finditer(text)
    ]


def matches(pattern: str, text: str) -> bool:
    """Whether a text is the promised one, in which `…` stands for any text."""
    expression = ".*?".join(re.escape(part) for part in pattern.strip().split("…"))
    return re.fullmatch(expression, text.strip(), re.DOTALL) is not None


class Shell:
    """A bash that runs the blocks of one page, in a folder, in a session of its own."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._output, self._errors = folder / ".output", folder / ".errors"
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["bash"], cwd=folder, env=dict(environ), text=True, stdin=subprocess.PIPE,
                stdout=output, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self._number = 0
        self.run("set -e")

    def run(self, script: str, status: int = 0) -> str:
        """Run lines, and return what they wrote to standard output."""
        self._number += 1
        before = self._output.stat().st_size
        marker = f"=== {self._number}"
        guard = ("set +e\n", "\nset -e") if status else ("", "")
        ended = f'printf "%s\\n" "{marker} $?" >> .done'
        (self._output.parent / ".done").touch()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{guard[0]}{script}\n{ended}{guard[1]}\n")
        self._process.stdin.flush()
        found = self._wait(marker)
        assert found == str(status), f"status {found}:\n{script}\n{self._errors.read_text()}"
        return self._output.read_bytes()[before:].decode()

    def _wait(self, marker: str) -> str:
        while self._process.poll() is None:
            done = (self._output.parent / ".done").read_text()
            if found := re.search(rf"^{re.escape(marker)} (\d+)$", done, re.MULTILINE):
                return found[1]
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        done = (self._output.parent / ".done").read_text()
        found = re.search(rf"^{re.escape(marker)} (\d+)$", done, re.MULTILINE)
        return found[1] if found else f"{self._process.returncode} of the shell"

    def close(self) -> None:
        """End the shell and everything that it started."""
        for each in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, each)
                self._process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait(5)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def run_page(page: Path, folder: Path, run_example: Any) -> list[str]:
    """Run a page, and return the languages of the blocks that ran or were checked."""
    ports = {port: str(free_port()) for port in _PORTS}
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("DOCKHAND_")
    }
    environ |= {
        "PYTHONPATH": f"{folder}:{environ.get('PYTHONPATH', '')}", "DOCKER_CONFIG": f"{folder}/.d",
        "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    programs = folder / ".bin"
    programs.mkdir()
    for name, words in _PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        program.chmod(0o755)
    environ["PATH"] = f"{programs}:{environ['PATH']}"
    for file in _SOURCE.findall(page.read_text("utf-8")):
        shutil.copy(ROOT / file, folder)
    seen, output = [], None
    shell = Shell(folder, environ)
    try:
        for block in blocks(page):
            text = _replaced(block.text, ports)
            where = f"{page.name}:{block.line}"
            seen.append(block.language)
            if block.note.startswith("not run: "):
                check_block(block)
                output = None
            elif block.title is not None:
                check_block(block)
                (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.title).write_text(text, "utf-8")
                output = None
            elif block.language == "sh":
                status = re.fullmatch(r"exit (\d+)", block.note)
                output = shell.run(text, int(status[1]) if status else 0)
                for port, free in ports.items():
                    output = re.sub(rf"\b{free}\b", port, output)
            elif block.language == "python":
                run_example(text, cwd=folder, env=environ)
                output = None
            elif block.language == "text" and output is not None:
                assert matches(block.text, output), f"{where}: {output!r}\nis not\n{block.text}"
                output = None
            else:
                check_block(block)
    finally:
        shell.close()
    return seen


def _replaced(text: str, ports: Mapping[str, str]) -> str:
    for port, free in ports.items():
        text = re.sub(rf"\b{port}\b", free, text)
    return text


def check_block(block: Block) -> None:
    """Check a block that is not run: its syntax, its settings, and its commands."""
    if block.language == "python":
        compile(block.text, block.title or "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    elif block.language == "sh":
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
        for words in dockhand_commands(block.text):
            check_command(words)
    elif block.language == "toml":
        check_toml(block.text)
    elif block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
    elif block.language == "json":
        json.loads(block.text)
    else:
        assert block.language in ("text", "nginx", "dockerfile"), block.language
        assert block.text.count("{") == block.text.count("}")


def dockhand_commands(script: str) -> Iterator[list[str]]:
    """The command lines of `dockhand` in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        for part in re.split(r"\||&&|;|\$\(|<", line):
            words = shlex.split(part.split("  #")[0].rstrip(" )&"), comments=True)
            if words[:1] == ["dockhand"]:
                yield words[1:]


def check_command(words: list[str]) -> None:
    """Parse a command line without running it: the command and its options exist."""
    command: Any = root_command()
    rest = list(words)
    while isinstance(command, TyperGroup):
        while rest and rest[0].startswith("-"):
            del rest[: 2 if rest[0] in ("-c", "--config", "--connection") else 1]
        if not rest:
            return
        command = command.commands[rest.pop(0)]
        command = command.imported() if hasattr(command, "imported") else command
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"{word} of dockhand {' '.join(words)}"


def check_toml(text: str) -> None:
    """Check that TOML is well-formed, and that a configuration has keys that exist."""
    data = tomllib.loads(text)
    tables = data.get("connections", {})
    plugins = Plugins()
    for name, table in DockhandConfig.parse({"connections": tables}).connections.items():
        assert isinstance(table, ConnectionConfig)
        if table.driver in plugins.names("registry"):
            known = plugins.driver("registry", table.driver).Settings.model_fields
            assert set(table.options) <= set(known), name
        if table.auth.driver in plugins.names("auth"):
            settings = plugins.driver("auth", table.auth.driver).Settings.model_fields
            assert {key.removesuffix("_file") for key in table.auth.options} <= set(settings), name


def announce(folder: Path, site: Path) -> None:
    """Install the package in a folder as pip would: make it and its entry points known.

    Args:
        folder: the folder of its `pyproject.toml`.
        site: the folder on the path of Python.
    """
    for each in folder.iterdir():
        if folder != site and (each / "__init__.py").exists():
            (site / each.name).symlink_to(each)
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    name = project["name"].replace("-", "_")
    info = site / f"{name}-{project['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))


def _pip(arguments: list[str]) -> None:
    """The `pip` of a page."""
    assert arguments[0] == "install"
    for word in arguments[1:]:
        if word.startswith("."):
            announce(Path(word).resolve(), Path.cwd())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for word in arguments[1:]:
        if found := re.fullmatch(r"dockhand-core\[(.*)\]", word):
            assert set(found[1].split(",")) <= set(extras["optional-dependencies"]), word


if __name__ == "__main__":
    _pip(sys.argv[1:])
