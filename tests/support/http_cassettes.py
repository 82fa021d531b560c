"""Cassettes of real traffic, and clients of either world: what every suite that replays needs.

Cassettes are recorded by `make record` (DOCKHAND_RECORD=1) from real servers, through the sync
client, and replayed through both.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import vcr
from blocking_async import Loop, driven

from dockhand_core import RegistryClient, async_connect

CASSETTES = Path(__file__).parents[2] / "cassettes"
REPLAYED = "http://registry.test"
RECORDING = os.environ.get("DOCKHAND_RECORD") == "1"
_HEADERS = ("accept", "content-type", "content-range", "range")
# zot's API keys, and tokens: replies show them
_SECRET = re.compile(rb"(zak_)[0-9a-f]{8,}|eyJ[\w-]{20,}(?:\.[\w-]*){2}")


class AsyncAsSync:
    """The async client, driven as if it blocked."""

    def __init__(self, place: str, **settings: Any) -> None:
        self._loop = Loop()
        self._client: Any = driven(self._loop, async_connect(place, **settings))

    def __enter__(self) -> RegistryClient:
        found: RegistryClient = self._client.__enter__()
        return found

    def __exit__(self, *error: Any) -> None:
        self._client.__exit__(*error)
        self._loop.close()


def cassette(folder: str, name: str) -> Any:
    """Record to, or replay from, the cassette of a test."""
    path = CASSETTES / folder / f"{name}.yaml"
    if RECORDING:
        path.unlink(missing_ok=True)
    recorder = vcr.VCR(
        record_mode="all" if RECORDING else "none",
        before_record_request=_portable_request,
        before_record_response=_portable_response,
        filter_headers=["authorization", "user-agent", "host"],
        match_on=["method", "path", "query", "what_matters"],
    )
    recorder.register_matcher("what_matters", _same_headers)
    return recorder.use_cassette(str(path))


def _same_headers(one: Any, other: Any) -> None:
    for header in _HEADERS:
        assert one.headers.get(header) == other.headers.get(header), header


def _portable(url: str) -> str:
    return re.sub(r"http://127\.0\.0\.1:\d+", REPLAYED, url)


def _portable_request(request: Any) -> Any:
    request.uri = _portable(request.uri)
    return request


def _portable_response(response: Any) -> Any:
    headers = response["headers"]
    for name in list(headers):
        if name.lower() == "date":
            del headers[name]
        else:
            headers[name] = [_portable(value) for value in headers[name]]
    body = _SECRET.sub(lambda found: (found[1] or b"") + b"masked", response["body"]["string"])
    if body != response["body"]["string"]:
        response["body"]["string"] = body
        for name in headers:
            if name.lower() == "content-length":
                headers[name] = [str(len(body))]
    return response
