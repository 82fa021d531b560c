"""The start of a program: the time of the imports, and of a client's first request.

Both are compared with the imports of the libraries that Dockhand is built on.
"""

from __future__ import annotations

import os
import statistics
import tempfile

from benchmarks.measure import Pair, Row, ratio_row, run_python
from benchmarks.server import Server

__all__ = ["import_time"]

OURS = "from dockhand_core import connect"  # `import dockhand_core` alone loads next to nothing
THEIRS = "import httpx, pydantic"
LOADED = "import httpx; from pydantic import BaseModel"
FIRST = "from dockhand_core import connect; assert connect({url!r}).is_online()"


def import_time(server: Server, rounds: int) -> list[Row]:
    """Measure the imports of a program, and the time from them to the reply to the first request.

    All of it is timed in turns with the imports of the libraries, each in a fresh interpreter.
    """
    first = FIRST.format(url=server.url)
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

        statements = (OURS, THEIRS, LOADED, first)
        for statement in statements:
            milliseconds(statement)
        turns = [[milliseconds(statement) for statement in statements] for _ in range(rounds)]
    why = "`python -X importtime -c 'from dockhand_core import connect'` shows where the time goes."
    return [
        _row(THEIRS, [(ours, theirs) for ours, theirs, _, _ in turns], 20.0, why),
        # pydantic loads `BaseModel` only when it is used, as here
        _row(LOADED, [(ours, loaded) for ours, _, loaded, _ in turns], None),
        ratio_row(
            "connect() to the first reply, in a fresh process",
            LOADED,
            Pair([start / 1000 for *_, start in turns], [each[2] / 1000 for each in turns]),
            1.15,
            why="benchmarks/README.md, Start, tells where the rest of the time goes.",
        ),
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
