"""The registry driver `harbor`: the OCI Distribution Specification, and Harbor's API 2.0.

Follows: `api/v2.0/swagger.yaml` of Harbor 2.16, and the source of its endpoints below `/v2/`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from typing import Any, TypeVar, Unpack

from dockhand_distribution import DistributionDriver
from pydantic import Field

from dockhand_core import (
    Denied,
    ManifestUnknown,
    NameInvalid,
    Page,
    PaginationNumberInvalid,
    RegistryError,
    Unauthorized,
)
from dockhand_core.flow import CallOptions, Flow, ListBudget, Reply, call
from dockhand_core.http.headers import next_link
from dockhand_core.http.urls import path_segment
from dockhand_core.models import TagDetails, check_repository, check_tag
from dockhand_harbor.clients import AsyncHarborClient, HarborClient
from dockhand_harbor.errors import AccessInvalid
from dockhand_harbor.models import Artifact, Project, RepositoryInfo, Robot

__all__ = ["HarborDriver"]

T = TypeVar("T")

API = "/api/v2.0"
_BY_NAME = {"X-Is-Resource-Name": "true"}  # otherwise, the project `2024` would be a number
_ADVICE = (
    "Harbor's API accepts a user name and a password, but no tokens: check them, and that the "
    "connection's auth driver is `basic`"
)


class HarborDriver(DistributionDriver):
    """The driver for Harbor. Methods of the specification say how Harbor differs from it."""

    client = HarborClient
    async_client = AsyncHarborClient

    class Settings(DistributionDriver.Settings):
        """The driver's own keys of the connection's table.

        Attributes:
            page_size: number of objects to request at once; Harbor allows at most 100.
        """

        page_size: int = Field(default=100, ge=1, le=100)

    settings: Settings

    # -- the specification's operations ------------------------------------------------------

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of the repositories that the account sees.

        Harbor shows its catalog to administrators and to system robots with that right. For other
        accounts, the page is cut out of the list in Harbor's API. So it is if `after` was deleted
        in the meantime, which the catalog refuses.
        """
        try:
            return (yield from super().repository_page(limit=limit, after=after))
        except (Unauthorized, Denied):
            yield from self._check_account()
        except RegistryError as error:
            if error.status != 400 or after is None:
                raise
        names = yield from ListBudget(self.list_limit).metered(self._repository_names())
        rest = names[bisect_right(names, after or "") :]
        found = rest[:limit]
        return Page(items=tuple(found), next=found[-1] if len(found) < len(rest) else None)

    def _repository_names(self) -> Flow[list[str]]:
        names: set[str] = set()
        after: str | None = "1"
        while after is not None:
            page = yield from self._api_page(tuple[RepositoryInfo, ...], "/repositories", after)
            names.update(each.name for each in page.items)
            after = page.next
        return sorted(names)

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete a tag by Harbor's API; its DELETE of the specification takes digests only."""
        path = f"{_artifacts(repository)}/{check_tag(tag)}/tags/{tag}"
        try:
            yield from self._api("DELETE", path, kind="manifest", repository=repository)
        except ManifestUnknown as error:
            if error.attempts == 1:  # otherwise, an earlier attempt has deleted it
                raise

    def deletes_tags(self, repository: str) -> Flow[bool]:  # noqa: ARG002
        """Return True, without a request."""
        return True
        yield

    def tag_details(self, repository: str) -> Flow[dict[str, TagDetails]]:
        """The push times of the tags; none, if the account may not list artifacts."""
        try:
            artifacts = yield from ListBudget(self.list_limit).metered(
                self._all_artifacts(repository)
            )
        except Denied:
            return {}
        return {
            tag.name: TagDetails(digest=artifact.digest, pushed_at=tag.pushed_at)
            for artifact in artifacts
            for tag in artifact.tags
        }

    def manifest_page(
        self, repository: str, *, limit: int | None, after: str | None
    ) -> Flow[Page[str]]:
        """Fetch a page of the digests of a repository's artifacts.

        It lists neither the images of an index nor signatures, which end with their index or
        subject, so a clean-up leaves them alone.
        """
        page = yield from self.artifact_page(repository, after, limit)
        return Page(items=tuple(each.digest for each in page.items), next=page.next)

    # -- Harbor's own operations -------------------------------------------------------------

    def project_page(self, after: str | None, *, public: bool) -> Flow[Page[Project]]:
        """Fetch a page of projects."""
        if after is None and not public:
            yield from self._check_account()
        query = [("sort", "name"), *([("public", "true")] if public else [])]
        return (yield from self._api_page(tuple[Project, ...], "/projects", after, query))

    def project(self, name: str) -> Flow[Project]:
        """Fetch a project."""
        reply = yield from self._api("GET", f"/projects/{_project(name)}", headers=_BY_NAME)
        return reply.json(Project)

    def create_project(
        self, name: str, *, public: bool, storage_limit: int | None
    ) -> Flow[Project]:
        """Create a project, and fetch it."""
        wanted: dict[str, Any] = {
            "project_name": _project(name),
            "metadata": {"public": str(public).lower()},
        }
        if storage_limit is not None:
            wanted["storage_limit"] = storage_limit
        yield from self._api_post("/projects", wanted)
        return (yield from self.project(name))

    def delete_project(self, name: str) -> Flow[None]:
        """Delete a project without repositories."""
        yield from self._api("DELETE", f"/projects/{_project(name)}", headers=_BY_NAME)

    def project_repository_page(self, name: str, after: str | None) -> Flow[Page[RepositoryInfo]]:
        """Fetch a page of a project's repositories."""
        path = f"/projects/{_project(name)}/repositories"
        kind = tuple[RepositoryInfo, ...]
        return (yield from self._api_page(kind, path, after, [("sort", "name")]))

    def artifact_page(
        self, repository: str, after: str | None, limit: int | None = None
    ) -> Flow[Page[Artifact]]:
        """Fetch a page of a repository's artifacts; new ones come last, on further pages."""
        path, order = _artifacts(repository), [("sort", "push_time")]
        return (yield from self._api_page(tuple[Artifact, ...], path, after, order, limit))

    def _all_artifacts(self, repository: str) -> Flow[list[Artifact]]:
        found: list[Artifact] = []
        after: str | None = "1"
        while after is not None:
            page = yield from self.artifact_page(repository, after)
            found += page.items
            after = page.next
        return found

    def create_robot(
        self, project: str, name: str, *, access: Collection[str], days: int
    ) -> Flow[Robot]:
        """Create a robot account of a project."""
        rights = []
        for right in access:
            resource, _, action = right.partition(":")
            if not resource or not action:
                raise AccessInvalid(f"{right!r} is not of the form resource:action")
            rights.append({"resource": resource, "action": action})
        permission = {"kind": "project", "namespace": _project(project), "access": rights}
        wanted = {"name": name, "level": "project", "duration": days, "permissions": [permission]}
        reply = yield from self._api_post("/robots", wanted)
        return reply.json(Robot)

    def delete_robot(self, robot: Robot | int) -> Flow[None]:
        """Delete a robot account, by its number."""
        number = robot.id if isinstance(robot, Robot) else int(robot)
        yield from self._api("DELETE", f"/robots/{number}")

    # -- requests to the API -----------------------------------------------------------------

    def _check_account(self) -> Flow[None]:
        """Check that the API knows the account.

        After a wrong password, or with a token, it answers lists as it does to anonymous clients:
        with what is public, as if there were nothing else. But it tells its version to accounts
        only.
        """
        reply = yield from self._api("GET", "/systeminfo")
        if "harbor_version" not in reply.json():
            raise Unauthorized(f"{reply.url}: Harbor does not know this account: {_ADVICE}")

    def _api_page(
        self,
        kind: type[tuple[T, ...]],
        path: str,
        after: str | None,
        query: Collection[tuple[str, str]] = (),
        limit: int | None = None,
    ) -> Flow[Page[T]]:
        """Fetch a page of a list; its `next` is the number of the next page."""
        if after is not None and not after.isdecimal():
            raise PaginationNumberInvalid(f"{after!r} is not the `next` of a page")
        number, size = int(after or 1), min(limit or 100, self.settings.page_size)
        paging = [("page", str(number)), ("page_size", str(size))]
        reply = yield from self._api("GET", path, query=[*query, *paging])
        items = reply.json(kind)
        total = reply.headers.get("x-total-count", "")
        more = next_link(reply.headers) or (total.isdecimal() and number * size < int(total))
        return Page(items=items, next=str(number + 1) if more and items else None)

    def _api_post(self, path: str, document: dict[str, Any]) -> Flow[Reply]:
        """Create an object; this is not repeated, as there could be two of them then."""
        return (
            yield from self._api(
                "POST", path, json=document, expect=frozenset({201}), repeatable=False
            )
        )

    def _api(self, method: str, path: str, /, **options: Unpack[CallOptions]) -> Flow[Reply]:
        try:
            return (yield from call(method, f"{API}{path}", **options))
        except Unauthorized as error:
            raise error.with_hint(_ADVICE) from error


def _project(name: str) -> str:
    """Check a project's name before it becomes a part of a URL."""
    if "/" in check_repository(name):
        raise NameInvalid(f"{name!r} is not a project: it has a `/`")
    return name


def _artifacts(repository: str) -> str:
    """The path of a repository's artifacts.

    Slashes after the project are encoded twice, as proxies decode paths once.
    """
    project, _, name = check_repository(repository).partition("/")
    if not name:
        raise NameInvalid(f"{repository!r} has no project: in Harbor, names are project/repository")
    return f"/projects/{project}/repositories/{path_segment(path_segment(name))}/artifacts"
