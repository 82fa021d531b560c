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
    add_strict_option,
    is_loopback,
    load_plugins,
    positive_int,
    program,
    refuse_plain_http,
    serve_options,
)
from dockhand_embedded.storage.garbage_collection import GRACE, collect_garbage
from dockhand_embedded.storage.layout import LayoutStorage
from dockhand_embedded.storage.upload_files import UPLOAD_AGE

if TYPE_CHECKING:
    from dockhand_embedded.access.policy import Authenticate
    from dockhand_embedded.app import AsgiApp


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_embedded",
        description="Serve a folder of OCI Image Layouts, one for each repository, as a registry.",
        epilog="Without --htpasswd or --token-… there is no access control, so the server "
        "listens on loopback only, unless --host and --anonymous are given.",
    )
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
        help="post events to this URL; can be given more than once",
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
    return parser


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect garbage if `--gc` or `--dry-run` is given; if not, serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    with program():
        if options.gc or options.dry_run:
            _run_garbage_collection(options)
        else:
            _serve(options)


def _run_garbage_collection(options: argparse.Namespace) -> None:
    # Checked here, because `LayoutStorage` would create a folder whose name was mistyped.
    if not Path(options.root).is_dir():
        sys.exit(f"--gc: {options.root} is not a folder")
    try:
        report = collect_garbage(
            LayoutStorage(options.root), grace=options.grace, dry_run=options.dry_run
        )
    except OSError as error:
        sys.exit(f"--gc: {error}; only unused blobs were removed before this error")
    for repository, digest in report.removed:
        print(f"{repository}@{digest}")
    for repository in report.in_use:
        print(f"{repository}: skipped, a push may be in progress", file=sys.stderr)
    for repository in report.unreadable:
        print(f"{repository}: skipped, a manifest cannot be read", file=sys.stderr)
    would = "would be " if options.dry_run else ""
    print(f"{len(report.removed)} blobs {would}removed, {report.freed_bytes} bytes {would}freed")


def _serve(options: argparse.Namespace) -> None:
    has_authentication = options.htpasswd or options.token_realm
    if not (is_loopback(options.host) or options.anonymous or has_authentication):
        sys.exit(
            f"--host {options.host} is reachable from other machines without access control: give "
            "--htpasswd FILE or --token-realm URL, or --anonymous to allow that"
        )
    refuse_plain_http(options, "passwords and tokens" if has_authentication else "requests")
    load_plugins(options)
    serve_options(_application(options), options, package="dockhand-embedded")


def _application(options: argparse.Namespace) -> AsgiApp:
    from dockhand_embedded.app import create_app
    from dockhand_embedded.protocol.registry import Limits

    if options.access_log:
        from dockhand_embedded.access_log import log_to_stderr

        log_to_stderr()
    return create_app(
        options.root,
        read_only=options.read_only,
        limits=Limits(options.max_manifest, options.max_blob, options.max_uploads),
        upload_age=options.upload_age,
        authenticate=_authenticate(options),
        notifications=_notifications(options),
        access_log=options.access_log,
    )


def _notifications(options: argparse.Namespace) -> list[dict[str, object]]:
    token: dict[str, object] = {}
    if options.notify_token_file:
        token = {"token_file": options.notify_token_file}
    elif os.environ.get("DOCKHAND_NOTIFY_TOKEN"):
        token = {"token": os.environ["DOCKHAND_NOTIFY_TOKEN"]}
    return [{"url": url, **token} for url in options.notify]


def _authenticate(options: argparse.Namespace) -> Authenticate | None:
    from dockhand_embedded.access.policy import bearer_from_settings

    tokens = bearer_from_settings(options)
    if options.htpasswd is None:
        return tokens
    if tokens is not None:
        raise ConfigError("--htpasswd and --token-realm exclude each other: give only one of them")
    try:
        from dockhand_embedded.access.htpasswd import Htpasswd
    except ImportError:
        sys.exit('bcrypt is not installed: pip install "dockhand-embedded[server]"')
    return Htpasswd(options.htpasswd, failures=options.login_failures)


if __name__ == "__main__":
    main()
