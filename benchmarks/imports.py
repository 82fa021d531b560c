"""The time of `import dockhand_core`, compared with that of the libraries that it imports."""

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
    """Measure the milliseconds that `import dockhand_core` takes beyond its libraries.

    The imports are timed in turns, each in a fresh interpreter.
    """
    with tempfile.TemporaryDirectory(prefix="dockhand-bench-") as folder:
        # Write byte code, as for an installed package, even if the caller's environment forbids it.
        # Otherwise each import would compile Dockhand's source, but not that of the libraries.
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = folder

        def milliseconds(statement: str) -> float:
            # timed inside the interpreter, because its start takes about as long as the import
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
        # pydantic loads `BaseModel` only when it is used, as here
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
