"""The command `python -m dockhand_auth_jwt keys`, which makes keys and prints a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dockhand_auth_jwt.programs import KEYS


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, and run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m dockhand_auth_jwt", description="Set up Dockhand as a token authority."
    )
    KEYS.add_to(parser.add_subparsers(metavar="COMMAND", required=True), "keys")
    KEYS.execute(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
