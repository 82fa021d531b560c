"""Commands of `python -m dockhand_webhook`, such as `notify-token`, `dead` and `stats`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from dockhand_core import ConfigError, EventInvalid, Plugins
from dockhand_core.events import EventParsers, event_handlers
from dockhand_core.server import add_strict_option, load_plugins, positive_int, positive_seconds
from dockhand_core.text import printable
from dockhand_webhook import environment, snippets
from dockhand_webhook.dispatch.dispatcher import Dispatcher, InProcessExecutor
from dockhand_webhook.errors import DeadLetterError
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.dead_letters import DeadLetter
from dockhand_webhook.inbox.inbox import MAX_DEAD, MAX_DEAD_BYTES, Inbox, is_connection_name

__all__ = [
    "add_commands",
    "add_handler_options",
    "backoff_of",
    "inbox_of",
    "run_until_signal",
]

_PAGE_SIZE = 100


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


def inbox_of(options: argparse.Namespace) -> Inbox:
    """Open the inbox that `--inbox` and the options of `add_handler_options` describe."""
    return Inbox(options.inbox, max_dead=options.max_dead, max_dead_bytes=options.max_dead_bytes)


def backoff_of(options: argparse.Namespace) -> Backoff:
    """Create the `Backoff` that the options of `add_handler_options` describe."""
    return Backoff(attempts=options.attempts, first=options.retry_after)


def add_commands(commands: Any) -> None:
    """Add the commands to the program's subparsers."""
    inbox = argparse.ArgumentParser(add_help=False)
    inbox.add_argument(  # a default would replace the value of an --inbox before the command
        "--inbox", default=argparse.SUPPRESS, metavar="FILE", help="the inbox (inbox.db)"
    )
    token = commands.add_parser(
        "notify-token",
        parents=[inbox],
        help="make a token for a registry",
        description="Make a token, store its hash, and print it once, with the section for the "
        "registry's configuration. Earlier tokens stay valid until they are revoked, so that a "
        "registry can change from one to the next.",
    )
    token.add_argument(
        "--connection", metavar="NAME", help="accept the token on this connection's route only"
    )
    token.add_argument(
        "--url",
        default="http://127.0.0.1:8080",
        help="the receiver's URL as the registry sees it (http://127.0.0.1:8080)",
    )
    other = token.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the valid tokens with their ids")
    other.add_argument("--revoke", metavar="ID", help="revoke the token with this id")
    token.set_defaults(command=_notify_token)

    dead = commands.add_parser(
        "dead",
        parents=[inbox],
        help="list, show, replay or drop dead letters",
        description="Dead letters: notifications that cannot be read, and events that a handler "
        "failed at too often. Without an option, list them.",
    )
    action = dead.add_mutually_exclusive_group()
    action.add_argument("--show", type=int, metavar="ID", help="show one in full, as JSON")
    action.add_argument("--replay", type=int, nargs="+", metavar="ID", help="try these again")
    action.add_argument("--replay-all", action="store_true", help="try all of them again")
    action.add_argument("--drop", type=int, nargs="+", metavar="ID", help="delete these")
    dead.set_defaults(command=_dead)

    stats = commands.add_parser("stats", parents=[inbox], help="print the counts, as JSON")
    stats.set_defaults(command=_stats)

    forget = commands.add_parser(
        "forget", parents=[inbox], help="remove a handler and the deliveries that wait for it"
    )
    forget.add_argument("handler", help="the name of the handler, as stats prints it")
    forget.set_defaults(command=_forget)

    work = commands.add_parser(
        "work",
        parents=[inbox],
        help="call handlers, and receive nothing",
        description="Call the handlers of the installed plugins with the events of an inbox. "
        "Several processes can do so for one inbox.",
    )
    add_handler_options(work.add_argument_group("calling handlers"), inherit=True)
    add_strict_option(work, default=argparse.SUPPRESS)
    work.set_defaults(command=_work)


def _notify_token(options: argparse.Namespace) -> None:
    inbox = Inbox(options.inbox)
    if options.list:
        for token in inbox.tokens.valid():
            where = f"route of {token.connection}" if token.connection else "every route"
            print(f"{token.id}  {token.created:%Y-%m-%d %H:%M}  {where}")
        return
    if options.revoke is not None:
        if not inbox.tokens.revoke(options.revoke):
            raise ConfigError(
                f"there is no token {options.revoke!r}; notify-token --list prints the ids"
            )
        print("revoked; receivers know within a second")
        return
    name = options.connection
    if name is not None and not is_connection_name(name):
        raise ConfigError(
            f"--connection {name!r}: must be a name of up to 64 letters, digits, '_', '.' and '-'"
        )
    url = options.url.rstrip("/") + environment.route() + (f"/{name}" if name else "")
    secret = inbox.tokens.issue(name).get_secret_value()
    print("# The token is shown only once; the inbox stores its hash.")
    print(f"# token: {secret}")
    print("#\n# Distribution, config.yml:\n")
    print(snippets.distribution_section(url, secret))
    print("# zot, config.json:\n")
    print(snippets.zot_section(url, secret))


