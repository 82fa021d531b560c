"""The forms of `--json` that several commands share, and their tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from dockhand_cli import Size
from dockhand_cli.values import moment_text, short_digest

if TYPE_CHECKING:
    from dockhand_cli.output import Output

    from dockhand_zot import ImageSummary, RepositorySummary

__all__ = [
    "Image",
    "Images",
    "Repositories",
    "Repository",
    "image_form",
    "moment",
    "repository_form",
    "show_images",
    "show_repositories",
]


class Image(TypedDict):
    """An image.

    Attributes:
        repository, tag, digest, media_type: the identity of the image.
        size: bytes of the whole image.
        platforms: the platforms, such as `linux/amd64`.
        pushed_at, last_updated, last_pulled_at: the times of the push, the build and the last pull;
            null if zot does not know them.
        downloads: the number of pulls.
        signed: whether the image has a signature.
        vulnerabilities: the number of vulnerabilities, or null.
        worst: the severity of the worst vulnerability, or null.
    """

    repository: str
    tag: str
    digest: str
    media_type: str
    size: int
    platforms: list[str]
    pushed_at: str | None
    last_updated: str | None
    last_pulled_at: str | None
    downloads: int
    signed: bool
    vulnerabilities: int | None
    worst: str | None


class Images(TypedDict):
    """The document of the commands that list images.

    They are `dockhand zot images --json`, `dockhand zot base-images --json`,
    `dockhand zot derived-images --json`, `dockhand zot images-with --json` and
    `dockhand zot fixed --json`.

    Attributes:
        images: the images.
    """

    images: list[Image]


class Repository(TypedDict):
    """A repository.

    Attributes:
        repository: the repository's name.
        size: bytes of all its images.
        platforms: the platforms of its images.
        last_updated: the time of its newest build, or null.
        downloads: the number of pulls.
        stars: the number of users who starred it.
        starred, bookmarked: whether this user starred or bookmarked it.
    """

    repository: str
    size: int
    platforms: list[str]
    last_updated: str | None
    downloads: int
    stars: int
    starred: bool
    bookmarked: bool


class Repositories(TypedDict):
    """The document of `dockhand zot starred --json` and `dockhand zot bookmarked --json`.

    Attributes:
        repositories: the repositories.
    """

    repositories: list[Repository]


def moment(time: datetime | None) -> str | None:
    """A time as RFC 3339 has it, in UTC; None if it is not known."""
    return None if time is None else moment_text(time)


def image_form(image: ImageSummary) -> Image:
    """The form of an image."""
    scan = image.vulnerabilities
    return Image(
        repository=image.repository,
        tag=image.tag,
        digest=image.digest,
        media_type=image.media_type,
        size=image.size,
        platforms=_platforms(image),
        pushed_at=moment(image.pushed_at),
        last_updated=moment(image.last_updated),
        last_pulled_at=moment(image.last_pulled_at),
        downloads=image.download_count,
        signed=image.signed,
        vulnerabilities=None if scan is None else scan.count,
        worst=None if scan is None or scan.worst is None else str(scan.worst),
    )


def repository_form(repository: RepositorySummary) -> Repository:
    """The form of a repository."""
    return Repository(
        repository=repository.name,
        size=repository.size,
        platforms=list(map(str, repository.platforms)),
        last_updated=moment(repository.last_updated),
        downloads=repository.download_count,
        stars=repository.star_count,
        starred=repository.starred,
        bookmarked=repository.bookmarked,
    )


def show_images(output: Output, images: Iterable[ImageSummary]) -> None:
    """Write images as a table; in a pipe, a line an image."""
    output.table(
        ("IMAGE", "DIGEST", "SIZE", "PUSHED", "PLATFORMS"),
        (
            (
                f"{image.repository}:{image.tag}",
                short_digest(image.digest) if output.is_terminal else image.digest,
                Size(image.size),
                image.pushed_at,
                " ".join(_platforms(image)),
            )
            for image in images
        ),
    )


def show_repositories(output: Output, repositories: Iterable[RepositorySummary]) -> None:
    """Write repositories as a table; in a pipe, a line a repository."""
    output.table(
        ("REPOSITORY", "SIZE", "UPDATED", "STARS", "PULLS"),
        (
            (each.name, Size(each.size), each.last_updated, each.star_count, each.download_count)
            for each in repositories
        ),
    )


def _platforms(image: ImageSummary) -> list[str]:
    return [str(each.platform) for each in image.manifests if each.platform is not None]
