"""`python -m dockhand_auth_jwt keys`: a key pair for the first start, and what to configure."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import SigningKey

_REGISTRY = """\
# The registry (Distribution 2.8 and 3): its config.yml. It reads the file when it starts.
auth:
  token:
    realm: {realm}
    service: {service}
    issuer: {issuer}
    rootcertbundle: {certificate}
"""
_DOCKHAND = """\
# Dockhand, which signs tokens for itself: dockhand.toml
[connections.main]
base_uri = "https://registry.example.com"
[connections.main.auth]
driver = "jwt"
private_key = {key}
authority_name = {issuer}
registry_name = {service}
"""


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_auth_jwt", description="Dockhand as the token authority."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    keys = commands.add_parser(
        "keys",
        help="make a key pair and a certificate, and show the configuration that goes with them",
        description="Write private.pem (mode 0600), public.pem, certificate.pem and jwks.json, and "
        "show the configuration of the registry and of Dockhand that goes with them. Nothing that "
        "is there is overwritten.",
    )
    keys.add_argument("folder", nargs="?", default="keys", help="where to (default: ./keys)")
    keys.add_argument(
        "--algorithm",
        default="ES256",
        help="ES256, ES384, RS256, RS384, RS512, or EdDSA, unknown to Distribution 2 (ES256)",
    )
    keys.add_argument("--authority", default="my_auth", help="who signs: `issuer` (my_auth)")
    keys.add_argument("--registry", default="my_registry", help="the `service` (my_registry)")
    keys.add_argument(
        "--realm",
        default="http://localhost:5001/token",
        help="where clients get tokens (http://localhost:5001/token)",
    )
    keys.add_argument(
        "--password-file",
        metavar="FILE",
        help="encrypt the private key with the password on the file's first line",
    )
    return parser


def _write(files: dict[Path, tuple[bytes, int]]) -> None:
    """Write all files or none; none that is there is touched."""
    made: list[Path] = []
    try:
        for path, (data, mode) in files.items():
            # with its mode from the start, so that nobody can open it in between
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
    except BaseException:
        for path in made:
            path.unlink()
        raise


def make_keys(options: argparse.Namespace) -> str:
    """Make what `keys` makes; the configuration to show.

    Raises:
        KeyInvalid: no such algorithm, or a name that a certificate cannot have.
        OSError: a file is there already, or cannot be written.
    """
    password = None
    if options.password_file:
        data = Path(options.password_file).read_bytes()
        password = data.split(b"\n", 1)[0].removesuffix(b"\r")
        if not password:
            raise KeyInvalid(f"{options.password_file}: the first line is empty")
    key = SigningKey.generate(options.algorithm)
    certificate = key.self_signed_certificate(options.authority)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    private = folder / "private.pem"
    _write(
        {
            private: (key.private_pem(password), 0o600),
            folder / "public.pem": (key.public_pem(), 0o644),
            folder / "certificate.pem": (certificate, 0o644),
            folder / "jwks.json": (json.dumps(key.jwks(), indent=2).encode() + b"\n", 0o644),
        }
    )
    names = {"service": _quoted(options.registry), "issuer": _quoted(options.authority)}
    bundle = (folder / "certificate.pem").absolute()
    registry = _REGISTRY.format(
        realm=_quoted(options.realm), certificate=_quoted(str(bundle)), **names
    )
    dockhand = _DOCKHAND.format(key=_quoted(str(private)), **names)
    if password is not None:
        locked = f"private_key_password_file = {_quoted(options.password_file)}\nprivate_key ="
        dockhand = dockhand.replace("private_key =", locked)
    return f"{registry}\n{dockhand}"


def _quoted(text: str) -> str:
    """A string as JSON, YAML and TOML have it."""
    return json.dumps(text, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command."""
    options = _arguments().parse_args(arguments)
    try:
        shown = make_keys(options)
    except FileExistsError as error:
        sys.exit(f"{error.filename} is there already; name another folder, or move it away")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    except KeyInvalid as error:
        sys.exit(str(error))
    print(
        f"written to {options.folder}: private.pem (keep it secret), public.pem,", file=sys.stderr
    )
    print("certificate.pem, jwks.json\n", file=sys.stderr)
    print(shown, end="")


if __name__ == "__main__":
    main()
