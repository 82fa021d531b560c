"""Signed tokens, verified by Distribution, zot, the embedded registry and `TokenService`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from dockhand_auth_jwt import SigningKey, Token, TokenInvalid, TokenService
from dockhand_auth_jwt.keys import KeyId
from dockhand_testing.contracts.samples import push_image
from registries import distribution, embedded, zot

from dockhand_core import Scope, Unauthorized, connect

pytestmark = pytest.mark.live

ISSUER, SERVICE, REALM = "my_auth", "my_registry", "http://localhost/token"
NAMES = {"authority_name": ISSUER, "registry_name": SERVICE}
QUIET = {"driver": "null"}
KEY = SigningKey.generate()
OTHER = SigningKey.generate()
READ = Scope.read("a/b")
PATH = "/v2/a/b/tags/list"


def auth_section(bundle: Path | None, jwks: Path | None = None) -> dict[str, Any]:
    token = {"realm": REALM, "service": SERVICE, "issuer": ISSUER}
    if bundle:
        token["rootcertbundle"] = str(bundle)
    if jwks:
        token["jwks"] = str(jwks)
    return {"auth": {"token": token}}


@contextmanager
def registry_trusting(version: str, folder: Path, pem: bytes) -> Iterator[str]:
    """Start a registry that trusts the certificates in `pem`, and provide its URL."""
    (folder / "certificate.pem").write_bytes(pem)
    if version == "embedded":
        names = {"realm": REALM, "service": SERVICE, "issuer": ISSUER}
        options = [f"--token-{name}={value}" for name, value in names.items()]
        options.append(f"--token-certificate={folder / 'certificate.pem'}")
        with embedded(folder, *options) as url:
            yield url
    else:
        with distribution(version, folder, **auth_section(folder / "certificate.pem")) as url:
            yield url


@pytest.fixture(scope="module", params=["2.8", "3.1", "embedded"])
def get(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Provide a function that sends a token to a registry and returns the status and challenge."""
    with registry_trusting(
        request.param, tmp_path_factory.mktemp("registry"), KEY.self_signed_certificate("anyone")
    ) as url:
        yield lambda token: get_with_token(url + PATH, token)


def get_with_token(url: str, token: str) -> tuple[int, str]:
    """Send a GET request with a Bearer token; return the status and the challenge of the reply."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("WWW-Authenticate", "")


def token(key: SigningKey = KEY, scope: Scope | None = READ, **changed: Any) -> str:
    """Sign a token that is valid except for the changed claims; None removes a claim."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": SERVICE,
        "exp": now + 60,
        "nbf": now - 10,
        "iat": now,
        "access": [{"type": "repository", "name": "a/b", "actions": ["pull"]}] if scope else [],
        **changed,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key.private, key.algorithm, headers=key.header)


def jwt_by_hand(algorithm: str, sign: Callable[[bytes], bytes], **header: Any) -> str:
    """Assemble a JWT without PyJWT, which refuses a public key as an HMAC secret."""
    payload = token().split(".")[1].encode()

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = encoded(json.dumps({"alg": algorithm, "typ": "JWT", **header}).encode()) + b"." + payload
    return (body + b"." + encoded(sign(body))).decode()


def hs256(secret: bytes) -> str:
    return jwt_by_hand(
        "HS256", lambda body: hmac.digest(secret, body, hashlib.sha256), **KEY.header
    )


def der(public: Any) -> bytes:
    encoded: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


