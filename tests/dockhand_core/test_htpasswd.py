"""htpasswd files, and the credentials in HTTP Basic headers."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import bcrypt
import pytest
from registries import HTPASSWD, PASSWORD

from dockhand_core import ConfigError
from dockhand_core.server import FileState, basic_credentials
from dockhand_core.server.htpasswd import PasswordFile

RIGHT_PASSWORD = PASSWORD.encode()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"# users\n\n{HTPASSWD}")
    return path


def test_only_the_right_password_is_verified(password_file: Path) -> None:
    users = PasswordFile(password_file)
    assert not users.remembers("alice", RIGHT_PASSWORD)
    assert users.verify("alice", RIGHT_PASSWORD)
    assert users.remembers("alice", RIGHT_PASSWORD)
    assert not users.verify("alice", b"wrong")
    assert not users.verify("alice", RIGHT_PASSWORD + b"\0")
    assert not users.verify("bob", RIGHT_PASSWORD)
    assert not users.remembers("alic", b"e" + RIGHT_PASSWORD)
    assert users.entry("alice") == HTPASSWD.strip().partition(":")[2].encode()
    assert users.entry("bob") is None


def test_a_verified_password_is_remembered_for_a_time(password_file: Path) -> None:
    now = 100.0
    users = PasswordFile(password_file, remember=60, clock=lambda: now)
    assert users.verify("alice", RIGHT_PASSWORD)
    now += 59.9
    assert users.remembers("alice", RIGHT_PASSWORD)
    now += 0.1
    assert not users.remembers("alice", RIGHT_PASSWORD)


def test_reload_applies_changes_and_survives_errors(
    password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = PasswordFile(password_file)
    assert users.verify("alice", RIGHT_PASSWORD)
    hashed = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    password_file.write_text(f"alice:{hashed}\nbob:{hashed}\n")
    users.reload()
    assert not users.remembers("alice", RIGHT_PASSWORD)
    assert not users.verify("alice", RIGHT_PASSWORD)
    assert users.verify("alice", b"other")
    assert users.verify("bob", b"other")
    password_file.write_text("not a line\n")
    users.reload()
    assert "line 1 is not user:bcrypt-hash" in caplog.text
    assert users.verify("bob", b"other")


@pytest.mark.parametrize("size", [71, 72, 73, 500])
def test_passwords_that_bcrypt_would_cut_are_refused(
    password_file: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    password = b"p" * size
    hashed = bcrypt.hashpw(password[:72], bcrypt.gensalt(4)).decode()
    password_file.write_text(f"alice:{hashed}\n")
    users = PasswordFile(password_file)
    assert users.verify("alice", password) is (size <= 72)
    assert not users.verify("alice", password + b"\0")
    assert not users.verify("alice", b"\0")
    assert "more than 72 bytes, or with NUL" in caplog.text
    assert "ppp" not in caplog.text


def test_a_rewrite_of_the_same_size_within_a_tick_is_noticed(password_file: Path) -> None:
    salt = bcrypt.gensalt(4)
    now = time.time_ns()

    def write(password: bytes) -> None:
        password_file.write_text(f"alice:{bcrypt.hashpw(password, salt).decode()}\n")
        os.utime(password_file, ns=(now, now))  # as if both writes were in one tick

    write(b"one")
    users = PasswordFile(password_file)
    assert users.verify("alice", b"one")
    users.reload()
    assert users.remembers("alice", b"one")  # the file did not change
    write(b"two")
    users.reload()
    assert not users.verify("alice", b"one")
    assert users.verify("alice", b"two")


def test_the_state_of_a_file(password_file: Path) -> None:
    def at(seconds: int, **changes: int) -> FileState:
        values = {"st_ino": 1, "st_mtime_ns": seconds * 10**9, "st_ctime_ns": 0, "st_size": 5}
        return FileState.of(SimpleNamespace(**values | changes))  # type: ignore[arg-type]

    old, new = at(1000), at(int(time.time()))
    assert at(1000).shows_no_change_since(old)
    assert not at(1000).shows_no_change_since(None)
    for changed in (
        at(1001), at(1000, st_ino=2), at(1000, st_size=6), at(1000, st_ctime_ns=1),
    ):  # fmt: skip
        assert not changed.shows_no_change_since(old)
    assert not at(new.modified // 10**9).shows_no_change_since(new)
    assert FileState.of(password_file.stat()).size == len(password_file.read_bytes())


def test_unknown_users_take_as_long_as_known_ones(password_file: Path) -> None:
    hashed = bcrypt.hashpw(b"other", bcrypt.gensalt(9)).decode()
    password_file.write_text(f"alice:{hashed}\n")
    users = PasswordFile(password_file)

    def seconds(user: str) -> float:
        best = 10.0
        for _ in range(3):
            start = time.process_time()
            assert not users.verify(user, b"wrong")
            best = min(best, time.process_time() - start)
        return best

    assert 0.3 < seconds("nobody") / seconds("alice") < 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice\n", "line 1"),
        ("\nalice:{SHA}abc\n", "line 2"),
        (f":{HTPASSWD.partition(':')[2]}", "line 1"),
        (HTPASSWD + HTPASSWD, "line 2 lists a user a second time"),
        (HTPASSWD.replace("$05$", "$03$"), "line 1"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "htpasswd").write_text(text)
    with pytest.raises(ConfigError, match=message):
        PasswordFile(tmp_path / "htpasswd")


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=os.fspath(tmp_path / "none")):
        PasswordFile(tmp_path / "none")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic " + b64encode(b"alice:a:b").decode(), ("alice", b"a:b")),
        ("bAsIc  " + b64encode("bö:ü".encode()).decode(), ("bö", "ü".encode())),
        ("Basic " + b64encode(b":").decode(), ("", b"")),
        ("Basic " + b64encode(b"alice").decode(), None),
        ("Basic " + b64encode(b"\xff:x").decode(), None),
        ("Basic !!!", None),
        ("Bearer YTpi", None),
        ("", None),
    ],
)
def test_basic_credentials(header: str, expected: tuple[str, bytes] | None) -> None:
    assert basic_credentials(header) == expected
