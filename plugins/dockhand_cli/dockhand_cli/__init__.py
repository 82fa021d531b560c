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

from dockhand_cli.session import Session, session_of
from dockhand_cli.values import Size

__all__ = ["Session", "Size", "session_of"]
