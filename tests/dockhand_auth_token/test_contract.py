"""The contract of auth drivers, for `token`."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode

from dockhand_testing import AuthDriverContract, ReceivedRequest, reply

PASSWORD = "hunter2-s3cret"
TOKENS = itertools.count(1)


class TestToken(AuthDriverContract):
    driver = "token"
    settings = {"username": "alice", "password": PASSWORD}
    renews = True

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("Authorization", "").startswith("Bearer granted-token-")

    def answer(self, request: ReceivedRequest) -> bytes | None:
        if request.path != "/token":
            return None
        pair = b64encode(f"alice:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            return reply(401, b"{}")
        document = {"token": f"granted-token-{next(TOKENS):04}", "expires_in": 300}
        return reply(200, json.dumps(document).encode(), Content_Type="application/json")
