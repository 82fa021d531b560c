"""The commands beside serving: tokens, dead letters, counts, and workers."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from dockhand_core import ConfigError, EventInvalid, Plugins
from dockhand_core.events import EventParsers, event_handlers
from dockhand_core.server import positive_int
from dockhand_webhook import settings, snippets
from dockhand_webhook.dispatch.dispatcher import Dispatcher, InProcess
from dockhand_webhook.errors import LetterError
from dockhand_webhook.inbox.dead_letters import DeadLetter
from dockhand_webhook.inbox.deliveries import Backoff
from dockhand_webhook.inbox.inbox import Inbox, is_connection

__all__ = ["add", "backoff", "calling_options", "seconds", "until_signal"]

_PAGE = 100


def calling_options(group: argparse._ArgumentGroup, *, again: bool = False) -> None:
    """Add the options of those that call handlers.

    Args:
        group: where to.
        again: whether a command takes them that its program takes, too: what the program was given
            holds where the command is given nothing.
    """
    usual = Backoff()

    def default(value: float) -> Any:
        return argparse.SUPPRESS if again else value

    group.add_argument(
        "--timeout",
        type=seconds,
        default=default(30.0),
        metavar="SECONDS",
        help="cancel an async handler after this, and report one in a thread (30)",
    )
    group.add_argument(
        "--concurrency",
        type=positive_int,
        default=default(16),
        metavar="N",
        help="repositories at once for each handler (16)",
    )
    group.add_argument(
        "--attempts",
        type=positive_int,
        default=default(usual.attempts),
        metavar="N",
        help=f"put an event among the dead letters when a handler failed so often "
        f"({usual.attempts})",
    )
    group.add_argument(
        "--retry-after",
        type=seconds,
        default=default(usual.first),
        metavar="SECONDS",
        help=f"wait so long for a second attempt, {usual.factor:g} times as long for each further "
        f"one, and at most {usual.longest:g} s ({usual.first:g})",
    )
    group.add_argument(
        "--lease",
        type=seconds,
        default=default(15.0),
        metavar="SECONDS",
        help="take over what a process had that has not been heard of for so long (15)",
    )


def backoff(options: argparse.Namespace) -> Backoff:
    """What the options say of attempts."""
    return Backoff(attempts=options.attempts, first=options.retry_after)


def seconds(text: str) -> float:
    """A number of seconds from the command line."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return number


def add(commands: Any) -> None:
    """Add the commands to the program's."""
    inbox = argparse.ArgumentParser(add_help=False)
    inbox.add_argument(  # the program's own default holds where this is not given
        "--inbox", default=argparse.SUPPRESS, metavar="FILE", help="the inbox (inbox.db)"
    )
    token = commands.add_parser(
        "notify-token",
        parents=[inbox],
        help="make a token for a registry",
        description="Make a token, keep its hash, and print it once, with what the registry's "
        "configuration has to say. Those made before stay valid until they are revoked, so that "
        "one can follow the other.",
    )
    token.add_argument(
        "--connection", metavar="NAME", help="a token for that connection's route alone"
    )
    token.add_argument(
        "--url",
        default="http://127.0.0.1:8080",
        help="where the receiver listens, as the registry sees it (http://127.0.0.1:8080)",
    )
    other = token.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="the tokens that hold, by their ids")
    other.add_argument("--revoke", metavar="ID", help="make the one void that is listed so")
    token.set_defaults(command=_notify_token)

    dead = commands.add_parser(
        "dead",
        parents=[inbox],
        help="list, show, replay or drop dead letters",
        description="What could not be read, and what a handler failed at too often. Without an "
        "option, a list.",
    )
    what = dead.add_mutually_exclusive_group()
    what.add_argument("--show", type=int, metavar="ID", help="all that is known of one, as JSON")
    what.add_argument("--replay", type=int, nargs="+", metavar="ID", help="try these again")
    what.add_argument("--replay-all", action="store_true", help="try all of them again")
    what.add_argument("--drop", type=int, nargs="+", metavar="ID", help="forget these")
    dead.set_defaults(command=_dead)

    stats = commands.add_parser("stats", parents=[inbox], help="what was seen, as JSON")
    stats.set_defaults(command=_stats)

    forget = commands.add_parser(
        "forget", parents=[inbox], help="forget a handler, and what it is still to be told of"
    )
    forget.add_argument("handler", help="its name, as stats shows it")
    forget.set_defaults(command=_forget)

    work = commands.add_parser(
        "work",
        parents=[inbox],
        help="call handlers, and receive nothing",
        description="Call the handlers of the installed plugins with what is in an inbox, as one "
        "of several processes.",
    )
    calling_options(work.add_argument_group("calling handlers"), again=True)
    work.set_defaults(command=_work)


