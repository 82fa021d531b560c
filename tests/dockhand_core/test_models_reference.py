"""References: docker's grammar, the text of a reference, and messages without credentials."""

from __future__ import annotations

import pickle
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core import Digest, DockhandError, Reference, ReferenceInvalid
from dockhand_core.models import check_repository

SHA256 = f"sha256:{'0123456789abcdef' * 4}"
SHA512 = f"sha512:{'ab' * 64}"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", None),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", None),
        (f"nginx@{SHA256}", "docker.io", "library/nginx", None, SHA256),
        (f"nginx:1.27@{SHA256}", "docker.io", "library/nginx", "1.27", SHA256),
        ("grafana/loki", "docker.io", "grafana/loki", "latest", None),
        ("library/nginx", "docker.io", "library/nginx", "latest", None),
        ("a/b/c:x", "docker.io", "a/b/c", "x", None),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("index.docker.io/nginx:1", "docker.io", "library/nginx", "1", None),
        ("registry-1.docker.io/library/nginx", "docker.io", "library/nginx", "latest", None),
        ("Docker.IO/nginx", "docker.io", "library/nginx", "latest", None),
        ("docker.io:443/nginx", "docker.io", "library/nginx", "latest", None),
        ("docker.io:5000/nginx", "docker.io:5000", "nginx", "latest", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost", "docker.io", "library/localhost", "latest", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1", None),
        ("registry/app", "docker.io", "registry/app", "latest", None),
        ("registry:80/app", "registry:80", "app", "latest", None),
        ("quay.io/a/b", "quay.io", "a/b", "latest", None),
        ("Registry.Example.com/a", "Registry.Example.com", "a", "latest", None),
        ("127.0.0.1:5000/a_b/c__d/e-f:V.1-2_3", "127.0.0.1:5000", "a_b/c__d/e-f", "V.1-2_3", None),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
        ("[2001:db8::1]/app:v1", "[2001:db8::1]", "app", "v1", None),
        (f"[::1]/app:v1@{SHA512}", "[::1]", "app", "v1", SHA512),
        (
            f"registry.example.com:5000/library/nginx:1.27@{SHA256}",
            "registry.example.com:5000",
            "library/nginx",
            "1.27",
            SHA256,
        ),
        (f"a.b/{'c' * 255}:{'d' * 128}", "a.b", "c" * 255, "d" * 128, None),
    ],
)
def test_parts(text: str, host: str, repository: str, tag: str | None, digest: str | None) -> None:
    reference = Reference.parse(text)
    assert (reference.host, reference.repository) == (host, repository)
    assert (reference.tag, reference.digest) == (tag, digest)
    assert isinstance(reference.digest, Digest | None)
    assert Reference.parse(str(reference)) == reference


def test_text_is_complete() -> None:
    assert str(Reference.parse("nginx")) == "docker.io/library/nginx:latest"
    assert str(Reference.parse(f"[::1]:5000/a:b@{SHA256}")) == f"[::1]:5000/a:b@{SHA256}"
    assert str(Reference("quay.io", "a", digest=Digest(SHA256))) == f"quay.io/a@{SHA256}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("a.b/", "no repository"),
        ("a.b/:v1", "no repository"),
        (":v1", "no repository"),
        (f"@{SHA256}", "begins with a host or a repository"),
        ("@staging/app", "connections"),
        ("Nginx", "upper-case letters are allowed in tags only"),
        ("quay.io/App:v1", "upper-case"),
        ("Library/nginx", "upper-case"),
        ("LOCALHOST/nginx", "upper-case"),
        ("a//b", "component is empty"),
        ("/a", "component is empty"),
        ("a/", "component is empty"),
        ("a.b/c/", "component is empty"),
        ("nginx:", "is not a tag"),
        ("nginx:.1", "is not a tag"),
        ("nginx:1:2", "is not a tag"),
        (f"a.b/c:{'d' * 129}", "is not a tag"),
        (f"a.b/{'c' * 256}", "255 characters at most"),
        ("a.b/c:5000/d", "':' in a component"),
        (f"a.b/{'c' * 3000}", "3004 characters"),
        ("https://quay.io/a", "no scheme"),
        ("quay.io/a b", "white space"),
        ("nginx\n", "white space"),
        ("a/ü", "is not a repository name"),
        ("-a.b/c", "host '-a.b'"),
        ("a..b/c", "host 'a..b'"),
        ("a_b.c/d", "host 'a_b.c'"),
        ("\u017f.de/app", "host"),
        (":5000/app", "host"),
        ("a.b:/app", "port of the host 'a.b'"),
        ("a.b:0/app", "port of the host 'a.b'"),
        ("a.b:65536/app", "port of the host 'a.b'"),
        ("a.b:port/app", "port of the host 'a.b'"),
        ("::1/app", "IPv6 address stands in brackets"),
        ("[::1/app", "in brackets"),
        ("[::g]/app", "IPv6 address in brackets"),
        ("[fe80::1%eth0]/app", "IPv6 address in brackets"),
        ("[1.2.3.4]:5000/app", "IPv6 address in brackets"),
        ("nginx@", "no digest after '@'"),
        ("nginx@1.27", "no digest after '@'"),
        ("nginx@sha256:abc", "3 characters after the colon"),
        (f"nginx@{SHA256.upper()}", "no digest after '@'"),
        (f"nginx@sha256:{'A' * 64}", "lower-case hex digits"),
        (f"nginx@{SHA256}:v1", "characters after the colon"),
        (f"nginx@{SHA256}@{SHA256}", "no digest after '@'"),
        (SHA256.removeprefix("sha256:"), "id of an image"),
    ],
)
def test_malformed_text(text: str, named: str) -> None:
    with pytest.raises(ReferenceInvalid) as caught:
        Reference.parse(text)
    assert named in str(caught.value)
    assert isinstance(caught.value, DockhandError)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [None, 5, b"nginx", ["nginx"]])
