"""Functions that run the receiver and the commands for its inbox; `programs` has their options."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from dockhand_core import ConfigError, EventInvalid
from dockhand_core.events import EventParsers, event_handlers
from dockhand_core.server import fail, load_manager, refuse_plain_http, serve_options
from dockhand_core.text import printable
from dockhand_webhook import environment, snippets
from dockhand_webhook.dispatch.dispatcher import Dispatcher, InProcessExecutor
from dockhand_webhook.documents import (
    Dropped,
    Forgotten,
    HandlerStats,
    ListedToken,
    NewToken,
    Replayed,
    Stats,
)
from dockhand_webhook.errors import DeadLetterError, DeadLetterUnknown
from dockhand_webhook.inbox.backoff import Backoff
from dockhand_webhook.inbox.dead_letters import DeadLetter
from dockhand_webhook.inbox.inbox import Inbox, is_connection_name
from dockhand_webhook.inbox.tokens import NotifyToken
from dockhand_webhook.programs import add_handler_options

__all__ = [
    "add_handler_options",
    "backoff_of",
    "dead",
    "drop",
    "forget",
    "inbox_of",
    "notify_token",
    "replay",
    "run_until_signal",
    "serve",
    "stats",
    "work",
]

_PAGE_SIZE = 100


def inbox_of(options: argparse.Namespace) -> Inbox:
    """Open the inbox that `--inbox` and the options of `add_handler_options` describe."""
    return Inbox(options.inbox, max_dead=options.max_dead, max_dead_bytes=options.max_dead_bytes)


def backoff_of(options: argparse.Namespace) -> Backoff:
    """Create the `Backoff` that the options of `add_handler_options` describe."""
    return Backoff(attempts=options.attempts, first=options.retry_after)


def serve(options: argparse.Namespace) -> None:
    """Receive notifications until SIGINT or SIGTERM."""
    from dockhand_webhook.app import create_app
    from dockhand_webhook.endpoint import MAX_BODY

    refuse_plain_http(options, "tokens")
    dockhand = load_manager(options)
    app = create_app(
        dockhand,
        inbox=inbox_of(options),
        anonymous=options.anonymous,
        dispatch=not options.no_dispatch,
        timeout=options.timeout,
        concurrency=options.concurrency,
        backoff=backoff_of(options),
        lease=options.lease,
        max_body=getattr(options, "max_body", MAX_BODY),
    )
    handlers = "called by other processes"
    if not options.no_dispatch:
        handlers = ", ".join(sorted(event_handlers(dockhand.plugins))) or "none"
    print(f"handlers: {handlers}", file=sys.stderr)
    serve_options(
        app,
        options,
        package="dockhand-webhook",
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=30,
    )


def notify_token(options: argparse.Namespace) -> None:
    """Make a token, or list or revoke tokens."""
    inbox = Inbox(options.inbox)
    if options.list:
        tokens = inbox.tokens.valid()
        if options.json:
            _print_json([_token_json(token) for token in tokens])
            return
        for token in tokens:
            where = f"route of {token.connection}" if token.connection else "every route"
            print(f"{token.id}  {token.created:%Y-%m-%d %H:%M}  {where}")
        return
    if options.revoke is not None:
        if not inbox.tokens.revoke(options.revoke):
            fail(
                f"there is no token {options.revoke!r}; notify-token --list prints the ids",
                status=3,
            )
        if options.json:
            _print_json({"revoked": options.revoke})
        else:
            print("revoked; receivers know within a second")
        return
    name = options.connection
    if name is not None and not is_connection_name(name):
        raise ConfigError(
            f"--connection {name!r}: must be a name of up to 64 letters, digits, '_', '.' and '-'"
        )
    url = options.url.rstrip("/") + environment.route() + (f"/{name}" if name else "")
    secret = inbox.tokens.issue(name).get_secret_value()
    if options.json:
        _print_json(NewToken(token=secret, connection=name, url=url))
        return
    print("# The token is shown only once; the inbox stores its hash.")
    print(f"# token: {secret}")
    print("#\n# Distribution, config.yml:\n")
    print(snippets.distribution_section(url, secret))
    print("# zot, config.json:\n")
    print(snippets.zot_section(url, secret))


def _token_json(token: NotifyToken) -> ListedToken:
    return ListedToken(
        id=token.id, created=token.created.isoformat(), connection=token.connection or None
    )


def dead(options: argparse.Namespace) -> None:
    """List dead letters, or do with some of them what an option says."""
    inbox = Inbox(options.inbox)
    if options.show is not None:
        try:
            letter = inbox.dead_letters.get(options.show)
        except DeadLetterUnknown as error:
            fail(str(error), status=3)
        _print_json(_as_json(letter), indent=None if options.json else 2)
    elif options.drop is not None:
        _drop(inbox, options.drop)
    elif options.replay is not None:
        _replay(inbox, options.replay)
    elif options.replay_all:
        _replay(inbox, _all_ids(inbox))
    elif options.json:
        for letter in _all_dead_letters(inbox):
            _print_json(_as_json(letter), indent=None)
    else:
        for letter in _all_dead_letters(inbox):
            source = letter.handler or f"route of {letter.connection or 'no connection'}"
            line = f"{letter.id}  {letter.died:%Y-%m-%d %H:%M:%S}  {source}  {letter.summary}"
            print(printable(line))
            print(f"    {printable(letter.reason.splitlines()[0]) if letter.reason else ''}")


def replay(options: argparse.Namespace) -> None:
    """Try dead letters again."""
    _check_ids(options)
    inbox = Inbox(options.inbox)
    _replay(inbox, _all_ids(inbox) if options.all else options.ids, as_json=options.json)


def drop(options: argparse.Namespace) -> None:
    """Delete dead letters."""
    _check_ids(options)
    inbox = Inbox(options.inbox)
    _drop(inbox, _all_ids(inbox) if options.all else options.ids, as_json=options.json)


def _check_ids(options: argparse.Namespace) -> None:
    if bool(options.ids) == options.all:
        fail("give either the ids of dead letters, which the command dead lists, or --all", 2)


def _all_dead_letters(inbox: Inbox) -> Iterable[DeadLetter]:
    after = 0
    while page := inbox.dead_letters.page(_PAGE_SIZE, after=after):
        yield from page
        after = page[-1].id


def _all_ids(inbox: Inbox) -> list[int]:
    return [letter.id for letter in _all_dead_letters(inbox)]


def _replay(inbox: Inbox, letter_ids: list[int], *, as_json: bool = False) -> None:
    parsers = EventParsers(load_manager().plugins)
    replayed = []

    def replay_one(letter_id: int) -> None:
        try:
            inbox.dead_letters.replay(letter_id, parsers)
        except EventInvalid as error:
            raise DeadLetterError(f"{letter_id}: still cannot be read: {error}") from error
        replayed.append(letter_id)
        if not as_json:
            print(f"{letter_id}: replayed")

    try:
        _for_each(letter_ids, replay_one)
    finally:
        if as_json:
            _print_json(Replayed(replayed=replayed))


def _drop(inbox: Inbox, letter_ids: list[int], *, as_json: bool = False) -> None:
    dropped = []

    def drop_one(letter_id: int) -> None:
        inbox.dead_letters.drop(letter_id)
        dropped.append(letter_id)

    try:
        _for_each(letter_ids, drop_one)
    finally:
        if as_json:
            _print_json(Dropped(dropped=dropped))
        elif dropped or not letter_ids:
            print(f"{len(dropped)} dropped")


def _for_each(letter_ids: list[int], action: Callable[[int], None]) -> None:
    """Do the same with several dead letters.

    Raises:
        ProgramFailed: one of them failed, with a line for each. The status is 1, or 3 if it was the
            only one, and does not exist.
    """
    errors = []
    for letter_id in letter_ids:
        try:
            action(letter_id)
        except DeadLetterError as error:
            errors.append(error)
    if errors:
        unknown = len(letter_ids) == 1 and isinstance(errors[0], DeadLetterUnknown)
        fail("\n".join(printable(str(each)) for each in errors), 3 if unknown else 1)


def _print_json(value: Any, indent: int | None = 2) -> None:
    # JSON escapes all control characters but DEL.
    print(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"))


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


def stats(options: argparse.Namespace) -> None:
    """Print the counts of the inbox, as JSON."""
    counts = Inbox(options.inbox).counts()
    handlers = {
        name: HandlerStats(
            delivered=each.delivered,
            failed=each.failed,
            dead=each.dead,
            waiting=each.waiting,
            lag=each.lag,
        )
        for name, each in counts.handlers.items()
    }
    shown = Stats(
        received=counts.received,
        duplicated=counts.duplicated,
        invalid=counts.invalid,
        delivered=counts.delivered,
        failed=counts.failed,
        dead=counts.dead,
        waiting=counts.waiting,
        lag=counts.lag,
        letters=counts.dead_letters,
        deleted=counts.deleted,
        handlers=handlers,
    )
    _print_json(shown)


def forget(options: argparse.Namespace) -> None:
    """Remove a handler, and the deliveries that wait for it."""
    inbox = Inbox(options.inbox)
    try:
        waiting = inbox.forget_handler(options.handler)
    except ConfigError as error:
        fail(str(error), status=3)
    if options.json:
        _print_json(Forgotten(handler=options.handler, undelivered=waiting))
    else:
        print(f"removed, with {waiting} events that were not delivered to it yet")


def work(options: argparse.Namespace) -> None:
    """Call handlers with the events of an inbox until SIGINT or SIGTERM."""
    handlers = event_handlers(load_manager(options).plugins)
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
