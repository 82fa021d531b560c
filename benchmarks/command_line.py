"""The command `dockhand`: its start, and the list of a repository's tags."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.embedded import NoPeerError
from benchmarks.measure import Row, compare, ratio_row
from benchmarks.server import Server
from benchmarks.whole_process import find_crane
from dockhand_core import Descriptor, ImageManifest, connect
from dockhand_core.models import media

__all__ = ["command_line"]

REPOSITORY = "bench/tags"
TAGS = """
from dockhand_core import Dockhand

with Dockhand() as dockhand:
    place = dockhand.locate({repository!r})
    for tag in place.client.tags(place.repository):
        print(tag)
"""


def command_line(server: Server, rounds: int) -> list[Row]:
    """Compare the command with typer's import, with the library in a script, and with crane.

    Every side is a whole process.
    """
    program = shutil.which("dockhand", path=str(Path(sys.executable).parent))
    if program is None:
        raise NoPeerError('the command is not installed: pip install "dockhand-core[cli]"')
    repository = f"{urlsplit(server.url).netloc}/{REPOSITORY}"
    script = TAGS.format(repository=repository)
    with connect(server.url) as client:
        config = client.upload_blob(REPOSITORY, b"{}").digest
        client.put_manifest(
            REPOSITORY,
            "v1",
            ImageManifest(config=Descriptor(media_type=media.OCI_CONFIG, digest=config, size=2)),
        )

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def tags() -> None:
        run(program, "tags", repository)

    why = "benchmarks/README.md, Command line, tells where the time goes."
    rows = [
        ratio_row(
            "dockhand --version",
            'python -c "import typer"',
            compare(
                lambda: run(program, "--version"),
                lambda: run(sys.executable, "-c", "import typer"),
                rounds,
            ),
            1.3,
            why=why,
        ),
        ratio_row(
            "dockhand tags",
            "the same with the library in a script",
            compare(tags, lambda: run(sys.executable, "-c", script), rounds),
            1.2,
            why=why,
        ),
    ]
    crane = find_crane()
    pair = compare(tags, lambda: run(crane, "ls", "--insecure", repository), rounds)
    return [*rows, ratio_row("dockhand tags", "crane ls", pair, None)]
