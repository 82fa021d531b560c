"""The command lines of `docs/coming-from.md` run at an embedded registry."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import make_image, old_docker_save, push, write_tar
from command_line import CommandLine
from dockhand_cli.main import main, root_command
from dockhand_embedded.pytest_plugin import OciRegistry
from help_examples import shell_environment
from typer.core import TyperGroup

from dockhand_core import ImageIndex, Platform, RegistryClient, connect

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text("utf-8")
ROWS = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", PAGE, re.MULTILINE)]
LINES = sorted(
    {
        text.replace("\\|", "|")
        for _, answer in ROWS
        for text in re.findall(r"`(dockhand [^`]+)`", answer)
    }
)
# Servers, programs that ask for a password, and commands that need a zot, an authority or a shell.
ONLY_HELP = ("login", "serve", "zot", "token", "--install-completion", "--show-completion")
RUN = [line for line in LINES if line.split()[1] not in ONLY_HELP and "|" not in line]


@pytest.fixture
def place(
    oci_registry: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, RegistryClient]]:
    """Fill a registry and the working folder with all that the lines name; provide the host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
    Path("note.txt").write_text("a note")
    write_tar(Path("image.tar"), old_docker_save({"app:v2": make_image()}))
    with connect(oci_registry.url, logging={"driver": "null"}) as client:
        entries = []
        for architecture in ("amd64", "arm64", "s390x"):
            image = push(client, "app", architecture, make_image(architecture))
            platform = Platform("linux", architecture)
            entries.append(image.descriptor().model_copy(update={"platform": platform}))
        index = ImageIndex(manifests=tuple(entries[:2]))
        client.put_manifest("app", "v1", index)
        Path("manifest.json").write_bytes(index.raw)
        client.push_artifact("notes", "v1", ["note.txt"], artifact_type="text/x-note")
        client.load_image("image.tar", "loaded", "v2")
        client.save_image("loaded", "v2", "images", format="oci")
        yield oci_registry.url.removeprefix("http://"), client


def _filled(line: str, host: str, client: RegistryClient) -> str:
    image = client.image("app", "amd64")
    digest = image.layers[0].digest if line.startswith("dockhand blob") else image.digest
    return line.replace("localhost:5000", host).replace("$DIGEST", digest)


def test_all_programs_have_a_table() -> None:
    assert re.findall("^## (.*)$", PAGE, re.MULTILINE) == [
        "crane", "regctl", "skopeo", "oras", "docker",
    ]  # fmt: skip
    assert len(RUN) > 50
    for command, answer in ROWS:
        assert "dockhand " in answer or answer.startswith("none") or answer == "Dockhand", command


@pytest.mark.parametrize("line", RUN)
def test_a_line_runs(
    place: tuple[str, RegistryClient], line: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = shlex.split(_filled(line, *place))[1:]
    status = main(words)
    assert (status, capsysbinary.readouterr().err) == (0, b"")


@pytest.mark.parametrize("line", [each for each in LINES if "|" in each])
def test_a_pipe_runs(place: tuple[str, RegistryClient], line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", _filled(line, *place)], cwd=tmp_path, capture_output=True,
        env=shell_environment(CommandLine(tmp_path)), check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.parametrize("line", [each for each in LINES if each not in RUN and "|" not in each])
def test_a_line_is_parsed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The line is complete, and its command has its options."""
    words = shlex.split(line)[1:]
    if words[0].startswith("--"):
        assert any(words[0] in option.opts for option in root_command().params)
        return
    command, given = root_command(), list(words)
    while isinstance(command, TyperGroup):
        command = command.commands[given.pop(0)]
        command = command.imported() if hasattr(command, "imported") else command
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in given:
        assert not word.startswith("-") or word in shown, word
