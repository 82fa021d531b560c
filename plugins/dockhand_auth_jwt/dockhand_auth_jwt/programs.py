"""The program `keys`, which makes the keys of a token authority, and its options."""

from __future__ import annotations

import argparse

from dockhand_core.server import Program

__all__ = ["KEYS"]


def _options(parser: argparse.ArgumentParser, _inherit: bool) -> None:
    parser.add_argument(
        "folder", nargs="?", default="keys", help="folder for the files (default: ./keys)"
    )
    parser.add_argument(
        "--algorithm",
        default="ES256",
        help="ES256, ES384, RS256, RS384, RS512, or EdDSA, which Distribution 2 does not support "
        "(default: ES256)",
    )
    parser.add_argument(
        "--authority",
        default="my_auth",
        help="name of the authority, the registry's `issuer` (default: my_auth)",
    )
    parser.add_argument(
        "--registry",
        default="my_registry",
        help="name of the registry, its `service` (default: my_registry)",
    )
    parser.add_argument(
        "--realm",
        default="http://localhost:5001/token",
        help="URL of the token endpoint (default: http://localhost:5001/token)",
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="encrypt the private key with the password on the first line of FILE",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the paths of the files and the names, as JSON"
    )


KEYS = Program(
    help="make a key pair and a certificate, and print the configuration that uses them",
    description="Write private.pem (mode 0600), public.pem, certificate.pem and jwks.json, and "
    "print the configuration of the registry and of Dockhand that uses them. Existing files are "
    "not overwritten.",
    example="./keys --authority my_auth --registry my_registry",
    add_options=_options,
    run="dockhand_auth_jwt.cli:run",
)
