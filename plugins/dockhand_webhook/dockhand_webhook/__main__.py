"""`python -m dockhand_webhook`: the receiver as a program, and commands for its inbox."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dockhand_core.events import event_handlers
from dockhand_core.server import (
    add_listening_options,
    add_strict_option,
    load_plugins,
    positive_int,
    program,
    refuse_plain_http,
    serve_options,
)
from dockhand_webhook import cli


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_webhook",
        description="Receive the notifications of registries, store their events on disk, and call "
        "the handlers of the installed plugins with them.",
        epilog="Without a command, the program receives notifications. Registries authenticate "
        "with a token: make one with notify-token, or set DOCKHAND_NOTIFY_TOKEN. "
        "DOCKHAND_NOTIFICATIONS_ROUTE sets another path than /dockhand/notify; "
        "DOCKHAND_NOTIFICATIONS_ENABLED=false removes that path.",
    )
    parser.add_argument("--inbox", default="inbox.db", metavar="FILE", help="the inbox (inbox.db)")
    listening = add_listening_options(parser, 8080)
    listening.add_argument(
        "--anonymous", action="store_true", help="accept notifications without a token"
    )
    add_strict_option(listening)
    listening.add_argument(
        "--max-body",
        type=positive_int,
        default=argparse.SUPPRESS,
        metavar="BYTES",
        help="size above which a notification is refused (16 MiB)",
    )
    handlers = parser.add_argument_group("calling handlers")
    handlers.add_argument(
        "--no-dispatch",
        action="store_true",
        help="call no handlers; other processes do it with the command work",
    )
    cli.add_handler_options(handlers)
    parser.add_argument("--verbose", action="store_true", help="log more to standard error")
    cli.add_commands(parser.add_subparsers(title="commands", metavar="COMMAND"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the given command. If no command is given, serve until SIGINT or SIGTERM."""
    options = _arguments().parse_args(arguments)
    with program(verbose=options.verbose):
        getattr(options, "command", _serve)(options)


def _serve(options: argparse.Namespace) -> None:
    from dockhand_webhook.app import create_app
    from dockhand_webhook.endpoint import MAX_BODY

    refuse_plain_http(options, "tokens")
    plugins = load_plugins(options)
    app = create_app(
        plugins,
        inbox=cli.inbox_of(options),
        anonymous=options.anonymous,
        dispatch=not options.no_dispatch,
        timeout=options.timeout,
        concurrency=options.concurrency,
        backoff=cli.backoff_of(options),
        lease=options.lease,
        max_body=getattr(options, "max_body", MAX_BODY),
    )
    handlers = "called by other processes"
    if not options.no_dispatch:
        handlers = ", ".join(sorted(event_handlers(plugins))) or "none"
    print(f"handlers: {handlers}", file=sys.stderr)
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
