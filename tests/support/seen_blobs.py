"""A `blob_progress` function that records its calls, and checks what every call promises."""

from __future__ import annotations

import threading

from dockhand_core import BlobProgress

__all__ = ["SeenBlobs"]


class SeenBlobs:
    """A `blob_progress` function that records its calls.

    Attributes:
        calls: the calls, in order.
        overlaps: number of calls that came while another one was running.
    """

    def __init__(self) -> None:
        self.calls: list[BlobProgress] = []
        self.overlaps = 0
        self._running = threading.Lock()

    def __call__(self, progress: BlobProgress) -> None:
        if not self._running.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            assert 0 <= progress.done <= progress.size
            self.calls.append(progress)
        finally:
            self._running.release()

    def of(self, digest: str) -> list[BlobProgress]:
        """The calls for one blob."""
        return [call for call in self.calls if call.digest == digest]

    def done(self, digest: str) -> list[int]:
        """The numbers of bytes of one blob while it was transferred."""
        return [call.done for call in self.of(digest) if call.state == "moving"]

    def outcomes(self) -> dict[str, str]:
        """The outcome of each blob, by digest; each has one, after its other calls."""
        found = {digest: self.of(digest) for digest in {call.digest for call in self.calls}}
        for calls in found.values():
            assert [call.state for call in calls[:-1]] == ["moving"] * (len(calls) - 1)
            assert calls[-1].state != "moving"
            assert calls[-1].done == calls[-1].size or calls[-1].state == "failed"
        assert not self.overlaps
        return {digest: calls[-1].state for digest, calls in found.items()}
