"""What `import dockhand_core` costs beyond the libraries that it stands on."""

from __future__ import annotations

import os
import statistics
import tempfile

from benchmarks.measure import Row, child

__all__ = ["import_time"]

OURS = "import dockhand_core"
THEIRS = "import httpx, pydantic"
LOADED = "import httpx; from pydantic import BaseModel"


def import_time(rounds: int) -> list[Row]:
    """Milliseconds more, each import in a fresh interpreter, in turns."""
    with tempfile.TemporaryDirectory(prefix="dockhand-bench-") as folder:
        # Byte code as an installed package has it, whatever the caller's settings are: a source
        # tree without it would be compiled at each import, and the libraries would not.
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = folder

        def milliseconds(statement: str) -> float:
            # timed inside, since starting an interpreter takes as long again
            timed = (
                "import time; start = time.perf_counter()\n"
                f"{statement}\nprint((time.perf_counter() - start) * 1000)"
            )
            (taken,) = child("-c", timed, env=env)
            return taken

        for statement in (OURS, THEIRS, LOADED):
            milliseconds(statement)
        turns = [
            (milliseconds(OURS), milliseconds(THEIRS), milliseconds(LOADED)) for _ in range(rounds)
        ]
    why = "`python -X importtime -c 'import dockhand_core'` shows where it goes."
    return [
        _row(THEIRS, [(ours, theirs) for ours, theirs, _ in turns], 20.0, why),
        # pydantic loads its models when they are first named: the same library, really used
        _row(LOADED, [(ours, loaded) for ours, _, loaded in turns], None),
    ]


def _row(
    against: str, turns: list[tuple[float, float]], target: float | None, why: str = ""
) -> Row:
    differences = [ours - theirs for ours, theirs in turns]
    return Row(
        f"{OURS}: milliseconds more",
        against,
        statistics.median(differences),
        target,
        ours=f"{statistics.median(ours for ours, _ in turns):.0f} ms",
        theirs=f"{statistics.median(theirs for _, theirs in turns):.0f} ms",
        unit=" ms",
        spread=(min(differences), max(differences)),
        why=why,
    )
