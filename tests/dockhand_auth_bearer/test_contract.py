"""The contract of auth drivers, for `bearer`."""

from __future__ import annotations

from dockhand_testing import AuthDriverContract, ReceivedRequest

TOKEN = "eyJhbGciOi.J9-_~+/==.s3cret"


class TestBearer(AuthDriverContract):
    driver = "bearer"
    settings = {"token": TOKEN}

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers["Authorization"].split(" ", 1)[1] == TOKEN  # absent: not accepted
