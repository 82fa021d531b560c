"""Signing keys: PEM files, thumbprints, JWK sets and certificates."""

from __future__ import annotations

import base64
import itertools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from dockhand_auth_jwt import KeyInvalid, SigningKey
from dockhand_auth_jwt.certificates import issue_certificate
from dockhand_auth_jwt.keys import thumbprint
from dockhand_auth_jwt.pem import load_public_keys
from pydantic import SecretStr

from dockhand_core import DockhandError

ALGORITHMS = ["ES256", "ES384", "RS256", "RS384", "RS512", "EdDSA"]


@pytest.fixture(scope="module")
def keys() -> dict[str, SigningKey]:
    return {name: SigningKey.generate(name) for name in ALGORITHMS}


def traditional_pem(private: Any) -> bytes:
    pem: bytes = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return pem


@pytest.mark.parametrize("name", ALGORITHMS)
def test_generated_keys_can_be_loaded_again(
    keys: dict[str, SigningKey], name: str, tmp_path: Path
) -> None:
    key = keys[name]
    assert key.algorithm == name
    path = tmp_path / "private.pem"
    path.write_bytes(key.private_pem())
    pem = key.private_pem()
    algorithm = name if name.startswith("RS") else None
    for source in (path, str(path), pem, pem.decode(), SecretStr(pem.decode())):
        same = SigningKey.load(source, algorithm=algorithm)
        assert (same.algorithm, same.thumbprint) == (name, key.thumbprint)
        assert same.public_pem() == key.public_pem()
    locked = key.private_pem("päss")
    assert b"ENCRYPTED" in locked
    for password in ("päss", "päss".encode(), SecretStr("päss")):
        loaded = SigningKey.load(locked, password=password)
        assert loaded.libtrust == key.libtrust


def test_older_pem_formats_are_loaded() -> None:
    """The formats are SEC 1 and PKCS #1, which older versions of openssl write."""
    for private in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        assert SigningKey.load(traditional_pem(private)).public == private.public_key()


def test_unusable_private_keys_are_refused(tmp_path: Path) -> None:
    secret = SigningKey.generate().private_pem()
    broken = secret.replace(b"M", b"N", 3)
    locked = SigningKey.generate().private_pem("right")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (tmp_path / "none.pem", {}, "none.pem: No such file or directory"),
        (tmp_path, {}, "Is a directory"),
        (b"-----BEGIN nonsense", {}, "the private key is not a private key in PEM"),
        (broken, {}, "the private key is not a private key in PEM"),
        (SigningKey.generate().public_pem(), {}, "is not a private key in PEM"),
        (locked, {}, "is encrypted: a password is needed"),
        (locked, {"password": "wrong"}, "is not a private key in PEM, or the password is wrong"),
        (secret, {"password": "x"}, "is not encrypted"),
        (secret.decode().replace("-----BEGIN", "BEGIN"), {}, "the private key: "),
        (secret, {"algorithm": "RS256"}, "a key for ES256 cannot sign 'RS256'"),
        (secret, {"key_id": "kid"}, "unknown key_id; use one of libtrust, rfc7638, x5c"),
        (traditional_pem(rsa.generate_private_key(65537, 1024)), {}, "1024 bits is too short"),
        (
            traditional_pem(ec.generate_private_key(ec.SECP521R1())),
            {},
            "none of EC P-256, EC P-384",
        ),
        (
            traditional_pem(ec.generate_private_key(ec.SECP256K1())),
            {},
            "none of EC P-256, EC P-384",
        ),
        (traditional_pem(dsa.generate_private_key(1024)), {}, "none of EC P-256, EC P-384"),
    ]
    for source, options, message in cases:
        with pytest.raises(KeyInvalid) as caught:
            SigningKey.load(source, **options)
        assert message in str(caught.value), message
        assert isinstance(caught.value, DockhandError)
        for line in secret.decode().splitlines()[1:-1]:
            assert line not in str(caught.value)
    for name in ("HS256", "none", "ES512", "PS256", ""):
        with pytest.raises(KeyInvalid, match="use one of ES256, ES384"):
            SigningKey.generate(name)


def test_repr_shows_algorithm_and_kid_only(keys: dict[str, SigningKey]) -> None:
    key = keys["ES256"]
    assert repr(key) == f"<SigningKey ES256 {key.thumbprint}>"


def test_thumbprint_of_the_rsa_example() -> None:
    """The key and its thumbprint are the example of RFC 7638, section 3.1."""
    document = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSo"
        "c_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
        "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI"
        "4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    key: Any = jwt.PyJWK({**document, "alg": "RS256"}).key
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_of_the_ed25519_example() -> None:
    """The key and its thumbprint are the example of RFC 8037, appendix A.3."""
    document = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    key: Any = jwt.PyJWK(document).key
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_jwks_hold_the_public_key_under_its_kid(keys: dict[str, SigningKey]) -> None:
    for key in keys.values():
        [entry] = key.jwks()["keys"]
        assert entry["kid"] == key.thumbprint == key.header["kid"]
        assert (entry["use"], entry["alg"]) == ("sig", key.algorithm)
        assert "d" not in entry
        found: Any = jwt.PyJWKSet.from_dict(key.jwks())[key.thumbprint].key
        assert found == key.public
        by_libtrust = key.identified_by("libtrust")
        kid = by_libtrust.jwks()["keys"][0]["kid"]
        assert kid == key.libtrust == by_libtrust.header["kid"]


