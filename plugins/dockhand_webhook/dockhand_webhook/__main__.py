"""`python -m dockhand_webhook`: the receiver as a program, and commands for its inbox."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dockhand_core.server import Program
from dockhand_webhook.programs import EVENT_COMMANDS, NOTIFY_TOKEN, SERVE


def _parser() -> argparse.ArgumentParser:
    parser = SERVE.parser("python -m dockhand_webhook")
    parser.epilog = f"Without a command, the program receives notifications. {parser.epilog}"
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, program in {"notify-token": NOTIFY_TOKEN, **EVENT_COMMANDS}.items():
        program.add_to(commands, name)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the given command. If no command is given, serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    program: Program = getattr(options, "program", SERVE)
    program.execute(options)


if __name__ == "__main__":
    main()
