"""`python -m dockhand_embedded`: serve a folder of OCI Image Layouts as a registry."""

from __future__ import annotations

from collections.abc import Sequence

from dockhand_embedded.programs import SERVE


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect garbage if `--gc` or `--dry-run` is given; if not, serve until SIGINT or SIGTERM."""
    SERVE.main("python -m dockhand_embedded", arguments)


if __name__ == "__main__":
    main()
