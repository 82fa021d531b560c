"""A name that is quoted for a URL's path stays one segment of it, or is refused."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest

from dockhand_core import NameInvalid
from dockhand_core.http.urls import path_segment, resolve_url

ORIGIN = "https://registry.example.com/v2/"


@pytest.mark.parametrize(
    "text",
    ["infra", "a/b", "a/../b", "../b", "...", "a?b", "%2e%2e", "ä b", "a\r\nb", "a\\b", ";x"],
)
def test_name_is_one_segment(text: str) -> None:
    sent = httpx.URL(resolve_url(ORIGIN, f"/api/projects/{path_segment(text)}"))
    start, _, last = sent.raw_path.decode().rpartition("/")
    assert (start, unquote(last)) == ("/api/projects", text)
    assert not sent.query


@pytest.mark.parametrize("text", ["", ".", "..", "\ud800"])
def test_name_that_quoting_cannot_keep_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid, match="cannot be a part of a URL"):
        path_segment(text)
