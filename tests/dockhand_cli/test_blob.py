"""The commands `blob …`."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from dockhand_testing.http_server import ScriptedServer, reply, scripted_server
from registries import embedded
from slow_registry import slow_registry
from terminal import Terminal

from dockhand_core import RegistryClient

# not text, with all line ends that a text layer would change
DATA = b"\x00\xff\r\n\n\r\x1a" + random.Random(1).randbytes(3_000_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
MISSING = f"sha256:{'0' * 64}"


@pytest.fixture
def blob(registry: RegistryClient, host: str) -> str:
    """Push a blob; provide its name."""
    registry.upload_blob("team/app", DATA)
    return f"{host}/team/app@{DIGEST}"


@pytest.fixture
def liar() -> Iterator[ScriptedServer]:
    """Run a server that answers each request for a blob with other bytes."""
    with scripted_server(lambda request: reply(200, b"x" * 100_000)) as server:
        yield server


def test_put_and_get_are_exact(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    (dockhand.folder / "data").write_bytes(DATA)
    assert dockhand.lines("blob", "put", f"{host}/a", "data") == [DIGEST]
    piped = dockhand.run_bytes("blob", "put", f"{host}/b", "-", input=DATA)
    assert (piped.stdout, piped.stderr) == (f"{DIGEST}\n".encode(), b"")
    assert registry.read_blob("a", DIGEST) == registry.read_blob("b", DIGEST) == DATA
    got = dockhand.run_bytes("blob", "get", f"{host}/b@{DIGEST}")
    assert (got.stdout == DATA, got.stderr) == (True, b"")


def test_documents(dockhand: CommandLine, blob: str, host: str) -> None:
    named = {"repository": "team/app", "digest": DIGEST}
    head = dockhand.json("blob", "head", blob)
    json_forms.check(head, "blob head")
    assert head == {**named, "size": len(DATA)}
    assert dockhand.lines("blob", "head", blob) == [str(len(DATA))]

    got = dockhand.json("blob", "get", blob, "-o", "copy")
    json_forms.check(got, "blob get")
    assert got == {**named, "size": len(DATA), "output": "copy"}
    assert (dockhand.folder / "copy").read_bytes() == DATA
    assert "--output" in dockhand.error("blob", "get", blob, "--json", code=2)

    put = dockhand.json("blob", "put", f"{host}/team/app", "copy")
    json_forms.check(put, "blob put")
    assert put == {**named, "uploaded": False}

    gone = dockhand.json("blob", "rm", blob, "--yes")
    json_forms.check(gone, "blob rm")
    assert gone == {**named, "size": len(DATA)}
    dockhand.error("blob", "head", blob, code=3)


def test_a_missing_blob(dockhand: CommandLine, blob: str, host: str) -> None:
    missing = f"{host}/team/app@{MISSING}"
    for command in (("head",), ("get",), ("get", "-o", "file"), ("rm", "--yes")):
        assert MISSING in dockhand.error("blob", *command, missing, code=3)
    assert not (dockhand.folder / "file").exists()


def test_wrong_arguments(dockhand: CommandLine, host: str) -> None:
    assert dockhand.error("blob", "get", f"{host}/app:v1", code=2) == (
        f"{host}/app:v1: a digest is expected here, such as {host}/app@sha256:…"
    )
    assert "@sha256:…" in dockhand.error("blob", "head", f"{host}/app", code=2)
    assert dockhand.error("blob", "put", f"{host}/app", "none", code=2) == (
        "none: there is no such file"
    )
    assert "folder" in dockhand.error("blob", "put", f"{host}/app", dockhand.folder, code=2)


def test_an_expected_digest(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    (dockhand.folder / "data").write_bytes(b"other")
    error = dockhand.error("blob", "put", f"{host}/app", "data", "--digest", DIGEST, code=1)
    assert DIGEST in error
    assert not registry.blob_exists("app", f"sha256:{hashlib.sha256(b'other').hexdigest()}")


def test_wrong_bytes_fail_at_their_end(dockhand: CommandLine, liar: ScriptedServer) -> None:
    blob = f"{liar.url.removeprefix('http://')}/app@{DIGEST}"
    streamed = dockhand.run("blob", "get", blob, code=1)
    assert len(streamed.stdout) == 100_000
    assert DIGEST in streamed.stderr
    (dockhand.folder / "file").write_text("old")
    assert DIGEST in dockhand.error("blob", "get", blob, "--output", "file", code=1)
    assert [each.name for each in dockhand.folder.iterdir() if each.is_file()] == ["file"]
    assert (dockhand.folder / "file").read_text() == "old"


def test_a_reader_that_leaves_early(dockhand: CommandLine, blob: str) -> None:
    command = [sys.executable, "-m", "dockhand_cli", "blob", "get", blob]
    with subprocess.Popen(
        command, env=dockhand.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 10) == DATA[:10]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_devices_and_pipes_are_not_replaced(dockhand: CommandLine, blob: str, host: str) -> None:
    pipe = dockhand.folder / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert dockhand.out("blob", "get", blob, "-o", pipe) == ""
    reader.join(60)
    assert received == [DATA]
    assert pipe.is_fifo()
    writer = threading.Thread(target=pipe.write_bytes, args=[DATA])
    writer.start()
    assert dockhand.lines("blob", "put", f"{host}/other", pipe) == [DIGEST]
    writer.join(60)


def test_a_terminal_shows_text_alone(
    dockhand: CommandLine, registry: RegistryClient, blob: str, host: str
) -> None:
    text = '{\n\t"name": "\x1b[31mred"\n}'
    digest = registry.upload_blob("team/app", text.encode()).digest
    terminal = Terminal(dockhand, "blob", "get", f"{host}/team/app@{digest}")
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert terminal.seen == '{\r\n    "name": "\\x1b[31mred"\r\n}\r\n'

    terminal = Terminal(dockhand, "blob", "get", blob)
    try:
        assert terminal.end() == 2
    finally:
        terminal.close()
    shown = terminal.seen.replace("\r\n", " ")
    assert "--output FILE" in shown
    assert "\x00" not in shown


def test_a_blob_is_deleted_after_a_typed_yes(
    dockhand: CommandLine, registry: RegistryClient, blob: str
) -> None:
    assert "--yes" in dockhand.error("blob", "rm", blob, code=2)
    for answer, status in (("n\n", 1), ("yes\n", 0)):
        assert registry.blob_exists("team/app", DIGEST)
        terminal = Terminal(dockhand, "blob", "rm", blob)
        try:
            terminal.wait_for("Type yes")
            terminal.type(answer)
            assert terminal.end() == status
        finally:
            terminal.close()
        assert "3.0 MB" in terminal.seen
    assert not registry.blob_exists("team/app", DIGEST)


def test_an_interrupted_download_resumes(dockhand: CommandLine, blob: str, tmp_path: Path) -> None:
    partial = tmp_path / f"file.{DIGEST[7:23]}.part"
    partial.write_bytes(DATA[:1_000_000])
    done = dockhand.run("-v", "blob", "get", blob, "-o", "file")
    assert " 206 " in done.stderr
    assert (tmp_path / "file").read_bytes() == DATA
    assert not partial.exists()


def test_ctrl_c_keeps_what_a_download_has(dockhand: CommandLine) -> None:
    with slow_registry([4_000_000], pause=0.1) as server:
        host = server.url.removeprefix("http://")
        manifest = dockhand.json("manifest", "get", f"{host}/app:v1")["manifest"]
        digest = manifest["layers"][0]["digest"]
        terminal = Terminal(dockhand, "blob", "get", f"{host}/app@{digest}", "-o", "file")
        try:
            terminal.wait_for("Downloading sha256:")
            terminal.wait_for("/s")
            terminal.type("\x03")
            assert terminal.end() == 130
        finally:
            terminal.close()
    (partial,) = (each for each in dockhand.folder.iterdir() if each.is_file())
    assert partial.name == f"file.{digest[7:23]}.part"
    assert 0 < partial.stat().st_size < 4_000_000


def test_ctrl_c_cancels_an_upload(dockhand: CommandLine, tmp_path: Path) -> None:
    with embedded(tmp_path / "registry") as url:
        command = ["blob", "put", f"{url.removeprefix('http://')}/app", "-"]
        process = subprocess.Popen(
            [sys.executable, "-m", "dockhand_cli", *command], env=dockhand.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(bytes(9 << 20))  # the first chunk, and a part of the second
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not _large_files(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(_large_files(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.communicate() == (b"", b"")
        assert _large_files(tmp_path) == []


def _large_files(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file() and each.stat().st_size >= 8 << 20]
