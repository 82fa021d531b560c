"""The contract of auth drivers, for `basic`."""

from __future__ import annotations

from base64 import b64encode

from dockhand_testing import AuthDriverContract, ReceivedRequest

PASSWORD = "hunter2-s3cret"


class TestBasic(AuthDriverContract):
    driver = "basic"
    settings = {"username": "alice", "password": PASSWORD}
    challenge = 'Basic realm="registry"'

    def accepts(self, request: ReceivedRequest) -> bool:
        pair = b64encode(f"alice:{PASSWORD}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {pair}"
