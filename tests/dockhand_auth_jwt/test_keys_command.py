"""The command `python -m dockhand_auth_jwt keys`: its files, and the configuration it prints."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockhand_auth_jwt import JwtAuth, SigningKey, TrustedKey
from dockhand_auth_jwt.__main__ import main

from dockhand_core.config import load_config, validate_table

FILES = ["certificate.pem", "jwks.json", "private.pem", "public.pem"]


def test_files_and_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dockhand_auth_jwt", "keys"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    folder = tmp_path / "keys"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert stat.S_IMODE((folder / "private.pem").stat().st_mode) == 0o600
    key = SigningKey.load(folder / "private.pem")
    assert key.algorithm == "ES256"
    assert (folder / "public.pem").read_bytes() == key.public_pem()
    assert json.loads((folder / "jwks.json").read_text()) == key.jwks()
    [trusted] = TrustedKey.from_pem((folder / "certificate.pem").read_bytes())
    assert trusted.public == key.public
    assert f'rootcertbundle: "{folder / "certificate.pem"}"' in done.stdout
    assert 'issuer: "my_auth"' in done.stdout
    assert "PRIVATE" not in done.stdout + done.stderr
    assert "keep it secret" in done.stderr


def dockhand_toml(printed: str) -> str:
    return printed[printed.index("# Dockhand") :]


def test_the_printed_configuration_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("hunter2\n")
    names = ["--authority", 'Ä "quoted" \\ one', "--registry", "registry:5000"]
    main(["keys", "k/new", "--algorithm", "ES384", "--password-file", "password", *names])
    toml = dockhand_toml(capsys.readouterr().out)
    table = tomllib.loads(toml)["connections"]["main"]["auth"]
    assert table["authority_name"] == 'Ä "quoted" \\ one'
    (tmp_path / "dockhand.toml").write_text(toml)
    auth = load_config(environ={}).connection()[1].auth
    assert auth.driver == "jwt"
    settings = validate_table(JwtAuth.Settings, auth.options, where="auth", base=tmp_path)
    assert settings._key.algorithm == "ES384"
    assert b"ENCRYPTED" in (tmp_path / "k" / "new" / "private.pem").read_bytes()


def test_existing_files_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "public.pem").write_text("mine")
    with pytest.raises(SystemExit, match="^1$"):
        main(["keys", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["public.pem"]
    assert (tmp_path / "public.pem").read_text() == "mine"
    out, err = capsys.readouterr()
    assert out == ""
    assert "public.pem exists already; name another folder" in err


def test_errors_name_the_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("\n")
    folder = str(tmp_path / "keys")
    for arguments, message in (
        (["--algorithm", "HS256"], "unknown algorithm 'HS256'; use one of ES256"),
        (["--authority", "x" * 65], "a certificate cannot be made"),
        (["--password-file", str(tmp_path / "none")], "No such file"),
        (["--password-file", str(tmp_path / "file")], "the first line is empty"),
    ):
        with pytest.raises(SystemExit, match="^2$"):
            main(["keys", folder, *arguments])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="^1$"):
        main(["keys", str(tmp_path / "file")])
    assert "file exists already" in capsys.readouterr().err
    assert not Path(folder).exists()
