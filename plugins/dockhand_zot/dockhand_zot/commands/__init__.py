"""The command `dockhand zot`.

The program `dockhand` imports this package when `dockhand zot` is called. The package dockhand-zot
does not require dockhand-cli.
"""

from __future__ import annotations

from typing import Any

import typer
from dockhand_cli.exit_codes import DENIED, NOT_FOUND, CommandFailed, UsageError
from typer.core import TyperGroup

from dockhand_zot.commands import api_keys, images, preferences, server, vulnerabilities

__all__ = ["app"]


class _Zot(TyperGroup):
    """The group of the commands, which gives zot's errors their exit status."""

    def invoke(self, context: Any) -> Any:
        """Run a command."""
        from dockhand_zot.errors import (
            ApiKeyInvalid,
            ImageInvalid,
            SearchForbidden,
            SearchUnknown,
            SeverityInvalid,
        )

        try:
            return super().invoke(context)
        except (ApiKeyInvalid, ImageInvalid, SeverityInvalid) as error:
            raise UsageError(str(error)) from error
        except SearchUnknown as error:
            raise CommandFailed(str(error), NOT_FOUND) from error
        except SearchForbidden as error:
            raise CommandFailed(str(error), DENIED) from error


app = typer.Typer(
    cls=_Zot,
    no_args_is_help=True,
    help="Search, stars, vulnerabilities and API keys of a zot registry. A host without a "
    "configured connection is taken for a zot; a connection needs the driver zot.",
)
for module in (images, vulnerabilities, preferences, server):
    app.add_typer(module.app)
app.add_typer(api_keys.app, name="api-keys")
