"""Platforms, parsed and matched as containerd's `platforms` package does."""

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


def index(*platforms: dict[str, Any] | str | None) -> ImageIndex:
    """An index with an entry for each; the size says which it is."""
    entries = []
    for position, given_ in enumerate(platforms):
        entry: dict[str, Any] = {"mediaType": "x/y", "digest": Digest.of(b""), "size": position}
        if isinstance(given_, str):
            parts = [*given_.split("/"), ""]
            found = {"os": parts[0], "architecture": parts[1], "variant": parts[2]}
            entry["platform"] = {key: value for key, value in found.items() if value}
        elif given_ is not None:
            entry["platform"] = given_
        entries.append(Descriptor.model_validate(entry))
    return ImageIndex(manifests=tuple(entries))


def picked(wanted: str | Platform, *offered: dict[str, Any] | str | None) -> Any:
    try:
        return offered[index(*offered).find(wanted).size]
    except PlatformNotFound:
        return None


def test_as_api_md_makes_it() -> None:
    platform = Platform("linux", "amd64")
    assert (platform.os, platform.architecture, platform.variant) == ("linux", "amd64", None)
    assert Platform("linux", "arm", "v6") == Platform.parse("linux/arm/v6")
    assert Platform(os="linux", architecture="arm", variant="v7", os_version="1").os_version == "1"
    assert picked(platform, "linux/arm64", "linux/amd64") == "linux/amd64"
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
def test_parse(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown
    assert str(Platform.parse(text).normalized()) == shown


@pytest.mark.parametrize(
    "text", ["", "linux", "/", "linux/", "a/b/c/d", "li nux/amd64", "l/é", "a/b/"]
)
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a platform: os/architecture\[/variant\]"):
        Platform.parse(text)


WORD = st.sampled_from(
    ["linux", "windows", "arm", "arm64", "amd64", "v8", "8", "v1", "x86_64", "Q"]
)


@given(WORD, WORD, st.none() | WORD)
def test_normalising_twice_changes_nothing(os: str, arch: str, variant: str | None) -> None:
    once = Platform(os=os, architecture=arch, variant=variant).normalized()
    assert once.normalized() == once
    assert Platform.parse(str(once)) == once


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        # arm64 is arm64/v8
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/amd64", "linux/arm64"], "linux/arm64"),
        # arm: the newest that the processor runs, never a newer one
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7"], "linux/arm/v5"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v5", ["linux/arm/v6"], None),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm"], "linux/arm"),
        ("linux/arm/v6", ["linux/arm"], None),
        # a 64-bit processor runs what its 32-bit mode runs, where there is nothing better
        ("linux/arm64", ["linux/arm/v7", "linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm64", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm", ["linux/arm64"], None),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/386", ["linux/amd64"], None),
        # amd64's levels
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
def test_matching(wanted: str, offered: list[str], best: str | None) -> None:
    assert picked(wanted, *offered) == best
    assert picked(wanted, *reversed(offered)) == best


def test_the_first_of_equals() -> None:
    found = index("linux/arm64", "linux/amd64", "linux/amd64").find("linux/amd64")
    assert found.size == 1


class TestWindows:
    OFFERED = tuple(
        {"os": "windows", "architecture": "amd64", "os.version": version}
        for version in ("10.0.17763.5329", "10.0.20348.2227", "10.0.26100.1")
    )

    def wanted(self, version: str | None) -> Platform:
        return Platform(os="windows", architecture="amd64", os_version=version)

    def test_the_build(self) -> None:
        for version, position in (("10.0.17763.1", 0), ("10.0.20348", 1), ("10.0.26100.9", 2)):
            assert picked(self.wanted(version), *self.OFFERED) is self.OFFERED[position]

    def test_another_build(self) -> None:
        assert picked(self.wanted("10.0.14393.1"), *self.OFFERED) is None

    def test_no_build(self) -> None:
        assert picked("windows/amd64", *self.OFFERED) is self.OFFERED[0]
        assert picked(self.wanted("10.0.1.1"), "windows/amd64") == "windows/amd64"

    def test_shown(self) -> None:
        assert str(self.wanted("10.0.20348.1")) == "windows/amd64 (10.0.20348.1)"


class TestNotFound:
    def test_it_lists_what_there_is(self) -> None:
        there = index("linux/amd64", "linux/arm/v7", "unknown/unknown", None)
        with pytest.raises(PlatformNotFound) as caught:
            there.find(Platform("linux", "s390x"))
        assert str(caught.value) == (
            "no manifest for linux/s390x; the index has: linux/amd64, linux/arm/v7"
        )
        assert isinstance(caught.value, DockhandError)

    def test_nothing(self) -> None:
        with pytest.raises(PlatformNotFound, match="the index has: none"):
            index(None, "unknown/unknown").find("linux/amd64")

    @pytest.mark.parametrize("wanted", ["linux/amd64", "unknown/unknown", "linux/unknown"])
    def test_attestations_never_match(self, wanted: str) -> None:
        assert picked(wanted, "unknown/unknown") is None

    def test_text_that_is_no_platform(self) -> None:
        with pytest.raises(ConfigError):
            index("linux/amd64").find("linux")
