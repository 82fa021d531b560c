"""Commands of `dockhand` made of programs of other packages, which parse with argparse.

A program (`dockhand_core.server.Program`) has its options in one place, for `python -m PACKAGE` and
for `dockhand`. Here typer gets them for the help and for completion; the arguments themselves are
parsed by the program's own parser.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand

from dockhand_cli.exit_codes import CommandFailed, UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.session import Options, session_of

if TYPE_CHECKING:
    from dockhand_core.server import Program

__all__ = ["ProgramSource", "add_program"]

# Options of every command that a program's parser accepts, too, unless the program has an option
# of that name: the names, the attribute of `Options`, and the arguments of `add_argument`.
_COMMON: tuple[tuple[tuple[str, ...], str, dict[str, Any]], ...] = (
    (("-c", "--connection"), "connection", {}),
    (("--config",), "config", {}),
    (("--json",), "as_json", {"action": "store_true"}),
    (("-q", "--quiet"), "quiet", {"action": "store_true"}),
    (("-v", "--verbose"), "verbosity", {"action": "count"}),
    (("--debug",), "debug", {"action": "store_true"}),
)
_PREFIX = "common "  # of these attributes in a program's options, whose own names have no space
_PLAIN_GROUPS = {"options", "positional arguments"}  # as argparse names them


class ProgramSource(NamedTuple):
    """The place to import a program from.

    Attributes:
        package: the import package.
        attribute: name of the program in the package's module `programs`; or the name of a mapping
            there, a dot and a key.
        extra: the extra of dockhand-core that installs the package.
    """

    package: str
    attribute: str
    extra: str

    def load(self) -> Program | str:
        """Import the program; return the reason if it cannot be imported."""
        if importlib.util.find_spec(self.package) is None:
            return (
                f"{self.package.replace('_', '-')} is not installed: "
                f'pip install "dockhand-core[{self.extra}]"'
            )
        try:
            module = importlib.import_module(f"{self.package}.programs")
        except Exception as error:  # a damaged package costs only its own commands
            name = self.package.replace("_", "-")
            return f"{name} cannot be loaded: {type(error).__name__}: {error}"
        name, _, key = self.attribute.partition(".")
        found: Any = getattr(module, name)
        program: Program = found[key] if key else found
        return program


def add_program(app: typer.Typer, path: str, source: ProgramSource) -> None:
    """Add a program to a typer application as a command.

    Args:
        app: the application.
        path: the words that start the program, such as `dockhand serve registry`.
        source: where to import the program from.
    """
    program = source.load()
    name = path.rpartition(" ")[2]
    if isinstance(program, str):
        app.command(name, cls=_ProgramCommand, help=_no_markup(program))(_absent(program))
        return
    app.command(
        name,
        cls=_ProgramCommand,
        short_help=f"{program.help[0].upper()}{program.help[1:]}.",
        help=_no_markup(_help(program, path)),
        epilog=examples(f"{path} {program.example}".rstrip()),
    )(_runner(program, path))


class _ProgramCommand(TyperCommand):
    """A command that leaves its arguments to its function; typer parses them for completion only.

    The classes of the arguments are not exported by typer.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.args = list(args)
        return args