INVALID: dict[str, Callable[[], str]] = {
    "wrong issuer": lambda: token(iss="somebody"),
    "no issuer": lambda: token(iss=None),
    "wrong audience": lambda: token(aud="elsewhere"),
    "no audience": lambda: token(aud=None),
    "wrong key": lambda: token(OTHER),
    "wrong key under the name of the right one": lambda: jwt.encode(
        jwt.decode(token(), options={"verify_signature": False}),
        OTHER.private,
        "ES256",
        headers=KEY.header,
    ),
    "wrong key in the header": lambda: jwt.encode(
        jwt.decode(token(), options={"verify_signature": False}),
        OTHER.private,
        "ES256",
        headers={"jwk": OTHER.jwks()["keys"][0]},
    ),
    "signature of another token": lambda: ".".join(
        [*token().split(".")[:2], token(scope=None).rpartition(".")[2]],
    ),
    "expired": lambda: token(exp=int(time.time()) - 65),
    "no expiry": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 120),
    "expiry not an integer": lambda: token(exp=int(time.time()) + 60.5),
    "alg none": lambda: jwt_by_hand("none", lambda _: b"", **KEY.header),
    "HS256 with the public key": lambda: hs256(KEY.public_pem()),
    "HS256 with the public key as DER": lambda: hs256(der(KEY.public)),
    "scope missing": lambda: token(scope=None),
    "another repository": lambda: token(
        access=[{"type": "repository", "name": "a/*", "actions": ["pull"]}]
    ),
    "another action": lambda: token(
        access=[{"type": "repository", "name": "a/b", "actions": ["push"]}]
    ),
    "not a JWT": lambda: "abc",
}


@pytest.mark.parametrize("make", INVALID.values(), ids=INVALID)
def test_invalid_tokens_are_refused_by_all(get: Any, make: Callable[[], str]) -> None:
    assert get(token())[0] == 404  # not 401: the token is accepted, but there is no such repository
    invalid = make()
    status, challenge = get(invalid)
    assert status == 401
    assert challenge.startswith(f'Bearer realm="{REALM}",service="{SERVICE}",scope="repository:a/b')
    service = TokenService(KEY, issuer=ISSUER, audience=SERVICE, leeway=60)
    assert service.validate(token(), check=lambda claims: claims.allows(READ))
    with pytest.raises(TokenInvalid):
        service.validate(invalid, check=lambda claims: claims.allows(READ))


def test_clocks_may_differ_by_a_minute(get: Any) -> None:
    """Registries allow a difference of 60 seconds; the test leaves time for a slow request."""
    assert get(token(exp=int(time.time()) - 40))[0] == 404
    assert get(token(nbf=int(time.time()) + 50))[0] == 404


@pytest.mark.parametrize(
    ("version", "algorithm"),
    [
        *((v, a) for v in ("2.8", "3.1") for a in ("ES256", "ES384", "RS256", "RS512")),
        ("3.1", "EdDSA"),  # Distribution 2.8 does not start with an Ed25519 certificate
    ],
)
def test_algorithms_and_key_ids(version: str, algorithm: str, tmp_path: Path) -> None:
    """Both versions accept x5c, and each accepts one of the other two key ids.

    The driver has only the private key, and makes the certificate for x5c itself.
    """
    key = SigningKey.generate(algorithm)
    loaded = SigningKey.load(key.private_pem(), algorithm=algorithm)
    accepted: dict[KeyId, bool] = {
        "x5c": True,
        "libtrust": version == "2.8",
        "rfc7638": version == "3.1",
    }
    with registry_trusting(version, tmp_path, key.self_signed_certificate("any name")) as url:
        for key_id, is_accepted in accepted.items():
            builder = Token.issued_by(ISSUER).permitted_for(SERVICE).with_scope(READ)
            signed = builder.sign(loaded.identified_by(key_id))
            assert get_with_token(f"{url}{PATH}", signed)[0] == (404 if is_accepted else 401), (
                key_id
            )


