"""The advice after an error of a registry."""

from __future__ import annotations

import pytest
from dockhand_cli.advice import error_text

from dockhand_core import ConnectionFailed


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://registry-1.docker.io/v2/team/notes/tags/list", "@CONNECTION/REPOSITORY for a"),
        ("https://localhost:5000/v2/", 'use a connection with base_uri = "http://localhost:5000"'),
        ("http://localhost:5000/v2/", "check that localhost:5000 is right"),
    ],
)
def test_unreachable_registry(url: str, advice: str) -> None:
    text = error_text(ConnectionFailed(f"GET {url}: Connection refused"))
    assert text.startswith(f"GET {url}: Connection refused; ")
    assert advice in text
