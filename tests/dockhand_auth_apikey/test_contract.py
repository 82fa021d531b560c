"""The contract of auth drivers, for `apikey`: as Basic, and in a header of its own."""

from __future__ import annotations

from base64 import b64encode

from dockhand_testing import AuthDriverContract, ReceivedRequest

KEY = "zak_s3cret-0123"


class TestApiKey(AuthDriverContract):
    driver = "apikey"
    settings = {"username": "alice", "api_key": KEY}

    def accepts(self, request: ReceivedRequest) -> bool:
        pair = b64encode(f"alice:{KEY}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {pair}"


class TestHeader(AuthDriverContract):
    driver = "apikey"
    settings = {"header": "X-JFrog-Art-Api", "api_key": KEY}

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("x-jfrog-art-api") == KEY