def _dead(options: argparse.Namespace) -> None:
    inbox = Inbox(options.inbox)
    if options.show is not None:
        _print_json(_as_json(inbox.dead_letters.get(options.show)))
    elif options.drop is not None:
        for letter_id in options.drop:
            inbox.dead_letters.drop(letter_id)
        print(f"{len(options.drop)} dropped")
    elif options.replay is not None:
        _replay(inbox, options.replay)
    elif options.replay_all:
        _replay(inbox, [letter.id for letter in _all_dead_letters(inbox)])
    else:
        for letter in _all_dead_letters(inbox):
            source = letter.handler or f"route of {letter.connection or 'no connection'}"
            line = f"{letter.id}  {letter.died:%Y-%m-%d %H:%M:%S}  {source}  {letter.summary}"
            print(printable(line))
            print(f"    {printable(letter.reason.splitlines()[0]) if letter.reason else ''}")


def _all_dead_letters(inbox: Inbox) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    while page := inbox.dead_letters.page(_PAGE_SIZE, after=found[-1].id if found else 0):
        found += page
    return found


def _replay(inbox: Inbox, letter_ids: list[int]) -> None:
    """Replay dead letters; exit with status 1 if one of them cannot be replayed."""
    parsers, failed = EventParsers(Plugins()), 0
    for letter_id in letter_ids:
        try:
            inbox.dead_letters.replay(letter_id, parsers)
        except DeadLetterError as error:
            failed += 1
            print(printable(str(error)), file=sys.stderr)
        except EventInvalid as error:
            failed += 1
            problem = printable(str(error))
            print(f"{letter_id}: still cannot be read: {problem}", file=sys.stderr)
        else:
            print(f"{letter_id}: replayed")
    if failed:
        sys.exit(1)


def _print_json(value: Any) -> None:
    # JSON escapes all control characters but DEL.
    print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": letter.id,
        "died": letter.died.isoformat(),
        "reason": letter.reason,
        "connection": letter.connection or None,
    }
    if letter.event is not None:
        return shown | {
            "handler": letter.handler,
            "attempts": letter.attempts,
            "class": letter.event.kind,
            "event": json.loads(letter.event.data),
        }
    assert letter.notification is not None
    return shown | {
        "headers": dict(letter.notification.headers),
        "size": letter.notification.size,
        "body": letter.notification.body.decode("utf-8", errors="backslashreplace"),
    }


def _stats(options: argparse.Namespace) -> None:
    counts = Inbox(options.inbox).counts()
    totals = ("received", "duplicated", "invalid", "delivered", "failed", "dead", "waiting", "lag")
    per_handler = ("delivered", "failed", "dead", "waiting", "lag")
    shown: dict[str, Any] = {name: getattr(counts, name) for name in totals}
    shown["letters"], shown["deleted"] = counts.dead_letters, counts.deleted
    shown["handlers"] = {
        handler: {name: getattr(of_handler, name) for name in per_handler}
        for handler, of_handler in counts.handlers.items()
    }
    _print_json(shown)


def _forget(options: argparse.Namespace) -> None:
    waiting = Inbox(options.inbox).forget_handler(options.handler)
    print(f"removed, with {waiting} events that were not delivered to it yet")


def _work(options: argparse.Namespace) -> None:
    handlers = event_handlers(load_plugins(options))
    if not handlers:
        raise ConfigError(
            "no installed plugin handles events: install a package with an entry point in the "
            "group dockhand that has a hook such as dockhand_manifest_pushed"
        )
    dispatcher = Dispatcher(
        inbox_of(options),
        handlers,
        InProcessExecutor(handlers, options.timeout),
        concurrency=options.concurrency,
        backoff=backoff_of(options),
        lease=options.lease,
    )
    asyncio.run(run_until_signal(dispatcher, f"working for {', '.join(sorted(handlers))}"))


async def run_until_signal(dispatcher: Dispatcher, started: str) -> None:
    """Run a dispatcher until SIGINT or SIGTERM.

    Args:
        dispatcher: the dispatcher.
        started: a line to print after the start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await dispatcher.start()
    print(started, flush=True)
    await stop.wait()
    await dispatcher.stop()
