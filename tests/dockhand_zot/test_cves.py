"""Vulnerabilities, as a scanner with a database of our own finds them."""

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

Start = Callable[..., ZotClient]


@pytest.fixture
def fill(apk: Callable[[str, str], bytes], pushed: Callable[..., Any]) -> Callable[[Any], None]:
    """Three versions of an image: 1.0 has it all, 2.0 less, 3.0 nothing."""

    def push(registry: Any) -> None:
        pushed(registry, "vuln/app", "1.0", [apk("1.2.5-r0", "1.37.0-r0")])
        pushed(registry, "vuln/app", "2.0", [apk("1.2.5-r9", "1.37.0-r0")])
        pushed(registry, "vuln/app", "3.0", [apk("1.2.5-r9", "1.37.0-r9")])

    return push


def test_cves(scanning: Start, fill: Callable[[Any], None]) -> None:
    client = scanning(fill)
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
    scanning: Start, fill: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_zot.search.PAGE", 2)
    client = scanning(fill)
    assert len({each.id for each in client.cves("vuln/app", "1.0")}) == 5
    assert len(client.cve_diff("vuln/app:1.0", "vuln/app:3.0")) == 5


def test_images_with_a_cve(scanning: Start, fill: Callable[[Any], None]) -> None:
    client = scanning(fill)
    tags = [each.tag for each in client.images_with_cve("CVE-2099-0002")]
    assert sorted(tags) == ["1.0", "2.0"]
    fixed = client.images_with_cve_fixed("CVE-2099-0002", "vuln/app")
    assert [each.tag for each in fixed] == ["3.0"]
    assert client.images_with_cve("CVE-0000-0000") == []


def test_cve_diff(scanning: Start, fill: Callable[[Any], None]) -> None:
    client = scanning(fill)
    found = client.cve_diff("vuln/app:1.0", "vuln/app:2.0")
    assert sorted(each.id for each in found) == ["CVE-2099-0001", "CVE-2099-0005"]
    assert client.cve_diff("vuln/app:2.0", "vuln/app:1.0") == []
    with pytest.raises(SearchError, match="not found"):
        client.cve_diff("vuln/app:9", "vuln/app:1.0")
    with pytest.raises(ImageInvalid, match="by their tags"):
        client.cve_diff(f"vuln/app@sha256:{'0' * 64}", "vuln/app:1.0")


def test_scanner_is_off(zots: Callable[[str], Any], image: Callable[..., Any]) -> None:
    client = zots("search").client()
    image(client, "a", "1", "layer")
    asks: list[Callable[[], object]] = [
        lambda: client.cves("a", "1"),
        lambda: client.images_with_cve("CVE-2099-0001"),
        lambda: client.images_with_cve_fixed("CVE-2099-0001", "a"),
        lambda: client.cve_diff("a:1", "a:1"),
    ]
    for ask in asks:
        with pytest.raises(ScannerDisabled):
            ask()


def test_database_has_not_arrived(scanning: Start, fill: Callable[[Any], None]) -> None:
    """Two of the queries find nothing, and do not say why: so another one is asked."""
    client = scanning(fill, ready=False)
    asks: list[Callable[[], object]] = [
        lambda: client.cves("vuln/app", "1.0"),
        lambda: client.images_with_cve("CVE-2099-0001"),
        lambda: client.images_with_cve_fixed("CVE-2099-0001", "vuln/app"),
        lambda: client.cve_diff("vuln/app:1.0", "vuln/app:2.0"),
    ]
    for ask in asks:
        with pytest.raises(ScannerNotReady):
            ask()
