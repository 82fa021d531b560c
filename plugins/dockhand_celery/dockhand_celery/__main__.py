"""`python -m dockhand_celery`: hand the events of an inbox out to Celery."""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockhand_webhook import Dispatcher
from dockhand_webhook.cli import add_handler_options, backoff_of, inbox_of, run_until_signal

from dockhand_celery.executor import CeleryExecutor
from dockhand_core import ConfigError
from dockhand_core.events import event_handlers
from dockhand_core.server import add_strict_option, load_plugins, positive_seconds, program


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_celery",
        description="Hand the events of an inbox out to Celery. For each handler and repository, "
        "an event is handed out when the one before it is done. Run the receiver beside it: python "
        "-m dockhand_webhook --no-dispatch.",
        epilog="Start the workers as usual, celery -A MODULE worker, with the same plugins "
        "installed; the module calls dockhand_celery.register_handlers(app).",
    )
    parser.add_argument(
        "--app", required=True, metavar="MODULE:NAME", help="the Celery application"
    )
    parser.add_argument("--inbox", default="inbox.db", metavar="FILE", help="the inbox (inbox.db)")
    parser.add_argument(
        "--expires",
        type=positive_seconds,
        default=60.0,
        metavar="SECONDS",
        help="time after which an event that no worker took is handed out again (60)",
    )
    parser.add_argument(
        "--queue", metavar="NAME", help="the Celery queue (the application's default)"
    )
    add_handler_options(parser.add_argument_group("calling handlers"))
    add_strict_option(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand the events of an inbox out to Celery until SIGINT or SIGTERM."""
    options = _arguments().parse_args(arguments)
    with program():
        app = _application(options.app)
        handlers = event_handlers(load_plugins(options))
        if not handlers:
            raise ConfigError(
                "no installed plugin handles events, so there is nothing to hand out; install the "
                "plugins that the workers have"
            )
        executor = CeleryExecutor(
            app, timeout=options.timeout, expires=options.expires, queue=options.queue
        )
        dispatcher = Dispatcher(
            inbox_of(options),
            handlers,
            executor,
            concurrency=options.concurrency,
            backoff=backoff_of(options),
            lease=options.lease,
        )
        asyncio.run(run_until_signal(dispatcher, f"handing out for {', '.join(sorted(handlers))}"))


def _application(text: str) -> Any:
    from celery import Celery

    module, colon, name = text.partition(":")
    if not colon:
        raise ConfigError(f"--app {text!r}: must be MODULE:NAME, such as 'tasks:app'")
    sys.path.insert(0, str(Path.cwd()))  # `celery -A` does the same
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except Exception as error:
        raise ConfigError(f"--app {text!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Celery):
        raise ConfigError(f"--app {text!r} is not a Celery application")
    return found


if __name__ == "__main__":
    main()
