"""Plugins that break a rule: the contract's test fails, and says the rule, why and where.

The sources are those of authors. All run in one process of pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Case(NamedTuple):
    """The tests of an author, and the names of those that fail.

    Attributes:
        source: the test module.
        failing: the tests that fail; all others pass, unless `others` is true.
        others: whether other tests may fail, too.
        only: the tests to run; all, if it is empty.
    """

    source: str
    failing: frozenset[str] | set[str] = frozenset()
    others: bool = False
    only: tuple[str, ...] = ()


AUTH = """
from pydantic import SecretStr
from dockhand_core import AuthDriver, hookimpl
from dockhand_testing import AuthDriverContract, reply

class Vault(AuthDriver):
    class Settings(AuthDriver.Settings):
        url: str
        role: str
        token: {secret}

    def auth_flow(self, request):
        {before}
        answer = yield from self.fetch("POST", self.settings.url, json={{"role": "ci"}})
        {after}
        request.headers["X-Vault"] = {value}
        yield request

    {more}

class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self):
        return {{"vault": Vault}}

class TestVault(AuthDriverContract):
    driver = "vault"
    plugin = Plugin()
    settings = {{"url": "{{url}}/vault", "role": "ci", "token": "hunter2-s3cret"}}
    caches = {caches}

    def accepts(self, request):
        return request.headers.get("x-vault") == "from-the-vault"

    def answer(self, request):
        if request.path == "/vault":
            {answer}
            return reply(200, b'{{"given": "from-the-vault"}}')
"""


def vault(
    secret: str = "SecretStr",
    before: str = "pass",
    after: str = "given = answer.json().get('given') if answer.status_code == 200 else None",
    value: str = "given",
    more: str = "",
    caches: bool = False,
    answer: str = "pass",
) -> str:
    return AUTH.format(
        secret=secret,
        before=before,
        after=after,
        value=value,
        more=more,
        caches=caches,
        answer=answer,
    )


CAREFUL = """
        from dockhand_core import Unauthorized
        try:
            given = answer.json()["given"]
        except (ValueError, KeyError):
            raise Unauthorized("the vault gave no token", status=401) from None
"""

BUSY = (
    CAREFUL
    + """
        import time
        if getattr(self, "busy", False):
            raise Unauthorized("busy", status=401)
        self.busy = True
        yield from self.blocking(time.sleep, 0.05)
        self.busy = False
"""
)
SHOWN = CAREFUL + "        print(self.settings.token.get_secret_value())\n"
LOGGED = CAREFUL + "        import logging; logging.error(given)\n"

# an author's test of the requests that a closed connection sends
CLOSING = """
    def test_session_ends(self, closing_requests):
        assert [(each.method, each.path) for each in closing_requests] == [("DELETE", "/vault")]
"""
# a driver that gets new credentials only if the gate says that the old ones have expired
GATE = """
from dockhand_core import AuthDriver, hookimpl
from dockhand_testing import AuthDriverContract, reply

class Gate(AuthDriver):
    class Settings(AuthDriver.Settings):
        url: str

    def auth_flow(self, request):
        key = yield from self.cached_token("key", self.obtain)
        request.headers["X-Key"] = key
        response = yield request
        if response.headers.get("X-Gate-Error") == "expired":
            key = yield from self.cached_token("key", self.obtain, refused=key)
            request.headers["X-Key"] = key
            yield request

    def obtain(self):
        answer = yield from self.fetch("POST", self.settings.url)
        return answer.text, 300

class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self):
        return {"gate": Gate}

class TestGate(AuthDriverContract):
    driver = "gate"
    plugin = Plugin()
    settings = {"url": "{url}/gate"}
    renews = True
    given = 0

    def accepts(self, request):
        return request.headers["X-Key"].startswith("key-")

    def answer(self, request):
        if request.path == "/gate":
            TestGate.given += 1
            return reply(200, f"key-{self.given}".encode())

    def refusal(self, request):
        return reply(401, X_Gate_Error="expired" if self.accepted(request) else "unknown")
"""

# a driver whose key comes from a program, and is sent in another form
COMMAND = """
import logging
from base64 import b64encode
from dockhand_core import AuthDriver, DockhandError, hookimpl
from dockhand_testing import AuthDriverContract

