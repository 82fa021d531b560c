"""`python -m dockhand_webhook`: take notifications in, and see to what became of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dockhand_core.server import (
    add_listening_options,
    add_plain_http_option,
    program,
    refuse_plain_http,
    serve_options,
)
from dockhand_webhook import cli as commands


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_webhook",
        description="Take the notifications of registries in, keep them on disk, and call the "
        "handlers of the installed plugins with them.",
        epilog="Without a command it serves. It wants a token from those who post: make one with "
        "notify-token, or set DOCKHAND_NOTIFY_TOKEN. DOCKHAND_NOTIFICATIONS_ROUTE names another "
        "path than /dockhand/notify; DOCKHAND_NOTIFICATIONS_ENABLED=false takes it away.",
    )
    parser.add_argument("--inbox", default="inbox.db", metavar="FILE", help="the inbox (inbox.db)")
    listening = add_listening_options(parser, 8080)
    listening.add_argument(
        "--anonymous", action="store_true", help="take notifications from everybody, without token"
    )
    add_plain_http_option(listening)
    calling = parser.add_argument_group("calling handlers")
    calling.add_argument(
        "--no-dispatch", action="store_true", help="call none: other processes do it (work)"
    )
    commands.calling_options(calling)
    parser.add_argument("--verbose", action="store_true", help="more lines on standard error")
    commands.add(parser.add_subparsers(title="commands", metavar="COMMAND"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or do what is asked instead."""
    options = _arguments().parse_args(arguments)
    with program(verbose=options.verbose):
        getattr(options, "command", _serve)(options)


def _serve(options: argparse.Namespace) -> None:
    from dockhand_webhook.app import create_app

    app = create_app(
        inbox=options.inbox,
        anonymous=options.anonymous,
        dispatch=not options.no_dispatch,
        timeout=options.timeout,
        concurrency=options.concurrency,
        backoff=commands.backoff(options),
        lease=options.lease,
    )
    refuse_plain_http(options, "tokens")
    serve_options(
        app,
        options,
        package="dockhand-webhook",
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=30,
    )


if __name__ == "__main__":
    main()