def test_other_types(value: Any) -> None:
    with pytest.raises(ReferenceInvalid, match="string"):
        Reference.parse(value)
    with pytest.raises(ReferenceInvalid):
        Reference(value, "a")
    with pytest.raises(ReferenceInvalid):
        Reference("a.b", value)


@pytest.mark.parametrize(
    "text",
    [
        "alice:s3cret@registry.example.com/app",
        "alice:s3cret@registry.example.com:5000/app:v1",
        f"alice:s3cret@registry.example.com/app@{SHA256}",
        "alice:s3cret@sha256:abc",
        "https://alice:s3cret@registry.example.com/app",
        "alice:s3cret/x@localhost/app",
        "alice:s3cret@localhost",
        "a.b/alice:s3cret@localhost:5000/app",
        "alice:p@s3cret@localhost/app",
        "alice:p@sha256:s3cret@localhost/app",
        "[::1]:s3cret@localhost/app",
        "alice:s3cret @localhost/app",
        "alice:s3cret/app",
    ],
)
def test_messages_never_show_credentials(text: str) -> None:
    with pytest.raises(ReferenceInvalid) as caught:
        Reference.parse(text)
    error: BaseException | None = caught.value
    while error is not None and not (error.__suppress_context__ and error.__cause__ is None):
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__
    assert "s3cret" not in str(caught.value)


def test_constructor_checks_its_parts() -> None:
    assert Reference("docker.io", "nginx") == Reference.parse("nginx")
    assert Reference("index.docker.io", "nginx", "1").repository == "library/nginx"
    assert hash(Reference.parse("nginx")) == hash(Reference.parse("nginx:latest"))
    for parts in (("", "a"), ("a/b", "a"), ("a.b", "A"), ("a.b", "a", ""), ("a.b", "a", "x y")):
        with pytest.raises(ReferenceInvalid):
            Reference(*parts)
    with pytest.raises(ReferenceInvalid):
        Reference("a.b", "a", digest="sha256:abc")  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(Reference.parse("a.b/c:d"))) == Reference.parse("a.b/c:d")


LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=10)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ADDRESS = st.ip_addresses(v=6).map(lambda address: f"[{address}]")
PORT = st.integers(1, 65535).map(lambda port: f":{port}")
HOST = st.one_of(
    st.builds(str.__add__, st.one_of(DOMAIN, ADDRESS), PORT),
    ADDRESS,
    DOMAIN.filter(lambda name: "." in name),
    st.just("localhost"),
)
COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}", fullmatch=True)
REPOSITORY = st.lists(COMPONENT, min_size=1, max_size=5).map("/".join)
TAG = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)
DIGEST = st.one_of(
    st.from_regex(r"sha256:[a-f0-9]{64}", fullmatch=True),
    st.from_regex(r"sha512:[a-f0-9]{128}", fullmatch=True),
)


@given(HOST, REPOSITORY, st.none() | TAG, st.none() | DIGEST)
def test_round_trip(host: str, repository: str, tag: str | None, digest: str | None) -> None:
    text = f"{host}/{repository}"
    text += f":{tag}" if tag else ""
    text += f"@{digest}" if digest else ""
    reference = Reference.parse(text)
    if reference.host == host:
        assert (reference.host, reference.repository) == (host, repository)
    assert reference.digest == digest
    assert reference.tag == (tag or (None if digest else "latest"))
    expected = text if tag or digest else f"{text}:latest"
    assert reference.host == "docker.io" or str(reference) == expected
    assert Reference.parse(str(reference)) == reference


@given(REPOSITORY, st.none() | TAG)
def test_round_trip_without_a_host(repository: str, tag: str | None) -> None:
    first = repository.partition("/")[0]
    if "/" in repository and ("." in first or first == "localhost"):
        return  # the first component is a host
    reference = Reference.parse(f"{repository}:{tag}" if tag else repository)
    assert reference.host == "docker.io"
    assert reference.repository == (repository if "/" in repository else f"library/{repository}")
    assert Reference.parse(str(reference)) == reference


@given(st.text() | st.text("abcAZ09.:/@[]_-%sha256"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceInvalid:
        return
    assert check_repository(reference.repository)
    assert Reference.parse(str(reference)) == reference