class Command(AuthDriver):
    def auth_flow(self, request):
        key = {key}
        request.headers["X-Key"] = b64encode(key.encode()).decode()
        {before}
        response = yield request
        if response.status_code == 401:
            raise DockhandError(f"refused: {{key}}")

    def ask(self):
        return "pr1nted-s3cret"

class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self):
        return {{"command": Command}}

class TestCommand(AuthDriverContract):
    driver = "command"
    plugin = Plugin()
    settings = {{}}
    other_secrets = {{"pr1nted-s3cret"}}

    def accepts(self, request):
        return request.headers["X-Key"] == b64encode(b"pr1nted-s3cret").decode()
"""


def command(key: str = "self.hide_secret(self.ask())", before: str = "pass") -> str:
    return COMMAND.format(key=key, before=before)


AUTH_DRIVERS = {
    "hidden_key_of_a_command": Case(command()),
    "key_of_a_command_in_an_error": Case(
        command("self.ask()"), {"test_refused_credentials", "test_secrets_stay_out_of_logs"}
    ),
    "key_of_a_command_in_a_log": Case(
        command(before="logging.info(key)"), {"test_secrets_stay_out_of_logs"}
    ),
    "careful": Case(vault(after=CAREFUL)),
    "plain_secret": Case(
        vault(secret="str", after=CAREFUL), {"test_secret_settings_have_secret_types"}, True
    ),
    "wrong_credentials": Case(vault(value="'wrong'"), {"test_requests_get_credentials"}, True),
    "key_error": Case(
        vault(after="given = answer.json()['given']"), {"test_failures_of_own_requests"}
    ),
    "printed_secret": Case(vault(after=SHOWN), {"test_secrets_stay_out_of_logs"}),
    "logged_credential": Case(vault(after=LOGGED), {"test_secrets_stay_out_of_logs"}),
    "one_at_a_time": Case(vault(after=BUSY), {"test_concurrent_requests"}),
    "blocks": Case(
        vault(before="import time; time.sleep(0.001)", after=CAREFUL),
        {"test_async_clients_do_not_block"},
    ),
    "asks_each_time": Case(vault(after=CAREFUL, caches=True), {"test_credentials_are_kept"}),
    "async_close": Case(
        vault(after=CAREFUL, more="async def close(self): pass"), {"test_close"}, True
    ),
    "close_of_a_session": Case(
        vault(
            after=CAREFUL,
            more="def close(self): yield from self.fetch('DELETE', self.settings.url)",
        )
        + CLOSING
    ),
    "wrong_answer": Case(
        vault(after=CAREFUL, answer="request.headers['X-Absent']"),
        {"test_requests_get_credentials"},
        True,
    ),
    "own_refusal": Case(GATE, only=("test_expired_credentials_are_renewed",)),
}

PARSER = """
import json, time
from dockhand_core import EventInvalid, hookimpl
from dockhand_core.events import ManifestPushed
from dockhand_testing import EventParserContract

class Parser:
    def matches(self, headers):
        return {matches}

    def parse(self, headers, body):
        {parse}

class Plugin:
    @hookimpl
    def dockhand_event_parsers(self):
        return [{provided}]

class TestParser(EventParserContract):
    parser = Parser
    plugin = Plugin()
    headers = {{"Content-Type": "application/json", "X-Own": "push"}}
    body = b'{{"id": "1", "time": "2026-01-02T03:04:05Z", "name": "library/app"}}'
    kinds = [ManifestPushed]
"""
PARSE = """
        try:
            found = json.loads(body)
            return [ManifestPushed(id=found["id"], timestamp=found["time"], action="push",
                                   repository=found["name"])]
        except (ValueError, KeyError, TypeError) as error:
            raise EventInvalid("malformed") from error
"""


def parser(**changes: str) -> str:
    parts = {"matches": "'X-Own' in headers", "parse": PARSE, "provided": "Parser()", **changes}
    return PARSER.format(**parts)


SLOW = "time.sleep(0.01)\n" + PARSE
PARSERS = {
    "careful": Case(parser()),
    "takes_all": Case(parser(matches="True"), {"test_leaves_other_headers"}),
    "fails_for_others": Case(
        parser(matches="headers['X-Own'] == 'push'"), {"test_leaves_other_headers"}
    ),
    "takes_nothing": Case(
        parser(matches="'X-Other' in headers"), {"test_matches_own_headers"}, True
    ),
    "not_provided": Case(parser(provided=""), {"test_manager_uses_the_parser"}),
    "blocks": Case(parser(parse=SLOW), {"test_does_not_block"}),
    "no_events": Case(parser(parse="return []"), {"test_events", "test_malformed_bodies"}),
    "key_error": Case(parser(parse=PARSE.replace("KeyError, ", "")), {"test_wrong_values"}),
    "new_ids": Case(
        parser(parse=PARSE.replace('id=found["id"]', "id=str(time.time_ns())")),
        {"test_sent_again", "test_manager_uses_the_parser"},
    ),
}

HANDLER = """
import asyncio, pathlib, time
from dockhand_core import hookimpl
from dockhand_testing import EventHandlerContract

