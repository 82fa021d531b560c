"""Completion in interactive shells, and of values that a registry knows."""

from __future__ import annotations

import bisect
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from command_line import CommandLine
from dockhand_cli.shell_words import join_words
from dockhand_testing.contracts.samples import push_image
from dockhand_testing.http_server import HANG, ReceivedRequest, reply, scripted_server
from registries import program
from shells import Shell

from dockhand_core import RegistryClient


@pytest.fixture
def images(dockhand: CommandLine, registry: RegistryClient, host: str) -> CommandLine:
    """Push images, and configure connections: `main` to the registry, `down` to no registry."""
    for repository in ("team/app", "team/app-web", "team/base"):
        push_image(registry, repository, "v1.0")
    push_image(registry, "team/base", "v1.1")
    push_image(registry, "lone", "stable")
    (dockhand.folder / "dockhand.toml").write_text(
        'default = "main"\n'
        f'[connections.main]\nbase_uri = "http://{host}"\n'
        '[connections.down]\nbase_uri = "http://127.0.0.1:9"\n'
        "[connections.wrong]\ntimeout = -1\n"
    )
    return dockhand


def values(dockhand: CommandLine, *words: str) -> list[str]:
    """The values that the program gives bash for the last word; bash has split the words."""
    environment = {
        **dockhand.environment,
        "_DOCKHAND_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("dockhand", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dockhand_cli"],
        cwd=dockhand.folder, env=environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "joined", "kept"),
    [
        (["tags", "@", "sta"], ["tags", "@sta"], ""),
        (["tags", "@"], ["tags", "@"], ""),
        (["tags", "@", "staging/ap"], ["tags", "@staging/ap"], ""),
        (["tags", "h", ":", "50"], ["tags", "h:50"], "h:"),
        (["rm", "h", ":", "5000/app", ":", "v"], ["rm", "h:5000/app:v"], "h:5000/app:"),
        (["rm", "h", ":", "5000/app", ":"], ["rm", "h:5000/app:"], "h:5000/app:"),
        (["rm", "h", ":", "5000/app", ""], ["rm", "h:5000/app", ""], ""),
        (["rm", "h:5000/app:v"], ["rm", "h:5000/app:v"], ""),
        (["cp", "@", "a/b", ":", "v1", "@", "c/d", ":"], ["cp", "@a/b:v1", "@c/d:"], "@c/d:"),
        (["cp", "@", "a/b", ":", "v1", ""], ["cp", "@a/b:v1", ""], ""),
        (["rm", "h/a", "@", "sha256", ":", "0"], ["rm", "h/a@sha256:0"], "h/a@sha256:"),
        (["ls", "--platform", "=", "li"], ["ls", "--platform=li"], "--platform="),
        ([], [""], ""),
    ],
)
def test_the_words_of_bash_are_joined(words: list[str], joined: list[str], kept: str) -> None:
    assert join_words(words, max(0, len(words) - 1)) == (joined, kept)


def test_connections_repositories_and_tags(images: CommandLine, host: str) -> None:
    name, port = host.split(":")
    assert values(images, "ls", "") == ["main", "down"]
    assert values(images, "tags", "@") == ["@main/", "@down/"]
    assert values(images, "tags", "@", "main/team/a") == ["@main/team/app", "@main/team/app-web"]
    # the tags of the only repository
    assert values(images, "inspect", "@", "main/lo") == ["@main/lone:stable"]
    assert values(images, "tags", "@", "main/lo") == ["@main/lone"]
    assert values(images, "inspect", name, ":", f"{port}/team/base", ":", "v1") == ["v1.0", "v1.1"]
    assert values(images, "-c", "main", "inspect", "team/base", ":") == ["v1.0", "v1.1"]


def test_no_error_reaches_the_shell(images: CommandLine, host: str) -> None:
    assert values(images, "tags", "@", "down/a") == []
    assert values(images, "tags", "@", "nobody/a") == []
    assert values(images, "tags", "@", "wrong/a") == []
    assert values(images, "inspect", f"{host}/%%", ":", "x") == []
    (images.folder / "dockhand.toml").write_text("nonsense")
    assert values(images, "tags", "@", "main/a") == []


