"""The command `python -m dockhand_token_server`, which serves the token endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from dockhand_token_server.programs import SERVE


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that an option names. Without such an option, serve until SIGINT or SIGTERM.

    Args:
        arguments: the command-line arguments. The default is the arguments of the process.
    """
    SERVE.main("python -m dockhand_token_server", arguments)


if __name__ == "__main__":
    main()
