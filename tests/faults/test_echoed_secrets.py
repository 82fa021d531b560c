"""A registry that quotes the secrets it received: every secret, in every form, at every place.

Neither an error nor a log line shows them, whatever the registry, a proxy, a storage or a token
endpoint does with them.
"""

from __future__ import annotations

import html
import json
import logging
import re
import time
import traceback
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import pytest
from dockhand_auth_jwt import SigningKey
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, Step, reply

from dockhand_core import DockhandError, RegistryClient
from dockhand_core.http.error_replies import error_from_reply
from dockhand_core.http.secrets import Secrets, secrets_of
from dockhand_core.http.xml_errors import xml_error

MakeClient = Callable[..., RegistryClient]
PASSWORD = 'p4ss w0rd+of/"al\\ice"&%41'
TOKEN = "t0ken-of_alice/0123+4"
OWN = "own/h3ader of+ours"
ISSUED = "1ssued-token_of.the-authority"
REFRESH = "r3fresh-token/of_the+authority"
IDENTITY = "1dentity/token+of_alice"


def lower(text: str) -> str:
    """Return percent-encoded text with lower-case hexadecimal digits."""
    return re.sub("%..", lambda found: found[0].lower(), text)


def in_lines(text: str, size: int) -> str:
    """Return text as e-mail programs send it: with a line break after every `size` characters."""
    return "%0D%0A".join(text[at : at + size] for at in range(0, len(text), size))


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON twice": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: lower(quote(text, safe="")),
    "percent without slashes": quote,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent twice, lower case": lambda text: lower(quote(lower(quote(text, safe="")), safe="")),
    "form": quote_plus,
    "every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64url": lambda text: urlsafe_b64encode(text.encode()).decode(),
    "base64 of a pair": lambda text: b64encode(f"alice:{text}".encode()).decode(),
    "base64 of another pair": lambda text: b64encode(f"bob:{text}:x".encode()).decode(),
    "percent of base64": lambda text: quote(b64encode(f"alice:{text}".encode()), safe=""),
    "HTML": html.escape,
    "HTML, numbers": lambda text: "".join(f"&#{ord(each):07};" for each in text),
    "HTML, numbers without an end": lambda text: "".join(f"&#x{ord(each):x}" for each in text),
    "JSON, every character": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "braces": lambda text: "".join(f"\\u{{{ord(each):x}}}" for each in text),
    "eight digits": lambda text: "".join(f"\\U{ord(each):08x}" for each in text),
    "percent and u": lambda text: "".join(f"%u{ord(each):04X}" for each in text),
    "base64 without padding": lambda text: b64encode(text.encode()).decode().rstrip("="),
    "base64 in lines": lambda text: in_lines(b64encode(f"alice:{text}".encode()).decode(), 7),
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
    "hexadecimal with spaces": lambda text: text.encode().hex(" "),
    "UTF-16": lambda text: quote(text.encode("utf-16-be"), safe=""),
    "repr": lambda text: repr(text)[1:-1],
}


def errors_of(**entry: Any) -> bytes:
    return json.dumps({"errors": [{"code": "DENIED", **entry}]}).encode()