class _Parser(argparse.ArgumentParser):
    """A parser of a program's arguments, with the help and the errors of `dockhand`.

    Args:
        program: the program.
        path: the words that start it.
        context: the context of the typer command.
    """

    def __init__(self, program: Program, path: str, context: typer.Context | None = None) -> None:
        super().__init__(prog=path)
        self._context = context
        program.add_options(self, False)

    def add_common_options(self) -> None:
        """Accept the options of every command."""
        for names, attribute, settings in _COMMON:
            free = [name for name in names if name not in self._option_string_actions]
            if free:
                self.add_argument(
                    *free, dest=_PREFIX + attribute, default=argparse.SUPPRESS, **settings
                )

    def error(self, message: str) -> NoReturn:
        """Raise the error of wrong usage."""
        raise UsageError(f"{message} ({self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        """Print the help of the typer command."""
        assert self._context is not None
        typer.echo(self._context.get_help(), file=file)

    def exit(self, status: int = 0, _message: str | None = None) -> NoReturn:
        """End the command after its help."""
        raise typer.Exit(status)


def _help(program: Program, path: str) -> str:
    """The texts above a command's options; typer has no place for that of a group of options."""
    groups = [
        f"{(group.title or '').capitalize()}: {group.description}"
        for group in _Parser(program, path)._action_groups
        if group.description
    ]
    return "\n\n".join(filter(None, (program.description, program.epilog, *groups)))


def _runner(program: Program, path: str) -> Any:
    """Make the function of the command, whose parameters are the program's options."""

    def run(context: typer.Context, **_: Any) -> None:
        parser = _Parser(program, path, context)
        parser.add_common_options()
        options = parser.parse_args(context.args)  # for --help, this is all
        from dockhand_core.server import ProgramFailed, log_to_stderr

        session = session_of(context)
        _exchange(session.options, options)
        options.quiet = session.options.quiet or not sys.stderr.isatty()
        log_to_stderr(verbose=getattr(options, "verbose", False))
        try:
            program.call(options)
        except ProgramFailed as error:
            *others, last = error.message.splitlines()
            for line in others:
                session.output.error(line)
            raise CommandFailed(last, error.status) from error

    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *_parameters(_Parser(program, path)),
    ]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


def _exchange(common: Options, options: argparse.Namespace) -> None:
    """Take options of every command from a program's arguments, and let them act on the program."""
    for _, attribute, _ in _COMMON:
        if hasattr(options, _PREFIX + attribute):
            setattr(common, attribute, getattr(options, _PREFIX + attribute))
    if common.config is not None:
        # as the library reads it, in the handlers of plugins, too
        os.environ["DOCKHAND_CONFIG"] = os.fspath(common.config)
    if common.as_json and hasattr(options, "json"):
        options.json = True
    if common.verbosity and hasattr(options, "verbose"):
        options.verbose = True
    if common.connection is not None and getattr(options, "connection", "") is None:
        options.connection = common.connection


def _absent(reason: str) -> Any:
    def run() -> None:
        raise CommandFailed(reason, 2)

    return run


def _parameters(parser: argparse.ArgumentParser) -> Iterator[inspect.Parameter]:
    """Convert a parser's options to parameters of a typer command."""
    for group in parser._action_groups:  # argparse has no other list of them
        title = group.title or ""
        panel = None if title in _PLAIN_GROUPS else title.capitalize()
        for action in group._group_actions:
            if not isinstance(action, argparse._HelpAction):
                yield _parameter(action, panel)


def _parameter(action: argparse.Action, panel: str | None) -> inspect.Parameter:
    common: dict[str, Any] = {
        "help": _no_markup(action.help or ""),
        "show_default": False,  # the help text has it
        "rich_help_panel": panel,
    }
    annotation: Any = str | None
    default: Any = None
    if not action.option_strings:
        several = action.nargs in {"*", "+"}
        required = action.nargs in {None, "+"}
        annotation = list[str] if several else str if required else str | None
        default = ... if required else None
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        info = typer.Argument(default, metavar=metavar, **common)
    elif action.nargs == 0:
        annotation = bool
        info = typer.Option(False, *_declarations(action.option_strings), **common)
    else:
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.nargs == "+" or isinstance(action, argparse._AppendAction):
            annotation = list[str]
        info = typer.Option(None, *action.option_strings, metavar=metavar, **common)
    return inspect.Parameter(
        action.dest, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=annotation
    )


def _no_markup(text: str) -> str:
    return text.replace("[", "\\[")  # rich would read it as markup


def _declarations(names: Sequence[str]) -> list[str]:
    """The names of a flag as typer wants them: `--follow/--no-follow`, `-f`."""
    off = [name for name in names if name.startswith("--no-") and f"--{name[5:]}" in names]
    on = [name for name in names if name not in off]
    return [f"{on[-1]}/{off[0]}", *on[:-1]] if off else list(names)
