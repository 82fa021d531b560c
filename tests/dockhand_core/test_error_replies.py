"""Error replies of a registry, or of a proxy in front of it, become exceptions."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
import zlib
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core import RegistryError, errors
from dockhand_core.http.error_replies import error_from_reply
from dockhand_core.http.urls import redacted_url

URL = "https://registry.example.com/v2/library/nginx/manifests/1.0"


def error_of(
    status: int = 404,
    body: bytes = b"",
    kind: str = "manifest",
    url: str = URL,
    **headers: str,
) -> RegistryError:
    """Return the error for a reply; in the names of `headers`, `_` stands for `-`."""
    return error_from_reply(
        method="GET",
        url=url,
        kind=kind,
        repository="library/nginx",
        status=status,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        body=body,
        attempts=2,
    )


def error_body(*entries: Any) -> bytes:
    """Return a JSON body whose list `errors` has these entries."""
    return json.dumps({"errors": entries}).encode()


def test_an_error_with_one_code() -> None:
    entry = {"code": "MANIFEST_UNKNOWN", "message": "not here", "detail": {"Tag": "1.0"}}
    found = error_of(404, error_body(entry), x_request_id="r-17")
    assert type(found) is errors.ManifestUnknown
    assert (found.status, found.code, found.detail) == (404, "MANIFEST_UNKNOWN", {"Tag": "1.0"})
    assert (found.errors, found.request_id, found.attempts) == ((entry,), "r-17", 2)
    assert found.repository == "library/nginx"
    assert str(found) == (
        f"GET {URL}: 404 MANIFEST_UNKNOWN: not here (repository library/nginx; request id r-17)"
    )
    again = pickle.loads(pickle.dumps(found))
    assert (type(again), str(again), vars(again)) == (type(found), str(found), vars(found))


def test_the_code_takes_precedence_over_the_status() -> None:
    assert type(error_of(400, error_body({"code": "TAG_INVALID"}))) is errors.TagInvalid
    assert type(error_of(403, error_body({"code": "UNAUTHORIZED"}))) is errors.Unauthorized
    assert type(error_of(404, error_body({"code": "NAME_UNKNOWN"}))) is errors.NameUnknown


def test_the_first_known_code_decides() -> None:
    codes = ["STRANGE", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "SIZE_INVALID", "X"]
    found = error_of(400, error_body(*({"code": code, "message": "m"} for code in codes)))
    assert type(found) is errors.ManifestBlobUnknown  # the first known code
    assert found.code == "STRANGE"  # the first code of the body
    assert [entry["code"] for entry in found.errors] == codes
    assert "STRANGE: m; MANIFEST_BLOB_UNKNOWN: m" in str(found)
    assert "(and 2 more)" in str(found)


def test_unsupported_with_status_401_is_unauthorized() -> None:
    """zot sends `UNSUPPORTED` with status 401 if it does not accept a token."""
    entry = {"code": "UNSUPPORTED", "message": "the operation is unsupported"}
    for body in (error_body(entry), json.dumps(entry).encode()):
        found = error_of(401, body)
        assert type(found) is errors.Unauthorized
        assert found.code == "UNSUPPORTED"
    assert type(error_of(405, error_body(entry))) is errors.Unsupported


def test_an_unknown_code_is_kept() -> None:
    found = error_of(400, error_body({"code": "QUOTA", "message": "full"}))
    assert type(found) is RegistryError
    assert (found.code, found.status) == ("QUOTA", 400)
    assert "400 QUOTA: full" in str(found)
    assert type(error_of(404, error_body({"code": "QUOTA"}))) is errors.ManifestUnknown


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("manifest", "ManifestUnknown"),
        ("blob", "BlobUnknown"),
        ("upload", "BlobUploadUnknown"),
        ("tags", "NameUnknown"),
        ("base", "NotFound"),
        ("catalog", "NotFound"),
    ],
)
def test_the_kind_of_request_decides_a_404_without_a_code(kind: str, name: str) -> None:
    assert type(error_of(404, kind=kind)).__name__ == name


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "RegistryError"),
        (401, "Unauthorized"),
        (403, "Denied"),
        (405, "Unsupported"),
        (413, "SizeInvalid"),
        (416, "RangeInvalid"),
        (418, "RegistryError"),
        (429, "TooManyRequests"),
        (500, "ServerError"),
        (502, "ServerError"),
        (504, "ServerError"),
        (599, "ServerError"),
        (200, "ResponseInvalid"),
        (302, "ResponseInvalid"),
    ],
)
def test_the_status_decides_without_a_code(status: int, name: str) -> None:
    found = error_of(status)
    assert type(found).__name__ == name
    assert str(found) == f"GET {URL}: {status} (repository library/nginx)"
    assert (found.code, found.errors) == (None, ())


def test_5xx_is_a_server_error_even_with_a_code() -> None:
    found = error_of(503, error_body({"code": "DENIED"}))
    assert type(found) is errors.ServerError
    assert found.code == "DENIED"


def test_a_plain_text_body_is_shown() -> None:
    found = error_of(404, b"404 page not found\n", content_type="text/plain")
    assert str(found) == f"GET {URL}: 404: 404 page not found (repository library/nginx)"


def test_the_document_of_a_successful_reply_is_not_shown() -> None:
    """A created account may have its secret in the reply, whatever status was expected."""
    found = error_of(200, b'{"secret": "s3cret"}', content_type="application/json")
    assert type(found) is errors.ResponseInvalid
    assert "s3cret" not in str(found)
    assert "s3cret" in str(error_of(400, b'{"secret": "s3cret"}', content_type="application/json"))


def test_only_the_title_of_an_html_page_is_shown() -> None:
    page = b"<html><head><title>502 Bad\nGateway</title></head><body>" + b"x" * 9999
    for found in (error_of(502, page, content_type="text/html"), error_of(502, page)):
        assert "502 an HTML page, '502 Bad Gateway'" in str(found)
        assert "xxx" not in str(found)
    assert "502 an HTML page (" in str(error_of(502, b"<html>"))


def test_errors_of_storages_in_xml() -> None:
    body = (
        b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
        b"<Message>Request has\nexpired</Message><RequestId>R1</RequestId></Error>"
    )
    found = error_of(403, body, kind="blob", content_type="application/xml")
    assert type(found) is errors.Denied
    assert (found.code, found.request_id) == ("AccessDenied", "R1")
    assert "403 AccessDenied: Request has expired (" in str(found)
    assert type(error_of(404, body.replace(b"AccessDenied", b"NoSuchKey"), kind="blob")) is (
        errors.BlobUnknown
    )
    assert "an XML document" in str(error_of(403, b"<?xml version='1.0'?><a/>"))


def test_an_xml_document_defines_no_entities() -> None:
    lol = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><Error><Code>&b;</Code></Error>'
    found = error_of(403, lol)
    assert found.code is None
    assert "ha" not in str(found).replace("library", "")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "br", "zstd", "", "a, b"])
def test_compressed_error_bodies(coding: str) -> None:
    """Some servers compress errors, although the client asks for `identity`."""
    plain = error_body({"code": "DENIED", "message": "no entry"})
    packed = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}
    body = packed.get(coding.lower().removeprefix("x-"), plain)
    for each in (body, zlib.compress(plain, wbits=-15)) if coding == "deflate" else (body,):
        found = error_of(403, each, content_encoding=coding)
        assert type(found) is errors.Denied
        assert "403 DENIED: no entry" in str(found)


def test_an_error_body_in_an_unknown_coding() -> None:
    found = error_of(500, gzip.compress(b"x" * 300) + bytes(range(128, 256)), content_encoding="br")
    assert type(found) is errors.ServerError
    assert "500 a body encoded as br (" in str(found)
    assert type(error_of(500, b"not gzip", content_encoding="gzip")) is errors.ServerError


def test_a_compressed_body_is_limited() -> None:
    bomb = gzip.compress(b"[" * (64 << 20))
    tracemalloc.start()
    error_of(500, bomb, content_encoding="gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"5",
        b'{"errors": null}',
        b'{"errors": {}}',
        b'{"errors": []}',
        b'{"errors": ["DENIED"]}',
        b'{"errors": [{"code": 5}]}',
        b'{"errors": [{"message": "x"}]}',
        b"[" * 60000,
        b"\xff\xfe\x00",
    ],
)
def test_malformed_error_bodies_are_ignored(body: bytes) -> None:
    found = error_of(404, body)
    assert type(found) is errors.ManifestUnknown
    assert (found.code, found.errors, found.detail) == (None, (), None)


def test_messages_are_one_printable_line_of_limited_length() -> None:
    body = error_body({"code": "DENIED", "message": "a\nb\r\x1b[31m\u202e" + "x" * 5000})
    found = str(error_of(403, body))
    assert found.isprintable()
    assert len(found) < 500
    assert len(error_of(404, error_body(*({"code": "X"} for _ in range(5000)))).errors) == 100


def test_retry_after() -> None:
    assert error_of(429, retry_after="7").retry_after == 7.0
    assert error_of(429, retry_after="soon").retry_after is None
    assert error_of(429).retry_after is None
    assert error_of(429, ratelimit_reset="3").retry_after == 3.0  # zot sends this header
    past = error_of(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
    assert past.retry_after == 0.0
    assert error_of(429, retry_after="1.5").retry_after == 1.5
    assert error_of(429, retry_after="5, 7").retry_after == 5.0
    assert error_of(429, retry_after="-5").retry_after is None
    assert error_of(429, retry_after="9" * 5000).retry_after == 1e9
    for date in ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 09:28:00 +0200"):
        later = error_of(429, retry_after="Wed, 21 Oct 2015 07:28:09 GMT", date=date)
        assert later.retry_after == 9.0  # counted by the clock of the server


@pytest.mark.parametrize("header", ["x_request_id", "docker_request_id", "x_amzn_requestid"])
def test_request_id_is_read_and_shown(header: str) -> None:
    headers: dict[str, Any] = {header: "abc-1"}
    found = error_of(500, **headers)
    assert found.request_id == "abc-1"
    assert "request id abc-1" in str(found)


def test_a_401_names_the_auth_schemes() -> None:
    challenge = 'Bearer realm="https://auth.example.com/token",service="r", Basic realm="x"'
    assert "it asks for Bearer or Basic)" in str(error_of(401, www_authenticate=challenge))


def test_a_401_names_only_known_bearer_errors() -> None:
    message = str(error_of(401, www_authenticate='Bearer realm="r",error="insufficient_scope"'))
    assert "it asks for Bearer, and says insufficient_scope" in message
    assert "s3cret" not in str(error_of(401, www_authenticate='Bearer error="s3cret"'))


class TestRedaction:
    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("https://alice:hunter2@r/v2/", "https://r/v2/"),
            ("https://r/v2/?_state=hunter2&digest=sha256:ab", "https://r/v2/?_state=…&digest=sha256:ab"),
            ("https://r/v2/?token=hunter2", "https://r/v2/?token=…"),
            ("https://r/v2/?X-Amz-Signature=hunter2&n=5&last=a/b", "https://r/v2/?X-Amz-Signature=…&n=5&last=a/b"),
            ("https://r/v2/#hunter2", "https://r/v2/"),
            ("https://[::1", "(a URL that cannot be parsed)"),
        ],
    )  # fmt: skip
    def test_urls_are_shown_without_secrets(self, url: str, text: str) -> None:
        assert unquote(redacted_url(url)) == text

    def test_messages_have_no_secrets(self) -> None:
        found = error_of(404, kind="upload", url="https://a:hunter2@r/u?_state=hunter2")
        assert unquote(str(found)).startswith("GET https://r/u?_state=…: 404")
        assert "hunter2" not in str(found)

    @given(st.text(max_size=80))
    def test_never_raises(self, text: str) -> None:
        redacted_url(text)
        redacted_url(f"https://r/{text}")


@given(
    st.integers(100, 599),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["errors", "code", "message", "x"]), inner)
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.dictionaries(
        st.sampled_from(["retry-after", "www-authenticate", "content-type", "x-request-id"]),
        st.text(max_size=30),
    ),
)
def test_any_reply_becomes_an_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    found = error_from_reply(
        method="GET", url=URL, kind="blob", repository=None, status=status, headers=headers,
        body=body,
    )  # fmt: skip
    assert isinstance(found, RegistryError)
    assert found.status == status
    assert str(found).startswith(f"GET {URL}: {status}")


def test_an_error_entry_without_its_list_is_read() -> None:
    """zot sends the error of a failed login without the list `errors`."""
    body = b'{"code":"UNAUTHORIZED","message":"authentication required","detail":{"a":"x"}}'
    error = error_of(401, body)
    assert type(error).__name__ == "Unauthorized"
    assert (error.code, error.detail) == ("UNAUTHORIZED", {"a": "x"})
    assert "authentication required" in str(error)
    assert error_of(401, b'{"message":"no code"}').errors == ()
