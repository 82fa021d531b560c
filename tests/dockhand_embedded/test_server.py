"""The server `python -m dockhand_embedded`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dockhand_testing.contracts.samples import push_image
from registries import embedded, program

from dockhand_core import Digest, ManifestUnknown, Unsupported, connect

QUIET = {"driver": "null"}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dockhand_embedded", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in ("--root", "--host", "--port", "--anonymous", "--read-only", "--max-manifest"):
        assert option in done.stdout


def test_startup_errors(tmp_path: Path) -> None:
    """Each mistake ends the program with one line that names the remedy."""
    (tmp_path / "file").write_text("not a folder")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        cases = {
            "--anonymous": run("--host", "0.0.0.0", "--root", str(tmp_path / "a")),
            "--port 0": run("--port", port, "--root", str(tmp_path / "b")),
            "cannot be used": run("--port", "0", "--root", str(tmp_path / "file")),
        }
    for hint, done in cases.items():
        assert done.returncode == (1 if hint == "--port 0" else 2)
        assert hint in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with connect(url, logging=QUIET) as registry:
            registry.upload_blob("a/b", b"data")
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_content_survives_a_restart(tmp_path: Path) -> None:
    with embedded(tmp_path) as url, connect(url, logging=QUIET) as registry:
        manifest = push_image(registry, "a/b", "v1")
    with embedded(tmp_path, "--read-only") as url, connect(url, logging=QUIET) as registry:
        assert registry.manifest("a/b", "v1").raw == manifest.raw
        with pytest.raises(Unsupported, match="read-only"):
            registry.upload_blob("a/b", b"data")
        with pytest.raises(Unsupported, match="read-only"):
            registry.delete_tag("a/b", "v1")
        with pytest.raises(ManifestUnknown):
            registry.manifest("a/b", "v2")


def test_client_that_disconnects(tmp_path: Path) -> None:
    """The bytes that arrived are kept, and the upload can continue; no partial blob appears."""
    data = os.urandom(5 << 20)
    with embedded(tmp_path) as url, connect(url, logging=QUIET) as registry:
        upload = registry.start_upload("a/b")
        parts = urlsplit(upload.location)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as client:
            head = f"PATCH {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}"
            client.sendall(f"{head}\r\n\r\n".encode())
            client.sendall(data[: 3 << 20])
            time.sleep(0.3)
        for _ in range(100):
            now = registry.upload_status(upload)
            if now.offset == 3 << 20:
                break
            time.sleep(0.05)
        assert now.offset == 3 << 20
        now = registry.upload_chunk(now, data[now.offset :])
        registry.finish_upload(now, Digest.of(data))
        assert registry.read_blob("a/b", Digest.of(data)) == data


def test_memory_stays_flat(tmp_path: Path) -> None:
    """The pushed and pulled blob is much larger than the permitted growth of memory."""
    size = 192 << 20
    path = tmp_path / "large"
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    command = [sys.executable, "-m", "dockhand_embedded", "--root", str(tmp_path / "root")]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with connect(url, logging=QUIET) as registry:
            registry.upload_blob("a/b", b"warm")
            before = _peak_memory(process.pid)
            digest = registry.upload_blob("a/b", path).digest
            with registry.open_blob("a/b", digest) as blob:
                assert sum(len(block) for block in blob) == size
            grown = _peak_memory(process.pid) - before
        process.terminate()
    assert grown < 48 << 20


def _peak_memory(pid: int) -> int:
    """Return the peak memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("only Linux shows the peak memory of another process")
    [line] = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_curl_with_expect_100_continue(tmp_path: Path) -> None:
    """curl waits for `100 Continue` before it sends the body."""
    curl = program("curl", "the system's package curl has it")
    blob = tmp_path / "blob"
    blob.write_bytes(os.urandom(2 << 20))
    digest = Digest.of(blob.read_bytes())
    with embedded(tmp_path) as url, connect(url, logging=QUIET) as registry:
        upload = registry.start_upload("a/b")
        done = subprocess.run(
            [
                curl, "-sS", "-o", "-", "-w", "%{http_code}", "-X", "PUT",
                "-H", "Expect: 100-continue", "-H", "Content-Type: application/octet-stream",
                "--data-binary", f"@{blob}", f"{upload.location}?digest={digest}",
            ],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert done.stdout == "201"
        assert registry.blob_size("a/b", digest) == 2 << 20
