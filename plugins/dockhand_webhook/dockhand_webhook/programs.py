"""The receiver's programs and their options: serving, tokens, and commands for the inbox.

`python -m dockhand_webhook` and the command `dockhand` use the same definitions.
"""

from __future__ import annotations

import argparse
from typing import Any

from dockhand_core.server import (
    Program,
    add_listening_options,
    add_strict_option,
    positive_int,
    positive_seconds,
)
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.dead_letter_limits import MAX_DEAD, MAX_DEAD_BYTES

__all__ = ["EVENT_COMMANDS", "NOTIFY_TOKEN", "SERVE", "add_handler_options"]

_JSON_EVENT = (
    "With --json, each line is a JSON document: the event's attributes without raw, and class (the "
    "name of the event class) and received (the time at which the event arrived). Times are in "
    "ISO 8601."
)


def add_handler_options(group: argparse._ArgumentGroup, *, inherit: bool = False) -> None:
    """Add the options of programs and commands that call handlers.

    Args:
        group: the group to which the options are added.
        inherit: leave the defaults out. Needed for a command if the program has the same options:
            a default of the command would replace a value given before the command.
    """
    usual = Backoff()

    def default(value: float) -> Any:
        return argparse.SUPPRESS if inherit else value

    group.add_argument(
        "--timeout",
        type=positive_seconds,
        default=default(30.0),
        metavar="SECONDS",
        help="time limit of a handler (30); then an async handler is cancelled, and for any other "
        "handler an error is logged",
    )
    group.add_argument(
        "--concurrency",
        type=positive_int,
        default=default(16),
        metavar="N",
        help="maximum number of repositories in progress for each handler (16)",
    )
    group.add_argument(
        "--attempts",
        type=positive_int,
        default=default(usual.attempts),
        metavar="N",
        help=f"attempts before an event becomes a dead letter ({usual.attempts})",
    )
    group.add_argument(
        "--retry-after",
        type=positive_seconds,
        default=default(usual.first),
        metavar="SECONDS",
        help=f"delay before the second attempt; each further delay is {usual.factor:g} times as "
        f"long, up to {usual.longest:g} s ({usual.first:g})",
    )
    group.add_argument(
        "--lease",
        type=positive_seconds,
        default=default(15.0),
        metavar="SECONDS",
        help="time after which the deliveries of a process that died are taken over (15)",
    )
    group.add_argument(
        "--max-dead",
        type=positive_int,
        default=default(MAX_DEAD),
        metavar="N",
        help="dead letters kept for each connection; then the oldest are deleted. Unreadable "
        f"notifications, and events that a handler failed at, are counted separately ({MAX_DEAD})",
    )
    group.add_argument(
        "--max-dead-bytes",
        type=positive_int,
        default=default(MAX_DEAD_BYTES),
        metavar="BYTES",
        help=f"size of these dead letters together ({MAX_DEAD_BYTES})",
    )


def _add_inbox(parser: argparse.ArgumentParser, inherit: bool) -> None:
    parser.add_argument(
        "--inbox",
        default=argparse.SUPPRESS if inherit else "inbox.db",
        metavar="FILE",
        help="the inbox (inbox.db)",
    )


def _add_verbose(parser: argparse.ArgumentParser, inherit: bool) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS if inherit else False,
        help="log more to standard error",
    )


def _add_ids(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "ids",
        type=int,
        nargs="*",
        metavar="ID",
        help="the dead letters with these ids, which the command dead lists",
    )
    parser.add_argument("--all", action="store_true", help=f"{verb} all dead letters")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write the result as JSON")


def _serve_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
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
    add_handler_options(handlers)
    _add_verbose(parser, inherit)


