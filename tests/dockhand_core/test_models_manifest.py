"""Manifests and indexes: received documents keep their exact bytes."""

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

DIGEST = "sha256:" + "0" * 64
LAYER = {"mediaType": media.OCI_LAYER_GZIP, "digest": "sha256:" + "1" * 64, "size": 30}
CONFIG = {"mediaType": media.OCI_CONFIG, "digest": DIGEST, "size": 7}


def fields(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER, LAYER], **more}


def manifest_bytes(**more: Any) -> bytes:
    """Return a manifest as JSON that is indented, as some builders write it."""
    return json.dumps(fields(**more), indent=3).encode() + b"\n"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class TestReceived:
    def test_exact_bytes_and_digest_are_kept(self) -> None:
        text = manifest_bytes(mediaType=media.OCI_MANIFEST)
        found = parse_manifest(text)
        assert isinstance(found, ImageManifest)
        assert found.raw is text
        assert found.digest == sha256(text)
        assert type(found.digest) is Digest

    def test_a_known_digest_is_kept(self) -> None:
        digest = Digest.of(manifest_bytes(), "sha512")
        assert parse_manifest(manifest_bytes(), digest=digest).digest == digest

    def test_fields_of_a_manifest(self) -> None:
        found = parse_manifest(
            manifest_bytes(
                mediaType=media.OCI_MANIFEST,
                artifactType="application/x",
                subject={**CONFIG, "mediaType": media.OCI_MANIFEST},
                annotations={"a": "b"},
            )
        )
        assert isinstance(found, ImageManifest)
        assert (found.media_type, found.schema_version) == (media.OCI_MANIFEST, 2)
        assert found.config.digest == DIGEST
        assert [layer.size for layer in found.layers] == [30, 30]
        assert found.size == 67
        assert found.subject is not None
        assert found.subject.media_type == media.OCI_MANIFEST
        assert (found.artifact_type, found.annotations) == ("application/x", {"a": "b"})
        assert found.is_index is False

    def test_fields_of_an_index(self) -> None:
        entry = {**LAYER, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
        found = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        assert isinstance(found, ImageIndex)
        assert found.is_index is True
        assert found.manifests[0].platform is not None
        assert str(found.manifests[0].platform) == "linux/arm/v7"
        assert found.size == 30
        assert found.find("linux/arm64").digest == LAYER["digest"]

    def test_descriptor_of_a_manifest(self) -> None:
        text = manifest_bytes(mediaType=media.OCI_MANIFEST)
        assert parse_manifest(text).descriptor() == Descriptor(
            media_type=media.OCI_MANIFEST, digest=Digest.of(text), size=len(text)
        )

    def test_copies_are_equal(self) -> None:
        found = parse_manifest(manifest_bytes())
        for same in (
            found.model_copy(),
            copy.copy(found),
            copy.deepcopy(found),
            pickle.loads(pickle.dumps(found)),
        ):
            assert (type(same), same.raw, same.digest) == (ImageManifest, found.raw, found.digest)
            assert same == found

    def test_fields_are_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            parse_manifest(manifest_bytes()).media_type = "x"  # type: ignore[misc]


class TestMediaType:
    @pytest.mark.parametrize("message", [*media.MANIFESTS, *media.INDEXES])
    def test_the_body_decides(self, message: str) -> None:
        found = parse_manifest(
            manifest_bytes(mediaType=message, manifests=[]), media_type="text/plain"
        )
        assert found.media_type == message
        assert found.is_index == (message in media.INDEXES)

    @pytest.mark.parametrize("message", [*media.MANIFESTS, *media.INDEXES])
    @pytest.mark.parametrize("parameters", ["", "; charset=utf-8"])
    def test_the_content_type_decides_without_a_body_field(
        self, message: str, parameters: str
    ) -> None:
        index = b'{"schemaVersion":2,"manifests":[]}'
        text = index if message in media.INDEXES else manifest_bytes()
        found = parse_manifest(text, media_type=message + parameters)
        assert found.media_type == message
        assert found.is_index == (message in media.INDEXES)
        assert found.raw is text

    @pytest.mark.parametrize("missing", [{}, {"mediaType": ""}, {"mediaType": None}])
    @pytest.mark.parametrize("header", [None, "", "application/json", "text/plain"])
    def test_the_fields_decide_without_a_media_type(
        self, missing: dict[str, Any], header: str | None
    ) -> None:
        found = parse_manifest(manifest_bytes(**missing), media_type=header)
        assert found.media_type == media.OCI_MANIFEST
        other = json.dumps({"schemaVersion": 2, "manifests": [], **missing}).encode()
        assert parse_manifest(other, media_type=header).media_type == media.OCI_INDEX

    def test_an_unknown_one_is_kept(self) -> None:
        text = manifest_bytes(mediaType="application/vnd.acme.v7+json")
        found = parse_manifest(text)
        assert isinstance(found, ImageManifest)
        assert found.media_type == "application/vnd.acme.v7+json"
        assert found.model_copy(update={"annotations": {}}).media_type == found.media_type


class TestLeniency:
    @pytest.mark.parametrize("null", ["layers", "annotations", "subject", "artifactType"])
    def test_null_in_a_manifest(self, null: str) -> None:
        found = parse_manifest(manifest_bytes(**{null: None}))
        assert isinstance(found, ImageManifest)
        assert {
            "layers": found.layers,
            "annotations": found.annotations,
            "subject": found.subject,
            "artifactType": found.artifact_type,
        }[null] == {"layers": (), "annotations": {}}.get(null)

    def test_null_in_an_index(self) -> None:
        found = parse_manifest(b'{"schemaVersion": 2, "manifests": null}')
        assert isinstance(found, ImageIndex)
        assert found.manifests == ()

    def test_null_in_descriptors(self) -> None:
        layer = {**LAYER, "annotations": None, "urls": None, "platform": None}
        found = parse_manifest(manifest_bytes(layers=[layer]))
        assert isinstance(found, ImageManifest)
        assert found.layers[0].annotations == {}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "not JSON"),
            (b"<html>", "not JSON"),
            (b"\xff", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "not a JSON object"),
            (b"null", "not a JSON object"),
            (b"{}", "neither a manifest nor an index"),
            (b'{"schemaVersion": 1, "fsLayers": []}', "schemaVersion 1"),
            (manifest_bytes(config={}), "the manifest's config.mediaType"),
            (
                manifest_bytes(config={**CONFIG, "digest": "sha256:x"}),
                "the manifest's config.digest",
            ),
            (manifest_bytes(layers=[{**LAYER, "size": -1}]), "the manifest's layers.0.size"),
            (manifest_bytes(layers="x"), "the manifest's layers"),
            (manifest_bytes(mediaType=["x"]), "the manifest's mediaType"),
            (json.dumps({"layers": []}).encode(), "the manifest's config"),
        ],
    )
    def test_invalid_documents_are_refused(self, text: bytes, message: str) -> None:
        with pytest.raises(ManifestInvalid) as caught:
            parse_manifest(text)
        assert message in str(caught.value)

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
    def test_any_bytes_give_a_document_or_manifest_invalid(self, text: bytes) -> None:
        try:
            found = parse_manifest(text)
        except ManifestInvalid:
            return
        assert found.raw == text