PLACES: dict[str, Callable[[str], bytes | list[Step]]] = {
    "request id": lambda text: reply(403, X_Request_Id=text),
    "request id in a text": lambda text: reply(403, errors_of(), Docker_Request_Id=f"id={text};"),
    "message": lambda text: reply(403, errors_of(message=f"not {text}!")),
    "code": lambda text: reply(403, errors_of(code=text)),
    "detail": lambda text: reply(403, errors_of(detail={"headers": [{text: f"a {text} b"}]})),
    "another error": lambda text: reply(
        403, json.dumps({"errors": [{"code": "A"}] * 4 + [{"code": "B", "message": text}]}).encode()
    ),
    "a single error": lambda text: reply(403, json.dumps({"code": "A", "message": text}).encode()),
    "text": lambda text: reply(403, f"refused: '{text}'".encode(), Content_Type="text/plain"),
    "long text": lambda text: reply(403, f"{'x' * 285} {text}".encode()),
    "HTML": lambda text: reply(403, f"<html><title>{text}</title></html>".encode()),
    "XML": lambda text: reply(
        403,
        f"<Error><Code>AccessDenied</Code><Message>{html.escape(text)}</Message>"
        f"<RequestId>{html.escape(text)}</RequestId></Error>".encode(),
    ),
    "challenge": lambda text: reply(401, WWW_Authenticate=f'{text} realm="{text}", error="{text}"'),
    "reason": lambda text: reply(f"403 {text}"),
    "status line": lambda text: [f"HTTP/1.1 {text} x\r\n\r\n".encode()],
    "header line": lambda text: [f"HTTP/1.1 200 OK\r\n{text}\r\n\r\n".encode()],
    "path of a redirect": lambda text: reply(
        307, Location=f"http://127.0.0.1:1/{quote(text, safe='%')}"
    ),
    "query of a redirect": lambda text: reply(307, Location=f"http://127.0.0.1:1/?last={text}"),
    "user of a redirect": lambda text: reply(307, Location=f"http://u:{text}@127.0.0.1:1/"),
    "scheme of a redirect": lambda text: reply(307, Location=f"{text}://127.0.0.1:1/"),
    "link": lambda text: reply(200, b'{"tags":["a"]}', Link=f'<http://[{text}/>; rel="next"'),
    "content type": lambda text: reply(200, b"x", Content_Type=text),
    "content coding": lambda text: reply(200, b"{}", Content_Encoding=text),
    "not a list": lambda text: reply(200, json.dumps({"tags": {text: text}}).encode()),
}


def shown(error: BaseException) -> str:
    """Return everything that a program can show of an error and of the errors that led to it."""
    text = "".join(traceback.format_exception(error))
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None:
            text += f"{each} {each!r} {each.args!r} {vars(each)!r} {json.dumps(str(vars(each)))}"
            for value in vars(each).values():
                text += f" {value}"
            waiting += [each.__cause__, each.__context__]
    return text


def assert_hidden(secret: str, text: str) -> None:
    for name, form in FORMS.items():
        assert form(secret) not in text, name


CONNECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "basic": (
        PASSWORD,
        {"auth": {"driver": "basic", "username": "alice", "password": PASSWORD}},
    ),
    "bearer": (TOKEN, {"auth": {"driver": "bearer", "token": TOKEN}}),
    "api key of a user": (
        PASSWORD,
        {"auth": {"driver": "apikey", "username": "alice", "api_key": PASSWORD}},
    ),
    "api key": (PASSWORD, {"auth": {"driver": "apikey", "header": "X-Key", "api_key": PASSWORD}}),
    "api key with a prefix": (
        TOKEN,
        {
            "auth": {
                "driver": "apikey",
                "header": "Authorization",
                "prefix": "Token ",
                "api_key": TOKEN,
            }
        },
    ),
    "own header": (OWN, {"headers": {"X-Team": OWN}}),
}


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_no_form_of_a_secret_at_any_place(
    make_client: MakeClient,
    server: ScriptedServer,
    connection: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret, settings = CONNECTIONS[connection]
    registry = make_client(
        server.url, retries=0, logging={"driver": "json", "level": "debug"}, **settings
    )
    failed = 0
    forms = [form(secret) for form in FORMS.values()]
    texts = [" ".join(forms[at : at + 3]) for at in range(0, len(forms), 3)]  # fewer requests
    for place, answer in PLACES.items():
        for text in texts:
            server.handler = lambda _, answer=answer, text=text: answer(text)  # type: ignore[misc]
            try:
                list(registry.tags("a/b"))
            except DockhandError as error:
                failed += 1
                assert_hidden(secret, shown(error))
                assert str(error).isprintable(), place
    assert failed > len(PLACES) * len(texts) * 0.9
    assert_hidden(secret, capsys.readouterr().err + caplog.text + repr(registry))


def token_server(request: ReceivedRequest) -> bytes:
    """Answer for a registry that asks for a token, and for its authority."""
    if request.path != "/token":
        if "authorization" in request.headers:
            return reply(403, errors_of(message=request.headers["authorization"]))
        return reply(
            401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token?x=1"'
        )
    return reply(200, json.dumps({"token": ISSUED, "refresh_token": REFRESH}).encode())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["password", "identity token", "stored password"])
