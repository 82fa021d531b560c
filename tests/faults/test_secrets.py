"""Neither errors nor log lines show a password, a header's value or a URL's secret query."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripted_server import CUT, STOP, Asked, Handler, Scripted, Step, reply, scripted

from dockhand_core import Digest, DockhandError, RegistryClient

Opened = Callable[..., RegistryClient]
DATA = b"data" * 30_000
DIGEST = Digest.of(DATA)
PASSWORD = "p4ss-w0rd-of-alice"
STATE = "st4te-of-the-upload"
SIGNATURE = "s1gnature-of-the-bucket"
OWN = "own-h3ader-of-ours"
SECRETS = [PASSWORD, STATE, SIGNATURE, OWN, b64encode(f"alice:{PASSWORD}".encode()).decode()]
PLACE = f"/v2/a/b/blobs/uploads/1?_state={STATE}"
TAGS = b'{"tags":["v1"]}'


@pytest.fixture
def other() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


def uploads(last: bytes | list[Step]) -> Handler:
    """An upload begins; what comes then is given."""

    def handler(asked: Asked) -> list[Step] | bytes:
        if asked.method == "HEAD":
            return reply(404)
        return reply(202, Location=PLACE) if asked.method == "POST" else last

    return handler


def quoting(asked: Asked) -> bytes:
    """A proxy's error page that quotes the request's URL."""
    if asked.method == "HEAD":
        return reply(404)
    if asked.method == "POST":
        return reply(202, Location=PLACE)
    text = f"cannot reach http://upstream{asked.target} or {asked.target}"
    return reply(400, text.encode())


FAULTS: dict[str, Handler | bytes | list[Step]] = {
    "cut": [CUT],
    "silent": [STOP],
    "refused": reply(401, WWW_Authenticate='Basic realm="r"'),
    "busy": reply(503),
    "too many": reply(429, Retry_After="9999"),
    "an upload cut": uploads([CUT]),
    "an upload silent": uploads([STOP]),
    "an upload refused": uploads(reply(400, b'{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}')),
    "an upload lost": uploads(reply(404)),
    "an upload broken": uploads([b"nonsense\r\n\r\n", CUT]),
    "an upload half answered": uploads([reply(202, length=90) + b"x", CUT]),
    "an upload elsewhere": uploads(reply(307, Location=f"ftp://bucket/x?X-Signature={SIGNATURE}")),
    "an upload nowhere": uploads(reply(307, Location=f"http://[bucket/x?sig={SIGNATURE}")),
    "an upload in a circle": uploads(reply(307, Location=PLACE)),
    "an upload quoted": quoting,
    "a bad location": reply(202, Location=f"http://[x/?_state={STATE}"),
    "a bad port": reply(202, Location=f"http://a:x9/?_state={STATE}"),
    "a space": reply(202, Location=f"http://a b/?_state={STATE}"),
    "a bad link": reply(200, TAGS, Link=f"<http://[x/?token={STATE}>; rel=next"),
    "a link to nowhere": reply(200, TAGS, Link=f"<http://127.0.0.1:1/?token={STATE}>; rel=next"),
    "a bare query": reply(307, Location=f"http://127.0.0.1:1/?{SIGNATURE}"),
    "a fragment": reply(307, Location=f"http://127.0.0.1:1/#{SIGNATURE}"),
    "a user": reply(307, Location=f"http://bob:{SIGNATURE}@127.0.0.1:1/"),
    "a user of ftp": reply(307, Location=f"ftp://bob:{SIGNATURE}@127.0.0.1/"),
    "not JSON": reply(200, b"<html>"),
    "encoded": reply(200, b"x", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_shown(
    opened: Opened,
    server: Scripted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    fault = FAULTS[name]
    server.handler = fault if callable(fault) else lambda asked: fault
    registry = opened(
        server.url,
        retries=int(name in ("cut", "busy", "an upload cut")),
        timeout=0.1,
        auth={"driver": "basic", "username": "alice", "password": PASSWORD},
        headers={"X-Own": OWN},
        logging={"driver": "json", "level": "debug"},
    )
    upload = None
    try:
        upload = registry.start_upload("a/b")
    except DockhandError as error:
        seen = repr(error)
    else:
        seen = repr(upload) + str(upload)
    (tmp_path / "file").write_bytes(DATA)
    operations: list[Callable[[], object]] = [
        registry.ping,
        lambda: list(registry.tags("a/b")),
        lambda: registry.referrers("a/b", DIGEST),
        lambda: registry.read_blob("a/b", DIGEST),
        lambda: registry.download_blob("a/b", DIGEST, tmp_path / "blob"),
        lambda: registry.upload_blob("a/b", tmp_path / "file"),
        lambda: registry.upload_blob("a/b", iter([DATA])),
    ]
    if upload is not None:
        here = upload
        operations += [
            lambda: registry.upload_chunk(here, DATA),
            lambda: registry.upload_status(here),
            lambda: registry.finish_upload(here, DIGEST),
            lambda: registry.cancel_upload(here),
        ]
    failed = 0
    for operation in operations:
        try:
            operation()
        except DockhandError as error:
            failed += 1
            seen += repr(error) + str(error) + repr(vars(error))
            seen += "".join(traceback.format_exception(error))  # causes too, as a log would
    log = capsys.readouterr().err
    lines = [json.loads(line) for line in log.splitlines()]
    assert failed
    assert {"request", "request failed"} >= {line["event"] for line in lines}
    assert len(lines) >= 4
    seen += log + repr(registry) + repr(registry._runner.endpoint)
    for secret in SECRETS:
        assert secret not in seen


def test_stored_elsewhere(
    opened: Opened, server: Scripted, other: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bucket behind a signed URL that fails in every way: the signature is not shown."""
    server.handler = lambda asked: reply(307, Location=f"{other.url}/x?X-Signature={SIGNATURE}")
    registry = opened(server.url, retries=0, timeout=0.2, logging={"driver": "json"})
    faults: list[bytes | list[Step]] = [
        reply(403, b"<Error><Code>AccessDenied</Code></Error>"),
        reply(200, b"wrong"),
        [CUT],
        [STOP],
        [b"nonsense\r\n\r\n", CUT],
        [reply(200, b"x", length=90), CUT],
        reply(200, b"x", Content_Encoding="gzip"),
    ]
    seen = ""
    for fault in faults:
        other.handler = lambda asked, answer=fault: answer  # type: ignore[misc]
        with pytest.raises(DockhandError) as caught:
            registry.read_blob("a/b", DIGEST)
        seen += "".join(traceback.format_exception(caught.value))
    seen += capsys.readouterr().err
    assert other.url in seen
    assert SIGNATURE not in seen