def _token_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    parser.add_argument(
        "-c",
        "--connection",
        metavar="NAME",
        help="accept the token on this connection's route only",
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8080",
        help="the receiver's URL as the registry sees it (http://127.0.0.1:8080)",
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the valid tokens with their ids")
    other.add_argument("--revoke", metavar="ID", help="revoke the token with this id")
    _add_json(parser)


def _dead_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--show", type=int, metavar="ID", help="show one in full, as JSON")
    action.add_argument("--replay", type=int, nargs="+", metavar="ID", help="try these again")
    action.add_argument("--replay-all", action="store_true", help="try all of them again")
    action.add_argument("--drop", type=int, nargs="+", metavar="ID", help="delete these")
    parser.add_argument(
        "--json", action="store_true", help="list them as JSON, a line for each, with all details"
    )


def _replay_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    _add_ids(parser, "try again")


def _drop_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    _add_ids(parser, "delete")


def _tail_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    parser.add_argument(
        "-n",
        "--lines",
        type=_natural,
        default=10,
        metavar="N",
        help="number of stored events to print first; 0 for none (10)",
    )
    parser.add_argument(
        "-f",
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="wait for further events until Ctrl-C, which is the default; --no-follow prints the "
        "stored events and ends",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a line with a JSON document for each event"
    )


def _stats_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    parser.add_argument("--json", action="store_true", help="print JSON, which is the default")


def _forget_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    parser.add_argument("handler", help="the name of the handler, as stats prints it")
    _add_json(parser)


def _work_options(parser: argparse.ArgumentParser, inherit: bool) -> None:
    _add_inbox(parser, inherit)
    add_handler_options(parser.add_argument_group("calling handlers"), inherit=inherit)
    add_strict_option(parser, default=argparse.SUPPRESS if inherit else False)
    _add_verbose(parser, inherit)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


SERVE = Program(
    help="receive the notifications of registries, and call handlers",
    description="Receive the notifications of registries, store their events on disk, and call the "
    "handlers of the installed plugins with them.",
    epilog="Registries authenticate with a token: make one with notify-token, or set "
    "DOCKHAND_NOTIFY_TOKEN. DOCKHAND_NOTIFICATIONS_ROUTE sets another path than /dockhand/notify; "
    "DOCKHAND_NOTIFICATIONS_ENABLED=false removes that path.",
    example="--inbox inbox.db --port 8080",
    add_options=_serve_options,
    run="dockhand_webhook.cli:serve",
)
NOTIFY_TOKEN = Program(
    help="make a token for a registry",
    description="Make a token, store its hash, and print it once, with the section for the "
    "registry's configuration. Earlier tokens stay valid until they are revoked, so that a "
    "registry can change from one to the next.",
    example="--connection staging --url https://hooks.example.com",
    add_options=_token_options,
    run="dockhand_webhook.cli:notify_token",
)
EVENT_COMMANDS = {
    "tail": Program(
        help="print events as they arrive",
        description="Print the last events of the inbox, then each event as it arrives, a line an "
        "event: time, class, repository with tag or digest, actor and connection ('-' where there "
        "is none). An inbox keeps an event for a day after its arrival, and longer while a "
        "handler or a dead letter needs it; older events cannot be printed.",
        epilog=_JSON_EVENT,
        example="-n 20",
        add_options=_tail_options,
        run="dockhand_webhook.tail:tail",
    ),
    "dead": Program(
        help="list, show, replay or drop dead letters",
        description="Dead letters: notifications that cannot be read, and events that a handler "
        "failed at too often. Without an option, list them.",
        example="--show 3",
        add_options=_dead_options,
        run="dockhand_webhook.cli:dead",
    ),
    "replay": Program(
        help="try dead letters again",
        description="Try dead letters again: an event is delivered to the same handler again, and "
        "a notification is parsed again. A dead letter that cannot be tried again stays.",
        example="3 4",
        add_options=_replay_options,
        run="dockhand_webhook.cli:replay",
    ),
    "drop": Program(
        help="delete dead letters",
        description="Delete dead letters. They cannot be restored.",
        example="3 4",
        add_options=_drop_options,
        run="dockhand_webhook.cli:drop",
    ),
    "stats": Program(
        help="print the counts, as JSON",
        description="Print the counts of the inbox and of each handler, as a JSON document.",
        example="",
        add_options=_stats_options,
        run="dockhand_webhook.cli:stats",
    ),
    "forget": Program(
        help="remove a handler and the deliveries that wait for it",
        description="Remove a handler and the deliveries that wait for it. If a process still has "
        "the handler, it is registered again, for new events.",
        example="audit/dockhand_event",
        add_options=_forget_options,
        run="dockhand_webhook.cli:forget",
    ),
    "work": Program(
        help="call handlers, and receive nothing",
        description="Call the handlers of the installed plugins with the events of an inbox. "
        "Several processes can do so for one inbox.",
        example="--inbox inbox.db",
        add_options=_work_options,
        run="dockhand_webhook.cli:work",
    ),
}
