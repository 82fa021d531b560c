"""An installed plugin whose handlers record their calls in a file, also in other processes."""

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

def record(handler, event):
    line = json.dumps([handler, event.id, event.connection, event.repository,
                       getattr(event, "tag", None), type(event).__name__, os.getpid()])
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (line + "\\n").encode())  # one write, so that processes don't mix lines
    os.close(descriptor)

{handlers}
"""
HANDLERS = """
@hookimpl
def dockhand_event(event):
    time.sleep(random.uniform(0, 0.01))
    record("every", event)

@hookimpl
async def dockhand_manifest_pushed(event):
    record("pushed", event)
"""


class HandlerCall(NamedTuple):
    """A call of a handler with an event."""

    handler: str
    id: str
    connection: str | None
    repository: str
    tag: str | None
    kind: str
    process: int


class RecordingPlugin:
    """The plugin `recording`, installed in a folder; its handlers record their calls.

    Args:
        folder: the folder in which the plugin is installed.
        handlers: the source code of the handlers, which call `record(name, event)`.
    """

    def __init__(self, folder: Path, handlers: str = HANDLERS) -> None:
        self.site, self.file = folder / "site", folder / "calls"
        info = self.site / "recording_plugin-1.0.dist-info"
        info.mkdir(parents=True)
        metadata = "Metadata-Version: 2.1\nName: recording-plugin\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text("[dockhand]\nrecording = recording_plugin\n")
        module = self.site / "recording_plugin.py"
        module.write_text(_SOURCE.format(file=str(self.file), handlers=handlers))

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process in which the plugin is installed."""
        public = {k: v for k, v in os.environ.items() if not k.startswith("DOCKHAND_")}
        return {**public, "PYTHONPATH": str(self.site)}

    def calls(self, handler: str | None = None) -> list[HandlerCall]:
        """Return the calls recorded so far, of one handler or of all."""
        return [call for call in self._read() if handler in {None, call.handler}]

    def _read(self) -> Iterator[HandlerCall]:
        if not self.file.exists():
            return
        for line in self.file.read_text().splitlines():
            values: list[Any] = json.loads(line)
            yield HandlerCall(*values)
