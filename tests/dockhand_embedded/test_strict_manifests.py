"""Manifests that clients could read differently, or that are too large to be reported."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = b"layer"


def rejection(api: Any, data: bytes, kind: str = OCI_MANIFEST) -> str:
    """Push a manifest that must be rejected, and return the message."""
    reply = api.put_manifest("a", "bad", data, kind)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["MANIFEST_INVALID"])
    assert api.client.get("/v2/a/manifests/bad").status_code == 404
    message: str = reply.json()["errors"][0]["message"]
    return message


def with_text(api: Any, text: str) -> bytes:
    """An image manifest with additional text at the begin of the object."""
    manifest: bytes = api.image_manifest(LAYER)
    return b"{" + text.encode() + b"," + manifest.lstrip()[1:]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('"layers": []', "'layers' twice"),
        ('"config": {"a": 1, "a": 2}', "'a' twice"),
        ('"annotations": {"a": "1", "a": "2"}', "'a' twice"),
        ('"LAYERS": []', "'layers'"),
        ('"Layers": null', "'layers'"),
        ('"layer\u017f": []', "'layers'"),
        ('"MediaType": "x"', "'mediaType'"),
        ('"Subject": {}', "'subject'"),
        ('"fsLayers": []', "'fsLayers'"),
        ('"x": NaN', "NaN"),
        ('"x": -Infinity', "-Infinity"),
        ('"x": 1e999', "too large"),
        ('"x": 9223372036854775808', "64 bits"),
        ('"x": ' + "9" * 5000, "64 bits"),
        ('"x": "\\ud800"', "surrogate"),
        ('"\\udc00": 1', "surrogate"),
        ('"x": ' + json.dumps(nested(32)), "32 levels"),
        ('"x": ' + "[" * 5000 + "]" * 5000, "32 levels"),
        ('"x": ' + json.dumps([0] * 200_001), "200000 values"),
        ('"artifactType": "' + "x" * 300 + '"', "artifactType"),
    ],
)
def test_documents_that_parsers_read_differently(api: Any, text: str, hint: str) -> None:
    api.push_image("a", "good", LAYER)
    assert hint in rejection(api, with_text(api, text))


def test_byte_order_mark(api: Any) -> None:
    api.push_image("a", "good", LAYER)
    assert "byte order mark" in rejection(api, b"\xef\xbb\xbf" + api.image_manifest(LAYER))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"Digest": "sha256:" + "0" * 64}, "'digest'"),
        ({"urls": "http://x/"}, "urls"),
        ({"urls": [1]}, "urls"),
        ({"data": 1}, "data"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"platform": []}, "platform"),
        ({"platform": {"OS": "linux"}}, "'os'"),
        ({"platform": {"os": 1}}, "os"),
        ({"platform": {"os.features": "x"}}, "os.features"),
        ({"platform": nested(254)}, "32 levels"),
        ({"mediaType": "x" * 256}, "mediaType"),
        ({"digest": "x:" + "a" * 600}, "digest"),
        ({"artifactType": 1}, "artifactType"),
    ],
)
@pytest.mark.parametrize("field", ["config", "layers", "subject", "manifests"])
def test_invalid_descriptors(api: Any, field: str, change: dict[str, Any], hint: str) -> None:
    api.push_image("a", "good", LAYER)
    descriptor = {**api.descriptor(LAYER, "x/y"), **change}
    value = [descriptor] if field in {"layers", "manifests"} else descriptor
    if field == "manifests":
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, field: value}).encode()
        assert hint in rejection(api, data, OCI_INDEX)
    else:
        assert hint in rejection(api, api.image_manifest(LAYER, **{field: value}))


def test_numbers_of_descriptors(api: Any) -> None:
    api.push_image("a", "good", LAYER)
    layer = api.descriptor(LAYER, "x/y")
    assert "9000 descriptors" in rejection(api, api.image_manifest(LAYER, layers=[layer] * 9000))
    many = api.image_manifest(LAYER, layers=[layer] * 2048)
    assert api.put_manifest("a", "many", many).status_code == 201
    entries = [{**layer, "digest": f"sha256:{number:064x}"} for number in range(8193)]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    assert "8193" in rejection(api, json.dumps(index).encode(), OCI_INDEX)
    index["manifests"] = entries[:5000]
    reply = api.put_manifest("a", "wide", json.dumps(index).encode(), OCI_INDEX)
    assert reply.status_code == 201


def test_unusual_documents_that_all_clients_read_alike(api: Any) -> None:
    api.push_image("a", "good", LAYER)
    layer = {
        **api.descriptor(LAYER, "x/y"),
        "urls": None,
        "annotations": {"a": "1", "A": "2"},
        "data": "bGF5ZXI=",
        "platform": {"architecture": "arm", "os": "linux", "variant": "v7", "own": {"Os": [1]}},
    }
    data = api.image_manifest(
        LAYER,
        layers=[layer],
        annotations={"Digest": "x", "smile": "\U0001f600"},
        own={"A": 1, "a": -(2**63) + 1, "b": 1.5, "deep": nested(29)},
    )
    assert "\\ud83d\\ude00" in data.decode()
    assert api.put_manifest("a", "v1", data).status_code == 201
    assert api.client.get("/v2/a/manifests/v1").content == data


def test_number_of_missing_blobs_in_a_reply(api: Any) -> None:
    layers = [{**api.descriptor(LAYER, "x/y"), "digest": f"sha256:{n:064x}"} for n in range(2000)]
    reply = api.put_manifest("a", "v1", api.image_manifest(LAYER, layers=layers))
    assert api.error_codes(reply) == ["MANIFEST_BLOB_UNKNOWN"] * 100


def test_number_of_tags_in_a_push(api: Any) -> None:
    manifest = api.push_image("a", "v1", LAYER)
    digest = api.digest_of(manifest)
    query = "&".join(f"tag=t{number}" for number in range(50))
    reply = api.put_manifest("a", f"{digest}?{query}", manifest)
    assert len(reply.headers.get_list("oci-tag")) == 50
    reply = api.put_manifest("a", f"{digest}?{query}&tag=more", manifest)
    assert (reply.status_code, api.error_codes(reply)) == (414, ["TAG_INVALID"])
    assert "at most 50 tags, and this one has 51" in reply.text
    assert api.client.get("/v2/a/manifests/more").status_code == 404


def test_annotations_of_a_referrer(api: Any) -> None:
    """A list of referrers repeats the annotations, so a referrer can have at most 1 MiB of them."""
    subject = api.descriptor(api.push_image("a", "good", LAYER), OCI_MANIFEST)
    notes = {"x": "y" * (1 << 20)}
    data = api.image_manifest(LAYER, subject=subject, annotations=notes)
    assert "put them into a layer" in rejection(api, data)
    assert api.put_manifest("a", "v1", api.image_manifest(LAYER, annotations=notes)).is_success


@pytest.mark.parametrize("piece", ["[],", "{},", "0,", '{"":"\\"["},'])
def test_two_million_values_are_refused_before_they_take_memory(api: Any, piece: str) -> None:
    data = with_text(api, f'"x": [{piece * (4_000_000 // len(piece))}0]')
    tracemalloc.start()
    try:
        assert "200000 values" in rejection(api, data)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_many_commas_in_an_annotation_are_no_values(api: Any) -> None:
    api.push_image("a", "v1", LAYER, annotations={"a": ',[{\\"' * 150_000})


def test_a_string_without_an_end_is_refused_at_once(api: Any) -> None:
    started = time.monotonic()
    assert "not JSON" in rejection(api, b'{"x": "' + b',"' * 200_001 + b'"' + b'\\"' * 1_500_000)
    assert "not JSON" in rejection(api, b'{"x": "' + b"," * 500_000 + b'\\"' * 1_500_000 + b"\\")
    assert time.monotonic() - started < 10
