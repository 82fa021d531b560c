"""Errors and log lines show no password, header value or secret query of a URL."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_testing.http_server import (
    CUT,
    HANG,
    Handler,
    ReceivedRequest,
    ScriptedServer,
    Step,
    reply,
)

from dockhand_core import Digest, DockhandError, RegistryClient

MakeClient = Callable[..., RegistryClient]
DATA = b"data" * 30_000
DIGEST = Digest.of(DATA)
PASSWORD = "p4ss-w0rd-of-alice"
STATE = "st4te-of-the-upload"
SIGNATURE = "s1gnature-of-the-bucket"
OWN_HEADER = "own-h3ader-of-ours"
ALICE = {"driver": "basic", "username": "alice", "password": PASSWORD}
BASIC_HEADER = b64encode(f"alice:{PASSWORD}".encode()).decode()
SECRETS = [PASSWORD, STATE, SIGNATURE, OWN_HEADER, BASIC_HEADER]
PLACE = f"/v2/a/b/blobs/uploads/1?_state={STATE}"
TAGS = b'{"tags":["v1"]}'


def uploads(last: bytes | list[Step]) -> Handler:
    """Make a handler that begins an upload, and answers the upload's next request with `last`."""

    def handler(request: ReceivedRequest) -> list[Step] | bytes:
        if request.method == "HEAD":
            return reply(404)
        return reply(202, Location=PLACE) if request.method == "POST" else last

    return handler


def quoting(request: ReceivedRequest) -> bytes:
    """Reply as a proxy does whose error page quotes the URL of the request."""
    if request.method == "HEAD":
        return reply(404)
    if request.method == "POST":
        return reply(202, Location=PLACE)
    text = f"cannot reach http://upstream{request.target} or {request.target}"
    return reply(400, text.encode())


FAULTS: dict[str, Handler | bytes | list[Step]] = {
    "cut": [CUT],
    "silent": [HANG],
    "refused": reply(401, WWW_Authenticate='Basic realm="r"'),
    "busy": reply(503),
    "too many": reply(429, Retry_After="9999"),
    "an upload cut": uploads([CUT]),
    "an upload silent": uploads([HANG]),
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
def test_no_secret_in_errors_and_logs(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    fault = FAULTS[name]
    server.handler = fault if callable(fault) else lambda request: fault
    registry = make_client(
        server.url,
        retries=int(name in ("cut", "busy", "an upload cut")),
        timeout=0.1,
        auth=ALICE,
        headers={"X-Own": OWN_HEADER},
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
            # with the error's causes, as a log shows them
            seen += "".join(traceback.format_exception(error))
    log = capsys.readouterr().err
    lines = [json.loads(line) for line in log.splitlines()]
    assert failed
    assert {"request", "request failed"} >= {line["event"] for line in lines}
    assert len(lines) >= 4
    seen += log + repr(registry) + repr(registry._runner.endpoint)
    for secret in SECRETS:
        assert secret not in seen


def test_no_signature_of_a_storage_url_in_errors_and_logs(
    make_client: MakeClient,
    server: ScriptedServer,
    other: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The registry redirects to a signed URL of a storage, which fails in several ways."""
    server.handler = lambda request: reply(307, Location=f"{other.url}/x?X-Signature={SIGNATURE}")
    registry = make_client(server.url, retries=0, timeout=0.2, logging={"driver": "json"})
    faults: list[bytes | list[Step]] = [
        reply(403, b"<Error><Code>AccessDenied</Code></Error>"),
        reply(200, b"wrong"),
        [CUT],
        [HANG],
        [b"nonsense\r\n\r\n", CUT],
        [reply(200, b"x", length=90), CUT],
        reply(200, b"x", Content_Encoding="gzip"),
    ]
    seen = ""
    for fault in faults:
        other.handler = lambda request, answer=fault: answer  # type: ignore[misc]
        with pytest.raises(DockhandError) as caught:
            registry.read_blob("a/b", DIGEST)
        seen += "".join(traceback.format_exception(caught.value))
    seen += capsys.readouterr().err
    assert other.url in seen
    assert SIGNATURE not in seen


def test_no_upload_state_in_errors_and_logs(
    make_client: MakeClient, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.handler = lambda request: (
        reply(202, Location="/v2/a/b/blobs/uploads/1?_state=hidden-state")
        if request.method == "POST"
        else reply(400, b'{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}')
    )
    registry = make_client(server.url, auth=ALICE, logging={"driver": "json", "level": "debug"})
    upload = registry.start_upload("a/b")
    with pytest.raises(DockhandError) as caught:
        registry.upload_chunk(upload, b"data")
    seen = capsys.readouterr().err + repr(caught.value) + repr(upload) + repr(registry)
    assert '"path": "/v2/a/b/blobs/uploads/1"' in seen
    assert "hidden-state" not in seen
    assert PASSWORD not in seen
    assert "Basic" not in seen


def test_secrets_that_a_registry_echoes(make_client: MakeClient, server: ScriptedServer) -> None:
    """The registry, or a proxy in front of it, quotes the request's headers in its error."""

    def echo(request: ReceivedRequest) -> bytes:
        quoted = f"{request.headers['authorization']} {request.headers['x-team']}"
        entry = {"code": "DENIED", "message": quoted, "detail": {"headers": quoted}}
        return reply(403, json.dumps({"errors": [entry]}).encode())

    server.handler = echo
    registry = make_client(server.url, auth=ALICE, headers={"X-Team": "own-h3ader"})
    with pytest.raises(DockhandError) as caught:
        registry.ping()
    shown = f"{caught.value!r} {getattr(caught.value, 'detail', None)} {vars(caught.value)}"
    assert "DENIED" in shown
    assert "YWxpY2U6" not in shown  # base64 of `alice:`
    assert "own-h3ader" not in shown
