"""Tokens: their claims, and the tokens that validation refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from dockhand_auth_jwt import (
    Claims,
    KeyInvalid,
    SigningKey,
    Token,
    TokenInvalid,
    TokenService,
    TrustedKey,
    Verifier,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dockhand_core import DockhandError, Scope, ScopeInvalid

KEY = SigningKey.generate()
OTHER = SigningKey.generate()
READ = Scope.read("library/nginx")


@pytest.fixture
def service() -> TokenService:
    return TokenService(KEY, issuer="my_auth", audience="my_registry")


def token() -> Token:
    return Token.issued_by("my_auth").permitted_for("my_registry")


def claims_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


def encode_by_hand(header: dict[str, Any], claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """Encode a token that PyJWT would refuse to make."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    return (body + b"." + part(sign(body))).decode()


def valid_claims() -> dict[str, Any]:
    now = int(time.time())
    return {"iss": "my_auth", "aud": "my_registry", "exp": now + 60, "nbf": now - 5, "iat": now}


def signed(claims: dict[str, Any], key: SigningKey = KEY, **header: Any) -> str:
    """Sign claims as they are, including claims that the builder would not make."""
    return jwt.encode(claims, key.private, key.algorithm, headers=header or None)


def test_claims_of_a_signed_token() -> None:
    before = int(time.time())
    text = token().related_to("alice").expires_in(minutes=5).with_scope(READ).sign(KEY)
    header = jwt.get_unverified_header(text)
    assert (header["alg"], header["typ"]) == ("ES256", "JWT")
    claims = claims_of(text)
    assert set(claims) == {"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("my_auth", "my_registry", "alice")
    assert before <= claims["iat"] <= before + 2
    assert claims["exp"] - claims["iat"] == 300
    assert 5 <= claims["iat"] - claims["nbf"] < 60
    assert all(type(claims[name]) is int for name in ("exp", "nbf", "iat"))
    assert claims["access"] == [
        {"type": "repository", "name": "library/nginx", "actions": ["pull"]}
    ]


def test_every_token_has_its_own_jti() -> None:
    builder = token().with_scope(READ)
    ids = {claims_of(builder.sign(KEY))["jti"] for _ in range(50)}
    assert len(ids) == 50


def test_builders_are_immutable() -> None:
    base = token()
    base.with_scope(READ).related_to("alice").with_claim("x", 1)
    assert "sub" not in claims_of(base.sign(KEY))
    assert claims_of(base.sign(KEY))["access"] == []


def test_scopes_of_one_resource_are_merged() -> None:
    builder = token().with_scope("repository:a/b:push", Scope.read("a/b"), Scope.catalog())
    builder = builder.with_scope(Scope.repository("a/b", "delete"), Scope.repository("none"))
    assert claims_of(builder.sign(KEY))["access"] == [
        {"type": "repository", "name": "a/b", "actions": ["pull", "push", "delete"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    with pytest.raises(ScopeInvalid):
        builder.with_scope("no scope")


def test_lifetime_of_a_token() -> None:
    def lifetime(**units: float) -> int:
        claims = claims_of(token().expires_in(**units).sign(KEY))
        seconds: int = claims["exp"] - claims["iat"]
        return seconds

    assert lifetime(days=1, hours=1, minutes=1, seconds=1) == 90061
    assert lifetime(seconds=0.2) == 1
    assert lifetime(minutes=-2) == -120


def test_incomplete_tokens_are_not_signed() -> None:
    for builder in (Token.issued_by("x"), Token.issued_by("").permitted_for("y")):
        with pytest.raises(TokenInvalid, match="needs an issuer .* and an audience"):
            builder.sign(KEY)
    with pytest.raises(TokenInvalid, match="cannot be written as JSON"):
        token().with_claim("x", object()).sign(KEY)
    for name in ("exp", "access", "iss"):
        with pytest.raises(TokenInvalid, match="set by the builder itself"):
            token().with_claim(name, 1)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "RS512", "EdDSA"])
@pytest.mark.parametrize("key_id", ["x5c", "libtrust", "rfc7638"])
def test_signed_tokens_are_valid(algorithm: str, key_id: Any) -> None:
    key = SigningKey.generate(algorithm).identified_by(key_id)
    service = TokenService(key, issuer="my_auth", audience="my_registry")
    builder = service.builder().related_to("alice").with_scope(READ).with_claim("team", "blue")
    claims = service.validate(service.sign(builder))
    assert claims["sub"] == claims.subject == "alice"
    assert claims["team"] == "blue"
    assert claims.scopes == (READ,)


def test_default_lifetime_of_a_service() -> None:
    service = TokenService(KEY, issuer="a", audience="b", lifetime=timedelta(hours=1))
    claims = claims_of(service.sign(service.builder()))
    assert claims["exp"] - claims["iat"] == 3600


def test_the_callers_check_refuses_tokens(service: TokenService) -> None:
    text = service.sign(service.builder().related_to("alice"))
    assert service.validate(text, check=lambda claims: claims["sub"] == "alice")
    with pytest.raises(TokenInvalid, match="refused by the caller's check") as caught:
        service.validate(text, check=lambda claims: claims.allows(READ))
    assert caught.value.reason == "check"
    with pytest.raises(TokenInvalid, match="check of the claims failed: KeyError"):
        service.validate(text, check=lambda claims: claims["team"])
    checked: list[Claims] = []
    with pytest.raises(TokenInvalid):  # the check is not called for an invalid token
        service.validate(signed(valid_claims(), OTHER), check=checked.append)
    assert checked == []

    def deny(claims: Claims) -> None:
        raise TokenInvalid("check", "my own words")

    with pytest.raises(TokenInvalid, match="my own words"):
        service.validate(text, check=deny)


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda body: hmac.digest(secret, body, hashlib.sha256)


REFUSED: list[tuple[str, str, Callable[[], Any]]] = [
    ("another issuer", "issuer", lambda: signed({**valid_claims(), "iss": "other"})),
    (
        "an issuer that is a list",
        "issuer",
        lambda: encode_by_hand(
            {"alg": "ES256"}, {**valid_claims(), "iss": ["my_auth"]}, sign_es256
        ),
    ),
    ("another service", "audience", lambda: signed({**valid_claims(), "aud": "other"})),
    ("a service that is a number", "audience", lambda: signed({**valid_claims(), "aud": 5})),
    ("another key", "signature", lambda: signed(valid_claims(), OTHER)),
    (
        "another key with a trusted kid",
        "signature",
        lambda: signed(valid_claims(), OTHER, kid=KEY.thumbprint),
    ),
    (
        "a key inside the token",
        "signature",
        lambda: signed(valid_claims(), OTHER, jwk=OTHER.jwks()["keys"][0]),
    ),
    (
        "a chain inside the token",
        "signature",
        lambda: signed(valid_claims(), OTHER, **OTHER.header),
    ),
    ("expired", "expired", lambda: token().expires_in(seconds=-1).sign(KEY)),
    ("expires now", "expired", lambda: token().expires_in(seconds=0).sign(KEY)),
    ("not yet", "not-yet-valid", lambda: signed({**valid_claims(), "nbf": int(time.time()) + 60})),
    ("exp is a float", "claims", lambda: signed({**valid_claims(), "exp": time.time() + 60})),
    (
        "exp is a string",
        "claims",
        lambda: signed({**valid_claims(), "exp": str(int(time.time()) + 60)}),
    ),
    ("nbf is true", "claims", lambda: signed({**valid_claims(), "nbf": True})),
    ("iat is a float", "claims", lambda: signed({**valid_claims(), "iat": 1.5})),
    ("sub is a number", "claims", lambda: signed({**valid_claims(), "sub": 5})),
    (
        "alg is none",
        "algorithm",
        lambda: encode_by_hand({"alg": "none"}, valid_claims(), lambda _: b""),
    ),
    (
        "HS256 with the public key",
        "algorithm",
        lambda: encode_by_hand({"alg": "HS256"}, valid_claims(), hs256(KEY.public_pem())),
    ),
    (
        "alg is a list",
        "algorithm",
        lambda: encode_by_hand({"alg": ["ES256"]}, valid_claims(), lambda _: b"x"),
    ),
    ("alg is missing", "algorithm", lambda: encode_by_hand({}, valid_claims(), lambda _: b"x")),
    (
        "an RSA key that is not trusted",
        "algorithm",
        lambda: signed(valid_claims(), SigningKey.generate("RS256")),
    ),
    ("unknown crit", "malformed", lambda: signed(valid_claims(), crit=["x"], x=1)),
    (
        "no signature",
        "signature",
        lambda: encode_by_hand({"alg": "ES256"}, valid_claims(), lambda _: b""),
    ),
    ("claims are a list", "malformed", lambda: encode_by_hand({"alg": "ES256"}, [1], sign_es256)),
    ("empty", "malformed", lambda: ""),
    ("two parts", "malformed", lambda: "a.b"),
    ("not a string", "malformed", lambda: None),
    ("deeply nested", "malformed", lambda: base64.b64encode(b"[" * 40000).decode() + ".e30.x"),
    ("too long", "malformed", lambda: "a" * 100_000),
    *(
        (f"no {name}", "claims", lambda name=name: signed(claims_without(name)))
        for name in ("exp", "iss", "aud")
    ),
]


def sign_es256(body: bytes) -> bytes:
    found: bytes = jwt.get_algorithm_by_name("ES256").sign(body, KEY.private)
    return found


def claims_without(name: str) -> dict[str, Any]:
    return {key: value for key, value in valid_claims().items() if key != name}


@pytest.mark.parametrize(("reason", "make"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_invalid_tokens_are_refused(
    service: TokenService, reason: str, make: Callable[[], Any]
) -> None:
    service.validate(signed(valid_claims()))  # valid until it is changed
    text = make()
    with pytest.raises(TokenInvalid) as caught:
        service.validate(text)
    assert caught.value.reason == reason, str(caught.value)
    assert isinstance(caught.value, DockhandError)
    assert caught.value.__cause__ is None
    if isinstance(text, str) and len(text) > 20:
        assert text not in str(caught.value)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@settings(max_examples=60, deadline=None)
def test_tampered_tokens_are_refused(place: int, flip: int) -> None:
    service = TokenService(KEY, issuer="my_auth", audience="my_registry")
    raw = [base64.urlsafe_b64decode(part + "==") for part in signed(valid_claims()).split(".")]
    part = place % 3
    data = bytearray(raw[part])
    data[place // 3 % len(data)] ^= flip
    raw[part] = bytes(data)
    text = ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in raw)
    with pytest.raises(TokenInvalid):
        service.validate(text)


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        TokenService(KEY, issuer="my_auth", audience="my_registry").validate(text)


def test_leeway_widens_the_validity() -> None:
    now = time.time()
    clock = [now]
    strict = TokenService(KEY, issuer="a", audience="b", clock=lambda: clock[0])
    lenient = TokenService(KEY, issuer="a", audience="b", leeway=60, clock=lambda: clock[0])
    text = strict.sign(strict.builder().expires_in(seconds=100))
    clock[0] = now + 99
    strict.validate(text)
    clock[0] = now + 130
    lenient.validate(text)
    with pytest.raises(TokenInvalid, match="has expired"):
        strict.validate(text)
    clock[0] = now - 60
    lenient.validate(text)
    with pytest.raises(TokenInvalid, match="not valid yet"):
        strict.validate(text)
    clock[0] = now + 170
    with pytest.raises(TokenInvalid, match="has expired"):
        lenient.validate(text)


def test_tokens_of_retired_keys_stay_valid() -> None:
    old = TokenService(OTHER, issuer="a", audience="b")
    new = TokenService(KEY, issuer="a", audience="b", retired=[OTHER])
    text = old.sign(old.builder())
    new.validate(text)
    new.validate(new.sign(new.builder()))
    without_kid = TokenService(KEY, issuer="a", audience="b", retired=TrustedKey.from_pem(
        OTHER.public_pem()
    ))  # fmt: skip
    without_kid.validate(text)
    with pytest.raises(TokenInvalid, match="signature"):
        TokenService(KEY, issuer="a", audience="b").validate(text)


def test_scopes_that_claims_grant() -> None:
    claims = Claims(
        access=[
            {"type": "repository", "name": "a/b", "actions": ["pull"]},
            {"type": "repository", "name": "a/b", "actions": ["push"]},
            {"type": "repository", "name": "a/*", "actions": ["pull"]},
            {"type": "repository", "name": "c"},
            {"type": "repository", "name": "c", "actions": "pull"},
            {"type": "repository", "name": "c", "actions": [5]},
            {"type": 5, "name": "c", "actions": ["pull"]},
            {"name": "c", "actions": ["pull"]},
            {"type": "repository", "name": "d", "actions": ["*"]},
            "repository:c:pull",
            None,
        ]
    )
    assert claims.allows(Scope.write("a/b"))
    assert not claims.allows(Scope.repository("a/b", "pull", "push", "delete"))
    assert not claims.allows(Scope.read("a/c"))
    assert not claims.allows(Scope.read("c"))
    assert claims.allows(Scope.repository("d", "delete"))
    for access in (None, "x", {"a": 1}, 5):
        assert Claims(access=access).scopes == ()
    assert not Claims().allows(Scope.read("a/b"))


def test_verifier_chooses_keys_by_kid() -> None:
    jwks = {"keys": [{**KEY.jwks()["keys"][0], "kid": "mine"}, *OTHER.jwks()["keys"]]}
    trusted = TrustedKey.from_jwks(jwks)
    assert ["mine" in key.names for key in trusted] == [True, False]
    verifier = Verifier(trusted, issuer="my_auth", audience="my_registry")
    verifier.verify(signed(valid_claims(), kid="mine"))
    verifier.verify(signed(valid_claims(), OTHER, kid="unknown"))
    with pytest.raises(TokenInvalid, match="signature"):
        verifier.verify(signed(valid_claims(), OTHER, kid="mine"))
    [private] = TrustedKey.from_jwks({"keys": [private_jwk()]})
    assert private.public == KEY.public
    verifier = Verifier(
        TrustedKey.from_pem(KEY.self_signed_certificate("x")),
        issuer="my_auth",
        audience="my_registry",
    )
    verifier.verify(token().sign(KEY))


def private_jwk() -> dict[str, Any]:
    private: Any = KEY.private
    document: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(private, as_dict=True)
    assert "d" in document
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "not a JWK set"),
        ([], "not a JWK set"),
        ({"keys": []}, "not a JWK set"),
        ({"keys": ["x"]}, r"keys\[0\] is not a public key"),
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, r"keys\[0\] is not a public key"),
        ({"keys": [{"kty": "EC", "crv": "P-256"}]}, r"keys\[0\] cannot be read"),
        ({"keys": [{"kty": "EC", "crv": 5, "x": [], "y": {}}]}, r"keys\[0\] cannot be read"),
        ({"keys": [{**KEY.jwks()["keys"][0], "use": "enc"}]}, "has no key that signs"),
    ],
)
def test_unusable_jwk_sets_are_refused(document: Any, message: str) -> None:
    with pytest.raises(KeyInvalid, match=message):
        TrustedKey.from_jwks(document)