def foreign_certificate(key: SigningKey) -> bytes:
    """Make a self-signed certificate of a key as another tool would, not as Dockhand does."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made elsewhere")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key.private, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("version", ["2.8", "3.1", "embedded"])
@pytest.mark.parametrize("setting", ["none", "the certificate", "another certificate"])
def test_a_foreign_certificate(version: str, setting: str, tmp_path: Path) -> None:
    """The registry accepts tokens whether or not the driver knows the trusted certificate."""
    pem = foreign_certificate(KEY)
    auth = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **NAMES}
    if setting != "none":
        certificate = pem if setting == "the certificate" else foreign_certificate(KEY)
        auth["certificate"] = certificate.decode()
    with (
        registry_trusting(version, tmp_path, pem) as url,
        connect(url, auth=auth, logging=QUIET) as registry,
    ):
        push_image(registry, "a/b", "v1")
        assert list(registry.repositories()) == ["a/b"]


@pytest.mark.parametrize("key_id", [None, "rfc7638", "libtrust"])
def test_distribution_3_with_a_jwks_file(key_id: KeyId | None, tmp_path: Path) -> None:
    key = KEY.identified_by(key_id or "rfc7638")
    (tmp_path / "jwks.json").write_text(json.dumps(key.jwks()))
    auth = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **NAMES, "key_id": key_id}
    section = auth_section(None, tmp_path / "jwks.json")
    with (
        distribution("3.1", tmp_path, **section) as url,
        connect(url, auth=auth, logging=QUIET) as registry,
    ):
        push_image(registry, "a/b", "v1")


@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_the_section_that_the_keys_command_prints(version: str, tmp_path: Path) -> None:
    """A registry accepts tokens with the section of its configuration that the command prints.

    Each line of the printed YAML has a JSON value, so the test needs no YAML parser.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dockhand_auth_jwt", "keys"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.partition("auth:\n  token:\n")[2].partition("\n\n")[0].splitlines()
    section = {name.strip(): json.loads(v) for name, _, v in (x.partition(": ") for x in lines)}
    assert set(section) == {"realm", "service", "issuer", "rootcertbundle"}
    auth = {"driver": "jwt", "private_key": str(tmp_path / "keys" / "private.pem"), **NAMES}
    with (
        distribution(version, tmp_path / "registry", auth={"token": section}) as url,
        connect(url, auth=auth, logging=QUIET) as registry,
    ):
        push_image(registry, "a/b", "v1")


@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_wrong_settings_are_refused(version: str, tmp_path: Path) -> None:
    pem = KEY.self_signed_certificate("x")
    valid = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **NAMES}
    with registry_trusting(version, tmp_path, pem) as url:
        for change in (
            {"private_key": OTHER.private_pem().decode()},
            {"authority_name": "somebody"},
            {"registry_name": "elsewhere"},
        ):
            with connect(url, auth={**valid, **change}, logging=QUIET) as registry:
                assert registry.is_online()
                with pytest.raises(
                    Unauthorized, match="it asks for Bearer, and says invalid_token"
                ):
                    registry.upload_blob("a/b", b"data")


def test_zot_refuses_invalid_tokens(tmp_path: Path) -> None:
    """The contract tests check that zot accepts valid tokens."""
    (tmp_path / "auth.crt").write_bytes(KEY.self_signed_certificate("x"))
    bearer = {"realm": REALM, "service": SERVICE, "cert": str(tmp_path / "auth.crt")}
    with zot(tmp_path / "zot", auth={"bearer": bearer}) as url:
        assert get_with_token(f"{url}{PATH}", token())[0] == 404
        for name in (
            "wrong key",
            "signature of another token",
            "alg none",
            "HS256 with the public key",
            "expired",
        ):
            assert get_with_token(f"{url}{PATH}", INVALID[name]())[0] == 401, name
        for name in ("scope missing", "another repository", "another action"):
            assert get_with_token(f"{url}{PATH}", INVALID[name]())[0] == 401, name
        auth = {"driver": "jwt", "private_key": OTHER.private_pem().decode(), **NAMES}
        with (
            connect(url, driver="zot", auth=auth, logging=QUIET) as registry,
            pytest.raises(Unauthorized),
        ):
            registry.ping()
