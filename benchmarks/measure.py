"""Functions that time two sides in turns, and format the table of results.

"Ours" is Dockhand, and "theirs" is the other side, such as a raw HTTP library.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pair", "Row", "run_python", "compare", "ratio_row", "table"]


@dataclass(frozen=True)
class Pair:
    """The seconds that each side took, for each round."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Our time divided by theirs, for each round: a slow moment of the machine affects both."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        what: the action that was measured.
        against: the other side.
        ours: the median of our side as text, or empty.
        theirs: the median of the other side as text, or empty.
        value: the value to compare with the target: a ratio, or a number of `unit`.
        target: the highest value that is good; None if the row has no target.
        unit: the unit of `value` and `target`: ` MiB`, ` ms`, or empty for a ratio.
        spread: the lowest and the highest value of all rounds.
        why: the work that only our side does, printed if the target is missed.
        strict: whether the value must be below the target, not equal to it.
    """

    what: str
    against: str
    value: float
    target: float | None
    ours: str = ""
    theirs: str = ""
    unit: str = ""
    spread: tuple[float, float] | None = None
    why: str = ""
    strict: bool = False

    @property
    def shown(self) -> str:
        """The value as it is printed."""
        return f"{self.value:.3f}" if not self.unit else f"{self.value:.1f}{self.unit}"

    @property
    def limit(self) -> str:
        """The target as it is printed."""
        if self.target is None:
            return ""
        target = f"{self.target:.2f}" if not self.unit else f"{self.target:g}{self.unit}"
        return f"{'<' if self.strict else '<='} {target}"

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if the row has no target."""
        if self.target is None:
            return None
        return self.value < self.target if self.strict else self.value <= self.target


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    *,
    prepare: Callable[[], object] | None = None,
    warm: bool = True,
) -> Pair:
    """Run both sides in turns, and return the seconds that each run took.

    Args:
        ours, theirs: the actions to time.
        rounds: the number of times that each action is run.
        prepare: a function to call before each action, which is not timed.
        warm: whether to run each action once untimed, to open connections and fill caches.
    """

    def timed(side: Callable[[], object]) -> float:
        if prepare is not None:
            prepare()
        gc.collect()  # so that neither side is timed while the other's garbage is collected
        start = time.perf_counter()
        side()
        return time.perf_counter() - start

    if warm:
        timed(ours)
        timed(theirs)
    pair = Pair([], [])
    for _ in range(rounds):
        pair.ours.append(timed(ours))
        pair.theirs.append(timed(theirs))
    return pair


def ratio_row(
    what: str,
    against: str,
    pair: Pair,
    target: float | None,
    *,
    times: int = 1,
    why: str = "",
    strict: bool = False,
) -> Row:
    """Make a row with the median of a pair's ratios.

    Args:
        what, against, target, why, strict: see `Row`.
        pair: the measured seconds.
        times: the factor for the printed seconds, if a round is only a part of the named action.
    """
    return Row(
        what,
        against,
        value=statistics.median(pair.ratios),
        target=target,
        ours=seconds(statistics.median(pair.ours) * times),
        theirs=seconds(statistics.median(pair.theirs) * times),
        spread=(min(pair.ratios), max(pair.ratios)),
        why=why,
        strict=strict,
    )


def seconds(value: float) -> str:
    """Format a number of seconds; below 0.1 s, use milliseconds."""
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


def run_python(*arguments: str, env: dict[str, str] | None = None) -> list[float]:
    """Run a fresh Python interpreter, and return the numbers that it prints.

    Args:
        arguments: the interpreter's arguments.
        env: the interpreter's environment; by default that of this process.
    """
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:3])} failed:\n{done.stderr[-2000:]}")
    return [float(number) for number in done.stdout.split()]


def table(rows: list[Row]) -> str:
    """Format the rows as a table, followed by a sentence for each missed target."""
    head = ("what", "dockhand", "other", "against", "ratio", "spread", "target", "")
    lines = [
        (
            row.what,
            row.ours,
            row.theirs,
            row.against,
            row.shown,
            "" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
            row.limit,
            {True: "met", False: "MISSED", None: "for information"}[row.met],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    text = [_line(head, widths), _line(tuple("-" * width for width in widths), widths)]
    text += [_line(line, widths) for line in lines]
    short = [row for row in rows if row.met is False]
    judged = sum(row.met is not None for row in rows)
    text += ["", f"{judged - len(short)} of {judged} targets are met."]
    for row in short:
        against = f" against {row.against}" if row.against else ""
        why = f" {row.why}" if row.why else ""
        text.append(f"Target missed: {row.what}{against}: {row.shown} instead of {row.limit}.{why}")
    return "\n".join(text)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    right = {1, 2, 4, 5, 6}
    return "  ".join(
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