class TestWritten:
    def test_a_made_manifest_has_bytes(self) -> None:
        made = ImageManifest.model_validate({"config": CONFIG, "layers": [LAYER]})
        written = json.loads(made.raw)
        assert written == {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": CONFIG,
            "layers": [LAYER],
        }
        assert made.digest == sha256(made.raw)
        assert parse_manifest(made.raw) == made

    def test_an_empty_index_has_bytes(self) -> None:
        assert json.loads(ImageIndex().raw) == {
            "schemaVersion": 2,
            "mediaType": media.OCI_INDEX,
            "manifests": [],
        }

    def test_fields_have_python_and_json_names(self) -> None:
        made = Descriptor(media_type="a/b", digest=Digest(DIGEST), size=0, artifact_type="c/d")
        assert made == Descriptor.model_validate(
            {"mediaType": "a/b", "digest": DIGEST, "size": 0, "artifactType": "c/d"}
        )
        assert json.loads(ImageManifest(config=made).raw)["config"] == {
            "mediaType": "a/b",
            "digest": DIGEST,
            "size": 0,
            "artifactType": "c/d",
        }

    def test_unknown_fields_are_kept(self) -> None:
        layer = {**LAYER, "x-layer": [1, {"null": 1}], "data": "aGk="}
        platform = {"os": "linux", "architecture": "arm", "os.version": "1", "x-p": True}
        text = manifest_bytes(
            mediaType=media.DOCKER_MANIFEST,
            layers=[{**layer, "platform": platform}],
            xTop={"deep": ["a", 1.5]},
        )
        found = parse_manifest(text)
        written = json.loads(found.model_copy(update={"annotations": {"a": "b"}}).raw)
        assert written == {**json.loads(text), "annotations": {"a": "b"}}

    def test_an_updated_copy_has_its_own_bytes(self) -> None:
        found = parse_manifest(manifest_bytes())
        assert isinstance(found, ImageManifest)
        changed = found.model_copy(update={"annotations": {"a": "b"}})
        assert changed.raw != found.raw
        assert changed.digest == sha256(changed.raw) != found.digest
        assert json.loads(changed.raw)["annotations"] == {"a": "b"}
        assert changed != found
        assert found.raw == manifest_bytes()
        deep = found.model_copy(update={"layers": ()}, deep=True)
        assert json.loads(deep.raw)["layers"] == []


class TestEquality:
    def test_reading_the_digest_does_not_change_equality(self) -> None:
        one = ImageManifest.model_validate(fields())
        two = ImageManifest.model_validate(fields())
        assert one == two
        assert one.digest
        assert one == two
        assert hash(one) == hash(two)

    def test_equality_is_that_of_the_bytes(self) -> None:
        assert parse_manifest(manifest_bytes()) != parse_manifest(manifest_bytes() + b"\n")
        assert parse_manifest(manifest_bytes()) == parse_manifest(manifest_bytes())
        assert parse_manifest(manifest_bytes()) != object()
        assert len({parse_manifest(manifest_bytes()), parse_manifest(manifest_bytes())}) == 1


class TestDocker:
    def test_manifest_keeps_its_media_type(self) -> None:
        found = parse_manifest(manifest_bytes(mediaType=media.DOCKER_MANIFEST))
        assert isinstance(found, ImageManifest)
        assert json.loads(found.model_copy(update={"layers": ()}).raw)["mediaType"] == (
            media.DOCKER_MANIFEST
        )

    def test_list_keeps_its_fields(self) -> None:
        entry = {
            "mediaType": media.DOCKER_MANIFEST,
            "digest": DIGEST,
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
