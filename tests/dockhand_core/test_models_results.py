"""Image configs, pages, uploads and the other results of operations."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dockhand_core import (
    ApiVersion,
    Digest,
    ImageConfig,
    ManifestHead,
    ManifestInvalid,
    Page,
    Platform,
    PushResult,
    Upload,
)

DIGEST = Digest("sha256:" + "0" * 64)
IMAGE_CONFIG: dict[str, Any] = {
    "architecture": "arm64",
    "os": "linux",
    "variant": "v8",
    "created": "2024-02-29T12:30:45.123456789Z",
    "author": "somebody",
    "config": {
        "User": "app",
        "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b", "PATH=/usr/bin", "BARE"],
        "Entrypoint": ["/entry"],
        "Cmd": ["run", "--fast"],
        "WorkingDir": "/srv",
        "Labels": {"a": "b"},
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["NONE"]},
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [
        {"created": "2024-02-29T12:30:45Z", "created_by": "RUN x", "comment": "c"},
        {"created_by": "ENV x", "empty_layer": True},
    ],
    "moby.buildkit.x": "kept",
}


def parse_with(**more: Any) -> ImageConfig:
    """Parse `IMAGE_CONFIG` with some fields added or replaced."""
    return ImageConfig.parse(json.dumps({**IMAGE_CONFIG, **more}).encode())


class TestImageConfig:
    def test_fields_are_parsed(self) -> None:
        found = parse_with()
        assert found.platform == Platform("linux", "arm64", "v8")
        assert found.created == datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=UTC)
        assert found.labels == {"a": "b"}
        assert found.env == {"PATH": "/usr/bin", "EMPTY": "", "EQUALS": "a=b", "BARE": ""}
        assert (found.entrypoint, found.cmd) == (["/entry"], ["run", "--fast"])
        assert (found.working_dir, found.user, found.author) == ("/srv", "app", "somebody")
        assert found.exposed_ports == ["53/udp", "8080/tcp"]
        assert found.diff_ids == (DIGEST,)
        assert found.history is not None
        assert [entry.empty_layer for entry in found.history] == [False, True]
        assert found.history[0].created_by == "RUN x"

    def test_exact_bytes_are_kept_and_not_shown(self) -> None:
        text = json.dumps(IMAGE_CONFIG, indent=7).encode()
        assert ImageConfig.parse(text).raw is text
        assert "raw" not in repr(ImageConfig.parse(text))

    def test_unknown_fields_are_kept(self) -> None:
        assert parse_with().model_dump(by_alias=True)["moby.buildkit.x"] == "kept"

    def test_an_empty_config_is_valid(self) -> None:
        """An artifact's config is often `{}`."""
        found = ImageConfig.parse(b"{}")
        assert (found.platform, found.created, found.labels, found.env) == (None, None, {}, {})
        assert (found.entrypoint, found.cmd, found.working_dir, found.user) == ([], [], "", "")
        assert (found.exposed_ports, found.diff_ids) == ([], ())

    def test_null_fields_are_valid(self) -> None:
        null: dict[str, Any] = dict.fromkeys(IMAGE_CONFIG)
        assert ImageConfig.parse(json.dumps(null).encode()).platform is None
        config = dict.fromkeys(IMAGE_CONFIG["config"])
        found = parse_with(config=config, history=None, rootfs={"type": None, "diff_ids": None})
        assert (found.labels, found.env, found.entrypoint, found.diff_ids) == ({}, {}, [], ())

    @pytest.mark.parametrize("when", ["", "yesterday", "0001-13-01T00:00:00Z", "2024-02-30", {}])
    def test_invalid_dates_become_none(self, when: Any) -> None:
        assert parse_with(created=when).created is None
        assert parse_with(history=[{"created": when}]).history[0].created is None  # type: ignore[index]

    def test_year_one_is_a_date(self) -> None:
        """Reproducible builds write the date 0001-01-01, which is therefore valid."""
        assert parse_with(created="0001-01-01T00:00:00Z").created == datetime(1, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize("empty", ["os", "architecture"])
    def test_an_incomplete_platform_is_none(self, empty: str) -> None:
        assert parse_with(**{empty: ""}).platform is None

    def test_an_empty_variant_is_none(self) -> None:
        assert parse_with(variant="").platform == Platform("linux", "arm64")

    def test_windows_version_and_features(self) -> None:
        found = parse_with(**{"os": "windows", "os.version": "10.0.1", "os.features": ["win32k"]})
        assert found.platform is not None
        assert (found.platform.os_version, found.platform.os_features) == ("10.0.1", ("win32k",))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "body"),
            (b"[]", "body"),
            (b"x", "body"),
            (b"\xff", "body"),
            (b'{"os": 5}', "os"),
            (b'{"config": []}', "config"),
            (b'{"config": {"Env": "A=b"}}', "config.Env"),
        ],
    )
    def test_invalid_configs_are_refused(self, text: bytes, message: str) -> None:
        with pytest.raises(ManifestInvalid, match=f"the image config's {message}"):
            ImageConfig.parse(text)

    @given(st.binary(max_size=30) | st.text(max_size=30).map(str.encode))
    def test_any_bytes_give_a_config_or_manifest_invalid(self, text: bytes) -> None:
        try:
            found = ImageConfig.parse(text)
        except ManifestInvalid:
            return
        assert found.raw == text


