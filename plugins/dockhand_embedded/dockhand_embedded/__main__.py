"""`python -m dockhand_embedded`: serve a folder of OCI Image Layouts as a registry."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_core import ConfigError
from dockhand_core.server import (
    add_listening_options,
    is_loopback,
    positive_int,
    program,
    serve_options,
)
from dockhand_embedded.storage.garbage_collection import GRACE, collect
from dockhand_embedded.storage.layout import LayoutStorage
from dockhand_embedded.storage.upload_files import UPLOAD_AGE

if TYPE_CHECKING:
    from dockhand_embedded.access.policy import Authenticate
    from dockhand_embedded.app import App


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_embedded",
        description="Serve a folder of OCI Image Layouts, one for each repository, as a registry.",
        epilog="Without --htpasswd or --token-… it asks nobody who they are, and so listens on "
        "loopback unless told otherwise.",
    )
    parser.add_argument(
        "--root",
        default="./registry",
        help="the folder, made if it is not there; ':memory:' keeps nothing (default: ./registry)",
    )
    add_listening_options(parser, 5000)
    who = parser.add_argument_group("who may do what")
    who.add_argument(
        "--htpasswd",
        metavar="FILE",
        help="ask for a user and password of this file, which `htpasswd -B` writes",
    )
    who.add_argument(
        "--token-realm",
        metavar="URL",
        help="ask for a token of an authority, as Distribution does with `auth: token`, and say "
        "that clients get it there; with the following",
    )
    who.add_argument("--token-service", metavar="NAME", help="this registry's name in tokens")
    who.add_argument("--token-issuer", metavar="NAME", help="the authority's name in tokens")
    who.add_argument(
        "--token-certificate",
        type=Path,
        metavar="FILE",
        help="keys that are trusted: certificates (a `rootcertbundle`) or a public key, PEM",
    )
    who.add_argument(
        "--token-jwks", type=Path, metavar="FILE", help="keys that are trusted, as a JWK set"
    )
    who.add_argument(
        "--anonymous",
        action="store_true",
        help="allow a --host that is not loopback: whoever reaches it can read, write and delete",
    )
    who.add_argument("--read-only", action="store_true", help="refuse what writes")
    told = parser.add_argument_group(
        "notifications", "Pushes, pulls, mounts and deletions, in Distribution's format."
    )
    told.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help="post them there; can be given more than once",
    )
    told.add_argument(
        "--notify-token-file",
        metavar="FILE",
        help="a file with the bearer token for that; otherwise DOCKHAND_NOTIFY_TOKEN, if it is set",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-manifest",
        type=positive_int,
        default=4 << 20,
        metavar="BYTES",
        help="refuse larger manifests with 413 (4194304)",
    )
    limits.add_argument(
        "--max-blob",
        type=positive_int,
        metavar="BYTES",
        help="refuse larger blobs with 413 (no limit)",
    )
    limits.add_argument(
        "--max-uploads",
        type=positive_int,
        metavar="N",
        help="refuse to begin more uploads at once with 429 (no limit)",
    )
    limits.add_argument(
        "--upload-age",
        type=_seconds,
        default=UPLOAD_AGE,
        metavar="SECONDS",
        help="forget uploads that got no byte for so long (86400)",
    )
    unused = parser.add_argument_group(
        "instead of serving", "Servers may go on with the same folder meanwhile."
    )
    unused.add_argument(
        "--gc",
        action="store_true",
        help="remove blobs that no manifest of their repository names, and end",
    )
    unused.add_argument("--dry-run", action="store_true", help="only say what --gc would remove")
    unused.add_argument(
        "--grace",
        type=_seconds,
        default=GRACE,
        metavar="SECONDS",
        help="leave alone what is being pushed: repositories in which a blob is younger, longer "
        "than any pause in a push (3600)",
    )
    return parser


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more seconds")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or collect what is not used."""
    options = _arguments().parse_args(arguments)
    with program():
        if options.gc or options.dry_run:
            _collect(options)
        else:
            _run(options)


def _collect(options: argparse.Namespace) -> None:
    # A mistyped folder must not be made, only to find nothing in it.
    if not Path(options.root).is_dir():
        sys.exit(f"--gc: {options.root} is not a folder")
    try:
        done = collect(LayoutStorage(options.root), grace=options.grace, dry_run=options.dry_run)
    except OSError as error:
        sys.exit(f"--gc: {error}; what was removed until then was not used")
    for repository, digest in done.blobs:
        print(f"{repository}@{digest}")
    for repository in done.busy:
        print(f"{repository}: left alone, it is being pushed to", file=sys.stderr)
    for repository in done.unclear:
        print(f"{repository}: left alone, a manifest cannot be read", file=sys.stderr)
    would = "would be " if options.dry_run else ""
    print(f"{len(done.blobs)} blobs {would}removed, {done.freed} bytes {would}freed")


def _run(options: argparse.Namespace) -> None:
    asks = options.htpasswd or options.token_realm
    if not (is_loopback(options.host) or options.anonymous or asks):
        sys.exit(
            f"--host {options.host} lets others in, and nobody is asked for a password: give "
            "--htpasswd FILE or --token-realm URL, or say --anonymous if that is meant"
        )
    serve_options(_application(options), options, package="dockhand-embedded")


def _application(options: argparse.Namespace) -> App:
    from dockhand_embedded.app import create_app
    from dockhand_embedded.protocol.registry import Limits

    return create_app(
        options.root,
        read_only=options.read_only,
        limits=Limits(options.max_manifest, options.max_blob, options.max_uploads),
        upload_age=options.upload_age,
        authenticate=_authenticate(options),
        notifications=_notifications(options),
    )


def _notifications(options: argparse.Namespace) -> list[dict[str, object]]:
    token: dict[str, object] = {}
    if options.notify_token_file:
        token = {"token_file": options.notify_token_file}
    elif os.environ.get("DOCKHAND_NOTIFY_TOKEN"):
        token = {"token": os.environ["DOCKHAND_NOTIFY_TOKEN"]}
    return [{"url": url, **token} for url in options.notify]


def _authenticate(options: argparse.Namespace) -> Authenticate | None:
    from dockhand_embedded.access.policy import bearer

    tokens = bearer(options)
    if options.htpasswd is None:
        return tokens
    if tokens is not None:
        raise ConfigError("--htpasswd and --token-realm: one of them")
    try:
        from dockhand_embedded.access.htpasswd import Htpasswd
    except ImportError:
        sys.exit('bcrypt is not installed: pip install "dockhand-embedded[server]"')
    return Htpasswd(options.htpasswd)


if __name__ == "__main__":
    main()
