"""A hash that is computed in a thread, while the next bytes are received and written."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from dockhand_core.models import Hasher

__all__ = ["BackgroundHash"]

_INLINE = 4 << 20  # bytes; a smaller blob is hashed sooner than a thread starts
_WAITING = 16  # blocks


class BackgroundHash:
    """Adds bytes to a hash in the order in which they are given, after the first few in a thread.

    OpenSSL hashes without holding the interpreter's lock.

    Args:
        hasher: the hash.
    """

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._size = 0
        self._thread: threading.Thread | None = None
        self._blocks: SimpleQueue[bytes | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()

    def update(self, block: bytes) -> None:
        """Add a block, which must not change afterwards. Waits while too many are not hashed."""
        self._size += len(block)
        if self._thread is None:
            if self._size <= _INLINE:
                self._hasher.update(block)
                return
            for _ in range(_WAITING):
                self._room.put(None)
            self._thread = threading.Thread(target=self._work, name="dockhand-hash", daemon=True)
            self._thread.start()
        self._room.get()
        self._blocks.put(block)

    def finished(self) -> Hasher:
        """Wait until all blocks are hashed, and return the hash."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._blocks.put(None)
            thread.join()
            self._size = 0
            self._room = SimpleQueue()
        return self._hasher

    def _work(self) -> None:
        while (block := self._blocks.get()) is not None:
            self._hasher.update(block)
            self._room.put(None)
