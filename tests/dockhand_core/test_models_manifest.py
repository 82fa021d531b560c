"""Manifests and indexes: what was received stays as it was, to the byte."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dockhand_core import Descriptor, Digest, ImageIndex, ImageManifest, ManifestInvalid
from dockhand_core.models import media, parse_manifest

D = "sha256:" + "0" * 64
LAYER = {"mediaType": media.OCI_LAYER_GZIP, "digest": "sha256:" + "1" * 64, "size": 30}
CONFIG = {"mediaType": media.OCI_CONFIG, "digest": D, "size": 7}


def body(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER, LAYER], **more}


def raw(**more: Any) -> bytes:
    """As some builder wrote it: indented, its keys in an order of their own."""
    return json.dumps(body(**more), indent=3).encode() + b"\n"


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class TestReceived:
    def test_bytes_and_digest_are_kept(self) -> None:
        text = raw(mediaType=media.OCI_MANIFEST)
        found = parse_manifest(text)
        assert isinstance(found, ImageManifest)
        assert found.raw is text
        assert found.digest == sha(text)
        assert type(found.digest) is Digest

    def test_a_digest_that_is_known_already(self) -> None:
        digest = Digest.of(raw(), "sha512")
        assert parse_manifest(raw(), digest=digest).digest == digest

    def test_properties(self) -> None:
        found = parse_manifest(
            raw(
                mediaType=media.OCI_MANIFEST,
                artifactType="application/x",
                subject={**CONFIG, "mediaType": media.OCI_MANIFEST},
                annotations={"a": "b"},
            )
        )
        assert isinstance(found, ImageManifest)
        assert (found.media_type, found.schema_version) == (media.OCI_MANIFEST, 2)
        assert found.config.digest == D
        assert [layer.size for layer in found.layers] == [30, 30]
        assert found.size == 67
        assert found.subject is not None
        assert found.subject.media_type == media.OCI_MANIFEST
        assert (found.artifact_type, found.annotations) == ("application/x", {"a": "b"})
        assert found.is_index is False

    def test_an_index(self) -> None:
        entry = {**LAYER, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
        found = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        assert isinstance(found, ImageIndex)
        assert found.is_index is True
        assert found.manifests[0].platform is not None
        assert str(found.manifests[0].platform) == "linux/arm/v7"
        assert found.size == 30
        assert found.find("linux/arm64").digest == LAYER["digest"]

    def test_descriptor(self) -> None:
        text = raw(mediaType=media.OCI_MANIFEST)
        assert parse_manifest(text).descriptor() == Descriptor(
            media_type=media.OCI_MANIFEST, digest=Digest.of(text), size=len(text)
        )

    def test_copies(self) -> None:
        found = parse_manifest(raw())
        for same in (
            found.model_copy(),
            copy.copy(found),
            copy.deepcopy(found),
            pickle.loads(pickle.dumps(found)),
        ):
            assert (type(same), same.raw, same.digest) == (ImageManifest, found.raw, found.digest)
            assert same == found

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            parse_manifest(raw()).media_type = "x"  # type: ignore[misc]


class TestMediaType:
    @pytest.mark.parametrize("said", [*media.MANIFESTS, *media.INDEXES])
    def test_the_body_says_it(self, said: str) -> None:
        found = parse_manifest(raw(mediaType=said, manifests=[]), media_type="text/plain")
        assert found.media_type == said
        assert found.is_index == (said in media.INDEXES)

    @pytest.mark.parametrize("said", [*media.MANIFESTS, *media.INDEXES])
    @pytest.mark.parametrize("parameters", ["", "; charset=utf-8"])
    def test_the_content_type_says_it(self, said: str, parameters: str) -> None:
        text = raw(manifests=[])
        found = parse_manifest(text, media_type=said + parameters)
        assert found.media_type == said
        assert found.is_index == (said in media.INDEXES)
        assert found.raw is text

    @pytest.mark.parametrize("missing", [{}, {"mediaType": ""}, {"mediaType": None}])
    @pytest.mark.parametrize("header", [None, "", "application/json", "text/plain"])
    def test_the_fields_say_it(self, missing: dict[str, Any], header: str | None) -> None:
        found = parse_manifest(raw(**missing), media_type=header)
        assert found.media_type == media.OCI_MANIFEST
        other = json.dumps({"schemaVersion": 2, "manifests": [], **missing}).encode()
        assert parse_manifest(other, media_type=header).media_type == media.OCI_INDEX

    def test_one_that_nobody_knows(self) -> None:
        text = raw(mediaType="application/vnd.acme.v7+json")
        found = parse_manifest(text)
        assert isinstance(found, ImageManifest)
        assert found.media_type == "application/vnd.acme.v7+json"
        assert found.model_copy(update={"annotations": {}}).media_type == found.media_type


class TestLeniency:
    @pytest.mark.parametrize("null", ["layers", "annotations", "subject", "artifactType"])
    def test_null(self, null: str) -> None:
        found = parse_manifest(raw(**{null: None}))
        assert isinstance(found, ImageManifest)
        assert {
            "layers": found.layers,
            "annotations": found.annotations,
            "subject": found.subject,
            "artifactType": found.artifact_type,
        }[null] == {"layers": (), "annotations": {}}.get(null)

    def test_null_manifests(self) -> None:
        found = parse_manifest(b'{"schemaVersion": 2, "manifests": null}')
        assert isinstance(found, ImageIndex)
        assert found.manifests == ()

    def test_null_in_descriptors(self) -> None:
        layer = {**LAYER, "annotations": None, "urls": None, "platform": None}
        found = parse_manifest(raw(layers=[layer]))
        assert isinstance(found, ImageManifest)
        assert found.layers[0].annotations == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"", "not JSON"),
            (b"<html>", "not JSON"),
            (b"\xff", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "not a JSON object"),
            (b"null", "not a JSON object"),
            (b"{}", "neither a manifest nor an index"),
            (b'{"schemaVersion": 1, "fsLayers": []}', "schemaVersion 1"),
            (raw(config={}), "the manifest's config.mediaType"),
            (raw(config={**CONFIG, "digest": "sha256:x"}), "the manifest's config.digest"),
            (raw(layers=[{**LAYER, "size": -1}]), "the manifest's layers.0.size"),
            (raw(layers="x"), "the manifest's layers"),
            (raw(mediaType=["x"]), "the manifest's mediaType"),
            (json.dumps({"layers": []}).encode(), "the manifest's config"),
        ],
    )
    def test_what_is_neither(self, text: bytes, said: str) -> None:
        with pytest.raises(ManifestInvalid) as caught:
            parse_manifest(text)
        assert said in str(caught.value)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([
                    "config", "layers", "manifests", "mediaType", "digest", "size", "subject",
                    "annotations", "platform", "schemaVersion", "os", "os.version",
                ]),
                inner,
            ),
        ).map(lambda value: json.dumps(value).encode())
        | st.binary(max_size=50)
    )  # fmt: skip
    def test_anything_else_is_refused_politely(self, text: bytes) -> None:
        try:
            found = parse_manifest(text)
        except ManifestInvalid:
            return
        assert found.raw == text


class TestWritten:
    def test_its_own_bytes(self) -> None:
        made = ImageManifest.model_validate({"config": CONFIG, "layers": [LAYER]})
        written = json.loads(made.raw)
        assert written == {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": CONFIG,
            "layers": [LAYER],
        }
        assert made.digest == sha(made.raw)
        assert parse_manifest(made.raw) == made

    def test_an_empty_index(self) -> None:
        assert json.loads(ImageIndex().raw) == {
            "schemaVersion": 2,
            "mediaType": media.OCI_INDEX,
            "manifests": [],
        }

    def test_pythons_names(self) -> None:
        made = Descriptor(media_type="a/b", digest=Digest(D), size=0, artifact_type="c/d")
        assert made == Descriptor.model_validate(
            {"mediaType": "a/b", "digest": D, "size": 0, "artifactType": "c/d"}
        )
        assert json.loads(ImageManifest(config=made).raw)["config"] == {
            "mediaType": "a/b",
            "digest": D,
            "size": 0,
            "artifactType": "c/d",
        }

    def test_unknown_fields_survive(self) -> None:
        layer = {**LAYER, "x-layer": [1, {"null": 1}], "data": "aGk="}
        platform = {"os": "linux", "architecture": "arm", "os.version": "1", "x-p": True}
        text = raw(
            mediaType=media.DOCKER_MANIFEST,
            layers=[{**layer, "platform": platform}],
            xTop={"deep": ["a", 1.5]},
        )
        found = parse_manifest(text)
        written = json.loads(found.model_copy(update={"annotations": {"a": "b"}}).raw)
        assert written == {**json.loads(text), "annotations": {"a": "b"}}

    def test_what_is_updated_has_bytes_of_its_own(self) -> None:
        found = parse_manifest(raw())
        assert isinstance(found, ImageManifest)
        changed = found.model_copy(update={"annotations": {"a": "b"}})
        assert changed.raw != found.raw
        assert changed.digest == sha(changed.raw) != found.digest
        assert json.loads(changed.raw)["annotations"] == {"a": "b"}
        assert changed != found
        assert found.raw == raw()
        deep = found.model_copy(update={"layers": ()}, deep=True)
        assert json.loads(deep.raw)["layers"] == []


class TestEquality:
    def test_looking_at_the_digest_does_not_change_it(self) -> None:
        one = ImageManifest.model_validate(body())
        two = ImageManifest.model_validate(body())
        assert one == two
        assert one.digest
        assert one == two
        assert hash(one) == hash(two)

    def test_it_is_of_the_bytes(self) -> None:
        assert parse_manifest(raw()) != parse_manifest(raw() + b"\n")
        assert parse_manifest(raw()) == parse_manifest(raw())
        assert parse_manifest(raw()) != object()
        assert len({parse_manifest(raw()), parse_manifest(raw())}) == 1


class TestDocker:
    def test_a_manifest(self) -> None:
        found = parse_manifest(raw(mediaType=media.DOCKER_MANIFEST))
        assert isinstance(found, ImageManifest)
        assert json.loads(found.model_copy(update={"layers": ()}).raw)["mediaType"] == (
            media.DOCKER_MANIFEST
        )

    def test_a_list(self) -> None:
        entry = {
            "mediaType": media.DOCKER_MANIFEST,
            "digest": D,
            "size": 5,
            "platform": {
                "architecture": "amd64",
                "os": "windows",
                "os.version": "10.0.17763.1",
                "os.features": ["win32k"],
                "features": ["sse4"],
            },
        }
        text = json.dumps(
            {"schemaVersion": 2, "mediaType": media.DOCKER_LIST, "manifests": [entry]}
        ).encode()
        found = parse_manifest(text)
        assert isinstance(found, ImageIndex)
        platform = found.manifests[0].platform
        assert platform is not None
        assert (platform.os_version, platform.os_features) == ("10.0.17763.1", ("win32k",))
        again = json.loads(found.model_copy(update={"annotations": {}}).raw)
        assert again == json.loads(text)
