"""The command `dockhand`, and the parts that a plugin's own commands use.

A command is a function of a typer application. It takes the session of its context, from which it
gets clients, and to whose output it writes::

    @app.command()
    def projects(context: typer.Context) -> None:
        session = session_of(context)
        for project in session.client(None).projects():
            session.output.item({"project": project.name}, project.name)

The options of every command, such as `--json` and `--connection`, are added to it.
"""

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_cli.session import Session, session_of
    from dockhand_cli.values import Size
else:
    __getattr__ = lazy_exports(
        __name__, {"Session": "session", "session_of": "session", "Size": "values"}
    )

__all__ = ["Session", "Size", "session_of"]
