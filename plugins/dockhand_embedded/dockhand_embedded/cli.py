"""Functions that run the program: serve a folder as a registry, or collect its garbage."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_core import ConfigError
from dockhand_core.server import (
    fail,
    is_loopback,
    load_plugins,
    refuse_plain_http,
    serve_options,
)
from dockhand_embedded.storage.garbage_collection import collect_garbage
from dockhand_embedded.storage.layout import LayoutStorage

if TYPE_CHECKING:
    from dockhand_embedded.access.policy import Authenticate
    from dockhand_embedded.app import AsgiApp

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Collect garbage if `--gc` or `--dry-run` is given; if not, serve until SIGINT or SIGTERM."""
    if options.gc or options.dry_run:
        _run_garbage_collection(options)
    else:
        _serve(options)


def _run_garbage_collection(options: argparse.Namespace) -> None:
    # Checked here, because `LayoutStorage` would create a folder whose name was mistyped.
    if not Path(options.root).is_dir():
        fail(f"--gc: {options.root} is not a folder", status=2)
    try:
        report = collect_garbage(
            LayoutStorage(options.root), grace=options.grace, dry_run=options.dry_run
        )
    except OSError as error:
        fail(f"--gc: {error}; only unused blobs were removed before this error")
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
        fail(
            f"--host {options.host} is reachable from other machines without access control: give "
            "--htpasswd FILE or --token-realm URL, or --anonymous to allow that",
            status=2,
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
        fail('bcrypt is not installed: pip install "dockhand-embedded[server]"', status=2)
    return Htpasswd(options.htpasswd, failures=options.login_failures)