class TestPage:
    def test_the_last_page(self) -> None:
        page = Page[str](items=("a", "b"))
        assert (page.items, page.next, page.has_more) == (("a", "b"), None, False)

    def test_an_empty_page_may_have_a_next_one(self) -> None:
        assert Page[str](items=(), next="b").has_more is True

    def test_a_list_becomes_a_tuple(self) -> None:
        assert Page[str].model_validate({"items": ["a"]}).items == ("a",)


class TestUpload:
    UPLOAD = Upload(
        repository="library/nginx",
        location="https://r/v2/library/nginx/blobs/uploads/1?_state=hunter2",
        offset=5,
        min_chunk=10,
    )

    def test_json_round_trip(self) -> None:
        text = self.UPLOAD.model_dump_json()
        assert json.loads(text) == {
            "repository": "library/nginx",
            "location": self.UPLOAD.location,
            "offset": 5,
            "min_chunk": 10,
        }
        assert Upload.model_validate_json(text) == self.UPLOAD

    @pytest.mark.parametrize("show", [repr, str, format])
    def test_the_query_of_the_location_is_not_shown(self, show: Any) -> None:
        assert "hunter2" not in show(self.UPLOAD)
        assert "uploads/1" in show(self.UPLOAD)
        assert "offset=5" in show(self.UPLOAD)

    def test_defaults_and_updates(self) -> None:
        new = Upload(repository="a", location="/x")
        assert (new.offset, new.min_chunk) == (0, 0)
        assert new.model_copy(update={"offset": 3}).offset == 3

    def test_json_is_validated(self) -> None:
        for wrong in ("{}", '{"repository": "a", "location": "b", "offset": -1}'):
            with pytest.raises(ValidationError) as caught:
                Upload.model_validate_json(wrong)
            assert "repository" in str(caught.value) or "offset" in str(caught.value)
        with pytest.raises(ValidationError, match="frozen"):
            self.UPLOAD.offset = 9  # type: ignore[misc]


def test_other_results() -> None:
    assert str(ApiVersion()) == "registry/2.0"
    assert str(ApiVersion(major=3, minor=1, header="registry/3.1")) == "registry/3.1"
    head = ManifestHead(digest=DIGEST, size=5, media_type="a/b")
    assert (head.digest, head.size, head.media_type) == (DIGEST, 5, "a/b")
    pushed = PushResult(digest=DIGEST, location="/v2/x")
    assert (pushed.digest, pushed.location, pushed.uploaded) == (DIGEST, "/v2/x", True)
    for frozen in (ApiVersion(), head, pushed):
        assert hash(frozen)
