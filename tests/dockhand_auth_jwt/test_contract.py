"""The contract of auth drivers, for `jwt`."""

from __future__ import annotations

from dockhand_auth_jwt import SigningKey, TokenInvalid, TokenService
from dockhand_testing import AuthDriverContract, ReceivedRequest

KEY = SigningKey.generate()


class TestJwt(AuthDriverContract):
    driver = "jwt"
    settings = {
        "private_key": KEY.private_pem().decode(),
        "authority_name": "my_auth",
        "registry_name": "my_registry",
    }

    def accepts(self, request: ReceivedRequest) -> bool:
        service = TokenService(KEY, issuer="my_auth", audience="my_registry")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            service.validate(token)
        except TokenInvalid:
            return False
        return scheme == "Bearer"
