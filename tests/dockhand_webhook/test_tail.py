"""The command `tail`: the events of an inbox, as they arrive."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Inbox
from dockhand_webhook.__main__ import main

from dockhand_core.events import RegistryEvent

FORM = {
    "class", "received", "connection", "id", "timestamp", "action", "digest", "repository",
    "request_id", "request_addr", "request_host", "request_method", "request_user_agent",
    "actor_name", "source_addr", "source_instance_id", "truncated", "media_type", "size", "url",
    "tag", "references",
}  # fmt: skip


@pytest.fixture
def tail(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Provide a function that prints the stored events, and returns the lines."""

    def run(*arguments: str) -> list[str]:
        main(["tail", "--no-follow", *arguments])
        return capsys.readouterr().out.splitlines()

    return run


def test_an_event_is_a_line(tail: Any, inbox: Inbox, make_event: Any, run: Any) -> None:
    event: RegistryEvent = make_event(id="one")
    run(inbox.store("staging", [event]))
    run(inbox.store("", [event.model_copy(update={"tag": None, "actor_name": "alice"})]))
    tagged, untagged = tail()
    when = f"{event.timestamp:%Y-%m-%dT%H:%M:%SZ}"
    assert tagged.split("  ") == [
        when, "ManifestPushed", f"{event.repository}:{event.tag}", event.actor_name or "-",
        "staging",
    ]  # fmt: skip
    assert untagged.split("  ") == [
        when, "ManifestPushed", f"{event.repository}@{event.digest}", "alice", "-",
    ]  # fmt: skip


def test_the_form_of_json(tail: Any, inbox: Inbox, make_event: Any, run: Any) -> None:
    event: RegistryEvent = make_event(id="one")
    run(inbox.store("staging", [event]))
    [line] = tail("--json")
    document = json.loads(line)
    assert document.keys() == FORM
    assert document["class"] == "ManifestPushed"
    assert document["connection"] == "staging"
    assert document["received"].endswith("Z")
    assert (document["id"], document["repository"]) == ("one", event.repository)
    assert type(event).model_validate(document | {"raw": {}}).digest == event.digest


def test_the_last_events_are_printed_in_order_of_arrival(
    tail: Any, inbox: Inbox, make_event: Any, run: Any
) -> None:
    run(inbox.store("", [make_event(id=str(number)) for number in range(25)]))

    def ids(*arguments: str) -> list[str]:
        return [json.loads(line)["id"] for line in tail("--json", *arguments)]

    assert ids() == [str(number) for number in range(15, 25)]
    assert ids("-n", "2") == ["23", "24"]
    assert ids("--lines", "100") == [str(number) for number in range(25)]
    assert ids("-n", "0") == []


def test_events_cannot_control_the_terminal(
    tail: Any, inbox: Inbox, make_event: Any, run: Any
) -> None:
    hostile = "\x1b[2J\x9b\x7f\u202e\u2028\r\n"
    event = make_event(id="one").model_copy(update={"actor_name": hostile})
    run(inbox.store("", [event]))
    for arguments in ([], ["--json"]):
        [line] = tail(*arguments)
        assert line.isprintable()
    assert json.loads(line)["actor_name"] == hostile


@pytest.mark.parametrize("content", [None, b"", b"not a database" * 100])
def test_what_is_not_an_inbox_is_refused_and_not_created(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.db"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["tail", "--inbox", str(file)])
    assert caught.value.code == 2
    assert str(file) in capsys.readouterr().err
    assert (file.read_bytes() if file.exists() else None) == content


@contextmanager
def following(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dockhand_webhook", "tail", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_further_events_are_printed_until_an_interrupt(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    run(inbox.store("", [make_event(id="one"), make_event(id="two")]))
    with following("--json", "-n", "1") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "two"
        for name in ("three", "four"):
            run(inbox.store("", [make_event(id=name)]))
            assert json.loads(process.stdout.readline())["id"] == name
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


def test_the_command_ends_when_nobody_reads_its_output(
    inbox: Inbox, make_event: Any, run: Any
) -> None:
    """It does not wait for an event that it could not print, as after `| head -1`."""
    run(inbox.store("", [make_event(id="one")]))
    with following() as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        started = time.monotonic()
        assert process.wait(20) == 141
        assert time.monotonic() - started < 10
        assert process.stderr is not None
        assert process.stderr.read() == ""
