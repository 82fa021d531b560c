"""The command `token`."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from dockhand_auth_jwt import SigningKey, TokenService

from dockhand_core import Scope

OPTIONS = ("--private-key", "private.pem", "--issuer", "my_auth", "--audience", "my_registry")
READ, WRITE = "repository:app:pull", "repository:app:push"


@pytest.fixture
def service(dockhand: CommandLine) -> TokenService:
    """Write a private key and a configuration with two connections; provide the authority."""
    key = SigningKey.generate()
    folder = dockhand.folder
    (folder / "private.pem").write_bytes(key.private_pem())
    (folder / "locked.pem").write_bytes(key.private_pem("s3cret"))
    (folder / "password").write_text("s3cret\n")
    (folder / "settings").mkdir()
    (folder / "settings" / "dockhand.toml").write_text(
        'default = "plain"\n'
        '[connections.plain]\nbase_uri = "http://localhost:1"\n'
        '[connections.main]\nbase_uri = "http://localhost:1"\n'
        '[connections.main.auth]\ndriver = "jwt"\nprivate_key = "../private.pem"\n'
        'authority_name = "my_auth"\nregistry_name = "my_registry"\n'
        'subject = "bob"\nlifetime = 60\n'
    )
    return TokenService(key, issuer="my_auth", audience="my_registry")


def test_of_a_private_key(dockhand: CommandLine, service: TokenService) -> None:
    (token,) = dockhand.lines("token", *OPTIONS)
    claims = service.validate(token)
    assert (claims.scopes, claims.subject, claims["exp"] - claims["iat"]) == ((), "", 300)

    locked = ("--private-key", "locked.pem", "--password-file", "password", *OPTIONS[2:])
    document = dockhand.json(
        "token", *locked, "--scope", READ, "--scope", WRITE, "--scope", "registry:catalog:*",
        "--subject", "alice", "--lifetime", "3600", "--key-id", "rfc7638",
    )  # fmt: skip
    json_forms.check(document, "token")
    claims = service.validate(document["token"])
    assert claims.scopes == (Scope.write("app"), Scope.catalog())
    issued, expires = (
        datetime.fromisoformat(document[name]) for name in ("issued_at", "expires_at")
    )
    assert issued.timestamp() == claims["iat"]
    assert expires - issued == timedelta(hours=1)
    rest = {k: v for k, v in document.items() if k not in ("token", "issued_at", "expires_at")}
    assert rest == {
        "issuer": "my_auth",
        "audience": "my_registry",
        "subject": "alice",
        "scopes": ["repository:app:pull,push", "registry:catalog:*"],
    }


def test_of_a_connection(dockhand: CommandLine, service: TokenService) -> None:
    main = ("--config", "settings/dockhand.toml", "-c", "main")
    (token,) = dockhand.lines("token", *main, "--scope", READ)
    claims = service.validate(token)
    assert claims.scopes == (Scope.read("app"),)
    assert (claims.subject, claims["exp"] - claims["iat"]) == ("bob", 60)
    (token,) = dockhand.lines("token", *main, "--subject", "eve", "--lifetime", "5")
    claims = service.validate(token)
    assert (claims.subject, claims["exp"] - claims["iat"]) == ("eve", 5)


def test_wrong_arguments(dockhand: CommandLine, service: TokenService) -> None:
    configured = ("--config", "settings/dockhand.toml")
    pem = (dockhand.folder / "private.pem").read_text()
    locked = ("--private-key", "locked.pem", *OPTIONS[2:])
    for arguments, message in {
        (): "no connection is configured: give --private-key, --issuer and --audience",
        configured: "connection 'plain' has the auth driver 'null', which signs no tokens",
        (*configured, "-c", "none"): "no connection named 'none'",
        (*OPTIONS, "-c", "main"): "cannot be given together",
        ("--issuer", "my_auth"): "belong to --private-key",
        OPTIONS[:4]: "--audience NAME is missing",
        ("--private-key", "none.pem", *OPTIONS[2:]): "none.pem",
        ("--private-key", "password", *OPTIONS[2:]): "is not a private key in PEM",
        (*OPTIONS, "--scope", "app"): "'app' is not a scope",
        (*OPTIONS, "--key-id", "x"): "key_id",
        (*OPTIONS, "--lifetime", "0"): "--lifetime",
        locked: "is encrypted: a password is needed",
    }.items():
        error = dockhand.error("token", *arguments, code=2)
        assert message in error
        assert "s3cret" not in error
    error = dockhand.error("token", "--private-key", pem, *OPTIONS[2:], code=2)
    assert error.startswith("--private-key is the path of a file")
    assert pem.splitlines()[1] not in error


def test_without_the_package(dockhand: CommandLine, service: TokenService, tmp_path: Path) -> None:
    """A module of the same name that cannot be imported takes the package's place."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "dockhand_auth_jwt.py").write_text("raise ImportError('No module named jwt')")
    path = [str(hidden), *(each for each in sys.path if each)]
    dockhand.environment["PYTHONPATH"] = ":".join(path)
    error = dockhand.error("token", *OPTIONS, code=2)
    assert 'pip install "dockhand-core[jwt]"' in error
