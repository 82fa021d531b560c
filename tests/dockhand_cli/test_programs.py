"""The programs of other packages as commands: `serve`, `keys`, `notify-token` and `events`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from authority import write_authority
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image

from dockhand_core import connect

PROGRAMS = {
    "serve registry": "dockhand_embedded",
    "serve webhook": "dockhand_webhook",
    "serve authority": "dockhand_token_server",
    "keys": "dockhand_auth_jwt keys",
    "notify-token": "dockhand_webhook notify-token",
    **{
        f"events {name}": f"dockhand_webhook {name}"
        for name in ("tail", "dead", "replay", "drop", "stats", "forget", "work")
    },
}
COMMON = {
    "--connection", "-c", "--config", "--json", "--quiet", "-q", "--verbose", "-v", "--debug",
}  # fmt: skip
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*(?![\w:])")
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({packages!r}))  # Python then finds none of them
sys.argv[0] = "dockhand"
from dockhand_cli.__main__ import run
run()
"""


def options_of(help_text: str) -> set[str]:
    """The options at the beginnings of the lines of a help text."""
    found: set[str] = set()
    for line in help_text.splitlines():
        listed = re.match(r"[│ ]+(-.*?)(   +[^- ]|$)", line)
        if listed:
            found |= set(OPTION.findall(listed[1]))
    return found


@pytest.mark.parametrize("command", PROGRAMS)
def test_both_ways_of_calling_a_program_have_the_same_options(
    dockhand: CommandLine, command: str
) -> None:
    dockhand.environment["COLUMNS"] = dockhand.environment["TERMINAL_WIDTH"] = "200"
    alone = subprocess.run(
        [sys.executable, "-m", *PROGRAMS[command].split(), "--help"],
        capture_output=True, text=True, check=True, timeout=60, env=dockhand.environment,
    )  # fmt: skip
    here = dockhand.out(*command.split(), "--help")
    expected = options_of(alone.stdout.partition("\ncommands:")[0])
    assert {"-h", "--help"} < expected
    assert expected - options_of(here) == set()
    assert options_of(here) - expected <= COMMON
    assert f"dockhand {command}" in here
    assert "python -m" not in here


