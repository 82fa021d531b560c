"""A fixture that runs Python examples of READMEs and checks their output."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

RunExample: TypeAlias = Callable[..., None]

# A program that runs an example, and prints the line number and text of each of its `print`
# calls as JSON.
_RUN = """
import json, sys
printed = []
def record(*values, sep=" ", **options):
    printed.append((sys._getframe(1).f_lineno, sep.join(map(str, values))))
example = compile(sys.stdin.read(), "example", "exec")
exec(example, {"__name__": "__main__", "print": record})
sys.stdout.write(json.dumps(printed))
"""


def promised_output(example: str) -> dict[int, str]:
    """Return the comments after calls of `print`, by the line in which the call begins."""
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(example).readline)
        if token.type == tokenize.COMMENT
    }
    calls = [
        node
        for node in ast.walk(ast.parse(example))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    lines = {call.lineno: call.end_lineno or call.lineno for call in calls}
    return {line: comments[end] for line, end in lines.items() if end in comments}


def check_output(example: str, printed: list[tuple[int, str]]) -> None:
    """Compare the printed lines with the comments; `…` in a comment stands for any text."""
    for line, comment in promised_output(example).items():
        texts = [text for at, text in printed if at == line]
        assert texts, f"line {line} of the example printed nothing:\n{example}"
        pattern = ".*".join(re.escape(part) for part in comment.split("…"))
        for text in texts:
            assert re.fullmatch(pattern, text, re.DOTALL), f"{text!r} is not {comment!r}"


@pytest.fixture
def run_example(tmp_path: Path) -> RunExample:
    """Provide a function that runs an example in a folder, and checks the output in its comments.

    The example must end without an error, a warning or a line on standard error.
    """

    def run(example: str, *, cwd: Path = tmp_path, env: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", _RUN],
            input=example,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{example}\n{done.stderr}"
        printed: list[Any] = json.loads(done.stdout)
        check_output(example, [(line, text) for line, text in printed])

    return run
