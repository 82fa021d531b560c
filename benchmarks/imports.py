"""The time of `import dockhand_core`, compared with the libraries that it imports."""

from __future__ import annotations

import os
import statistics
import tempfile

from benchmarks.measure import Row, run_python

__all__ = ["import_time"]

OURS = "import dockhand_core"
THEIRS = "import httpx, pydantic"
LOADED = "import httpx; from pydantic import BaseModel"


def import_time(rounds: int) -> list[Row]:
    """Measure the additional milliseconds; each import runs in a fresh interpreter, in turns."""
    with tempfile.TemporaryDirectory(prefix="dockhand-bench-") as folder:
        # Byte code is written, as for an installed package, whatever the caller's settings are.
        # Otherwise the source tree would be compiled at each import, and the libraries not.
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = folder

        def milliseconds(statement: str) -> float:
            # timed inside the interpreter, whose start takes as long again
            timed = (
                "import time; start = time.perf_counter()\n"
                f"{statement}\nprint((time.perf_counter() - start) * 1000)"
            )
            (taken,) = run_python("-c", timed, env=env)
            return taken

        for statement in (OURS, THEIRS, LOADED):
            milliseconds(statement)
        turns = [
            (milliseconds(OURS), milliseconds(THEIRS), milliseconds(LOADED)) for _ in range(rounds)
        ]
    why = "`python -X importtime -c 'import dockhand_core'` shows where the time goes."
    return [
        _row(THEIRS, [(ours, theirs) for ours, theirs, _ in turns], 20.0, why),
        # pydantic loads its models lazily; this import uses one
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
