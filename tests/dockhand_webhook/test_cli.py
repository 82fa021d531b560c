"""`python -m dockhand_webhook`: its commands, and the arguments it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dockhand_webhook import Backoff, Inbox
from dockhand_webhook.__main__ import main
from dockhand_webhook.documents import HandlerStats, ListedToken, NewToken, Stats
from dockhand_webhook.inbox.dead_letters import UnreadableNotification
from notifications import DISTRIBUTION, envelope, push
from registries import running_server
from webhook_receiver import eventually

from dockhand_core import EventInvalid

HANDLER = "recorder/dockhand_event"
PLUGIN = """
from pathlib import Path
from dockhand_core import hookimpl

@hookimpl
def dockhand_event(event):
    with Path({path!r}).open("a") as file:
        file.write(event.id + "\\n")
"""


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Provide a function that runs a command on the test's `inbox.db` and returns its output."""

    def run(*arguments: str) -> str:
        main(arguments)
        return capsys.readouterr().out

    return run


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Provide a function that runs a command which fails, and returns its one-line message."""

    def run(*arguments: str, status: int = 2) -> str:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == status
        return capsys.readouterr().err.removesuffix("\n")

    return run


def program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dockhand_webhook", *arguments]
    environ = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environ
    )


def token_of(text: str) -> str:
    [found] = re.findall(r"^# token: (\S+)$", text, re.MULTILINE)
    return str(found)


def test_a_token_is_printed_once_with_the_configuration(output: Any, inbox: Inbox) -> None:
    text = output("notify-token", "--connection", "staging", "--url", "https://hooks.example/")
    token = token_of(text)
    url = "https://hooks.example/dockhand/notify/staging"
    assert url in text
    section = text.partition("config.yml:\n")[2].partition("# zot")[0]
    [endpoint] = yaml.safe_load(section)["notifications"]["endpoints"]
    assert endpoint["url"] == url
    assert endpoint["headers"] == {"Authorization": [f"Bearer {token}"]}
    zot = json.loads(text.partition("config.json:\n")[2])
    [sink] = zot["extensions"]["events"]["sinks"]
    assert (sink["address"], sink["credentials"]) == (url, {"token": token})
    inbox.close()
    stored = b"".join(each.read_bytes() for each in Path().glob("inbox.db*"))
    assert b"staging" in stored
    assert token.encode() not in stored
    assert token[4:].encode() not in stored
    listed = output("notify-token", "--list")
    assert token not in listed
    assert "route of staging" in listed


def test_tokens_are_listed_and_revoked(output: Any, receiver: Any, error_of: Any) -> None:
    tokens = [token_of(output("notify-token")) for _ in range(2)]
    lines = output("notify-token", "--list").splitlines()
    assert len(lines) == 2
    assert all(line.endswith("every route") for line in lines)
    first = lines[0].split()[0]
    assert output("notify-token", "--revoke", first) == "revoked; receivers know within a second\n"
    assert first in error_of("notify-token", "--revoke", first, status=3)
    assert len(output("notify-token", "--list").splitlines()) == 1
    receiver.create(tokens=[])
    body = envelope(push())
    replies = [receiver.post(body, headers={"Authorization": f"Bearer {each}"}) for each in tokens]
    assert [reply.status_code for reply in replies] == [401, 202]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-", "a:b", "x" * 65])
def test_an_invalid_connection_name_is_refused(name: str, error_of: Any) -> None:
    assert "--connection" in error_of("notify-token", f"--connection={name}")


def test_the_configuration_has_the_route_of_the_environment(
    output: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "/hooks")
    assert "http://127.0.0.1:8080/hooks/staging" in output(
        "notify-token", "--connection", "staging"
    )


@pytest.fixture
def inbox_with_dead_letters(inbox: Inbox, make_event: Any, run: Any) -> Inbox:
    """Store three dead letters in the inbox: two unreadable notifications, and an event."""
    queue = inbox.delivery_queue("a", Backoff(attempts=1), 15.0)
    [handler_id] = run(queue.register([HANDLER])).values()
    unread = UnreadableNotification({"content-type": "text/odd"}, b"one \xff", 5)
    run(inbox.store_unreadable("staging", unread, EventInvalid("why not\nmore")))
    whole = UnreadableNotification(
        {"content-type": DISTRIBUTION}, envelope(push(id="good")), 9_000_000
    )
    run(inbox.store_unreadable("", whole, EventInvalid("too large")))
    run(inbox.store("staging", [make_event(id="bad")]))
    [delivery] = run(queue.claim({handler_id: 9}))
    run(queue.mark_failed(delivery, "ValueError: no"))
    return inbox


def test_dead_letters_are_listed(output: Any, inbox_with_dead_letters: Inbox) -> None:
    lines = output("dead").splitlines()
    assert [re.sub(r"\d{4}-\S+ \S+", "WHEN", line) for line in lines] == [
        "1  WHEN  route of staging  a notification of 5 bytes",
        "    why not",
        "2  WHEN  route of no connection  a notification of 9000000 bytes",
        "    too large",
        f"3  WHEN  {HANDLER}  ManifestPushed team/app bad",
        "    ValueError: no",
    ]


def test_dead_letters_cannot_control_the_terminal(output: Any, inbox: Inbox, run: Any) -> None:
    hostile = "\x1b[2J\x9b\x7f\u202e\u2028\r\n"
    body = f"not JSON {hostile}".encode()
    notification = UnreadableNotification({"user-agent": hostile}, body, len(body))
    run(inbox.store_unreadable("staging", notification, EventInvalid(f"unknown: {hostile}")))
    for arguments in (["dead"], ["dead", "--show", "1"]):
        lines = output(*arguments).split("\n")
        assert all(line.isprintable() for line in lines)
    assert json.loads(output("dead", "--show", "1"))["headers"] == {"user-agent": hostile}


def test_a_dead_letter_is_shown(output: Any, inbox_with_dead_letters: Inbox, error_of: Any) -> None:
    first = json.loads(output("dead", "--show", "1"))
    assert (first["reason"], first["connection"]) == ("why not\nmore", "staging")
    assert (first["body"], first["size"]) == ("one \\xff", 5)
    assert first["headers"] == {"content-type": "text/odd"}
    third = json.loads(output("dead", "--show", "3"))
    assert (third["handler"], third["attempts"], third["class"]) == (HANDLER, 1, "ManifestPushed")
    assert third["event"]["id"] == "bad"
    assert error_of("dead", "--show", "4", status=3) == "there is no dead letter 4"


def test_dead_letters_are_dropped(
    output: Any, inbox_with_dead_letters: Inbox, error_of: Any
) -> None:
    assert output("dead", "--drop", "1", "3") == "2 dropped\n"
    assert [letter.id for letter in inbox_with_dead_letters.dead_letters.page()] == [2]
    assert error_of("dead", "--drop", "1", status=3) == "there is no dead letter 1"


def test_a_dead_letter_is_replayed(output: Any, inbox_with_dead_letters: Inbox) -> None:
    assert output("dead", "--replay", "3") == "3: replayed\n"
    assert [letter.id for letter in inbox_with_dead_letters.dead_letters.page()] == [1, 2]
    assert inbox_with_dead_letters.counts().waiting == 1


def test_replay_all_continues_after_a_failure(
    inbox_with_dead_letters: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code reports that some dead letters could not be replayed."""
    with pytest.raises(SystemExit) as caught:
        main(["dead", "--replay-all"])
    assert caught.value.code == 1
    out, text = capsys.readouterr()
    assert "1: still cannot be read: no parser knows" in text
    assert "only the first" in text
    assert "3: replayed" in out
    assert [letter.id for letter in inbox_with_dead_letters.dead_letters.page()] == [1, 2]


