"""Platforms, parsed and matched by the rules of containerd's `platforms` package."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core import (
    ConfigError,
    Descriptor,
    Digest,
    DockhandError,
    ImageIndex,
    Platform,
    PlatformNotFound,
)


def index_of(*platforms: dict[str, Any] | str | None) -> ImageIndex:
    """Make an index with an entry for each platform; the size of an entry is its position."""
    entries = []
    for position, platform in enumerate(platforms):
        entry: dict[str, Any] = {"mediaType": "x/y", "digest": Digest.of(b""), "size": position}
        if isinstance(platform, str):
            parts = [*platform.split("/"), ""]
            fields = {"os": parts[0], "architecture": parts[1], "variant": parts[2]}
            entry["platform"] = {key: value for key, value in fields.items() if value}
        elif platform is not None:
            entry["platform"] = platform
        entries.append(Descriptor.model_validate(entry))
    return ImageIndex(manifests=tuple(entries))


def found_in(wanted: str | Platform, *offered: dict[str, Any] | str | None) -> Any:
    """Return the platform that an index of the offered ones finds, or None."""
    try:
        return offered[index_of(*offered).find(wanted).size]
    except PlatformNotFound:
        return None


def test_construction_by_position_and_name() -> None:
    platform = Platform("linux", "amd64")
    assert (platform.os, platform.architecture, platform.variant) == ("linux", "amd64", None)
    assert Platform("linux", "arm", "v6") == Platform.parse("linux/arm/v6")
    assert Platform(os="linux", architecture="arm", variant="v7", os_version="1").os_version == "1"
    assert found_in(platform, "linux/arm64", "linux/amd64") == "linux/amd64"
    with pytest.raises((TypeError, ValueError)):
        Platform("linux")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Platform("linux", "arm", "v6", "10.0")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("macos/arm64", "darwin/arm64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("windows/amd64", "windows/amd64"),
        ("linux/riscv64", "linux/riscv64"),
        ("wasi/wasm", "wasi/wasm"),
    ],
)
def test_parsing_normalises(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown
    assert str(Platform.parse(text).normalized()) == shown


@pytest.mark.parametrize(
    "text", ["", "linux", "/", "linux/", "a/b/c/d", "li nux/amd64", "l/é", "a/b/"]
)
def test_malformed_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a platform: os/architecture\[/variant\]"):
        Platform.parse(text)


PARTS = st.sampled_from(
    ["linux", "windows", "arm", "arm64", "amd64", "v8", "8", "v1", "x86_64", "Q"]
)


@given(PARTS, PARTS, st.none() | PARTS)
def test_normalising_is_idempotent(os: str, arch: str, variant: str | None) -> None:
    once = Platform(os=os, architecture=arch, variant=variant).normalized()
    assert once.normalized() == once
    assert Platform.parse(str(once)) == once


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        # arm64 means arm64/v8
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/amd64", "linux/arm64"], "linux/arm64"),
        # 32-bit arm: the newest variant that the processor runs
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7"], "linux/arm/v5"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v5", ["linux/arm/v6"], None),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm"], "linux/arm"),
        ("linux/arm/v6", ["linux/arm"], None),
        # a 64-bit processor also runs 32-bit images, if the index has no 64-bit one
        ("linux/arm64", ["linux/arm/v7", "linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm64", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm", ["linux/arm64"], None),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/386", ["linux/amd64"], None),
        # amd64: the highest microarchitecture level that the processor runs
        ("linux/amd64", ["linux/amd64/v1"], "linux/amd64/v1"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64"], "linux/amd64/v3"),
        ("linux/amd64/v3", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64/v3", ["linux/amd64/v4"], None),
        # other systems, other processors
        ("linux/amd64", ["windows/amd64", "linux/arm64"], None),
        ("linux/ppc64le", ["linux/ppc64le"], "linux/ppc64le"),
        ("darwin/arm64", ["macos/aarch64"], "macos/aarch64"),
        ("linux/amd64", [], None),
    ],
)
def test_find_chooses_as_containerd_does(wanted: str, offered: list[str], best: str | None) -> None:
    assert found_in(wanted, *offered) == best
    assert found_in(wanted, *reversed(offered)) == best


def test_find_chooses_the_first_of_equals() -> None:
    found = index_of("linux/arm64", "linux/amd64", "linux/amd64").find("linux/amd64")
    assert found.size == 1


class TestWindows:
    OFFERED = tuple(
        {"os": "windows", "architecture": "amd64", "os.version": version}
        for version in ("10.0.17763.5329", "10.0.20348.2227", "10.0.26100.1")
    )

    def windows(self, version: str | None) -> Platform:
        return Platform(os="windows", architecture="amd64", os_version=version)

    def test_the_same_build_matches(self) -> None:
        for version, position in (("10.0.17763.1", 0), ("10.0.20348", 1), ("10.0.26100.9", 2)):
            assert found_in(self.windows(version), *self.OFFERED) is self.OFFERED[position]

    def test_another_build_does_not_match(self) -> None:
        assert found_in(self.windows("10.0.14393.1"), *self.OFFERED) is None

    def test_a_missing_build_matches_any(self) -> None:
        assert found_in("windows/amd64", *self.OFFERED) is self.OFFERED[0]
        assert found_in(self.windows("10.0.1.1"), "windows/amd64") == "windows/amd64"

    def test_text_has_the_build(self) -> None:
        assert str(self.windows("10.0.20348.1")) == "windows/amd64 (10.0.20348.1)"


class TestNotFound:
    def test_message_lists_the_platforms(self) -> None:
        there = index_of("linux/amd64", "linux/arm/v7", "unknown/unknown", None)
        with pytest.raises(PlatformNotFound) as caught:
            there.find(Platform("linux", "s390x"))
        assert str(caught.value) == (
            "no manifest for linux/s390x; the index has: linux/amd64, linux/arm/v7"
        )
        assert isinstance(caught.value, DockhandError)

    def test_message_without_platforms(self) -> None:
        with pytest.raises(PlatformNotFound, match="the index has: none"):
            index_of(None, "unknown/unknown").find("linux/amd64")

    @pytest.mark.parametrize("wanted", ["linux/amd64", "unknown/unknown", "linux/unknown"])
    def test_attestations_never_match(self, wanted: str) -> None:
        assert found_in(wanted, "unknown/unknown") is None

    def test_a_malformed_text_is_a_config_error(self) -> None:
        with pytest.raises(ConfigError):
            index_of("linux/amd64").find("linux")
