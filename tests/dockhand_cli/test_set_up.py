"""The commands `connections`, `plugins` and `ping`, and `ls` of a registry without a catalog."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from command_line import CommandLine
from dockhand_testing.http_server import reply, scripted_server
from json_forms import check
from raw_servers import refusing_port
from terminal import shown_on_terminal

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]

CONNECTIONS = """
default = "main"
[connections.main]
base_uri = "https://registry.example.com/v2/"
auth = { driver = "basic", username = "alice", password = "s3cret" }
[connections.folder]
driver = "embedded"
root = "images"
[connections.mixed]
base_uri = "https://alice:s3cret@registry.example.com"
[connections.negative]
base_uri = "https://registry.example.com"
timeout = -1
[connections.unset]
base_uri = "${DOCKHAND_CLI_TEST_UNSET}"
[connections.plain]
base_uri = "s3cret"
[connections.unknown]
driver = "harbor"
base_uri = "https://registry.example.com"
"""


def test_connections(dockhand: CommandLine) -> None:
    (dockhand.folder / "dockhand.toml").write_text(CONNECTIONS)
    document = dockhand.json("connections")
    check(document, "connections")
    found = {each["name"]: each for each in document["connections"]}
    assert list(found) == re.findall(r"\[connections\.(\w+)\]", CONNECTIONS)
    main = found["main"]
    assert main == {
        "name": "main",
        "driver": "distribution",
        "url": "https://registry.example.com/v2/",
        "auth": "basic",
        "default": True,
        "error": None,
    }
    assert (found["folder"]["url"], found["folder"]["error"]) == ("images", None)
    assert not (dockhand.folder / "images").exists()
    assert "base_uri holds credentials" in found["mixed"]["error"]
    assert found["mixed"]["url"] == "https://registry.example.com"
    assert "timeout" in found["negative"]["error"]
    assert "'DOCKHAND_CLI_TEST_UNSET' is not set" in found["unset"]["error"]
    assert found["plain"]["url"] is None
    assert "registry driver 'harbor' is not installed" in found["unknown"]["error"]
    assert "s3cret" not in json.dumps(document).replace("https://s3cret", "")

    narrow = shown_on_terminal(dockhand, "connections", columns=40)
    lines = narrow.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0].split() == ["NAME", "main"]
    assert lines[1].split() == ["DRIVER", "distribution"]


def test_no_connections(dockhand: CommandLine) -> None:
    assert dockhand.out("connections") == ""
    assert "no connection is configured" in shown_on_terminal(dockhand, "connections")
    assert dockhand.json("connections") == {"connections": []}


def test_plugins(dockhand: CommandLine, package: Install) -> None:
    document = dockhand.json("plugins", "--check")
    check(document, "plugins")
    found = {each["package"]: each for each in document["plugins"]}
    assert found["dockhand-auth-basic"]["drivers"] == {"auth": ["basic"]}
    assert found["dockhand-auth-basic"]["hooks"] == ["dockhand_auth_drivers"]
    assert found["dockhand-core"]["parsers"] == ["DistributionParser", "ZotParser"]
    assert not any(each["error"] for each in document["plugins"])

    source = (
        "from dockhand_core import hookimpl\n"
        "@hookimpl\ndef dockhand_auth_drivers():\n    return {'far': 'nowhere_at_all:Auth'}\n"
        "@hookimpl\ndef dockhand_event(event):\n    pass\n"
    )
    package("dockhand-far", {"far": "fake_far"}, {"fake_far": source})
    before = dockhand.environment.get("PYTHONPATH", "")
    dockhand.environment["PYTHONPATH"] = f"{Path('site').absolute()}{os.pathsep}{before}"
    (line,) = [line for line in dockhand.lines("plugins") if line.startswith("far\t")]
    assert line.split("\t") == [
        "far", "dockhand-far", "1.2.3", "auth:far", "dockhand_auth_drivers,dockhand_event", "",
        "far/dockhand_event", "",
    ]  # fmt: skip
    done = dockhand.run("plugins", "--check", code=1)
    assert re.fullmatch(r"error: 1 of \d+ plugins broken: far\n", done.stderr)
    assert "nowhere_at_all" in done.stdout
    narrow = shown_on_terminal(dockhand, "plugins", "--check", columns=40)
    *lines, _error = narrow.splitlines()
    assert max(map(len, lines)) <= 40
    assert "auth drivers: far" in narrow


def test_a_command_that_one_of_dockhand_hides(dockhand: CommandLine, package: Install) -> None:
    source = (
        "from dockhand_core import hookimpl\n"
        "@hookimpl\ndef dockhand_commands():\n    return {'tags': 'fake_near:app'}\n"
    )
    package("dockhand-near", {"near": "fake_near"}, {"fake_near": source})
    before = dockhand.environment.get("PYTHONPATH", "")
    dockhand.environment["PYTHONPATH"] = f"{Path('site').absolute()}{os.pathsep}{before}"
    warning = dockhand.run("plugins").stderr
    assert warning.startswith("warning: dockhand-near: its tags cannot be called")


def test_the_check_of_plugins_finds_wrong_settings(dockhand: CommandLine) -> None:
    (dockhand.folder / "dockhand.toml").write_text("[plugins.slack]\n[connections.main]\n")
    assert dockhand.json("plugins")["plugins"]
    error = dockhand.error("plugins", "--check", code=2)
    assert "plugins.slack: no plugin named 'slack' is installed" in error


def test_ping(dockhand: CommandLine, host: str) -> None:
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.main]\nbase_uri = "http://{host}"\n'
    )
    document = dockhand.json("ping")
    check(document, "ping")
    assert document["name"] == "main"
    assert (document["url"], document["api_version"]) == (f"http://{host}", "registry/2.0")
    assert dockhand.out("ping", host).startswith(f"main: http://{host} answers, registry/2.0, ")
    assert "no connection named 'other'" in dockhand.error("ping", "other", code=2)
    with refusing_port() as port:
        dockhand.error("ping", f"127.0.0.1:{port}", code=5)


def test_ping_and_ls_without_a_login(dockhand: CommandLine) -> None:
    with scripted_server(lambda _: reply(401, b"", WWW_Authenticate="Basic")) as server:
        host = server.url.removeprefix("http://")
        error = dockhand.error("ping", host, code=4)
        assert error.startswith(f"{host} is reachable, but not logged in: ")
        assert f"log in with: dockhand login {host}; " in error
        error = dockhand.error("ls", host, code=4)
        assert f"log in with: dockhand login {host}; " in error
        assert "`dockhand tags`" in error
        (dockhand.folder / "dockhand.toml").write_text(
            f'[connections.main]\nbase_uri = "http://{host}"\n'
        )
        assert dockhand.error("tags", "@main/app", code=4).endswith("set its `auth`")


def test_ls_of_a_registry_without_a_catalog(dockhand: CommandLine) -> None:
    with scripted_server(lambda _: reply(404, b"")) as server:
        host = server.url.removeprefix("http://")
        error = dockhand.error("ls", host, code=3)
        assert error.startswith(f"{host} gave no list of its repositories: ")
        assert "`dockhand tags`" in error


HANDLER = """
from dockhand_core import hookimpl
@hookimpl
def dockhand_event(event): ...
"""


def test_plugins_of_one_name_are_listed_with_the_error(
    dockhand: CommandLine, package: Install
) -> None:
    package("quayside-hook", {"quayside": "fake_one"}, {"fake_one": HANDLER})
    package("dockhand-quayside", {"quayside": "fake_two"}, {"fake_two": HANDLER})
    before = dockhand.environment.get("PYTHONPATH", "")
    dockhand.environment["PYTHONPATH"] = f"{Path('site').absolute()}{os.pathsep}{before}"
    document = dockhand.json("plugins")
    check(document, "plugins")
    found = {each["package"]: each["error"] for each in document["plugins"] if each["error"]}
    assert found.keys() == {"quayside-hook", "dockhand-quayside"}
    assert found["quayside-hook"].startswith(
        "dockhand-quayside has a plugin named 'quayside', too, and both implement dockhand_event"
    )
    done = dockhand.run("plugins", "--check", code=1)
    assert re.fullmatch(r"error: 2 of \d+ plugins broken: quayside, quayside\n", done.stderr)
