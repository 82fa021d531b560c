"""The clients of the driver: the operations of every registry, and a line for each of Harbor's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from typing import TYPE_CHECKING

from dockhand_distribution import AsyncDistributionClient, DistributionClient

from dockhand_harbor.models import Artifact, Project, RepositoryInfo, Robot

if TYPE_CHECKING:
    from dockhand_harbor.driver import HarborDriver

__all__ = ["AsyncHarborClient", "HarborClient"]

PULL = ("repository:pull",)


class HarborClient(DistributionClient):
    """A connection to Harbor."""

    driver: HarborDriver

    def projects(self, *, public: bool = False) -> Iterator[Project]:
        """Iterate over the projects that the account sees, by name.

        Args:
            public: whether to list public projects only, which needs no account.

        Raises:
            Unauthorized: Harbor's API did not accept the account.
        """
        return self.walk(lambda after: self.driver.project_page(after, public=public))

    def project(self, name: str) -> Project:
        """Get a project.

        Raises:
            NotFound: there is no such project.
            Denied: the account may not see it.
        """
        return self.run(self.driver.project(name))

    def create_project(
        self, name: str, *, public: bool = False, storage_limit: int | None = None
    ) -> Project:
        """Create a project.

        Args:
            name: the name: lower-case letters and digits, with `.`, `_` or `-` between them.
            public: whether everybody may pull.
            storage_limit: the quota in bytes; -1 for none, and None for Harbor's default. Only an
                administrator may give it.

        Raises:
            Conflict: a project of this name exists.
            Denied: the account may not create projects.
        """
        return self.run(
            self.driver.create_project(name, public=public, storage_limit=storage_limit)
        )

    def delete_project(self, name: str) -> None:
        """Delete a project without repositories, and its robot accounts.

        Raises:
            NotFound: there is no such project.
            PreconditionFailed: it has repositories.
        """
        self.run(self.driver.delete_project(name))

    def project_repositories(self, project: str) -> Iterator[RepositoryInfo]:
        """Iterate over the repositories of a project, by name.

        Raises:
            NotFound: there is no such project.
        """
        return self.walk(lambda after: self.driver.project_repository_page(project, after))

    def artifacts(self, repository: str) -> Iterator[Artifact]:
        """Iterate over the artifacts of a repository, tagged or not.

        Harbor lists neither the images of an index nor signatures and the like; these have their
        own life cycle, which ends with that of the index or subject.

        Harbor numbers its pages. To delete artifacts, make a list of them first: a deletion during
        the iteration moves later ones to pages that were fetched already.

        Raises:
            NameUnknown: there is no such repository.
        """
        return self.walk(lambda after: self.driver.artifact_page(repository, after))

    def create_robot(
        self, project: str, name: str, *, access: Collection[str] = PULL, days: int = 30
    ) -> Robot:
        """Create a robot account of a project.

        Args:
            project: the project's name.
            name: the account's short name, without prefix and project.
            access: the rights in the project, each `resource:action`: `repository:pull`,
                `repository:push`, `artifact:list`, `tag:delete` …
            days: how long it is valid; -1 for ever.

        Raises:
            AccessInvalid: a right has another form.
            Conflict: the project has an account of this name.
            Denied: the account of this connection may not create others.
        """
        return self.run(self.driver.create_robot(project, name, access=access, days=days))

    def delete_robot(self, robot: Robot | int) -> None:
        """Delete a robot account, by its number.

        Raises:
            NotFound: there is no such account.
        """
        self.run(self.driver.delete_robot(robot))


class AsyncHarborClient(AsyncDistributionClient, twin=HarborClient):
    """The same for asyncio."""

    driver: HarborDriver

    def projects(self, *, public: bool = False) -> AsyncIterator[Project]:
        return self.walk(lambda after: self.driver.project_page(after, public=public))

    async def project(self, name: str) -> Project:
        return await self.run(self.driver.project(name))

    async def create_project(
        self, name: str, *, public: bool = False, storage_limit: int | None = None
    ) -> Project:
        return await self.run(
            self.driver.create_project(name, public=public, storage_limit=storage_limit)
        )

    async def delete_project(self, name: str) -> None:
        await self.run(self.driver.delete_project(name))

    def project_repositories(self, project: str) -> AsyncIterator[RepositoryInfo]:
        return self.walk(lambda after: self.driver.project_repository_page(project, after))

    def artifacts(self, repository: str) -> AsyncIterator[Artifact]:
        return self.walk(lambda after: self.driver.artifact_page(repository, after))

    async def create_robot(
        self, project: str, name: str, *, access: Collection[str] = PULL, days: int = 30
    ) -> Robot:
        return await self.run(self.driver.create_robot(project, name, access=access, days=days))

    async def delete_robot(self, robot: Robot | int) -> None:
        await self.run(self.driver.delete_robot(robot))