def test_one_page_of_a_wide_catalog(dockhand: CommandLine) -> None:
    """The page begins at the text; a registry that does not sort is asked for its first page."""

    def handle(request: ReceivedRequest) -> bytes:
        last = request.query.get("last", "")
        names = [f"team/app-{n:06}" for n in range(100_000)]
        begin = bisect.bisect_right(names, last)
        page = names[begin : begin + int(request.query["n"])]
        link = f"</v2/_catalog?n=100&last={page[-1]}>; rel=next" if page else ""
        return reply(200, json.dumps({"repositories": page}).encode(), Link=link)

    with scripted_server(handle) as server:
        host = server.url.removeprefix("http://")
        name, port = host.split(":")
        found = values(dockhand, "tags", name, ":", f"{port}/team/app-0512")
        assert found == [f"{port}/team/app-0512{n:02}" for n in range(100)]
        assert len(server.requests) == 1
        assert values(dockhand, "tags", name, ":", f"{port}/other") == []
        assert len(server.requests) == 3


def test_names_that_a_shell_would_evaluate_are_left_out(dockhand: CommandLine) -> None:
    names = ["a/good", "a/$(touch evil)", "a/`x`", "a/b;c", "a/b c", "a/\\x", "a/'", "a/\x1b[31m"]
    body = json.dumps({"repositories": names}).encode()
    with scripted_server(lambda _: reply(200, body)) as server:
        name, port = server.url.removeprefix("http://").split(":")
        assert values(dockhand, "tags", name, ":", f"{port}/a/") == [f"{port}/a/good"]


def test_a_registry_that_does_not_answer(dockhand: CommandLine) -> None:
    with scripted_server(lambda _: [HANG]) as server:
        name, port = server.url.removeprefix("http://").split(":")
        begun = time.monotonic()
        values(dockhand, "ls", "")
        without = time.monotonic() - begun
        begun = time.monotonic()
        assert values(dockhand, "tags", name, ":", f"{port}/a") == []
        # a second for the registry; a busy machine also needs its time to import the library
        assert time.monotonic() - begun < 5 + 3 * without
        assert len(server.requests) == 1


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(images: CommandLine, request: pytest.FixtureRequest) -> Iterator[Shell]:
    """Install the completion in a shell, and start it anew."""
    name: str = request.param
    path = program(name, f"install Debian's package {name}")
    commands = images.folder / "bin"
    commands.mkdir()
    script = commands / "dockhand"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m dockhand_cli "$@"\n')
    script.chmod(0o755)
    environment = {
        **images.environment,
        "PATH": f"{commands}:{images.environment['PATH']}",
        "TERM": "dumb" if name == "bash" else "xterm",
        "XDG_CONFIG_HOME": str(images.folder / ".config"),
    }
    installed = subprocess.run(
        [path, "-c", "dockhand --install-completion; true"],
        cwd=images.folder, env=environment, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert f"{name} completion installed in {images.folder}" in installed
    with closing(Shell([path, "-i"], environment)) as started:
        yield started


@pytest.mark.live
def test_an_interactive_shell_completes(shell: Shell, host: str) -> None:
    for line, whole in [
        ("dockhand ins", "dockhand inspect"),
        ("dockhand ls d", "dockhand ls down"),
        ("dockhand inspect --platform linux/a", "dockhand inspect --platform linux/a"),
        ("dockhand tags @main/team/b", "dockhand tags @main/team/base"),
        (f"dockhand inspect {host}/lon", f"dockhand inspect {host}/lone:stable"),
        (f"dockhand inspect {host}/team/base:v1.1", f"dockhand inspect {host}/team/base:v1.1"),
        (
            f"dockhand cp @main/lone:s {host}/team/app-",
            f"dockhand cp @main/lone:s {host}/team/app-web:v1.0",
        ),
        (
            f"dockhand cp {host}/lone:stable @main/lone:s",
            f"dockhand cp {host}/lone:stable @main/lone:stable",
        ),
        ("dockhand tags @down/team/b", "dockhand tags @down/team/b"),
    ]:
        assert shell.completed(line, expected=whole), f"{line!r}: {shell.seen}"