ROWS = []

class Plugin:
    @hookimpl
    {head} dockhand_{hook}(self, event):
        {body}

class TestHandler(EventHandlerContract):
    handler = Plugin
    settings = {settings}

    def state(self):
        return list(ROWS)

    def handled(self, event):
        return {handled}
"""


def handler(head: str, hook: str, body: str, settings: str = "{}", handled: str = "True") -> str:
    return HANDLER.format(head=head, hook=hook, body=body, settings=settings, handled=handled)


CONFIGURE = """
        pass

    @hookimpl
    def dockhand_configure(self, settings):
        assert settings["channel"] == "c"
"""
HANDLERS = {
    "careful": Case(handler("def", "event", "pass")),
    "configured": Case(handler("def", "event", CONFIGURE, "{'channel': 'c'}")),
    "careful_async": Case(handler("async def", "event", "await asyncio.sleep(0)")),
    "ignores_all": Case(
        handler("def", "manifest_pushed", "pass", handled="event.id in ROWS"), {"test_acts"}
    ),
    "acts_twice": Case(handler("def", "event", "ROWS.append(event.id)"), {"test_same_event_twice"}),
    "needs_a_tag": Case(
        handler("def", "manifest_pushed", "event.tag.upper()"), {"test_events_with_few_fields"}
    ),
    "changes_events": Case(handler("def", "event", "event.raw.clear()"), {"test_takes_its_events"}),
    "blocks": Case(
        handler("async def", "event", "time.sleep(0.001)"), {"test_async_handlers_do_not_block"}
    ),
    "reads_a_file": Case(
        handler("async def", "event", "pathlib.Path(__file__).read_text()"),
        {"test_async_handlers_do_not_block"},
    ),
}

LOGGER = """
import sys
from dockhand_core import hookimpl
from dockhand_core.logs import make_logger
import structlog
from dockhand_testing import LogDriverContract

def driver(settings, connection):
    {body}

class Plugin:
    @hookimpl
    def dockhand_log_drivers(self):
        return {{"own": driver}}

class TestOwn(LogDriverContract):
    driver = "own"
    plugin = Plugin()
