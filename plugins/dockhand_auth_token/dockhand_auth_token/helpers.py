"""Credential helpers: the programs `docker-credential-<name>`, which keep credentials.

Follows: the protocol of docker-credential-helpers. Secrets pass through pipes only, never through
arguments or the environment. Error messages never contain the helper's output, which may contain a
secret.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress

from dockhand_auth_token.errors import CredentialsInvalid

__all__ = ["ask_helper", "erase_in_helper", "store_in_helper"]

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_OUTPUT = 64 << 10  # bytes
# bytes; what a pipe holds on every system, so that writing never waits for the helper
_MAX_INPUT = 16 << 10


def ask_helper(
    helper: str, server: str, environ: Mapping[str, str], timeout: float
) -> tuple[str, str] | None:
    """Ask a credential helper for a server's credentials.

    Args:
        helper: the helper's name, which is the end of the program's name.
        server: the name of the server.
        environ: the environment variables.
        timeout: the time that the helper may take, in seconds.

    Returns:
        the user name and the secret, or None if the helper has none.

    Raises:
        CredentialsInvalid: the helper is not installed, or failed.
    """
    program = _program(helper)
    status, output = _run_helper(program, "get", server.encode(), environ, timeout)
    if status:
        if b"credentials not found" in output:
            return None
        raise CredentialsInvalid(f"{program} failed with status {status}")
    answer = None
    with suppress(ValueError, RecursionError):
        answer = json.loads(output)
    # Not raised in an `except`, whose exception has the helper's output and would be the context.
    if not isinstance(answer, dict) or not {"Username", "Secret"} <= answer.keys():
        raise CredentialsInvalid(f"{program} did not answer with a Username and a Secret")
    username, secret = answer["Username"], answer["Secret"]
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return username, secret


def store_in_helper(
    helper: str,
    server: str,
    username: str,
    secret: str,
    environ: Mapping[str, str],
    timeout: float,
) -> None:
    """Give a server's credentials to a credential helper, which replaces older ones.

    Raises:
        CredentialsInvalid: the helper is not installed, or failed.
    """
    entry = {"ServerURL": server, "Username": username, "Secret": secret}
    data = json.dumps(entry, ensure_ascii=False).encode()
    if len(data) > _MAX_INPUT:
        raise CredentialsInvalid(
            f"the password is too long for {_program(helper)}: more than {_MAX_INPUT} bytes in all"
        )
    _change(helper, "store", data, environ, timeout)


def erase_in_helper(helper: str, server: str, environ: Mapping[str, str], timeout: float) -> None:
    """Have a credential helper erase a server's credentials.

    Raises:
        CredentialsInvalid: the helper is not installed, or failed.
    """
    _change(helper, "erase", server.encode(), environ, timeout)


def _change(
    helper: str, action: str, data: bytes, environ: Mapping[str, str], timeout: float
) -> None:
    program = _program(helper)
    status, _ = _run_helper(program, action, data, environ, timeout)
    if status:
        raise CredentialsInvalid(
            f"{program} {action} failed with status {status}; try whether `{program} list` works"
        )


def _program(helper: str) -> str:
    if not _HELPER_NAME.fullmatch(helper):
        raise CredentialsInvalid(f"{helper[:100]!r} cannot be the name of a credential helper")
    return f"docker-credential-{helper}"


def _run_helper(
    program: str, action: str, data: bytes, environ: Mapping[str, str], timeout: float
) -> tuple[int, bytes]:
    """Run a credential helper, and return the helper's exit status and output."""
    try:
        # It is safe to run the program: no shell is used, and the helper's name was checked. The
        # helper runs in its own session, so that `_kill_helper` also kills its children.
        helper = subprocess.Popen(  # noqa: S603
            [program, action],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CredentialsInvalid(
            f"{program} is not installed, or not on the PATH; install it, or remove it from "
            "credsStore or credHelpers in the credentials file"
        ) from None
    except OSError as error:
        raise CredentialsInvalid(f"{program} cannot be run: {error.strerror}") from None
    deadline = time.monotonic() + timeout
    output = bytearray()
    with helper, selectors.DefaultSelector() as selector:
        try:
            assert helper.stdin is not None
            assert helper.stdout is not None
            with suppress(BrokenPipeError):
                helper.stdin.write(data)
                helper.stdin.close()
            selector.register(helper.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise CredentialsInvalid(f"{program} did not answer within {timeout:g} s")
                block = os.read(helper.stdout.fileno(), _MAX_OUTPUT)
                if not block:
                    break
                output += block
                if len(output) > _MAX_OUTPUT:
                    raise CredentialsInvalid(
                        f"{program} answered with more than {_MAX_OUTPUT} bytes"
                    )
            # The helper may close its output and go on.
            helper.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill_helper(helper)
            raise CredentialsInvalid(f"{program} did not end within {timeout:g} s") from None
        except BaseException:
            _kill_helper(helper)
            raise
    return helper.returncode, bytes(output)


def _kill_helper(helper: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
    helper.kill()
