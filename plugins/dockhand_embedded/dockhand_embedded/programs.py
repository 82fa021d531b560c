"""The program that serves a registry, and its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from dockhand_core.server import (
    Program,
    add_listening_options,
    add_strict_option,
    positive_int,
)
from dockhand_embedded.storage import GRACE, UPLOAD_AGE

__all__ = ["SERVE"]


def _options(parser: argparse.ArgumentParser, _inherit: bool) -> None:
    parser.add_argument(
        "--root",
        default="./registry",
        help="the folder, created if it does not exist; ':memory:' stores nothing on disk "
        "(default: ./registry)",
    )
    listening = add_listening_options(parser, 5000)
    add_strict_option(listening)
    listening.add_argument(
        "--access-log",
        action="store_true",
        help="write a line for each request to standard error: time, client, user, method, path, "
        "status, bytes sent and duration",
    )
    access = parser.add_argument_group("access control")
    access.add_argument(
        "--htpasswd",
        metavar="FILE",
        help="require a user and password from this file, as written by `htpasswd -B`",
    )
    access.add_argument(
        "--login-failures",
        type=positive_int,
        default=10,
        metavar="N",
        help="failed logins a minute, of each client address and of each user, after which more "
        "are refused with 429 (10)",
    )
    access.add_argument(
        "--token-realm",
        metavar="URL",
        help="require a token of an authority, as Distribution does with `auth: token`; clients "
        "get tokens at this URL; needs the following options",
    )
    access.add_argument("--token-service", metavar="NAME", help="this registry's name in tokens")
    access.add_argument("--token-issuer", metavar="NAME", help="the authority's name in tokens")
    access.add_argument(
        "--token-certificate",
        type=Path,
        metavar="FILE",
        help="trusted keys: certificates (a `rootcertbundle`) or a public key, PEM",
    )
    access.add_argument(
        "--token-jwks", type=Path, metavar="FILE", help="trusted keys, as a JWK set"
    )
    access.add_argument(
        "--anonymous",
        action="store_true",
        help="allow a --host that is not loopback without access control: any client can read, "
        "write and delete",
    )
    access.add_argument("--read-only", action="store_true", help="reject requests that write")
    notifications = parser.add_argument_group(
        "notifications",
        "Events about pushes, pulls, mounts and deletions, in Distribution's format.",
    )
    notifications.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help="post events to this URL; can be repeated",
    )
    notifications.add_argument(
        "--notify-token-file",
        metavar="FILE",
        help="a file with the bearer token for these URLs; default: DOCKHAND_NOTIFY_TOKEN, if set",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-manifest",
        type=positive_int,
        default=4 << 20,
        metavar="BYTES",
        help="reject larger manifests with 413 (default: 4194304)",
    )
    limits.add_argument(
        "--max-blob",
        type=positive_int,
        metavar="BYTES",
        help="reject larger blobs with 413 (default: no limit)",
    )
    limits.add_argument(
        "--max-uploads",
        type=positive_int,
        metavar="N",
        default=10_000,
        help="reject further uploads with 429 while this many are in progress (default: 10000)",
    )
    limits.add_argument(
        "--upload-age",
        type=_seconds,
        default=UPLOAD_AGE,
        metavar="SECONDS",
        help="delete uploads that got no byte for this long (default: 86400)",
    )
    collection = parser.add_argument_group(
        "garbage collection instead of serving", "Servers may keep running on the same folder."
    )
    collection.add_argument(
        "--gc",
        action="store_true",
        help="remove blobs that no manifest of their repository names, and exit",
    )
    collection.add_argument(
        "--dry-run",
        action="store_true",
        help="print the blobs that --gc would remove, but remove none",
    )
    collection.add_argument(
        "--grace",
        type=_seconds,
        default=GRACE,
        metavar="SECONDS",
        help="skip repositories with a blob younger than this, since a push may be in progress; "
        "must be longer than any pause in a push (default: 3600)",
    )


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return number


SERVE = Program(
    help="serve a folder of OCI Image Layouts as a registry",
    description="Serve a folder of OCI Image Layouts, one for each repository, as a registry.",
    epilog="Without --htpasswd or --token-… there is no access control, so the server listens on "
    "loopback only, unless --host and --anonymous are given.",
    example="--root ./registry --port 5000",
    add_options=_options,
    run="dockhand_embedded.cli:run",
)
