"""The clients of this driver: a line for each operation of zot's extensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dockhand_distribution import AsyncDistributionClient, DistributionClient

from dockhand_core import Platform
from dockhand_zot.models import (
    CVE,
    ApiKey,
    Extension,
    ImageSummary,
    NewApiKey,
    RepositoryInfo,
    RepositorySummary,
    SearchResult,
    ServerInfo,
)

if TYPE_CHECKING:
    from dockhand_zot.driver import ZotDriver

__all__ = ["AsyncZotClient", "ZotClient"]


class ZotClient(DistributionClient):
    """A connection to a zot: what every registry can, and zot's extensions.

    An operation whose extension is off raises `ExtensionNotEnabled`, which says what turns it on.
    Those that search raise `SearchError`: `SearchUnknown` for what is not there, `SearchForbidden`
    for what these credentials may not read.
    """

    driver: ZotDriver

    def extensions(self) -> list[Extension]:
        """The extensions that this registry lists, with their endpoints.

        zot lists one, `_zot`, with an endpoint for each thing that is on, or none. API keys,
        events and metrics are not among them.

        Raises:
            ExtensionNotEnabled: the registry is no zot.

        Follows: Distribution specification, "Extensions API".
        """
        return self.run(self.driver.extensions())

    def supports(self, extension: str) -> bool:
        """Whether one of zot's endpoints is on.

        Args:
            extension: `search`, `mgmt`, `userprefs`, `cosign`, `notation`.
        """
        return self.run(self.driver.supports(extension))

    def mgmt(self) -> ServerInfo:
        """What this zot says of itself: its version, and how one can log in."""
        return self.run(self.driver.mgmt())

    # -- search ----------------------------------------------------------------------------

    def search(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a GraphQL query, and give its `data`.

        Args:
            query: one operation; if one of several fails, zot answers nothing of the others.
            variables: what the query declares, such as `query($repo: String!) {…}`. Put no value
                into the query's text.

        Raises:
            SearchError: zot does not understand the query, or it failed.

        Follows: zot's GraphQL schema.
        """
        return self.run(self.driver.search(query, variables))

    def global_search(self, text: str) -> SearchResult:
        """Search everywhere.

        Args:
            text: a part of a repository's name finds repositories; `repository:tag`, with a part
                of a tag or none, and a digest find images.
        """
        return self.run(self.driver.global_search(text))

    def image_summary(self, repository: str, tag: str) -> ImageSummary:
        """What zot knows of an image.

        Args:
            repository: the repository's name.
            tag: a tag; zot takes no digest here.
        """
        return self.run(self.driver.image_summary(repository, tag))

    def images(self, repository: str) -> list[ImageSummary]:
        """What zot knows of every image of a repository that has a tag."""
        return self.run(self.driver.images(repository))

    def repository_info(self, repository: str) -> RepositoryInfo:
        """A repository, whether this user starred it, and its images."""
        return self.run(self.driver.repository_info(repository))

    def newest_images(self) -> list[ImageSummary]:
        """The newest image of every repository that may be read, newest first."""
        return self.run(self.driver.newest_images())

    def images_for_digest(self, digest: str) -> list[ImageSummary]:
        """Images that have a manifest, index, config or layer of that digest."""
        return self.run(self.driver.images_for_digest(digest))

    def base_images(self, image: str) -> list[ImageSummary]:
        """Images that another one may be built on: it begins with all their layers.

        Args:
            image: `repository:tag`.

        Raises:
            ImageInvalid: it is not that.
        """
        return self.run(self.driver.base_images(image))

    def derived_images(self, image: str) -> list[ImageSummary]:
        """Images that may be built on this one: they begin with all its layers.

        Args:
            image: `repository:tag`.

        Raises:
            ImageInvalid: it is not that.
        """
        return self.run(self.driver.derived_images(image))

    # -- vulnerabilities -------------------------------------------------------------------

    def cves(
        self,
        repository: str,
        reference: str,
        *,
        severity: str | None = None,
        search: str | None = None,
    ) -> list[CVE]:
        """The vulnerabilities of an image, worst first.

        Args:
            repository: the repository's name.
            reference: a tag or a digest.
            severity: only those of this one, a `Severity` or its name.
            search: only those with this text in their id, title or packages.

        Raises:
            ScannerDisabled: this zot does not scan.
            ScannerNotReady: its database has not arrived yet.
            ScanFailed: this image cannot be scanned.
            SeverityInvalid: there is no such severity.
        """
        return self.run(self.driver.cves(repository, reference, severity=severity, search=search))

    def images_with_cve(self, cve: str) -> list[ImageSummary]:
        """Images of all repositories with a vulnerability, such as `CVE-2021-44228`.

        Raises:
            ScannerDisabled, ScannerNotReady: as with `cves`.
        """
        return self.run(self.driver.images_with_cve(cve))

    def images_with_cve_fixed(self, cve: str, repository: str) -> list[ImageSummary]:
        """Images of a repository without a vulnerability; also such as never had it.

        Raises:
            ScannerDisabled, ScannerNotReady: as with `cves`.
        """
        return self.run(self.driver.images_with_cve_fixed(cve, repository))

    def cve_diff(
        self, image: str, other: str, *, platform: Platform | str | None = None
    ) -> list[CVE]:
        """The vulnerabilities that one image has and another one has not, worst first.

        Args:
            image, other: `repository:tag`.
            platform: which of an index's images is meant, such as `linux/amd64`.

        Raises:
            ImageInvalid: one is not that.
            ScannerDisabled, ScannerNotReady, ScanFailed: as with `cves`.
        """
        return self.run(self.driver.cve_diff(image, other, platform=platform))

    # -- what a user likes -----------------------------------------------------------------

    def star(self, repository: str) -> bool:
        """Star a repository; whether it was not starred before.

        zot can only toggle. It is read, toggled if need be, and read again, until it is as wanted:
        two programs that star it at once come to an end with it starred. Between its last look
        and its return, another one may still change it.

        Raises:
            SearchError: it was changed by somebody else each time.
            Denied: nobody is logged in.
        """
        return self.run(self.driver.star(repository))

    def unstar(self, repository: str) -> bool:
        """Take the star away; whether there was one. See `star`."""
        return self.run(self.driver.unstar(repository))

    def bookmark(self, repository: str) -> bool:
        """Bookmark a repository; whether it was not bookmarked before. See `star`."""
        return self.run(self.driver.bookmark(repository))

    def unbookmark(self, repository: str) -> bool:
        """Take the bookmark away; whether there was one. See `star`."""
        return self.run(self.driver.unbookmark(repository))

    def starred(self) -> list[RepositorySummary]:
        """The repositories that this user starred."""
        return self.run(self.driver.starred())

    def bookmarked(self) -> list[RepositorySummary]:
        """The repositories that this user bookmarked."""
        return self.run(self.driver.bookmarked())

    # -- API keys --------------------------------------------------------------------------

    def api_keys(self) -> list[ApiKey]:
        """This user's API keys, oldest first, without the keys themselves."""
        return self.run(self.driver.api_keys())

    def create_api_key(
        self, label: str, *, scopes: Iterable[str] = (), expires_at: datetime | None = None
    ) -> NewApiKey:
        """Make an API key for this user; the auth driver `apikey` logs in with it.

        Args:
            label: for people; labels can repeat.
            scopes: names of repositories. zot keeps them, and lets the key do everything.
            expires_at: when it ends, with a time zone; None for never.

        Returns:
            the key, whose `api_key` is shown this once.

        Raises:
            ApiKeyInvalid: `expires_at` has no time zone, or is over.
        """
        return self.run(
            self.driver.create_api_key(label, scopes=tuple(scopes), expires_at=expires_at)
        )

    def revoke_api_key(self, id: str) -> None:  # noqa: A002
        """Make an API key worthless.

        Args:
            id: as `api_keys` lists it.

        Raises:
            NotFound: this user has no such key.
        """
        return self.run(self.driver.revoke_api_key(id))