def test_tokens_of_an_authority(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, kind: str, form: str
) -> None:
    """The registry quotes the issued token, the refresh token and the user's own credentials."""
    host = server.url.removeprefix("http://")
    entry = {
        "stored password": {"auth": b64encode(f"alice:{PASSWORD}".encode()).decode()},
        "identity token": {"identitytoken": IDENTITY},
    }.get(kind)
    auth: dict[str, Any] = {"driver": "token", "username": "alice", "password": PASSWORD}
    if entry is not None:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {host: entry}}))
        auth = {"driver": "token", "config": str(config)}
    own = IDENTITY if kind == "identity token" else PASSWORD
    quoted = " and ".join(FORMS[form](each) for each in (ISSUED, REFRESH, own))

    def handler(request: ReceivedRequest) -> bytes:
        if request.path != "/token" and "authorization" in request.headers:
            return reply(403, errors_of(message=quoted, detail=[quoted]), X_Request_Id=quoted)
        return token_server(request)

    server.handler = handler
    with pytest.raises(DockhandError) as caught:
        make_client(server.url, retries=0, auth=auth).ping()
    sent = [one for one in server.requests if one.path == "/token"]
    if kind == "identity token":
        assert parse_qs(sent[0].body.decode())["refresh_token"] == [IDENTITY]
    else:
        assert b64decode(sent[0].headers["authorization"][6:]).decode() == f"alice:{PASSWORD}"
    for secret in (ISSUED, REFRESH, own):
        assert_hidden(secret, shown(caught.value))


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_a_token_endpoint_that_quotes_the_password(
    make_client: MakeClient, server: ScriptedServer, status: int
) -> None:
    header = {"X_Request_Id": PASSWORD, "Retry_After": "99999"}

    def handler(request: ReceivedRequest) -> bytes:
        if request.path != "/token":
            return token_server(request)
        return reply(status, errors_of(message=PASSWORD), **header)

    server.handler = handler
    auth = {"driver": "token", "username": "alice", "password": PASSWORD}
    registry = make_client(server.url, retries=0, auth=auth)
    with pytest.raises(DockhandError) as caught:
        list(registry.tags("a/b"))
    assert_hidden(PASSWORD, shown(caught.value))


