"""A server that answers with the recorded replies of a cassette, for clients in other processes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply, scripted_server
from http_cassettes import CASSETTES

__all__ = ["cassette_server"]

_KEPT_HEADERS = ("content-type", "docker-content-digest", "link", "www-authenticate")


@contextmanager
def cassette_server(folder: str, name: str) -> Iterator[ScriptedServer]:
    """Run a server that answers each request with its next recorded reply.

    A request that was recorded once is always answered in the same way. The status of the answer
    to a request that was not recorded is 500.

    Args:
        folder: the folder of the cassette.
        name: its name.
    """
    recorded: dict[Any, deque[bytes]] = defaultdict(deque)
    document = yaml.safe_load((CASSETTES / folder / f"{name}.yaml").read_text())
    for interaction in document["interactions"]:
        request, response = interaction["request"], interaction["response"]
        headers = {
            key: values[0]
            for key, values in response["headers"].items()
            if key.lower() in _KEPT_HEADERS
        }
        body = response["body"]["string"]
        body = body if isinstance(body, bytes) else body.encode()
        recorded[_key(request["method"], request["uri"])].append(
            reply(response["status"]["code"], body, **headers)
        )

    def answer(request: ReceivedRequest) -> bytes:
        replies = recorded[_key(request.method, request.target)]
        if not replies:
            return reply(500, f"not recorded: {request.method} {request.target}".encode())
        return replies.popleft() if len(replies) > 1 else replies[0]

    with scripted_server(answer) as server:
        yield server


def _key(method: str, target: str) -> tuple[str, str, frozenset[tuple[str, str]]]:
    parts = urlsplit(target)
    return method, parts.path, frozenset(parse_qsl(parts.query, keep_blank_values=True))
