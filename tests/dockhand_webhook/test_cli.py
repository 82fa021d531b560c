"""`python -m dockhand_webhook`: its commands, and what it refuses."""

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
from dockhand_webhook.inbox.dead_letters import Unread
from notifications import DISTRIBUTION, envelope, push
from receiving import eventually
from registries import announced

from dockhand_core import EventInvalid

NAME = "told/dockhand_event"
HOOKS = """
from pathlib import Path
from dockhand_core import hookimpl

@hookimpl
def dockhand_event(event):
    with Path({path!r}).open("a") as file:
        file.write(event.id + "\\n")
"""


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the program prints, for a command over `inbox.db` in the test's folder."""

    def run(*arguments: str) -> str:
        main(arguments)
        return capsys.readouterr().out

    return run


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, str)
    return caught.value.code


def program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dockhand_webhook", *arguments]
    environ = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environ
    )


def token_of(text: str) -> str:
    [found] = re.findall(r"^# token: (\S+)$", text, re.MULTILINE)
    return str(found)


def test_a_token_is_shown_once(said: Any, inbox: Inbox) -> None:
    text = said("notify-token", "--connection", "staging", "--url", "https://hooks.example/")
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
    kept = b"".join(each.read_bytes() for each in Path().glob("inbox.db*"))
    assert b"staging" in kept
    assert token.encode() not in kept
    assert token[4:].encode() not in kept
    listed = said("notify-token", "--list")
    assert token not in listed
    assert "route of staging" in listed


def test_tokens_are_listed_and_revoked(said: Any, desk: Any) -> None:
    tokens = [token_of(said("notify-token")) for _ in range(2)]
    lines = said("notify-token", "--list").splitlines()
    assert len(lines) == 2
    assert all(line.endswith("every route") for line in lines)
    first = lines[0].split()[0]
    assert said("notify-token", "--revoke", first) == "revoked; receivers know within a second\n"
    assert first in refused("notify-token", "--revoke", first)
    assert len(said("notify-token", "--list").splitlines()) == 1
    desk.serve(tokens=[])
    body = envelope(push())
    replies = [desk.post(body, headers={"Authorization": f"Bearer {each}"}) for each in tokens]
    assert [reply.status_code for reply in replies] == [401, 202]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-", "a:b", "x" * 65])
def test_a_name_that_no_connection_has(name: str) -> None:
    assert "--connection" in refused("notify-token", f"--connection={name}")


def test_the_section_has_the_route_that_is_set(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "/hooks")
    assert "http://127.0.0.1:8080/hooks/staging" in said("notify-token", "--connection", "staging")


@pytest.fixture
def letters(inbox: Inbox, event: Any, run: Any) -> Inbox:
    """An inbox with three dead letters: two that cannot be read, and an event."""
    lanes = inbox.lanes("a", Backoff(attempts=1), 15.0)
    [number] = run(lanes.register([NAME])).values()
    unread = Unread({"content-type": "text/odd"}, b"one \xff", 5)
    run(inbox.take_unread("staging", unread, EventInvalid("why not\nmore")))
    whole = Unread({"content-type": DISTRIBUTION}, envelope(push(id="good")), 9_000_000)
    run(inbox.take_unread("", whole, EventInvalid("too large")))
    run(inbox.take("staging", [event(id="bad")]))
    [job] = run(lanes.claim({number: 9}))
    run(lanes.failed(job, "ValueError: no"))
    return inbox


def test_dead_letters_are_listed(said: Any, letters: Inbox) -> None:
    lines = said("dead").splitlines()
    assert [re.sub(r"\d{4}-\S+ \S+", "WHEN", line) for line in lines] == [
        "1  WHEN  route of staging  a notification of 5 bytes",
        "    why not",
        "2  WHEN  route of no connection  a notification of 9000000 bytes",
        "    too large",
        f"3  WHEN  {NAME}  ManifestPushed team/app bad",
        "    ValueError: no",
    ]


def test_a_dead_letter_is_shown(said: Any, letters: Inbox) -> None:
    first = json.loads(said("dead", "--show", "1"))
    assert (first["reason"], first["connection"]) == ("why not\nmore", "staging")
    assert (first["body"], first["size"]) == ("one \\xff", 5)
    assert first["headers"] == {"content-type": "text/odd"}
    third = json.loads(said("dead", "--show", "3"))
    assert (third["handler"], third["attempts"], third["class"]) == (NAME, 1, "ManifestPushed")
    assert third["event"]["id"] == "bad"
    assert refused("dead", "--show", "4") == "there is no dead letter 4"


def test_dead_letters_are_dropped(said: Any, letters: Inbox) -> None:
    assert said("dead", "--drop", "1", "3") == "2 dropped\n"
    assert [letter.id for letter in letters.letters.held()] == [2]
    assert refused("dead", "--drop", "1") == "there is no dead letter 1"


def test_a_dead_letter_is_replayed(said: Any, letters: Inbox) -> None:
    assert said("dead", "--replay", "3") == "3: replayed\n"
    assert [letter.id for letter in letters.letters.held()] == [1, 2]
    assert letters.counts().waiting == 1


