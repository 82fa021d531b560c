"""The exact bytes of blobs and manifests, from and to files and standard streams."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from dockhand_cli.exit_codes import UsageError
from dockhand_core.text import printable_lines

__all__ = [
    "STDIO",
    "existing_file",
    "input_file",
    "is_stream",
    "replace_file",
    "show_text",
    "text_of",
    "write_stdout",
]

STDIO = Path("-")  # as an argument, standard input; as the value of an option, standard output


def input_file(path: Path) -> BinaryIO:
    """Open the file of an argument, or standard input for `-`.

    Raises:
        UsageError: there is no such file, or it is a folder.
    """
    return sys.stdin.buffer if path == STDIO else existing_file(path).open("rb")


def existing_file(path: Path) -> Path:
    """Return the path of a file of an argument, after a check.

    Raises:
        UsageError: there is no such file, or it is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file")
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    return path


def write_stdout(block: bytes) -> None:
    """Write bytes to standard output, unchanged."""
    sys.stdout.buffer.write(block)


def text_of(data: bytes) -> str | None:
    """Decode data that is text; None if it is binary."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def show_text(text: str) -> None:
    """Write text of several lines to a terminal; control characters in it are escaped."""
    lines = text.replace("\r\n", "\n").expandtabs(4)
    print(printable_lines(lines), end="" if lines.endswith("\n") else "\n")


def is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe, such as `/dev/null`, which no file may replace."""
    return path.exists() and not (path.is_file() or path.is_dir())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, which appears only when it is complete; a device or a pipe is written to.

    Raises:
        OSError: the file cannot be written; a file that existed before is unchanged.
    """
    if is_stream(path):
        path.write_bytes(data)
        return
    if path.is_dir():
        raise IsADirectoryError(None, "is a folder, not a file", str(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
