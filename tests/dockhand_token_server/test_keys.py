"""Signing keys: rotation and the JWKS."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from authority import ISSUER, SERVICE, write_authority
from dockhand_auth_jwt import SigningKey, TrustedKey, Verifier
from dockhand_token_server import load_settings
from dockhand_token_server.keys import KeyRing

JWKS = "/.well-known/jwks.json"


def is_verified_by_jwks(endpoint: Any, token: str) -> bool:
    """Verify a token with the JWKS of the endpoint, as a registry does."""
    reply = endpoint.run(endpoint.request(path=JWKS))
    assert reply.headers["content-type"] == "application/jwk-set+json"
    assert "max-age=" in reply.headers["cache-control"]
    keys = TrustedKey.from_jwks(reply.json())
    return bool(Verifier(keys, issuer=ISSUER, audience=SERVICE).verify(token))


def key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_tokens_are_verified_by_the_jwks(endpoint: Any) -> None:
    assert is_verified_by_jwks(endpoint, endpoint.get(user="alice").json()["token"])
    [key] = endpoint.run(endpoint.request(path=JWKS)).json()["keys"]
    assert "d" not in key
    assert key["use"] == "sig"


@pytest.mark.parametrize("algorithm", ["ES384", "RS256", "EdDSA"])
def test_every_algorithm(endpoint: Any, algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    endpoint.overwrite("private.pem", key.private_pem())
    token = endpoint.get(user="alice").json()["token"]
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert is_verified_by_jwks(endpoint, token)


def test_a_pem_in_the_settings(endpoint: Any) -> None:
    pem = endpoint.key.private_pem("s3cret").decode()
    endpoint.serve(private_key=pem, private_key_password="s3cret")
    assert endpoint.claims(endpoint.get(user="alice"))


def test_a_replaced_key_stays_in_the_jwks(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_token_server.keys._CHECK_INTERVAL", 0)
    endpoint.serve()
    before = endpoint.get(user="alice").json()["token"]
    new = SigningKey.generate()
    endpoint.overwrite("private.pem", new.private_pem())
    after = endpoint.get(user="alice").json()["token"]
    assert (key_id(before), key_id(after)) == (endpoint.key.thumbprint, new.thumbprint)
    assert is_verified_by_jwks(endpoint, before)
    assert is_verified_by_jwks(endpoint, after)


def test_a_key_replaced_within_a_tick_of_the_clock(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file has the size and the time of the old one."""
    monkeypatch.setattr("dockhand_token_server.keys._CHECK_INTERVAL", 0)
    file, now = endpoint.folder / "private.pem", time.time_ns()
    os.utime(file, ns=(now, now))
    endpoint.serve()
    new = SigningKey.generate()
    assert len(new.private_pem()) == file.stat().st_size
    file.write_bytes(new.private_pem())
    os.utime(file, ns=(now, now))
    assert key_id(endpoint.get(user="alice").json()["token"]) == new.thumbprint


def test_a_retired_key_leaves_the_jwks_when_its_tokens_have_expired(
    tmp_path: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    old, new = endpoint.key, SigningKey.generate()
    ring = KeyRing(load_settings(tmp_path / "authority.toml"), clock=lambda: now)

    def key_ids() -> list[str]:
        return [key["kid"] for key in endpoint.run(ring.jwks())["keys"]]

    assert key_ids() == [old.thumbprint]
    endpoint.overwrite("private.pem", new.private_pem())
    now += 0.5
    assert key_ids() == [old.thumbprint]  # files are checked once a second
    now += 0.5
    assert key_ids() == [new.thumbprint, old.thumbprint]
    now += 300 + 59
    assert key_ids() == [new.thumbprint, old.thumbprint]
    now += 1
    assert key_ids() == [new.thumbprint]


def test_an_incomplete_or_missing_file_keeps_the_loaded_key(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dockhand_token_server.keys._CHECK_INTERVAL", 0)
    endpoint.serve()
    new = SigningKey.generate()
    endpoint.overwrite("private.pem", new.private_pem()[:50])
    assert key_id(endpoint.get(user="alice").json()["token"]) == endpoint.key.thumbprint
    assert "the key loaded before goes on signing" in caplog.text
    (endpoint.folder / "private.pem").unlink()
    assert key_id(endpoint.get(user="alice").json()["token"]) == endpoint.key.thumbprint
    endpoint.overwrite("private.pem", new.private_pem())
    assert key_id(endpoint.get(user="alice").json()["token"]) == new.thumbprint


def test_other_keys_are_in_the_jwks(endpoint: Any) -> None:
    next_key, previous = SigningKey.generate(), SigningKey.generate("RS256")
    (endpoint.folder / "next.pem").write_bytes(next_key.public_pem())
    (endpoint.folder / "previous.pem").write_bytes(previous.self_signed_certificate("previous"))
    (endpoint.folder / "same.pem").write_bytes(endpoint.key.public_pem())
    names = ("next.pem", "previous.pem", "same.pem")
    endpoint.serve(other_keys=[str(endpoint.folder / name) for name in names])
    keys = endpoint.run(endpoint.request(path=JWKS)).json()["keys"]
    shown = [(key["kid"], key["alg"]) for key in keys]
    assert sorted(shown) == sorted(
        [
            (endpoint.key.thumbprint, "ES256"),
            (next_key.thumbprint, "ES256"),
            (previous.thumbprint, "RS256"),
        ]
    )
    assert not any("d" in key for key in keys)


def test_a_certificate_in_the_settings(tmp_path: Path, endpoint: Any) -> None:
    certificate = endpoint.key.self_signed_certificate("leaf")
    (tmp_path / "leaf.pem").write_bytes(certificate)
    endpoint.serve(certificate=str(tmp_path / "leaf.pem"))
    assert is_verified_by_jwks(endpoint, endpoint.get(user="alice").json()["token"])
    assert write_authority(tmp_path / "other").exists()