def test_all_are_replayed_that_can_be(letters: Inbox, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot be keeps none behind it from it; the exit code says that there were such."""
    with pytest.raises(SystemExit) as caught:
        main(["dead", "--replay-all"])
    assert caught.value.code not in {0, None}
    out, err = capsys.readouterr()
    said = f"{out}{err}{caught.value.code}"
    assert "1: still cannot be read: no parser knows" in said
    assert "only the first" in said
    assert "3: replayed" in out
    assert [letter.id for letter in letters.letters.held()] == [1, 2]


def test_more_letters_than_a_page(said: Any, inbox: Inbox, run: Any) -> None:
    for number in range(205):
        body = envelope(push(id=str(number)))
        unread = Unread({"content-type": DISTRIBUTION}, body, len(body))
        run(inbox.take_unread("", unread, EventInvalid("a parser failed then")))
    assert len(said("dead").splitlines()) == 410
    assert said("dead", "--replay-all").count("replayed") == 205
    assert said("dead") == ""
    assert json.loads(said("stats"))["received"] == 205


def test_a_letter_whose_class_is_not_installed_any_more(
    said: Any, letters: Inbox, run: Any
) -> None:
    """It is listed as all others are: most likely that is why it died."""

    def moved(transaction: Any) -> None:
        transaction.execute("UPDATE events SET kind = 'no_such_plugin:Moved'")

    letters.database.do(moved)
    lines = said("dead").splitlines()
    assert len(lines) == 6
    assert "Moved" in lines[4]
    assert json.loads(said("dead", "--show", "3"))["class"] == "no_such_plugin:Moved"


def test_stats(said: Any, letters: Inbox) -> None:
    found = json.loads(said("stats"))
    each = found.pop("handlers")
    assert found == {
        "received": 1, "duplicated": 0, "invalid": 2, "delivered": 0, "failed": 1, "dead": 3,
        "waiting": 0, "lag": 0.0, "letters": 3,
    }  # fmt: skip
    expected = {"delivered": 0, "failed": 1, "dead": 1, "waiting": 0, "lag": 0.0}
    assert each == {NAME: expected}


def test_a_handler_is_forgotten(said: Any, inbox: Inbox, event: Any, run: Any) -> None:
    run(inbox.lanes("a", Backoff(), 15.0).register([NAME]))
    run(inbox.take("", [event(id="one"), event(id="two")]))
    text = said("forget", NAME)
    assert text == "forgotten, with 2 events that it was still to be told of\n"
    assert refused("forget", NAME) == f"the inbox knows no handler {NAME!r}"


def test_the_inbox_is_named_before_or_after_the_command(said: Any) -> None:
    said("--inbox", "one.db", "notify-token")
    assert len(said("notify-token", "--list", "--inbox", "one.db").splitlines()) == 1
    assert not Path("inbox.db").exists()


def test_to_work_needs_handlers() -> None:
    assert refused("work").startswith("no installed plugin handles events")


def test_to_serve_needs_a_token() -> None:
    for arguments in ((), ("--port", "0"), ("--no-dispatch",)):
        assert "notify-token --inbox inbox.db" in refused(*arguments)


def test_others_are_not_let_in_by_mistake() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        message = refused("--anonymous", "--host", host, "--port", "0")
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
def test_arguments_that_make_no_sense(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_mistake_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "inbox.db").write_text("no database, but a text" * 100)
    for arguments in (("stats",), ("--anonymous", "--port", "0"), ("notify-token",)):
        done = program(*arguments)
        assert done.returncode == 1
        assert "inbox: inbox.db: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the handler of an installed plugin writes what it is told; programs see it."""
    site, told = tmp_path / "site", tmp_path / "told"
    info = site / "told_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: told-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dockhand]\ntold = told_plugin\n")
    (site / "told_plugin.py").write_text(HOOKS.format(path=str(told)))
    monkeypatch.setenv("PYTHONPATH", str(site))
    told.touch()
    return told


def test_served_alone(handler: Path, said: Any) -> None:
    token = token_of(said("notify-token"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": DISTRIBUTION}
    with announced("dockhand_webhook") as url:
        body = envelope(push(id="one"), push(id="two"))
        assert httpx.post(f"{url}/dockhand/notify", content=body).status_code == 401
        reply = httpx.post(f"{url}/dockhand/notify", content=body, headers=headers)
        assert reply.status_code == 202
        eventually(lambda: handler.read_text() == "one\ntwo\n")
        assert 'handler="told/dockhand_event"' in httpx.get(f"{url}/metrics", headers=headers).text
    assert json.loads(said("stats"))["handlers"][NAME]["delivered"] == 2


def test_turned_off(handler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "false")
    with announced("dockhand_webhook") as url:
        assert httpx.post(f"{url}/dockhand/notify", content=envelope(push())).status_code == 404
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_one_receives_and_another_works(handler: Path, said: Any) -> None:
    command = [sys.executable, "-m", "dockhand_webhook", "work"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == f"working for {NAME}\n"
            with announced("dockhand_webhook", "--anonymous", "--no-dispatch") as url:
                headers = {"Content-Type": DISTRIBUTION}
                for name in ("one", "two"):
                    body = envelope(push(id=name))
                    reply = httpx.post(f"{url}/dockhand/notify", content=body, headers=headers)
                    assert reply.status_code == 202
                eventually(lambda: handler.read_text() == "one\ntwo\n")
        finally:
            worker.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert worker.wait(20) == 0
        assert time.monotonic() - started < 5.0
    assert json.loads(said("stats"))["delivered"] == 2
