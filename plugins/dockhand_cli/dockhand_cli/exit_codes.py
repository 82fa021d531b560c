"""The command's exit status for each kind of error."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "NOT_FOUND",
    "READER_GONE",
    "TERMINATED",
    "UNREACHABLE",
    "USAGE",
    "CommandFailed",
    "UsageError",
    "code_of_several",
    "exit_code_of",
]

FAILED = 1
USAGE = 2
NOT_FOUND = 3
DENIED = 4
UNREACHABLE = 5
INTERRUPTED = 130  # as a shell reports SIGINT
READER_GONE = 141  # as a shell reports SIGPIPE
TERMINATED = 143  # as a shell reports SIGTERM


class CommandFailed(Exception):
    """An error of a command that no exception of the core describes.

    Args:
        message: the error in one line.
        code: the exit status.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class UsageError(CommandFailed):
    """Arguments that contradict each other or are incomplete.

    Args:
        message: the error in one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


def code_of_several(codes: Sequence[int], count: int) -> int:
    """The exit status for failures of several things: their common one if all have failed alike.

    Args:
        codes: the exit status of each failure.
        count: the number of things.
    """
    return codes[0] if len(codes) == count and len(set(codes)) == 1 else FAILED


def exit_code_of(error: BaseException) -> int:
    """The exit status for an exception: 2 usage, 3 not found, 4 not allowed, 5 not reachable."""
    from dockhand_core import errors

    if isinstance(error, CommandFailed):
        return error.code
    if isinstance(error, errors.NotFound | errors.PlatformNotFound):
        return NOT_FOUND
    if isinstance(error, errors.Unauthorized | errors.Denied):
        return DENIED
    if isinstance(error, errors.ConnectionFailed):
        return UNREACHABLE
    if isinstance(error, errors.RegistryError):
        # without a status the registry was not asked: a name, tag or digest has a wrong form
        return USAGE if error.status is None and isinstance(error, ValueError) else FAILED
    usage = (
        errors.ConfigError,
        errors.DriverMismatch,
        errors.PluginError,
        errors.ReferenceInvalid,
        errors.RetentionPlanInvalid,
        errors.RetentionPolicyInvalid,
        errors.ScopeInvalid,
        errors.TagPatternInvalid,
    )
    return USAGE if isinstance(error, usage) else FAILED
