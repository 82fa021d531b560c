"""The calls that block, recorded while a test runs code that must not block."""

from __future__ import annotations

import builtins
import io
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

__all__ = ["no_blocking_calls"]

_CALLS: tuple[tuple[Any, str], ...] = (
    (time, "sleep"),
    (socket, "create_connection"),
    (socket, "getaddrinfo"),
    (subprocess.Popen, "__init__"),
    (sqlite3, "connect"),
    (builtins, "open"),
    (io, "open"),  # that of pathlib
)


@contextmanager
def no_blocking_calls() -> Iterator[list[str]]:
    """Provide a list of the blocking calls that this thread makes in the `with` block."""
    found: list[str] = []
    here = threading.get_ident()

    def recorded(name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if threading.get_ident() == here:
                found.append(name)
            return function(*args, **options)

        return call

    patches = [
        mock.patch.object(owner, name, recorded(f"{owner.__name__}.{name}", getattr(owner, name)))
        for owner, name in _CALLS
    ]
    for patch in patches:
        patch.start()
    try:
        yield found
    finally:
        for patch in patches:
            patch.stop()