def test_the_password_of_a_proxy(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(
        502,
        f"refused {request.headers['proxy-authorization']} or pr0xy-word or pr0xy%2Dword".encode(),
    )
    proxy = server.url.replace("http://", "http://bob:pr0xy%2Dword@")
    with pytest.raises(DockhandError) as caught:
        make_client("http://registry.invalid", retries=0, proxy=proxy).ping()
    text = shown(caught.value)
    assert "refused" in text
    for secret in ("pr0xy-word", "pr0xy%2Dword", b64encode(b"bob:pr0xy-word").decode()):
        assert secret not in text


def test_the_signature_of_a_storage_url(
    make_client: MakeClient, server: ScriptedServer, other: ScriptedServer
) -> None:
    """The storage quotes the URL that the registry has signed, without its form of a URL."""
    signature = "s1gnature/of+the_bucket"
    server.handler = lambda _: reply(307, Location=f"{other.url}/x?sig={quote_plus(signature)}&n=5")
    for form in FORMS.values():
        other.handler = lambda _, form=form: reply(  # type: ignore[misc]
            403, errors_of(message=f"signed {form(signature)}")
        )
        with pytest.raises(DockhandError) as caught:
            list(make_client(server.url, retries=0).tags("a/b"))
        assert_hidden(signature, shown(caught.value))


@pytest.mark.parametrize("form", FORMS)
def test_errors_of_graphql(make_client: MakeClient, server: ScriptedServer, form: str) -> None:
    errors = [{"message": f"bad token {FORMS[form](TOKEN)}", "path": [FORMS[form](TOKEN)]}]
    extensions = {"extensions": [{"name": "_zot", "endpoints": ["/v2/_zot/ext/search"]}]}
    server.handler = lambda request: reply(
        200,
        json.dumps(extensions if "discover" in request.path else {"errors": errors}).encode(),
    )
    zot: Any = make_client(server.url, driver="zot", auth={"driver": "bearer", "token": TOKEN})
    with pytest.raises(DockhandError, match="bad token") as caught:
        zot.search("{ x }")
    assert vars(caught.value)["errors"][0]["path"] != errors[0]["path"]
    assert_hidden(TOKEN, shown(caught.value))


@pytest.mark.parametrize("secret", ["a", "x7", "abc"])
def test_short_secrets_do_not_destroy_texts(
    make_client: MakeClient, server: ScriptedServer, secret: str
) -> None:
    auth = {"driver": "basic", "username": "alice", "password": secret}
    pair = b64encode(f"alice:{secret}".encode()).decode()
    message = f"the password {secret} of alice is bad, x78, abcd, Basic {pair}, alice:{secret}"
    server.handler = lambda _: reply(403, errors_of(message=message, detail=secret))
    with pytest.raises(DockhandError) as caught:
        list(make_client(server.url, retries=0, auth=auth).tags("abc/a"))
    error: Any = caught.value
    assert f"GET {server.url}/v2/abc/a/tags/list: 403 DENIED: the password ... of alice" in str(
        error
    )
    assert "is bad, x78, abcd, Basic ..., ..." in str(error)
    assert (error.detail, error.code, error.repository) == ("...", "DENIED", "abc/a")


def test_control_characters_in_a_request_id(
    make_client: MakeClient, server: ScriptedServer
) -> None:
    body = (
        b"<Error><Code>X</Code><RequestId>a\xc2\x9b31m\nb" + b"z" * 9999 + b"</RequestId></Error>"
    )
    server.handler = lambda _: reply(403, body)
    with pytest.raises(DockhandError) as caught:
        make_client(server.url, retries=0).ping()
    found = vars(caught.value)["request_id"]
    assert found.isprintable()
    assert found.startswith(r"a\x9b31m bzzz")
    assert len(found) <= 300


def test_secrets_of_nested_settings() -> None:
    from pydantic import BaseModel, SecretBytes, SecretStr

    class Inner(BaseModel):
        names: dict[str, list[SecretStr]]
        raw: SecretBytes

    class Outer(BaseModel):
        inner: tuple[Inner, ...]
        plain: str

    settings = Outer(
        inner=(Inner(names={"a": [SecretStr("one")]}, raw=SecretBytes(b"two")),), plain="x"
    )
    assert list(secrets_of(settings)) == ["one", "two"]


@pytest.mark.parametrize(
    "detail",
    [
        "m" * 64_000,
        "%41" * 21_000,
        "\\" * 31_000,
        "&amp;" * 13_000,
        "c0rrec" * 10_000,
        ["a"] * 12_000,
        [str(each) for each in range(7_500)],
        [{f"key{each}": "value"} for each in range(3_000)],
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_time_for_a_large_reply(detail: object) -> None:
    """It hardly depends on the number of secrets, nor on how the reply is made."""
    secrets = Secrets(["c0rrect horse battery"])
    for each in range(100):
        secrets.remember(f"Bearer eyJhbGciOiJFUzI1NiJ9.{each:0600}")
    secrets.text("x")
    body = errors_of(detail=detail, message="m")
    spent = []
    for _ in range(5):
        started = time.process_time()
        error = error_from_reply(
            method="GET",
            url="http://registry.test/v2/",
            kind="",
            repository=None,
            status=403,
            headers={},
            body=body[:65536],
            secrets=secrets,
        )
        secrets.clean(error)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.25  # seconds, on a slow machine; it was up to 18
    assert error.detail is not None  # the body was read to its end


def test_the_time_for_a_large_token() -> None:
    """A token endpoint may send a token that is made to be slow."""
    for token in ("a" * 65_536, "a-" * 32_768, "a=" * 32_768, 'a="' * 21_000, "%61" * 21_000):
        secrets = Secrets()
        secrets.remember(f"Bearer {token}")
        started = time.process_time()
        assert token[:100] not in secrets.text(f"no {token[:60_000]} here", reply=True)
        assert time.process_time() - started < 1


def test_a_text_with_the_separator_of_texts() -> None:
    secrets = Secrets([TOKEN])
    assert secrets.value(["a\uffffb", TOKEN, f"\uffff{TOKEN}\uffff", "ä\uffff"]) == [
        "a\uffffb",
        "...",
        "\uffff...\uffff",
        "ä\uffff",
    ]


def test_two_texts_are_never_one_secret() -> None:
    secrets = Secrets(["s3cret-of-alice"])
    assert secrets.value(["see s3", "cret-of-alice", "s3cret-o", "%", "41"]) == [
        "see s3",
        "cret-of-alice",
        "...",
        "%",
        "41",
    ]


def test_remembered_secrets_are_limited() -> None:
    secrets = Secrets(["f1xed-secret"])
    for number in range(1000):
        secrets.remember(f"t0ken-number-{number}x")
    assert len(secrets._recent) <= 128
    assert secrets.text("f1xed-secret t0ken-number-999x") == "... ..."
    assert len(secrets._forms) <= 129


def test_pem_data_is_hidden_line_by_line() -> None:
    pem = SigningKey.generate().private_pem().decode()
    _, first, *_, last, _ = pem.splitlines()
    assert len(last) < len(first)  # a short line, too
    for given in (pem, pem.replace("\n", "\\n")):
        secrets = Secrets([given])
        for text in (
            pem,
            repr(pem),
            pem.replace("\n", " "),
            json.dumps(pem),
            f"cannot read {first}",
        ):
            assert first not in secrets.text(text)
            assert last not in secrets.text(text)


def test_notes_causes_and_groups() -> None:
    secrets = Secrets([TOKEN])
    error = DockhandError("outer")
    error.add_note(f"note {TOKEN}")
    cause = ValueError(f"cause {TOKEN}", [TOKEN], 5)
    cause.__context__ = ExceptionGroup("group", [KeyError(TOKEN), cause])
    error.__cause__ = cause
    secrets.clean(error)
    text = shown(error)
    assert_hidden(TOKEN, text)
    assert cause.args == ("cause ...", ["..."], 5)
    own = KeyError(TOKEN)
    secrets.clean(own)
    assert own.args == (TOKEN,)  # raised by the caller's own function


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("dockhand").setLevel(logging.DEBUG)
    yield
    logging.getLogger("dockhand").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '<?xml version="1.0"?><Error><Code>NotYou</Code><Message>a\n&amp; b</Message></Error>',
            ([{"code": "NotYou", "message": "a\n& b"}], None),
        ),
        (
            (
                '<e:Error xmlns:e="http://s3"><e:Code>A</e:Code><StringToSign>s3cret</StringToSign>'
                "<RequestId>r1</RequestId></e:Error>"
            ),
            ([{"code": "A"}], "r1"),
        ),
        (
            "<R><Error><Code><![CDATA[B]]></Code><Message>m</Message></Error><Code>C</Code></R>",
            ([{"code": "B", "message": "m"}], None),
        ),
        ("<Error><Code>A</Code><Message>cut he", ([{"code": "A"}], None)),
        ("<Error><Message>no code</Message></Error>", ([], None)),
        ('<!DOCTYPE a [<!ENTITY x "y">]><Error><Code>&x;</Code></Error>', ([], None)),
        (
            '<?xml version="1.0" encoding="nonsense"?><Error><Code>A</Code></Error>',
            ([{"code": "A"}], None),
        ),
        ("<", ([], None)),
        ("<html><body><br></html>", ([], None)),
    ],
)
def test_errors_in_xml(text: str, found: object) -> None:
    assert xml_error(text.removeprefix("\ufeff")) == found
