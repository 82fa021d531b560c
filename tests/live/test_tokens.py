"""Tokens in front of those who judge them: Distribution, zot, the embedded registry, `validate`."""

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
from images import push_image
from registries import distribution, embedded, zot

from dockhand_core import Scope, Unauthorized, connect

pytestmark = pytest.mark.live

ISSUER, SERVICE, REALM = "my_auth", "my_registry", "http://localhost/token"
NAMES = {"authority_name": ISSUER, "registry_name": SERVICE}
QUIET = {"driver": "null"}
KEY = SigningKey.generate()
OTHER = SigningKey.generate()
READ = Scope.read("a/b")


def auth_section(bundle: Path | None, jwks: Path | None = None) -> dict[str, Any]:
    token = {"realm": REALM, "service": SERVICE, "issuer": ISSUER}
    if bundle:
        token["rootcertbundle"] = str(bundle)
    if jwks:
        token["jwks"] = str(jwks)
    return {"auth": {"token": token}}


@contextmanager
def trusting(version: str, folder: Path, pem: bytes) -> Iterator[str]:
    """A registry that trusts the keys of some certificates."""
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
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives status and challenge for a token."""
    with trusting(
        request.param, tmp_path_factory.mktemp("registry"), KEY.self_signed_certificate("anyone")
    ) as url:
        yield lambda token, path="/v2/a/b/tags/list": ask(url + path, token)


def ask(url: str, token: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("WWW-Authenticate", "")


def token(key: SigningKey = KEY, scope: Scope | None = READ, **changed: Any) -> str:
    """A good token, but for what is changed; None leaves a claim out."""
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


def by_hand(algorithm: str, sign: Callable[[bytes], bytes], **header: Any) -> str:
    payload = token().split(".")[1].encode()

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = part(json.dumps({"alg": algorithm, "typ": "JWT", **header}).encode()) + b"." + payload
    return (body + b"." + part(sign(body))).decode()


def hs256(secret: bytes) -> str:
    named = KEY.header
    return by_hand("HS256", lambda body: hmac.digest(secret, body, hashlib.sha256), **named)


def der(public: Any) -> bytes:
    found: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


BAD: dict[str, Callable[[], str]] = {
    "wrong issuer": lambda: token(iss="somebody"),
    "no issuer": lambda: token(iss=None),
    "wrong audience": lambda: token(aud="elsewhere"),
    "no audience": lambda: token(aud=None),
    "wrong key": lambda: token(OTHER),
    "wrong key that claims to be ours": lambda: jwt.encode(
        jwt.decode(token(), options={"verify_signature": False}),
        OTHER.private,
        "ES256",
        headers=KEY.header,
    ),
    "wrong key that brings itself": lambda: jwt.encode(
        jwt.decode(token(), options={"verify_signature": False}),
        OTHER.private,
        "ES256",
        headers={"jwk": OTHER.jwks()["keys"][0]},
    ),
    "changed": lambda: ".".join(
        [*token().split(".")[:2], token(scope=None).rpartition(".")[2]],
    ),
    "expired": lambda: token(exp=int(time.time()) - 65),
    "no expiry": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 70),
    "expiry not an integer": lambda: token(exp=time.time() + 60.5),
    "alg none": lambda: by_hand("none", lambda _: b"", **KEY.header),
    "HS256 with the public key": lambda: hs256(KEY.public_pem()),
    "HS256 with the public key as DER": lambda: hs256(der(KEY.public)),
    "scope missing": lambda: token(scope=None),
    "another repository": lambda: token(
        access=[{"type": "repository", "name": "a/*", "actions": ["pull"]}]
    ),
    "another action": lambda: token(
        access=[{"type": "repository", "name": "a/b", "actions": ["push"]}]
    ),
    "no token": lambda: "abc",
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_refused_by_all(judge: Any, make: Callable[[], str]) -> None:
    assert judge(token())[0] == 404  # let in: there is no such repository
    bad = make()
    status, challenge = judge(bad)
    assert status == 401
    assert challenge.startswith(f'Bearer realm="{REALM}",service="{SERVICE}",scope="repository:a/b')
    service = TokenService(KEY, issuer=ISSUER, audience=SERVICE, leeway=60)
    assert service.validate(token(), check=lambda claims: claims.allows(READ))
    with pytest.raises(TokenInvalid):
        service.validate(bad, check=lambda claims: claims.allows(READ))


def test_as_much_leeway_as_distribution(judge: Any) -> None:
    now = int(time.time())
    assert judge(token(exp=now - 50))[0] == 404
    assert judge(token(nbf=now + 50))[0] == 404


@pytest.mark.parametrize(
    ("version", "algorithm"),
    [
        *((v, a) for v in ("2.8", "3.1") for a in ("ES256", "ES384", "RS256", "RS512")),
        ("3.1", "EdDSA"),  # 2.8 does not start with an Ed25519 certificate
    ],
)
def test_keys_and_their_names(version: str, algorithm: str, tmp_path: Path) -> None:
    """The default is taken by both, made from the private key alone; each name by one of them."""
    key = SigningKey.generate(algorithm)
    again = SigningKey.load(key.private_pem(), algorithm=algorithm)
    accepted: dict[KeyId, bool] = {
        "x5c": True,
        "libtrust": version == "2.8",
        "rfc7638": version == "3.1",
    }
    with trusting(version, tmp_path, key.self_signed_certificate("any name")) as url:
        for key_id, fine in accepted.items():
            builder = Token.issued_by(ISSUER).permitted_for(SERVICE).with_scope(READ)
            text = builder.sign(again.identified_by(key_id))
            assert ask(f"{url}/v2/a/b/tags/list", text)[0] == (404 if fine else 401), key_id


def own_certificate(key: SigningKey) -> bytes:
    """As somebody made it with other tools."""
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
@pytest.mark.parametrize("told", ["nothing", "the truth", "of another one"])
def test_a_certificate_made_elsewhere(version: str, told: str, tmp_path: Path) -> None:
    """The driver is let in whatever it is told of the certificate."""
    pem = own_certificate(KEY)
    auth = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **NAMES}
    if told != "nothing":
        shown = pem if told == "the truth" else own_certificate(KEY)
        auth["certificate"] = shown.decode()
    with (
        trusting(version, tmp_path, pem) as url,
        connect(url, auth=auth, logging=QUIET) as registry,
    ):
        push_image(registry, "a/b", "v1")
        assert list(registry.repositories()) == ["a/b"]


@pytest.mark.parametrize("key_id", [None, "rfc7638", "libtrust"])
def test_a_jwks_file(key_id: KeyId | None, tmp_path: Path) -> None:
    """What Distribution 3 takes instead of certificates."""
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
def test_what_the_keys_command_prints(version: str, tmp_path: Path) -> None:
    """The registry's part is YAML of a form that this test can take apart."""
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
    good = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **NAMES}
    with trusting(version, tmp_path, pem) as url:
        for change in (
            {"private_key": OTHER.private_pem().decode()},
            {"authority_name": "somebody"},
            {"registry_name": "elsewhere"},
        ):
            with connect(url, auth={**good, **change}, logging=QUIET) as registry:
                assert registry.is_online()
                with pytest.raises(
                    Unauthorized, match="it asks for Bearer, and says invalid_token"
                ):
                    registry.upload_blob("a/b", b"data")


def test_zot(tmp_path: Path) -> None:
    """What it refuses; the contract suite shows what it takes."""
    (tmp_path / "auth.crt").write_bytes(KEY.self_signed_certificate("x"))
    bearer = {"realm": REALM, "service": SERVICE, "cert": str(tmp_path / "auth.crt")}
    with zot(tmp_path / "zot", auth={"bearer": bearer}) as url:
        assert ask(f"{url}/v2/a/b/tags/list", token())[0] == 404
        for name in ("wrong key", "changed", "alg none", "HS256 with the public key", "expired"):
            assert ask(f"{url}/v2/a/b/tags/list", BAD[name]())[0] == 401, name
        for name in ("scope missing", "another repository", "another action"):
            assert ask(f"{url}/v2/a/b/tags/list", BAD[name]())[0] == 401, name
        auth = {"driver": "jwt", "private_key": OTHER.private_pem().decode(), **NAMES}
        with (
            connect(url, driver="zot", auth=auth, logging=QUIET) as registry,
            pytest.raises(Unauthorized),
        ):
            registry.ping()
