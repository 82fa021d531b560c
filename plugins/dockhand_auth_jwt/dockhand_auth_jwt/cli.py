"""Functions that run the program `keys`: they make keys, and print a configuration."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TypedDict

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.signing_key import SigningKey
from dockhand_core.server import fail

__all__ = ["Keys", "make_keys", "run"]

_FILES = ("private.pem", "public.pem", "certificate.pem", "jwks.json")
_REGISTRY_CONFIG = """\
# The registry's config.yml (Distribution 2.8 and 3). The registry reads the bundle at its start.
auth:
  token:
    realm: {realm}
    service: {service}
    issuer: {issuer}
    rootcertbundle: {certificate}
"""
_DOCKHAND_CONFIG = """\
# Dockhand's dockhand.toml. Dockhand signs its own tokens.
[connections.main]
base_uri = "https://registry.example.com"
[connections.main.auth]
driver = "jwt"
private_key = {key}
authority_name = {issuer}
registry_name = {service}
"""


class Keys(TypedDict):
    """The document of `dockhand keys --json`.

    Attributes:
        private_key, public_key: paths of the files in PEM.
        certificate: path of the certificate, the registry's `rootcertbundle`.
        jwks: path of the public key as a JWK set.
        algorithm: the algorithm of the keys.
        authority: name of the authority, the registry's `issuer`.
        registry: name of the registry, its `service`.
        realm: URL of the token endpoint.
    """

    private_key: str
    public_key: str
    certificate: str
    jwks: str
    algorithm: str
    authority: str
    registry: str
    realm: str


def run(options: argparse.Namespace) -> None:
    """Write the files, and print the configuration that uses them."""
    try:
        configuration = make_keys(options)
    except FileExistsError as error:
        fail(f"{error.filename} exists already; name another folder, or move it away")
    except OSError as error:
        status = 2 if error.filename == options.password_file else 1
        fail(f"{error.filename}: {error.strerror}", status)
    except KeyInvalid as error:
        fail(str(error), status=2)
    if options.json:
        folder = Path(options.folder)
        private, public, certificate, jwks = (str(folder / name) for name in _FILES)
        made = Keys(
            private_key=private,
            public_key=public,
            certificate=certificate,
            jwks=jwks,
            algorithm=options.algorithm,
            authority=options.authority,
            registry=options.registry,
            realm=options.realm,
        )
        print(json.dumps(made, indent=2))
        return
    if not getattr(options, "quiet", False):
        first, *others = _FILES
        print(
            f"written to {options.folder}: {first} (keep it secret), {', '.join(others)}\n",
            file=sys.stderr,
        )
    print(configuration, end="")


def _create_files(files: dict[Path, tuple[bytes, int]]) -> None:
    """Create several files, or none if one of them cannot be created.

    Args:
        files: the content and the mode of each file, by path.

    Raises:
        FileExistsError: one of the files exists already. The existing file is not changed.
    """
    created: list[Path] = []
    try:
        for path, (data, mode) in files.items():
            # The mode is set at creation. With a chmod after creation, others could open the file
            # in between.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            created.append(path)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
    except BaseException:
        for path in created:
            path.unlink()
        raise


def make_keys(options: argparse.Namespace) -> str:
    """Write the files of the command `keys`, and return the configuration that uses them.

    Raises:
        KeyInvalid: the algorithm is unknown, a certificate cannot contain the authority's name, or
            the password is empty.
        OSError: a file exists already, or cannot be read or written.
    """
    password = None
    if options.password_file:
        data = Path(options.password_file).read_bytes()
        password = data.split(b"\n", 1)[0].removesuffix(b"\r")
        if not password:
            raise KeyInvalid(
                f"{options.password_file}: the first line is empty; write the password there"
            )
    key = SigningKey.generate(options.algorithm)
    certificate = key.self_signed_certificate(options.authority)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    private, public, bundle, jwks = (folder / name for name in _FILES)
    _create_files(
        {
            private: (key.private_pem(password), 0o600),
            public: (key.public_pem(), 0o644),
            bundle: (certificate, 0o644),
            jwks: (json.dumps(key.jwks(), indent=2).encode() + b"\n", 0o644),
        }
    )
    names = {"service": _quoted(options.registry), "issuer": _quoted(options.authority)}
    registry = _REGISTRY_CONFIG.format(
        realm=_quoted(options.realm), certificate=_quoted(str(bundle.absolute())), **names
    )
    dockhand = _DOCKHAND_CONFIG.format(key=_quoted(str(private)), **names)
    if password is not None:
        with_password = (
            f"private_key_password_file = {_quoted(options.password_file)}\nprivate_key ="
        )
        dockhand = dockhand.replace("private_key =", with_password)
    return f"{registry}\n{dockhand}"


def _quoted(text: str) -> str:
    """Quote a string in a way that is valid in JSON, YAML and TOML."""
    return json.dumps(text, ensure_ascii=False)
