"""Rotation of keys, and the JWKS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from authority import ISSUER, SERVICE, write_authority
from dockhand_auth_jwt import SigningKey, TrustedKey, Verifier
from dockhand_token_server import load_settings
from dockhand_token_server.keys import KeyRing

JWKS = "/.well-known/jwks.json"


def verified(endpoint: Any, token: str) -> bool:
    """As a registry verifies that reads the JWKS."""
    reply = endpoint.run(endpoint.ask(path=JWKS))
    assert reply.headers["content-type"] == "application/jwk-set+json"
    assert "max-age=" in reply.headers["cache-control"]
    keys = TrustedKey.from_jwks(reply.json())
    return bool(Verifier(keys, issuer=ISSUER, audience=SERVICE).verify(token))


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_what_is_signed_is_verified_by_the_jwks(endpoint: Any) -> None:
    assert verified(endpoint, endpoint.get(user="alice").json()["token"])
    [key] = endpoint.run(endpoint.ask(path=JWKS)).json()["keys"]
    assert "d" not in key
    assert key["use"] == "sig"


@pytest.mark.parametrize("algorithm", ["ES384", "RS256", "EdDSA"])
def test_keys_of_every_kind(endpoint: Any, algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    (endpoint.folder / "private.pem").write_bytes(key.private_pem())
    token = endpoint.get(user="alice").json()["token"]
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert verified(endpoint, token)


def test_a_key_in_the_settings_themselves(endpoint: Any) -> None:
    pem = endpoint.key.private_pem("s3cret").decode()
    endpoint.serve(private_key=pem, private_key_password="s3cret")
    assert endpoint.claims(endpoint.get(user="alice"))


def test_rotation(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.keys._LOOK", 0)
    endpoint.serve()
    before = endpoint.get(user="alice").json()["token"]
    new = SigningKey.generate()
    (endpoint.folder / "private.pem").write_bytes(new.private_pem())
    after = endpoint.get(user="alice").json()["token"]
    assert (kid(before), kid(after)) == (endpoint.key.thumbprint, new.thumbprint)
    assert verified(endpoint, before)
    assert verified(endpoint, after)


def test_a_retired_key_goes_when_its_tokens_have_expired(
    tmp_path: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    old, new = endpoint.key, SigningKey.generate()
    ring = KeyRing(load_settings(tmp_path / "authority.toml"), clock=lambda: now)

    def names() -> list[str]:
        return [key["kid"] for key in endpoint.run(ring.jwks())["keys"]]

    assert names() == [old.thumbprint]
    (tmp_path / "private.pem").write_bytes(new.private_pem())
    now += 0.5
    assert names() == [old.thumbprint]  # it is not looked for all the time
    now += 0.5
    assert names() == [new.thumbprint, old.thumbprint]
    now += 300 + 59
    assert names() == [new.thumbprint, old.thumbprint]
    now += 1
    assert names() == [new.thumbprint]


def test_a_file_that_is_being_written(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dockhand_token_server.keys._LOOK", 0)
    endpoint.serve()
    file, new = endpoint.folder / "private.pem", SigningKey.generate()
    file.write_bytes(new.private_pem()[:50])
    assert kid(endpoint.get(user="alice").json()["token"]) == endpoint.key.thumbprint
    assert "the key known before goes on signing" in caplog.text
    file.unlink()
    assert kid(endpoint.get(user="alice").json()["token"]) == endpoint.key.thumbprint
    file.write_bytes(new.private_pem())
    assert kid(endpoint.get(user="alice").json()["token"]) == new.thumbprint


def test_other_keys_are_shown(endpoint: Any) -> None:
    coming, gone = SigningKey.generate(), SigningKey.generate("RS256")
    (endpoint.folder / "coming.pem").write_bytes(coming.public_pem())
    (endpoint.folder / "gone.pem").write_bytes(gone.self_signed_certificate("gone"))
    (endpoint.folder / "same.pem").write_bytes(endpoint.key.public_pem())
    names = ("coming.pem", "gone.pem", "same.pem")
    endpoint.serve(other_keys=[str(endpoint.folder / name) for name in names])
    keys = endpoint.run(endpoint.ask(path=JWKS)).json()["keys"]
    shown = [(key["kid"], key["alg"]) for key in keys]
    assert sorted(shown) == sorted(
        [
            (endpoint.key.thumbprint, "ES256"),
            (coming.thumbprint, "ES256"),
            (gone.thumbprint, "RS256"),
        ]
    )
    assert not any("d" in key for key in keys)


def test_a_certificate_of_the_registrys_own(tmp_path: Path, endpoint: Any) -> None:
    certificate = endpoint.key.self_signed_certificate("leaf")
    (tmp_path / "leaf.pem").write_bytes(certificate)
    endpoint.serve(certificate=str(tmp_path / "leaf.pem"))
    assert verified(endpoint, endpoint.get(user="alice").json()["token"])
    assert write_authority(tmp_path / "other").exists()