def test_the_command_replay(
    output: Any, error_of: Any, inbox_with_dead_letters: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output("replay", "3") == "3: replayed\n"
    assert inbox_with_dead_letters.counts().waiting == 1
    assert error_of("replay", "3", status=3) == "there is no dead letter 3"
    errors = error_of("replay", "1", "3", status=1).splitlines()
    assert len(errors) == 2
    assert "still cannot be read" in errors[0]
    assert errors[1] == "there is no dead letter 3"
    assert len(error_of("replay", "--all", status=1).splitlines()) == 2
    with pytest.raises(SystemExit, match="^1$"):
        main(["replay", "--all", "--json"])
    assert json.loads(capsys.readouterr().out) == {"replayed": []}
    for arguments in ([], ["1", "--all"]):
        assert "--all" in error_of("replay", *arguments)
        assert "--all" in error_of("drop", *arguments)


def test_the_command_drop(output: Any, error_of: Any, inbox_with_dead_letters: Inbox) -> None:
    assert output("drop", "1") == "1 dropped\n"
    assert error_of("drop", "1", status=3) == "there is no dead letter 1"
    assert error_of("drop", "1", "2", status=1) == "there is no dead letter 1"
    assert [letter.id for letter in inbox_with_dead_letters.dead_letters.page()] == [3]
    assert json.loads(output("drop", "--all", "--json")) == {"dropped": [3]}
    assert output("drop", "--all") == "0 dropped\n"


def test_results_as_json(output: Any, inbox_with_dead_letters: Inbox) -> None:
    first, _, third = map(json.loads, output("dead", "--json").splitlines())
    assert first == json.loads(output("dead", "--show", "1"))
    assert third == json.loads(output("dead", "--show", "3", "--json"))
    counts = json.loads(output("stats", "--json"))
    assert counts == json.loads(output("stats"))
    assert counts.keys() == Stats.__annotations__.keys()
    assert counts["handlers"][HANDLER].keys() == HandlerStats.__annotations__.keys()
    made = json.loads(output("notify-token", "--connection", "staging", "--json"))
    assert made.keys() == NewToken.__annotations__.keys()
    assert made["url"] == "http://127.0.0.1:8080/dockhand/notify/staging"
    [listed] = json.loads(output("notify-token", "--list", "--json"))
    assert listed.keys() == ListedToken.__annotations__.keys()
    revoked = output("notify-token", "--revoke", listed["id"], "--json")
    assert json.loads(revoked) == {"revoked": listed["id"]}
    assert json.loads(output("forget", HANDLER, "--json")) == {
        "handler": HANDLER,
        "undelivered": 0,
    }


def test_all_pages_of_dead_letters_are_listed_and_replayed(
    output: Any, inbox: Inbox, run: Any
) -> None:
    for number in range(205):
        body = envelope(push(id=str(number)))
        unread = UnreadableNotification({"content-type": DISTRIBUTION}, body, len(body))
        run(inbox.store_unreadable("", unread, EventInvalid("a parser failed")))
    assert len(output("dead").splitlines()) == 410
    assert output("dead", "--replay-all").count("replayed") == 205
    assert output("dead") == ""
    assert json.loads(output("stats"))["received"] == 205


def test_a_dead_letter_of_a_class_that_is_no_longer_installed(
    output: Any, inbox_with_dead_letters: Inbox, run: Any
) -> None:
    """The dead letter is listed like others: the missing class may be why its delivery failed."""

    def rename_class(transaction: Any) -> None:
        transaction.execute("UPDATE events SET kind = 'no_such_plugin:Moved'")

    inbox_with_dead_letters.database.write(rename_class)
    lines = output("dead").splitlines()
    assert len(lines) == 6
    assert "Moved" in lines[4]
    assert json.loads(output("dead", "--show", "3"))["class"] == "no_such_plugin:Moved"


def test_stats_prints_the_counts(output: Any, inbox_with_dead_letters: Inbox) -> None:
    found = json.loads(output("stats"))
    each = found.pop("handlers")
    assert found == {
        "received": 1, "duplicated": 0, "invalid": 2, "delivered": 0, "failed": 1, "dead": 3,
        "waiting": 0, "lag": 0.0, "letters": 3,
        "deleted": 0,
    }  # fmt: skip
    expected = {"delivered": 0, "failed": 1, "dead": 1, "waiting": 0, "lag": 0.0}
    assert each == {HANDLER: expected}


def test_forget_removes_a_handler(
    output: Any, inbox: Inbox, make_event: Any, run: Any, error_of: Any
) -> None:
    run(inbox.delivery_queue("a", Backoff(), 15.0).register([HANDLER]))
    run(inbox.store("", [make_event(id="one"), make_event(id="two")]))
    text = output("forget", HANDLER)
    assert text == "removed, with 2 events that were not delivered to it yet\n"
    assert error_of("forget", HANDLER, status=3) == f"the inbox knows no handler {HANDLER!r}"


def test_the_inbox_can_be_named_before_or_after_the_command(output: Any) -> None:
    output("--inbox", "one.db", "notify-token")
    assert len(output("notify-token", "--list", "--inbox", "one.db").splitlines()) == 1
    assert not Path("inbox.db").exists()


def test_work_needs_handlers(error_of: Any) -> None:
    assert error_of("work").startswith("no installed plugin handles events")


def test_serving_needs_a_token(error_of: Any) -> None:
    for arguments in ((), ("--port", "0"), ("--no-dispatch",)):
        assert "notify-token --inbox inbox.db" in error_of(*arguments)


def test_plain_http_on_a_public_address_is_refused(error_of: Any) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        message = error_of("--anonymous", "--host", host, "--port", "0")
        assert "--tls-certificate" in message
        assert "--plain-http" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ("--timeout", "0"), ("--timeout", "nan"), ("--timeout", "-1"), ("--timeout", "x"),
        ("--concurrency", "0"), ("--attempts", "0"), ("--lease", "inf"), ("work", "--lease", "0"),
        ("dead", "--show", "x"), ("dead", "--show", "1", "--replay-all"), ("nonsense",),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_errors_are_printed_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "inbox.db").write_text("not a database" * 100)
    for arguments in (("stats",), ("--anonymous", "--port", "0"), ("notify-token",)):
        done = program(*arguments)
        assert done.returncode == 2
        assert "inbox: inbox.db: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def recorded_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a plugin whose handler records event ids in a file, and return the file's path."""
    site, recorded = tmp_path / "site", tmp_path / "recorded"
    info = site / "recorder_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recorder-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dockhand]\nrecorder = recorder_plugin\n")
    (site / "recorder_plugin.py").write_text(PLUGIN.format(path=str(recorded)))
    monkeypatch.setenv("PYTHONPATH", str(site))
    recorded.touch()
    return recorded


