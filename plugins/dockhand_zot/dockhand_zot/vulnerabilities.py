"""Vulnerabilities: the results of zot's scanner.

Follows: zot's GraphQL schema.
"""

from __future__ import annotations

from typing import Any

from dockhand_core import Platform
from dockhand_core.flow import Flow
from dockhand_core.models import check_reference, check_repository
from dockhand_zot import queries
from dockhand_zot.errors import (
    ImageInvalid,
    ScannerDisabled,
    ScannerNotReady,
    SearchError,
    SeverityInvalid,
)
from dockhand_zot.models import CVE, ImageSummary, Severity
from dockhand_zot.search import Search, split_image


class Scans(Search):
    """The operations on vulnerabilities."""

    def cves(
        self, repository: str, reference: str, *, severity: str | None, search: str | None
    ) -> Flow[list[CVE]]:
        """List the vulnerabilities of an image, the most severe first."""
        name = f"{check_repository(repository)}"
        name += f"@{reference}" if ":" in check_reference(reference) else f":{reference}"
        return (
            yield from self._pages(
                CVE,
                queries.CVES_OF_IMAGE,
                "CVEListForImage",
                items="CVEList",
                sort="SEVERITY",
                image=name,
                text=search,
                severity=None if severity is None else str(_severity(severity)),
            )
        )

    def images_with_cve(self, cve: str) -> Flow[list[ImageSummary]]:
        """List the images, in any repository, that have a vulnerability."""
        found = yield from self._pages(ImageSummary, queries.WITH_CVE, "ImageListForCVE", cve=cve)
        if not found:
            yield from self._check_scanner("")
        return found

    def images_with_cve_fixed(self, cve: str, repository: str) -> Flow[list[ImageSummary]]:
        """List the images of a repository that a given vulnerability does not affect."""
        check_repository(repository)
        found = yield from self._pages(
            ImageSummary,
            queries.WITH_CVE_FIXED,
            "ImageListWithCVEFixed",
            cve=cve,
            repository=repository,
        )
        if not found:
            yield from self._check_scanner(repository)
        return found

    def cve_diff(
        self, image: str, other: str, *, platform: Platform | str | None
    ) -> Flow[list[CVE]]:
        """List the vulnerabilities that `image` has and `other` does not."""
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        return (
            yield from self._pages(
                CVE,
                queries.CVE_DIFF,
                "CVEDiffListForImages",
                items="CVEList",
                sort="SEVERITY",
                image=_input(image, wanted),
                other=_input(other, wanted),
            )
        )

    def _check_scanner(self, repository: str) -> Flow[None]:
        """Raise an error if the scanner is off or not ready.

        A query on a single image is sent, because zot answers a query on several images with an
        empty result, instead of an error, if the scanner is not ready.

        Args:
            repository: where to find an image for the query; empty for any repository.
        """
        found, _ = yield from self._ask(queries.ANY_IMAGE, "ImageList", repository=repository)
        images = [each for each in found.get("Results") or () if isinstance(each, dict)]
        if not images:
            return
        name = f"{images[0].get('RepoName')}:{images[0].get('Tag')}"
        try:
            yield from self._ask(
                queries.CVES_OF_IMAGE,
                "CVEListForImage",
                image=name,
                page={"limit": 1, "offset": 0, "sortBy": "SEVERITY"},
            )
        except (ScannerDisabled, ScannerNotReady):
            raise
        except SearchError:
            pass  # the error is about this image, so the scanner is ready


def _severity(text: str) -> Severity:
    try:
        return Severity(text.upper())
    except ValueError:
        # Checked here, because zot would treat an unknown name as UNKNOWN.
        raise SeverityInvalid(f"severity {text[:40]!r} is none of {', '.join(Severity)}") from None


def _input(image: str, platform: Platform | None) -> dict[str, Any]:
    repository, reference = split_image(image)
    if ":" in reference:
        raise ImageInvalid(f"{image[:300]!r}: zot compares images by their tags, not by digests")
    found: dict[str, Any] = {"Repo": repository, "Tag": reference}
    if platform is not None:
        found["Platform"] = {"Os": platform.os, "Arch": platform.architecture}
    return found
