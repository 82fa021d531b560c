"""Vulnerabilities that zot's scanner finds with a database made for these tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dockhand_zot import (
    ImageInvalid,
    ScannerDisabled,
    ScannerNotReady,
    SearchError,
    SearchUnknown,
    Severity,
    SeverityInvalid,
    ZotClient,
)

StartZot = Callable[..., ZotClient]


@pytest.fixture
def push_vulnerable_images(
    alpine_layer: Callable[[str, str], bytes], push_layers: Callable[..., Any]
) -> Callable[[Any], None]:
    """Provide a function that pushes an image in three versions, each less vulnerable."""

    def push(registry: Any) -> None:
        push_layers(registry, "vuln/app", "1.0", [alpine_layer("1.2.5-r0", "1.37.0-r0")])
        push_layers(registry, "vuln/app", "2.0", [alpine_layer("1.2.5-r9", "1.37.0-r0")])
        push_layers(registry, "vuln/app", "3.0", [alpine_layer("1.2.5-r9", "1.37.0-r9")])

    return push


def test_cves(start_scanning_zot: StartZot, push_vulnerable_images: Callable[[Any], None]) -> None:
    client = start_scanning_zot(push_vulnerable_images)
    found = client.cves("vuln/app", "1.0")
    assert [each.id for each in found] == [
        "CVE-2099-0002", "CVE-2099-0001", "CVE-2099-0004", "CVE-2099-0003", "CVE-2099-0005",
    ]  # fmt: skip
    assert [each.severity for each in found] == sorted(Severity, reverse=True)
    worst = found[0]
    assert worst.severity is Severity.CRITICAL
    assert worst.title == "busybox: invented code execution"
    [package] = worst.packages
    assert (package.name, package.installed_version, package.fixed_version) == (
        "busybox", "1.37.0-r0", "1.37.0-r9",
    )  # fmt: skip
    assert package.path == ""  # zot sends `Not Specified`
    digest = client.manifest_head("vuln/app", "1.0").digest
    assert client.cves("vuln/app", digest) == found
    assert [each.id for each in client.cves("vuln/app", "1.0", severity="high")] == [
        "CVE-2099-0001"
    ]
    assert [each.id for each in client.cves("vuln/app", "1.0", search="0003")] == ["CVE-2099-0003"]
    assert client.cves("vuln/app", "3.0") == []
    with pytest.raises(SeverityInvalid, match="LOW"):
        client.cves("vuln/app", "1.0", severity="terrible")
    with pytest.raises(SearchUnknown):
        client.cves("vuln/app", "9.9")
    counts = client.image_summary("vuln/app", "1.0").vulnerabilities
    assert counts is not None
    assert (counts.worst, counts.count, counts.unknown) == (Severity.CRITICAL, 5, 1)


def test_cves_page_by_page(
    start_scanning_zot: StartZot,
    push_vulnerable_images: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dockhand_zot.search.PAGE", 2)
    client = start_scanning_zot(push_vulnerable_images)
    assert len({each.id for each in client.cves("vuln/app", "1.0")}) == 5
    assert len(client.cve_diff("vuln/app:1.0", "vuln/app:3.0")) == 5


def test_images_with_a_cve(
    start_scanning_zot: StartZot, push_vulnerable_images: Callable[[Any], None]
) -> None:
    client = start_scanning_zot(push_vulnerable_images)
    tags = [each.tag for each in client.images_with_cve("CVE-2099-0002")]
    assert sorted(tags) == ["1.0", "2.0"]
    fixed = client.images_with_cve_fixed("CVE-2099-0002", "vuln/app")
    assert [each.tag for each in fixed] == ["3.0"]
    assert client.images_with_cve("CVE-0000-0000") == []


def test_cve_diff(
    start_scanning_zot: StartZot, push_vulnerable_images: Callable[[Any], None]
) -> None:
    client = start_scanning_zot(push_vulnerable_images)
    found = client.cve_diff("vuln/app:1.0", "vuln/app:2.0")
    assert sorted(each.id for each in found) == ["CVE-2099-0001", "CVE-2099-0005"]
    assert client.cve_diff("vuln/app:2.0", "vuln/app:1.0") == []
    with pytest.raises(SearchError, match="not found"):
        client.cve_diff("vuln/app:9", "vuln/app:1.0")
    with pytest.raises(ImageInvalid, match="by their tags"):
        client.cve_diff(f"vuln/app@sha256:{'0' * 64}", "vuln/app:1.0")


def test_scanner_is_off(start_zot: Callable[[str], Any], push_image: Callable[..., Any]) -> None:
    client = start_zot("search").client()
    push_image(client, "a", "1", "layer")
    operations: list[Callable[[], object]] = [
        lambda: client.cves("a", "1"),
        lambda: client.images_with_cve("CVE-2099-0001"),
        lambda: client.images_with_cve_fixed("CVE-2099-0001", "a"),
        lambda: client.cve_diff("a:1", "a:1"),
    ]
    for operation in operations:
        with pytest.raises(ScannerDisabled):
            operation()


def test_database_has_not_arrived(
    start_scanning_zot: StartZot, push_vulnerable_images: Callable[[Any], None]
) -> None:
    """Two of these queries return nothing without a reason, so the client sends another query."""
    client = start_scanning_zot(push_vulnerable_images, ready=False)
    operations: list[Callable[[], object]] = [
        lambda: client.cves("vuln/app", "1.0"),
        lambda: client.images_with_cve("CVE-2099-0001"),
        lambda: client.images_with_cve_fixed("CVE-2099-0001", "vuln/app"),
        lambda: client.cve_diff("vuln/app:1.0", "vuln/app:2.0"),
    ]
    for operation in operations:
        with pytest.raises(ScannerNotReady):
            operation()