def _notify_token(options: argparse.Namespace) -> None:
    inbox = Inbox(options.inbox)
    if options.list:
        for token in inbox.tokens.held():
            where = f"route of {token.connection}" if token.connection else "every route"
            print(f"{token.id}  {token.made:%Y-%m-%d %H:%M}  {where}")
        return
    if options.revoke is not None:
        if not inbox.tokens.revoke(options.revoke):
            raise ConfigError(f"no token {options.revoke!r} holds; notify-token --list has the ids")
        print("revoked; receivers know within a second")
        return
    name = options.connection
    if name is not None and not is_connection(name):
        raise ConfigError(
            f"--connection {name!r}: a name of up to 64 letters, digits, '_', '.' and '-'"
        )
    url = options.url.rstrip("/") + settings.route() + (f"/{name}" if name else "")
    secret = inbox.tokens.issue(name).get_secret_value()
    print("# It is shown this once; the inbox keeps its hash.")
    print(f"# token: {secret}")
    print("#\n# Distribution, config.yml:\n")
    print(snippets.distribution_section(url, secret))
    print("# zot, config.json:\n")
    print(snippets.zot_section(url, secret))


def _dead(options: argparse.Namespace) -> None:
    inbox = Inbox(options.inbox)
    if options.show is not None:
        print(json.dumps(_shown(inbox.letters.get(options.show)), indent=2))
    elif options.drop is not None:
        for number in options.drop:
            inbox.letters.drop(number)
        print(f"{len(options.drop)} dropped")
    elif options.replay is not None:
        _replay(inbox, options.replay)
    elif options.replay_all:
        _replay(inbox, [letter.id for letter in _all(inbox)])
    else:
        for letter in _all(inbox):
            who = letter.handler or f"route of {letter.connection or 'no connection'}"
            print(f"{letter.id}  {letter.died:%Y-%m-%d %H:%M:%S}  {who}  {letter.what}")
            print(f"    {letter.reason.splitlines()[0] if letter.reason else ''}")


def _all(inbox: Inbox) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    while page := inbox.letters.held(_PAGE, after=found[-1].id if found else 0):
        found += page
    return found


def _replay(inbox: Inbox, numbers: list[int]) -> None:
    """Try them all; end with a failure if one of them cannot be."""
    parsers, failed = EventParsers(Plugins()), 0
    for number in numbers:
        try:
            inbox.letters.replay(number, parsers)
        except LetterError as error:
            failed += 1
            print(error, file=sys.stderr)
        except EventInvalid as error:
            failed += 1
            print(f"{number}: still cannot be read: {error}", file=sys.stderr)
        else:
            print(f"{number}: replayed")
    if failed:
        sys.exit(1)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": letter.id,
        "died": letter.died.isoformat(),
        "reason": letter.reason,
        "connection": letter.connection or None,
    }
    if letter.event is not None:
        return found | {
            "handler": letter.handler,
            "attempts": letter.attempts,
            "class": letter.event.kind,
            "event": json.loads(letter.event.data),
        }
    assert letter.unread is not None
    return found | {
        "headers": dict(letter.unread.headers),
        "size": letter.unread.size,
        "body": letter.unread.body.decode("utf-8", errors="backslashreplace"),
    }


def _stats(options: argparse.Namespace) -> None:
    counts = Inbox(options.inbox).counts()
    whole = ("received", "duplicated", "invalid", "delivered", "failed", "dead", "waiting", "lag")
    each = ("delivered", "failed", "dead", "waiting", "lag")
    shown: dict[str, Any] = {name: getattr(counts, name) for name in whole}
    shown["letters"] = counts.letters
    shown["handlers"] = {
        handler: {name: getattr(found, name) for name in each}
        for handler, found in counts.handlers.items()
    }
    print(json.dumps(shown, indent=2))


def _forget(options: argparse.Namespace) -> None:
    waiting = Inbox(options.inbox).forget_handler(options.handler)
    print(f"forgotten, with {waiting} events that it was still to be told of")


def _work(options: argparse.Namespace) -> None:
    handlers = event_handlers(Plugins())
    if not handlers:
        raise ConfigError(
            "no installed plugin handles events: a handler is a hook such as "
            "dockhand_manifest_pushed of a package with an entry point in the group dockhand"
        )
    dispatcher = Dispatcher(
        Inbox(options.inbox),
        handlers,
        InProcess(handlers, options.timeout),
        concurrency=options.concurrency,
        backoff=backoff(options),
        lease=options.lease,
    )
    asyncio.run(until_signal(dispatcher, f"working for {', '.join(sorted(handlers))}"))


async def until_signal(dispatcher: Dispatcher, line: str) -> None:
    """Make deliveries until SIGINT or SIGTERM; the line says that it began."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await dispatcher.start()
    print(line, flush=True)
    await stop.wait()
    await dispatcher.stop()
