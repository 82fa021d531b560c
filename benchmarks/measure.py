"""Timing two sides in turns, and the rows that come out of it."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pair", "Row", "child", "compare", "ratio_row", "table"]


@dataclass(frozen=True)
class Pair:
    """Seconds that both sides took, round by round."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, of neighbours in time: what slows the machine slows both."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: what was done.
        against: what it is compared with.
        ours, theirs: the medians, fit to print; empty where there is nothing to say.
        value: what is compared with the target.
        target: at most this; None for a row that only informs.
        unit: of value and target: empty for a ratio, else ` MiB` or ` ms`.
        spread: lowest and highest value of the rounds.
        why: what our side does more, said where the target is missed.
        strict: below the target, not just at it.
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
        """Whether the target is met; None without one."""
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
    """Run both sides in turns.

    Args:
        ours, theirs: what is timed.
        rounds: how often each is.
        prepare: called before each of them, untimed.
        warm: run each once before, so that connections and caches are there.
    """

    def timed(side: Callable[[], object]) -> float:
        if prepare is not None:
            prepare()
        gc.collect()  # what one side left is not cleared up in the other's time
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
    """The median of a pair's ratios as a row.

    Args:
        what, against, target, why, strict: see `Row`.
        pair: what was measured.
        times: by what the seconds are multiplied, where a round is a part of what is named.
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
    """Seconds, or milliseconds where these are few."""
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


def child(*arguments: str, env: dict[str, str] | None = None) -> list[float]:
    """The numbers that a fresh interpreter prints; what it imports and keeps is its own.

    Args:
        arguments: the interpreter's.
        env: its environment; this process's unless given.
    """
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:3])} failed:\n{done.stderr[-2000:]}")
    return [float(number) for number in done.stdout.split()]


def table(rows: list[Row]) -> str:
    """The rows as text, and below them in words what falls short."""
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
        text.append(
            f"Falls short: {row.what}{against}: {row.shown} where {row.limit} is wanted.{why}"
        )
    return "\n".join(text)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    right = {1, 2, 4, 5, 6}
    return "  ".join(
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
