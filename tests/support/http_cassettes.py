"""Cassettes of HTTP traffic, recorded with real registries and replayed in tests.

`make record` (DOCKHAND_RECORD=1) records them with the sync client. The tests replay them with
the sync and the async client.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import vcr
from dockhand_testing.blocking import BlockingLoop, as_blocking

from dockhand_core import RegistryClient, async_connect

CASSETTES = Path(__file__).parents[2] / "cassettes"
REPLAY_URL = "http://registry.test"
RECORDING = os.environ.get("DOCKHAND_RECORD") == "1"
_MATCHED_HEADERS = ("accept", "content-type", "content-range", "range")
# API keys of zot, and tokens; some replies contain them.
_SECRET = re.compile(rb"(zak_)[0-9a-f]{8,}|eyJ[\w-]{20,}(?:\.[\w-]*){2}")


class BlockingAsyncClient:
    """A context manager for an async client whose calls block, with an event loop of its own."""

    def __init__(self, place: str, **settings: Any) -> None:
        self._loop = BlockingLoop()
        self._client: Any = as_blocking(self._loop, async_connect(place, **settings))

    def __enter__(self) -> RegistryClient:
        found: RegistryClient = self._client.__enter__()
        return found

    def __exit__(self, *error: Any) -> None:
        self._client.__exit__(*error)
        self._loop.close()


def cassette(folder: str, name: str) -> Any:
    """Make a context manager that records to the cassette `folder/name.yaml`, or replays it."""
    path = CASSETTES / folder / f"{name}.yaml"
    if RECORDING:
        path.unlink(missing_ok=True)
    recorder = vcr.VCR(
        record_mode="all" if RECORDING else "none",
        before_record_request=_portable_request,
        before_record_response=_portable_response,
        filter_headers=["authorization", "user-agent", "host"],
        match_on=["method", "path", "query", "headers_of_the_protocol"],
    )
    recorder.register_matcher("headers_of_the_protocol", _assert_same_headers)
    return recorder.use_cassette(str(path))


def _assert_same_headers(one: Any, other: Any) -> None:
    for header in _MATCHED_HEADERS:
        assert one.headers.get(header) == other.headers.get(header), header


def _portable(url: str) -> str:
    return re.sub(r"http://127\.0\.0\.1:\d+", REPLAY_URL, url)


def _portable_request(request: Any) -> Any:
    request.uri = _portable(request.uri)
    return request


def _portable_response(response: Any) -> Any:
    """Remove the date, the port and secrets from a recorded reply."""
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
