"""The clients of the driver `zot`, with the operations of zot's extensions."""

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
    """A connection to a zot registry: the operations of every registry, and of zot's extensions.

    If an extension is off, its operations raise `ExtensionNotEnabled`, which names the setting that
    turns the extension on. Searches raise `SearchError`: `SearchUnknown` if the repository or image
    does not exist, `SearchForbidden` if these credentials may not read it.
    """

    driver: ZotDriver

    def extensions(self) -> list[Extension]:
        """List the extensions of the registry, with their endpoints.

        zot lists a single extension, `_zot`, with an endpoint for each feature that is on. If none
        is on, it lists no extension. API keys, events and metrics are never listed.

        Raises:
            ExtensionNotEnabled: the registry is not zot.

        Follows: OCI Distribution Specification, "Extensions API".
        """
        return self.run(self.driver.extensions())

    def supports(self, extension: str) -> bool:
        """Return whether an endpoint of zot's extensions is on.

        Args:
            extension: the endpoint: `search`, `mgmt`, `userprefs`, `cosign`, `notation`.
        """
        return self.run(self.driver.supports(extension))

    def mgmt(self) -> ServerInfo:
        """Get the version of the zot server, and its ways to log in."""
        return self.run(self.driver.mgmt())

    # -- search ----------------------------------------------------------------------------

    def search(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a GraphQL query, and return its `data`.

        Args:
            query: a query with one operation. If one of several operations fails, zot returns no
                result of the others.
            variables: the values of the variables that the query declares, as in
                `query($repo: String!) {…}`. Pass values here, never inside the query's text.

        Raises:
            SearchError: zot does not understand the query, or the query failed.

        Follows: zot's GraphQL schema.
        """
        return self.run(self.driver.search(query, variables))

    def global_search(self, text: str) -> SearchResult:
        """Search all repositories.

        Args:
            text: to find repositories, part of a name; to find images, a digest or
                `repository:tag`, in which the tag may be incomplete or empty.
        """
        return self.run(self.driver.global_search(text))

    def image_summary(self, repository: str, tag: str) -> ImageSummary:
        """Get the details of an image: sizes, times, platforms, signatures, vulnerabilities.

        Args:
            repository: the repository's name.
            tag: a tag; zot accepts no digest here.
        """
        return self.run(self.driver.image_summary(repository, tag))

    def images(self, repository: str) -> list[ImageSummary]:
        """List the tagged images of a repository, with their details."""
        return self.run(self.driver.images(repository))

    def repository_info(self, repository: str) -> RepositoryInfo:
        """Get the details of a repository: its images, and whether this user has starred it."""
        return self.run(self.driver.repository_info(repository))

    def newest_images(self) -> list[ImageSummary]:
        """List the newest image of each repository, newest first.

        Repositories that these credentials may not read are left out.
        """
        return self.run(self.driver.newest_images())

    def images_for_digest(self, digest: str) -> list[ImageSummary]:
        """List the images that have a manifest, index, config or layer with this digest."""
        return self.run(self.driver.images_for_digest(digest))

    def base_images(self, image: str) -> list[ImageSummary]:
        """List the possible base images: the images that `image` may be built on.

        The layers of `image` begin with all layers of each listed image.

        Args:
            image: `repository:tag`.

        Raises:
            ImageInvalid: `image` is not of the form `repository:tag`.
        """
        return self.run(self.driver.base_images(image))

    def derived_images(self, image: str) -> list[ImageSummary]:
        """List the images that may be built on `image`.

        The layers of each listed image begin with all layers of `image`.

        Args:
            image: `repository:tag`.

        Raises:
            ImageInvalid: `image` is not of the form `repository:tag`.
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
        """List the vulnerabilities of an image, the most severe first.

        Args:
            repository: the repository's name.
            reference: a tag or a digest.
            severity: list only vulnerabilities of this severity, a `Severity` or its name.
            search: list only vulnerabilities with this text in their id, title or packages.

        Raises:
            ScannerDisabled: this zot server does not scan images.
            ScannerNotReady: zot has not downloaded its vulnerability database yet.
            ScanFailed: zot cannot scan this image.
            SeverityInvalid: `severity` is not a severity.
        """
        return self.run(self.driver.cves(repository, reference, severity=severity, search=search))

    def images_with_cve(self, cve: str) -> list[ImageSummary]:
        """List the images, in any repository, that have a vulnerability.

        Args:
            cve: the id of the vulnerability, such as `CVE-2021-44228`.

        Raises:
            ScannerDisabled, ScannerNotReady: see `cves`.
        """
        return self.run(self.driver.images_with_cve(cve))

    def images_with_cve_fixed(self, cve: str, repository: str) -> list[ImageSummary]:
        """List the images of a repository that a given vulnerability does not affect.

        It was fixed in these images, or they never had it.

        Args:
            cve: the id of the vulnerability, such as `CVE-2021-44228`.
            repository: the repository's name.

        Raises:
            ScannerDisabled, ScannerNotReady: see `cves`.
        """
        return self.run(self.driver.images_with_cve_fixed(cve, repository))

    def cve_diff(
        self, image: str, other: str, *, platform: Platform | str | None = None
    ) -> list[CVE]:
        """List the vulnerabilities that `image` has and `other` does not, the most severe first.

        Args:
            image, other: `repository:tag`.
            platform: if an image has several platforms, the one to compare, such as `linux/amd64`.

        Raises:
            ImageInvalid: `image` or `other` is not of the form `repository:tag`.
            ScannerDisabled, ScannerNotReady, ScanFailed: see `cves`.
        """
        return self.run(self.driver.cve_diff(image, other, platform=platform))

    # -- stars and bookmarks ---------------------------------------------------------------

    def star(self, repository: str) -> bool:
        """Star a repository, and return whether this changed anything.

        zot can only toggle a star, so the star is read, toggled if needed, and read again until
        it is set. If two programs star a repository at the same time, the star is set in the end.
        Another program may still change the star after the last read.

        Raises:
            SearchError: another program changed the star after every attempt.
            Denied: the connection is anonymous.
        """
        return self.run(self.driver.star(repository))

    def unstar(self, repository: str) -> bool:
        """Remove the star of a repository, and return whether there was one.

        For changes of the star by other programs at the same time, see `star`.
        """
        return self.run(self.driver.unstar(repository))

    def bookmark(self, repository: str) -> bool:
        """Bookmark a repository, and return whether this changed anything.

        For changes of the bookmark by other programs at the same time, see `star`.
        """
        return self.run(self.driver.bookmark(repository))

    def unbookmark(self, repository: str) -> bool:
        """Remove the bookmark of a repository, and return whether there was one.

        For changes of the bookmark by other programs at the same time, see `star`.
        """
        return self.run(self.driver.unbookmark(repository))

    def starred(self) -> list[RepositorySummary]:
        """List the repositories that this user has starred."""
        return self.run(self.driver.starred())

    def bookmarked(self) -> list[RepositorySummary]:
        """List the repositories that this user has bookmarked."""
        return self.run(self.driver.bookmarked())

    # -- API keys --------------------------------------------------------------------------

    def api_keys(self) -> list[ApiKey]:
        """List this user's API keys, oldest first, without their secrets."""
        return self.run(self.driver.api_keys())

    def create_api_key(
        self, label: str, *, scopes: Iterable[str] = (), expires_at: datetime | None = None
    ) -> NewApiKey:
        """Create an API key for this user, for use with the auth driver `apikey`.

        Args:
            label: a description for people; several API keys can have the same label.
            scopes: names of repositories. zot stores them but does not enforce them: the API key
                gives access to other repositories, too.
            expires_at: the time of expiry, with a time zone; None if the API key never expires.

        Returns:
            the API key with its secret, `api_key`, which zot never shows again.

        Raises:
            ApiKeyInvalid: `expires_at` has no time zone, or is in the past.
        """
        return self.run(
            self.driver.create_api_key(label, scopes=tuple(scopes), expires_at=expires_at)
        )

    def revoke_api_key(self, id: str) -> None:  # noqa: A002
        """Revoke an API key.

        Args:
            id: the `id` of an `ApiKey` (see `api_keys`).

        Raises:
            NotFound: this user has no such API key.
        """
        return self.run(self.driver.revoke_api_key(id))


class AsyncZotClient(AsyncDistributionClient, twin=ZotClient):
    """The async version of `ZotClient`: its methods have the same names, and are awaited."""

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

    # -- stars and bookmarks ---------------------------------------------------------------

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
