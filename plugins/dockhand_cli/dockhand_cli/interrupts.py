"""Signals that end a command: Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from dockhand_cli.exit_codes import INTERRUPTED, TERMINATED

__all__ = ["check_interrupted", "handle_signals", "received_signal"]

_SHOW_CURSOR = b"\x1b[?25h"
_received: list[int] = []


def handle_signals() -> None:
    """Let the first signal cancel the command, and a second one end the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and `&` of a shell set it
            signal.signal(number, _handle)


def _handle(number: int, _: FrameType | None) -> None:
    _received.append(number)
    if len(_received) > 1:
        # Threads of a transfer may wait for a registry, and Python would wait for them.
        if sys.stderr.isatty():
            with suppress(OSError):
                os.write(2, _SHOW_CURSOR + b"\n")
        os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
    raise KeyboardInterrupt


def received_signal() -> int | None:
    """The number of the signal that has arrived, or None."""
    return _received[0] if _received else None


def check_interrupted() -> None:
    """End the calling thread's transfer if a signal has arrived.

    Signals interrupt the main thread alone. The threads that transfer blobs call this function for
    each block.
    """
    if _received:
        raise KeyboardInterrupt
