"""Fixtures for the tests of plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def url(serve: Callable[[Callable[..., Any]], str]) -> str:
    """The URL of a server that answers every request with 200."""
    return serve(lambda *_: (200, {}, b"{}"))