class AsyncZotClient(AsyncDistributionClient, twin=ZotClient):
    """A connection to a zot: what `ZotClient` does, under the same names, awaited."""

    driver: ZotDriver

    async def extensions(self) -> list[Extension]:
        return await self.run(self.driver.extensions())

    async def supports(self, extension: str) -> bool:
        return await self.run(self.driver.supports(extension))

    async def mgmt(self) -> ServerInfo:
        return await self.run(self.driver.mgmt())

    # -- search ----------------------------------------------------------------------------

    async def search(
        self, query: str, variables: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return await self.run(self.driver.search(query, variables))

    async def global_search(self, text: str) -> SearchResult:
        return await self.run(self.driver.global_search(text))

    async def image_summary(self, repository: str, tag: str) -> ImageSummary:
        return await self.run(self.driver.image_summary(repository, tag))

    async def images(self, repository: str) -> list[ImageSummary]:
        return await self.run(self.driver.images(repository))

    async def repository_info(self, repository: str) -> RepositoryInfo:
        return await self.run(self.driver.repository_info(repository))

    async def newest_images(self) -> list[ImageSummary]:
        return await self.run(self.driver.newest_images())

    async def images_for_digest(self, digest: str) -> list[ImageSummary]:
        return await self.run(self.driver.images_for_digest(digest))

    async def base_images(self, image: str) -> list[ImageSummary]:
        return await self.run(self.driver.base_images(image))

    async def derived_images(self, image: str) -> list[ImageSummary]:
        return await self.run(self.driver.derived_images(image))

    # -- vulnerabilities -------------------------------------------------------------------

    async def cves(
        self,
        repository: str,
        reference: str,
        *,
        severity: str | None = None,
        search: str | None = None,
    ) -> list[CVE]:
        return await self.run(
            self.driver.cves(repository, reference, severity=severity, search=search)
        )

    async def images_with_cve(self, cve: str) -> list[ImageSummary]:
        return await self.run(self.driver.images_with_cve(cve))

    async def images_with_cve_fixed(self, cve: str, repository: str) -> list[ImageSummary]:
        return await self.run(self.driver.images_with_cve_fixed(cve, repository))

    async def cve_diff(
        self, image: str, other: str, *, platform: Platform | str | None = None
    ) -> list[CVE]:
        return await self.run(self.driver.cve_diff(image, other, platform=platform))

    # -- what a user likes -----------------------------------------------------------------

    async def star(self, repository: str) -> bool:
        return await self.run(self.driver.star(repository))

    async def unstar(self, repository: str) -> bool:
        return await self.run(self.driver.unstar(repository))

    async def bookmark(self, repository: str) -> bool:
        return await self.run(self.driver.bookmark(repository))

    async def unbookmark(self, repository: str) -> bool:
        return await self.run(self.driver.unbookmark(repository))

    async def starred(self) -> list[RepositorySummary]:
        return await self.run(self.driver.starred())

    async def bookmarked(self) -> list[RepositorySummary]:
        return await self.run(self.driver.bookmarked())

    # -- API keys --------------------------------------------------------------------------

    async def api_keys(self) -> list[ApiKey]:
        return await self.run(self.driver.api_keys())

    async def create_api_key(
        self, label: str, *, scopes: Iterable[str] = (), expires_at: datetime | None = None
    ) -> NewApiKey:
        return await self.run(
            self.driver.create_api_key(label, scopes=tuple(scopes), expires_at=expires_at)
        )

    async def revoke_api_key(self, id: str) -> None:  # noqa: A002
        return await self.run(self.driver.revoke_api_key(id))
