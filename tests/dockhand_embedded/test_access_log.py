"""The option `--access-log`."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from registries import HTPASSWD, PASSWORD

LINE = re.compile(
    r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z client=127\.0\.0\.1 user=(?P<user>\S+) "
    r"method=(?P<method>[A-Z]+) path=(?P<path>\S+) status=(?P<status>\d+) bytes=(?P<bytes>\d+) "
    r"milliseconds=\d+\.\d"
)


def test_a_line_for_each_request(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(HTPASSWD)
    command = [sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", "--port", "0"]
    command += ["--access-log", "--htpasswd", str(tmp_path / "users")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        auth = ("alice", PASSWORD)
        body = httpx.get(f"{url}/v2/").content
        httpx.get(f"{url}/v2/", auth=auth)
        httpx.post(f"{url}/v2/a/b/blobs/uploads/?digest=sha256:0&secret=abc", auth=auth)
        httpx.get(f"{url}/v2/a/%1B[2J%0Ab/tags/list", auth=auth)
        httpx.head(f"{url}/v2/{'a' * 5000}", auth=auth)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as raw:
            raw.sendall(b"GET /v2/\x1b[2J HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            raw.recv(65536)
        process.terminate()
        _, err = process.communicate(timeout=20)
    lines = err.splitlines()
    found = [match.groupdict() for line in lines if (match := LINE.fullmatch(line))]
    assert len(found) == len(lines)
    shown = [(each["user"], each["method"], each["path"], each["status"]) for each in found]
    assert shown[:4] == [
        ("-", "GET", "/v2/", "401"),
        ("alice", "GET", "/v2/", "200"),
        ("alice", "POST", "/v2/a/b/blobs/uploads/?digest=sha256:0&secret=…", "400"),
        ("alice", "GET", "/v2/a/%1B[2J%0Ab/tags/list", "400"),
    ]
    assert found[0]["bytes"] == str(len(body))
    assert shown[4][:2] == ("alice", "HEAD")
    assert found[4]["bytes"] == "0"
    assert len(found[4]["path"]) < 1100
    assert PASSWORD not in err


def test_no_line_without_the_option(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dockhand_embedded", "--root", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        assert httpx.get(f"{url}/v2/").status_code == 200
        process.terminate()
        assert process.communicate(timeout=20)[1] == ""
