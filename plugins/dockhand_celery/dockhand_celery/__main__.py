"""`python -m dockhand_celery`: hand what is in an inbox to Celery."""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockhand_webhook import Dispatcher, Inbox
from dockhand_webhook.cli import backoff, calling_options, seconds, until_signal

from dockhand_celery.runner import CeleryRunner
from dockhand_core import ConfigError, DockhandError, Plugins
from dockhand_core.events import event_handlers


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_celery",
        description="Hand the events of an inbox to Celery, the next one of a handler and "
        "repository when the one before is done. The receiver runs beside it: python -m "
        "dockhand_webhook --no-dispatch.",
        epilog="The workers are started as usual, celery -A MODULE worker, with the same plugins "
        "installed; the module says dockhand_celery.register_handlers(app).",
    )
    parser.add_argument(
        "--app", required=True, metavar="MODULE:NAME", help="the Celery application"
    )
    parser.add_argument("--inbox", default="inbox.db", metavar="FILE", help="the inbox (inbox.db)")
    parser.add_argument(
        "--expires",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="hand it out again when no worker took it for so long (60)",
    )
    parser.add_argument("--queue", metavar="NAME", help="the queue (the application's default)")
    calling_options(parser.add_argument_group("calling handlers"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand out until SIGINT or SIGTERM."""
    options = _arguments().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app = _application(options.app)
        handlers = event_handlers(Plugins())
        if not handlers:
            raise ConfigError("no installed plugin handles events, so there is nothing to hand out")
        runner = CeleryRunner(
            app, timeout=options.timeout, expires=options.expires, queue=options.queue
        )
        dispatcher = Dispatcher(
            Inbox(options.inbox),
            handlers,
            runner,
            concurrency=options.concurrency,
            backoff=backoff(options),
            lease=options.lease,
        )
        asyncio.run(until_signal(dispatcher, f"handing out for {', '.join(sorted(handlers))}"))
    except DockhandError as error:
        sys.exit(str(error))


def _application(text: str) -> Any:
    from celery import Celery

    module, colon, name = text.partition(":")
    if not colon:
        raise ConfigError(f"--app {text!r}: MODULE:NAME is expected, such as 'tasks:app'")
    sys.path.insert(0, str(Path.cwd()))  # as `celery -A` finds it
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:
        raise ConfigError(f"--app {text!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Celery):
        raise ConfigError(f"--app {text!r} is no Celery application")
    return found


if __name__ == "__main__":
    main()