@contextmanager
def started(
    dockhand: CommandLine, *arguments: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command; provide its process, and the first line of its output."""
    with subprocess.Popen(
        [sys.executable, "-m", "dockhand_cli", *arguments], cwd=dockhand.folder,
        env=dockhand.environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@contextmanager
def server(dockhand: CommandLine, *arguments: str, **variables: str) -> Iterator[str]:
    """Start a server on a free port, provide its URL, and stop it with SIGTERM."""
    with started(dockhand, "serve", *arguments, "--port", "0", **variables) as (process, line):
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield line.removeprefix("listening on ").strip()
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_server_cleanly(dockhand: CommandLine, number: signal.Signals) -> None:
    arguments = ("serve", "registry", "--root", ":memory:", "--port", "0")
    with started(dockhand, *arguments) as (process, line):
        url = line.removeprefix("listening on ").strip()
        with connect(url, logging={"driver": "null"}) as registry:
            push_image(registry, "team/app", "v1")
            assert dockhand.lines("tags", f"{url.removeprefix('http://')}/team/app") == ["v1"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_keys(dockhand: CommandLine) -> None:
    assert "rootcertbundle" in dockhand.out("keys")
    assert (dockhand.folder / "keys" / "private.pem").stat().st_mode & 0o777 == 0o600
    assert "exists already" in dockhand.error("keys", code=1)
    assert "HS256" in dockhand.error("keys", "other", "--algorithm", "HS256", code=2)
    made = dockhand.json("keys", "more", "--authority", "mine")
    assert made == {
        "private_key": "more/private.pem", "public_key": "more/public.pem",
        "certificate": "more/certificate.pem", "jwks": "more/jwks.json", "algorithm": "ES256",
        "authority": "mine", "registry": "my_registry", "realm": "http://localhost:5001/token",
    }  # fmt: skip


def test_the_settings_of_an_authority_are_checked(dockhand: CommandLine) -> None:
    config = write_authority(dockhand.folder)
    for arguments in (["--config", str(config)], []):
        assert "the settings are valid" in dockhand.out("serve", "authority", "--check", *arguments)
    config.write_text(config.read_text().replace("issuer", "isuer"))
    error = dockhand.error("serve", "authority", "--check", code=2)
    assert "did you mean 'issuer'?" in error
    with_traceback = dockhand.run("serve", "authority", "--check", "--debug", code=2)
    assert "Traceback" in with_traceback.stderr


def eventually(ask: Callable[[], Any], expected: Any) -> None:
    until = time.monotonic() + 30
    while (found := ask()) != expected:
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_the_events_of_a_registry_reach_the_inbox(dockhand: CommandLine) -> None:
    token = dockhand.json("notify-token", "--connection", "staging")["token"]
    with (
        server(dockhand, "webhook") as receiver,
        server(
            dockhand, "registry", "--root", ":memory:",
            "--notify", f"{receiver}/dockhand/notify/staging", DOCKHAND_NOTIFY_TOKEN=token,
        ) as url,
        connect(url, logging={"driver": "null"}) as registry,
    ):  # fmt: skip
        push_image(registry, "team/app", "v1")

        def pushed() -> list[str]:
            lines = dockhand.lines("events", "tail", "--no-follow", "-n", "100")
            return [line.partition("  ")[2] for line in lines if "ManifestPushed" in line]

        eventually(pushed, ["ManifestPushed  team/app:v1  -  staging"])
        with started(dockhand, "--json", "events", "tail", "-n", "1") as (tail, last):
            assert json.loads(last)["connection"] == "staging"
            registry.delete_tag("team/app", "v1")
            assert tail.stdout is not None
            documents = map(json.loads, tail.stdout)
            deleted = next(each for each in documents if each["class"] == "TagDeleted")
            assert (deleted["repository"], deleted["tag"]) == ("team/app", "v1")
            tail.send_signal(signal.SIGINT)
            assert tail.wait(30) == 130
        received = dockhand.json("events", "stats")["received"]
        assert received == len(dockhand.json_lines("events", "tail", "--no-follow", "-n", "1000"))
    assert dockhand.lines("events", "dead") == []
    assert dockhand.error("events", "replay", "7", code=3) == "there is no dead letter 7"
    assert dockhand.error("events", "drop", "7", code=3) == "there is no dead letter 7"
    assert dockhand.json("events", "drop", "--all") == {"dropped": []}
    assert "--all" in dockhand.error("events", "drop", code=2)
    assert "no handler" in dockhand.error("events", "forget", "x", code=3)


def test_each_of_several_errors_is_a_line(dockhand: CommandLine) -> None:
    done = dockhand.run("events", "drop", "7", "8", code=1)
    assert done.stderr.splitlines() == [
        "error: there is no dead letter 7",
        "error: there is no dead letter 8",
    ]


def test_errors_of_the_command_line(dockhand: CommandLine) -> None:
    error = dockhand.error("serve", "registry", "--prot", "1", code=2)
    assert error == "unrecognized arguments: --prot 1 (dockhand serve registry --help)"
    assert "--lines" in dockhand.error("events", "tail", "-n", "x", code=2)
    assert "--anonymous" in dockhand.error("serve", "registry", "--host", "0.0.0.0", code=2)
    assert "there is no such file" in dockhand.error("events", "tail", code=2)
    assert list(dockhand.folder.glob("inbox.db*")) == []


HANDLER = """
import os, sys
from dockhand_core import Dockhand, hookimpl

@hookimpl
def dockhand_event(event):
    print(os.environ.get("DOCKHAND_CONFIG"), *Dockhand().connections, file=sys.stderr, flush=True)
"""


def test_options_of_every_command_act_on_a_program(dockhand: CommandLine) -> None:
    assert dockhand.json("-c", "staging", "notify-token")["connection"] == "staging"
    assert json.loads(dockhand.out("--json", "notify-token"))["connection"] is None
    info = dockhand.folder / "site" / "recorder-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recorder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dockhand]\nrecorder = recorder_plugin\n")
    (info.parent / "recorder_plugin.py").write_text(HANDLER)
    python_path = f"{info.parent}{os.pathsep}{dockhand.environment.get('PYTHONPATH', '')}"
    (dockhand.folder / "other.toml").write_text(
        '[connections.elsewhere]\nbase_uri = "https://registry.example.com"\n'
    )
    with (
        started(
            dockhand, "--config", "other.toml", "serve", "webhook", "--port", "0", "--anonymous",
            PYTHONPATH=python_path,
        ) as (receiver, line),
        server(
            dockhand, "registry", "--root", ":memory:",
            "--notify", f"{line.removeprefix('listening on ').strip()}/dockhand/notify",
        ) as url,
        connect(url, logging={"driver": "null"}) as registry,
    ):  # fmt: skip
        registry.upload_blob("team/app", b"data")
        assert receiver.stderr is not None
        assert receiver.stderr.readline() == "handlers: recorder/dockhand_event\n"
        assert receiver.stderr.readline() == "other.toml elsewhere\n"


def test_a_package_that_is_not_installed(dockhand: CommandLine) -> None:
    packages = ["dockhand_embedded", "dockhand_webhook", "dockhand_auth_jwt"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT.format(packages=packages), *arguments],
            capture_output=True, text=True, check=False, timeout=60, env=dockhand.environment,
        )  # fmt: skip

    for command, extra in (
        ("serve registry --root x", "embedded"),
        ("serve webhook", "webhook"),
        ("keys", "jwt"),
        ("notify-token --list", "webhook"),
        ("events tail", "webhook"),
    ):
        done = run(*command.split())
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(
            r"error: dockhand-[a-z-]+ is not installed: "
            rf'pip install "dockhand-core\[{extra}\]"\n',
            done.stderr,
        )
    listed = run("--help").stdout
    assert all(re.search(rf"│ {name} ", listed) for name in ("serve", "keys", "notify-token"))
    assert '"dockhand-core[jwt]"' in re.sub(r"[\s│]+", " ", listed)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("serve registry --ht", ["--htpasswd"]),
        ("serve registry --root x --token-r", ["--token-realm"]),
        ("events ta", ["tail"]),
        ("events dead --replay 1 --sh", ["--show"]),
        ("keys --pass", ["--password-file"]),
    ],
)
def test_options_are_completed(dockhand: CommandLine, words: str, expected: list[str]) -> None:
    dockhand.environment |= {
        "_DOCKHAND_COMPLETE": "complete_bash",
        "COMP_WORDS": f"dockhand {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    assert dockhand.lines() == expected
