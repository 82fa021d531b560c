"""Uploads to registries whose replies have other statuses, Locations and Ranges."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from dockhand_testing.http_server import ReceivedRequest, ScriptedServer, reply

from dockhand_core import Digest, RegistryClient, Unsupported, Upload

MakeClient = Callable[..., RegistryClient]
DATA = random.Random(7).randbytes(300 << 10)
DIGEST = Digest.of(DATA)
START = "/v2/a/b/blobs/uploads/"


class Registry:
    """A registry whose replies to an upload's requests a test changes.

    Args:
        post, patch, put: the statuses of success.
        suffix: the end of each `Location`.
        takes: the largest number of bytes that are taken of a chunk.
        refusal: the status of a POST that holds a blob.
        largest: the largest body of a PUT; a larger one gets 416.
    """

    def __init__(
        self,
        *,
        post: int = 202,
        patch: int = 202,
        put: int = 201,
        suffix: str = "",
        takes: int = 1 << 30,
        refusal: int = 202,
        largest: int = 1 << 30,
    ) -> None:
        self.post, self.patch, self.put = post, patch, put
        self.suffix, self.takes, self.refusal, self.largest = suffix, takes, refusal, largest
        self.data, self.blobs = b"", dict[str, bytes]()

    def __call__(self, request: ReceivedRequest) -> bytes:
        place = START + "1" + self.suffix
        if request.method == "HEAD":
            return reply(200 if request.path.split("/")[-1] in self.blobs else 404)
        if request.method == "POST":
            self.data = b""
            status = self.refusal if "digest" in request.query else self.post
            return reply(status, Location=place)
        if request.method == "GET":
            return reply(202, Range=f"bytes=0-{len(self.data) - 1}")
        if request.method == "PUT" and len(request.body) > self.largest:
            return reply(416)
        if request.method == "PATCH":
            if request.headers["content-range"].split("-")[0] != str(len(self.data)):
                return reply(416)
            self.data += request.body[: self.takes]
            return reply(self.patch, Location=place, Range=f"0-{len(self.data) - 1}")
        self.data += request.body
        if request.query.get("digest") != Digest.of(self.data):
            return reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        self.blobs[request.query["digest"]] = self.data
        return reply(self.put)


REGISTRIES = {
    "fragment": Registry(suffix="#part"),
    "fragment after a query": Registry(suffix="?state=a%2Fb#part"),
    "POST 200": Registry(post=200),
    "POST 204": Registry(post=204),
    "PATCH 200": Registry(patch=200),
    "PUT 200": Registry(put=200),
    "PUT 202": Registry(put=202),
    "a part of a chunk": Registry(takes=40_000),
    "416 to a large PUT": Registry(largest=100 << 10),
    **{f"single POST {n}": Registry(refusal=n) for n in (400, 404, 405, 411, 413, 415, 422, 501)},
}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_uploads(make_client: MakeClient, server: ScriptedServer, kind: str) -> None:
    """Each arrives whole: from an iterable, from bytes, from few bytes and from none."""
    server.handler = registry = REGISTRIES[kind]
    registry.blobs.clear()
    client = make_client(server.url, chunk_size=100 << 10)
    for data, source in ((DATA, iter([DATA])), (DATA[1:], DATA[1:]), (b"few", b"few"), (b"", b"")):
        digest = client.upload_blob("a/b", source).digest
        assert digest == Digest.of(data)
        assert registry.blobs[digest] == data
    posts = [one for one in server.with_method("POST") if "digest" in one.query]
    assert len(posts) == 1, "a refused POST is not tried again"


@pytest.mark.parametrize(
    "text", ["0-{}", "bytes=0-{}", "bytes 0-{}", "bytes 0-{}/*", "bytes=0-{}/100", " 0 - {} "]
)
@pytest.mark.parametrize("size", [0, 100])
def test_forms_of_a_status(
    make_client: MakeClient, server: ScriptedServer, text: str, size: int
) -> None:
    """`0--1` is the Range of an upload without bytes."""
    server.handler = lambda request: reply(204, Range=text.format(size - 1))
    upload = Upload(repository="a/b", location=f"{server.url}{START}1")
    assert make_client(server.url).upload_status(upload).offset == size


def test_a_cancellation_that_is_repeated(make_client: MakeClient, server: ScriptedServer) -> None:
    """If a repeated DELETE finds no upload, the first one has cancelled it."""
    statuses = iter([503, 404, 405])
    server.handler = lambda request: reply(next(statuses))
    upload = Upload(repository="a/b", location=f"{server.url}{START}1")
    client = make_client(server.url)
    client.cancel_upload(upload)
    with pytest.raises(Unsupported):
        client.cancel_upload(upload)