"""

MADE = "return make_logger(settings, connection, [structlog.processors.JSONRenderer()])"
BARE = """
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[structlog.processors.LogfmtRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
"""
UNCLOSED = """
    class Lines(structlog.WriteLogger):
        def close(self):
            raise OSError("the disk is full")
    lines = [structlog.processors.JSONRenderer()]
    return make_logger(settings, connection, lines, logger=Lines(sys.stderr))
"""
LOGGERS = {
    "careful": Case(LOGGER.format(body=MADE)),
    "fails_to_close": Case(
        LOGGER.format(body=UNCLOSED), {"test_close", "test_connection_logs_requests"}
    ),
    "closes_by_a_flow": Case(
        LOGGER.format(body=UNCLOSED.replace("raise OSError", "yield OSError")),
        {"test_close", "test_connection_logs_requests"},
    ),
    "bare": Case(
        LOGGER.format(body=BARE),
        {
            "test_values_are_redacted",
            "test_levels",
            "test_unknown_settings_are_refused",
            "test_context_values",
        },
        True,
    ),
}

DRIVER = """
from dockhand_core import hookimpl
from dockhand_core.flow import call
from dockhand_distribution import DistributionDriver
from dockhand_testing import RegistryDriverContract

class Driver(DistributionDriver):
    {body}

class Plugin:
    @hookimpl
    def dockhand_registry_drivers(self):
        return {{"own": Driver}}

class TestOwn(RegistryDriverContract):
    driver = "own"
    plugin = Plugin()
    {attributes}
"""


def driver(body: str, attributes: str = "") -> str:
    return DRIVER.format(body=body, attributes=attributes)


UNVERIFIED = """
    def read_blob(self, repository, digest, *, max_size):
        reply = yield from call("GET", f"{repository}/blobs/{digest}")
        return reply.body
"""
REFUSES = """
    def delete_tag(self, repository, tag):
        self._cannot("delete tags")
        yield
"""
LACKING = 'unsupported = {"delete_tag"}'
DRIVERS = {
    "careful": Case(driver("pass"), only=("test_read_blob", "test_tags", "test_faults")),
    "unverified": Case(
        driver(UNVERIFIED),
        {"test_faults", "test_read_blob"},
        only=("test_faults", "test_read_blob", "test_tags"),
    ),
    "async_def": Case(
        driver("async def ping(self):\n        return None"),
        {"test_operations_are_flows", "test_ping"},
        only=("test_operations_are_flows", "test_ping", "test_api_version"),
    ),
    "name_of_a_base_class": Case(
        driver("def _post(self, path, document):\n        yield"),
        {"test_overridden_methods"},
        only=("test_overridden_methods", "test_ping"),
    ),
    "not_unsupported": Case(
        driver("pass", LACKING),
        {"test_unsupported_operations"},
        only=("test_unsupported_operations", "test_ping"),
    ),
    "unsupported": Case(
        driver(REFUSES, LACKING), only=("test_unsupported_operations", "test_delete_tag")
    ),
}


def shortened(case: Case) -> Case:
    """Run only the tests that fail, and some that pass, so that the run takes less time."""
    some = ("test_one_flow_for_sync_and_async", "test_close")
    return case._replace(only=(*sorted(case.failing), *some)) if case.failing else case


CASES = {
    f"{kind}_{name}": shortened(case) if kind == "auth" else case
    for kind, cases in {
        "auth": AUTH_DRIVERS,
        "parser": PARSERS,
        "handler": HANDLERS,
        "log": LOGGERS,
        "registry": DRIVERS,
    }.items()
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of one run of all authors' tests."""
    folder = tmp_path_factory.mktemp("authors")
    selected: list[str] = []
    for name, case in CASES.items():
        file = f"test_{name}.py"
        (folder / file).write_text(case.source)
        (class_name,) = re.findall(r"class (Test\w+)", case.source)
        selected += [f"{file}::{class_name}::{each}" for each in case.only] or [file]
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-rA", *selected],
        cwd=folder,
        env={**os.environ, "COLUMNS": "300"},  # so that the summary is not cut
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    return done.stdout


def outcomes(report: str, case: str, outcome: str) -> Iterator[str]:
    """Yield the names of the tests of a case that had an outcome."""
    yield from re.findall(rf"^{outcome} test_{case}\.py::\w+::(\w+)", report, re.MULTILINE)


@pytest.mark.parametrize("name", CASES)
def test_contracts(name: str, report: str) -> None:
    case = CASES[name]
    failed = {*outcomes(report, name, "FAILED"), *outcomes(report, name, "ERROR")}
    assert set(outcomes(report, name, "PASSED"))
    if case.others:
        assert case.failing <= failed
    else:
        assert failed == case.failing


def test_a_failed_test_says_its_rule(report: str) -> None:
    """Whether an assertion failed, an error was due, or another exception was raised."""
    start = "the rule: Secrets and credentials never reach a log or the standard output"
    (line, *_) = [line for line in report.splitlines() if line.startswith("FAILED test_auth_print")]
    assert start in line
    for rule in (
        "An operation that the driver does not have is Unsupported.",
        "matches() is false for the headers of other formats, and fails for none.",
    ):
        (text, *_) = report.partition(f"the rule: {rule}")[2].split("\n\n")
        assert "why: " in text
        assert "written in: " in text


def test_a_failed_answer_is_named(report: str) -> None:
    """The exception is raised in the thread of the registry, and reported in the test."""
    (line, *_) = [
        line for line in report.splitlines() if line.startswith("ERROR test_auth_wrong_a")
    ]
    assert "TestVault.answer raised KeyError: 'x-absent' (for POST /vault)" in line


def test_without_pytest(tmp_path: Path) -> None:
    """`play` and the builders work; a contract says what is missing."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from dockhand_testing import build_image, play\n"
        "build_image()\n"
        "try:\n"
        "    from dockhand_testing import AuthDriverContract\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "are tests for pytest: pip install" in done.stdout