def test_the_program_receives_and_calls_handlers(recorded_ids: Path, output: Any) -> None:
    token = token_of(output("notify-token"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": DISTRIBUTION}
    with running_server("dockhand_webhook") as url:
        body = envelope(push(id="one"), push(id="two"))
        assert httpx.post(f"{url}/dockhand/notify", content=body).status_code == 401
        reply = httpx.post(f"{url}/dockhand/notify", content=body, headers=headers)
        assert reply.status_code == 202
        eventually(lambda: recorded_ids.read_text() == "one\ntwo\n")
        assert (
            'handler="recorder/dockhand_event"' in httpx.get(f"{url}/metrics", headers=headers).text
        )
    assert json.loads(output("stats"))["handlers"][HANDLER]["delivered"] == 2


def test_the_route_is_absent_if_disabled(
    recorded_ids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "false")
    with running_server("dockhand_webhook") as url:
        assert httpx.post(f"{url}/dockhand/notify", content=envelope(push())).status_code == 404
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_one_process_receives_and_another_calls_handlers(recorded_ids: Path, output: Any) -> None:
    command = [sys.executable, "-m", "dockhand_webhook", "work"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == f"working for {HANDLER}\n"
            with running_server("dockhand_webhook", "--anonymous", "--no-dispatch") as url:
                headers = {"Content-Type": DISTRIBUTION}
                for name in ("one", "two"):
                    body = envelope(push(id=name))
                    reply = httpx.post(f"{url}/dockhand/notify", content=body, headers=headers)
                    assert reply.status_code == 202
                eventually(lambda: recorded_ids.read_text() == "one\ntwo\n")
        finally:
            worker.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert worker.wait(20) == 0
        assert time.monotonic() - started < 5.0
    assert json.loads(output("stats"))["delivered"] == 2
