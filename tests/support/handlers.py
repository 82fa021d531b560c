"""A package with handlers for several processes, which write down what they are told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_SOURCE = """
import json, os, random, time
from dockhand_core import hookimpl

FILE = {file!r}

def note(handler, event):
    line = json.dumps([handler, event.id, event.connection, event.repository,
                       getattr(event, "tag", None), type(event).__name__, os.getpid()])
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (line + "\\n").encode())  # whole lines, whoever else writes
    os.close(descriptor)

{body}
"""
BODY = """
@hookimpl
def dockhand_event(event):
    time.sleep(random.uniform(0, 0.01))
    note("every", event)

@hookimpl
async def dockhand_manifest_pushed(event):
    note("pushed", event)
"""


class Told(NamedTuple):
    """That a handler was told of an event."""

    handler: str
    id: str
    connection: str | None
    repository: str
    tag: str | None
    kind: str
    process: int


class Handlers:
    """The package, installed in a folder, and what its handlers wrote down.

    Args:
        folder: where it is made.
        body: its handlers; they call `note(name, event)`.
    """

    def __init__(self, folder: Path, body: str = BODY) -> None:
        self.site, self.file = folder / "site", folder / "told"
        info = self.site / "noting_handlers-1.0.dist-info"
        info.mkdir(parents=True)
        metadata = "Metadata-Version: 2.1\nName: noting-handlers\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text("[dockhand]\nnoting = noting_handlers\n")
        module = self.site / "noting_handlers.py"
        module.write_text(_SOURCE.format(file=str(self.file), body=body))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that has the package installed."""
        public = {k: v for k, v in os.environ.items() if not k.startswith("DOCKHAND_")}
        return {**public, "PYTHONPATH": str(self.site)}

    def told(self, handler: str | None = None) -> list[Told]:
        """What was written down until now, of one handler or of all."""
        return [each for each in self._lines() if handler in {None, each.handler}]

    def _lines(self) -> Iterator[Told]:
        if not self.file.exists():
            return
        for line in self.file.read_text().splitlines():
            values: list[Any] = json.loads(line)
            yield Told(*values)