def test_generated_keys_have_no_leading_zeros() -> None:
    """Distribution 3.1 drops leading zero bytes of coordinates, and gets another thumbprint."""
    for _ in range(300):
        [entry] = SigningKey.generate().jwks()["keys"]
        for name in ("x", "y"):
            coordinate = base64.urlsafe_b64decode(entry[name] + "==")
            assert len(coordinate) == 32
            assert coordinate[0]


def test_leading_zeros_of_other_keys_are_kept() -> None:
    """A JWK's coordinates have their full length, leading zeros included.

    Follows: RFC 7518, section 6.2.1.2.
    """
    for _ in range(2000):
        private = ec.generate_private_key(ec.SECP256R1())
        if not private.public_key().public_numbers().x >> 248:
            break
    [entry] = SigningKey(private).jwks()["keys"]
    assert len(base64.urlsafe_b64decode(entry["x"] + "==")) == 32


@pytest.mark.parametrize("name", ALGORITHMS)
def test_self_signed_certificate(keys: dict[str, SigningKey], name: str) -> None:
    key = keys[name]
    first, second = x509.load_pem_x509_certificates(key.self_signed_certificate("my_auth"))
    assert first.subject.rfc4514_string() == "CN=my_auth"
    for root in (first, second):
        root.verify_directly_issued_by(root)
        assert root.public_key() == key.public
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        now = datetime.now(UTC)
        assert root.not_valid_before_utc < now - timedelta(minutes=30)
        assert root.not_valid_after_utc > now + timedelta(days=3600)
    assert load_public_keys(key.self_signed_certificate("my_auth")) == [key.public]
    # A key that is loaded without its certificate signs a leaf certificate, which the second
    # certificate verifies.
    again = SigningKey.load(key.private_pem())
    [encoded] = again.header["x5c"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(encoded))
    leaf.verify_directly_issued_by(second)
    assert leaf.public_key() == key.public
    assert leaf.subject != second.subject
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_impossible_certificates_are_refused() -> None:
    key = SigningKey.generate()
    for name in ("", "x" * 65):
        with pytest.raises(KeyInvalid, match="a certificate cannot be made"):
            key.self_signed_certificate(name)
    with pytest.raises(KeyInvalid, match="a certificate cannot be made"):
        key.self_signed_certificate("fine", timedelta(days=-3))


def test_x5c_from_a_given_certificate(keys: dict[str, SigningKey]) -> None:
    key, other = keys["ES256"], keys["EdDSA"]
    bundle = key.self_signed_certificate("elsewhere")
    alone = bundle[: bundle.index(b"-----END CERTIFICATE-----\n") + 26]
    der = x509.load_pem_x509_certificate(alone).public_bytes(serialization.Encoding.DER)
    for pem in (alone, bundle):
        assert key.identified_by("x5c", pem).header["x5c"] == [base64.b64encode(der).decode()]
    leaf = issue_certificate(key.private, "leaf", "root", timedelta(days=1), ca=False)
    root = issue_certificate(key.private, "root", "root", timedelta(days=1), ca=True)
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, root)) + alone
    assert len(key.identified_by("x5c", chain).header["x5c"]) == 2
    for wrong in (other.self_signed_certificate("x"), other.public_pem(), b"", b"x"):
        with pytest.raises(KeyInvalid, match="certificate"):
            key.identified_by("x5c", wrong)
    with pytest.raises(KeyInvalid, match="with key_id x5c only"):
        key.identified_by("libtrust", alone)
    expired = issue_certificate(key.private, "old", "old", timedelta(seconds=-5), ca=True)
    with pytest.raises(KeyInvalid, match="the certificate expired on 20"):
        key.identified_by("x5c", expired.public_bytes(serialization.Encoding.PEM))


def test_token_header_of_each_key_id(keys: dict[str, SigningKey]) -> None:
    key = keys["RS256"]
    assert set(key.header) == {"kid", "x5c"}
    assert key.identified_by("libtrust").header == {"kid": key.libtrust}
    assert key.identified_by("rfc7638").header == {"kid": key.thumbprint}
    assert key.identified_by("rfc7638").algorithm == "RS256"
    groups = key.libtrust.split(":")
    assert [len(group) for group in groups] == [4] * 12
    letters = set(itertools.chain(*groups))
    assert letters <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def test_load_public_keys_refuses_other_pem() -> None:
    key = SigningKey.generate()
    assert load_public_keys(key.public_pem()) == [key.public]
    for pem in (b"", key.private_pem(), b"-----BEGIN CERTIFICATE-----\nAAAA\n", os.urandom(100)):
        with pytest.raises(KeyInvalid):
            load_public_keys(pem)
