"""zot's search: GraphQL queries with typed results.

Values are sent as GraphQL variables, never inside a query's text. Queries are sent with GET, for
which zot requires read access only. Each query has one operation: if one of several operations
fails, zot returns no result of the others.

Follows: zot's GraphQL schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from dockhand_core.errors import RegistryError, ResponseInvalid
from dockhand_core.flow import Flow, Reply
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.models import Digest, check_repository, check_tag
from dockhand_zot import queries
from dockhand_zot.errors import (
    ImageInvalid,
    ScanFailed,
    ScannerDisabled,
    ScannerNotReady,
    SearchError,
    SearchForbidden,
    SearchUnknown,
)
from dockhand_zot.extensions import Extensions, validated_items
from dockhand_zot.models import (
    ImageSummary,
    RepositoryInfo,
    RepositorySummary,
    SearchResult,
)

M = TypeVar("M", bound=BaseModel)

PATH = "_zot/ext/search"
PAGE = 100
_MAX_PAGES = 1000
# zot's GraphQL errors have no codes, so part of the message decides the class of the error.
_BY_TEXT: tuple[tuple[str, type[SearchError]], ...] = (
    ("cve search is disabled", ScannerDisabled),
    ("cve-db is not present", ScannerNotReady),
    ("scan error", ScanFailed),
    ("metadata not found", SearchUnknown),
    ("can't find image", SearchUnknown),
    ("image not found", SearchUnknown),
)


class Search(Extensions):
    """The operations of zot's search."""

    def search(self, query: str, variables: Mapping[str, Any] | None) -> Flow[dict[str, Any]]:
        """Run the caller's query, and return its `data`."""
        data, _ = yield from self._query(query, variables or {})
        return data

    def _query(
        self, query: str, variables: Mapping[str, Any]
    ) -> Flow[tuple[dict[str, Any], Reply]]:
        try:
            packed = json.dumps(dict(variables), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SearchError(f"the variables cannot be written as JSON: {error}") from None
        reply = yield from self._extension(
            "search",
            "GET",
            PATH,
            query=[("query", query), ("variables", packed)],
            scopes=self.catalog_scopes(),
            expect=frozenset({200, 422}),
        )
        document = reply.json()
        errors = document.get("errors")
        if errors:
            raise failure(errors, reply)
        data = document.get("data")
        if not isinstance(data, dict):
            raise ResponseInvalid(f"{redacted_url(reply.url)}: the reply has no data")
        return data, reply

    def _ask(self, query: str, key: str, **variables: Any) -> Flow[tuple[dict[str, Any], Reply]]:
        """Run a query with one top-level field; return the value of the field, and the reply."""
        data, reply = yield from self._query(query, variables)
        found = data.get(key)
        if not isinstance(found, dict):
            raise ResponseInvalid(f"{redacted_url(reply.url)}: the reply has no {key}")
        return found, reply

    def _walk(
        self,
        query: str,
        key: str,
        take: Callable[[Mapping[str, Any], Reply], int],
        *,
        sort: str = "ALPHABETIC_ASC",
        **variables: Any,
    ) -> Flow[None]:
        """Fetch all pages of a query; pass each to `take`, which returns its number of items."""
        yield from self._limited(self._walk_pages(query, key, take, sort, variables), objects=True)

    def _walk_pages(
        self,
        query: str,
        key: str,
        take: Callable[[Mapping[str, Any], Reply], int],
        sort: str,
        variables: Mapping[str, Any],
    ) -> Flow[None]:
        seen = 0
        for _ in range(_MAX_PAGES):
            page = {"limit": PAGE, "offset": seen, "sortBy": sort}
            found, reply = yield from self._ask(query, key, page=page, **variables)
            count = take(found, reply)
            seen += count
            if not count or seen >= _total(found):
                return
        raise ResponseInvalid(f"{redacted_url(reply.url)}: more than {_MAX_PAGES} pages of {key}")

    def _pages(
        self, model: type[M], query: str, key: str, items: str = "Results", **variables: Any
    ) -> Flow[list[M]]:
        """Fetch all pages of a query, and return their items."""
        everything: list[M] = []

        def take(found: Mapping[str, Any], reply: Reply) -> int:
            batch = validated_items(reply, model, _list(found, items, reply))
            everything.extend(batch)
            return len(batch)

        yield from self._walk(query, key, take, **variables)
        return everything

    # -- repositories and images -----------------------------------------------------------

    def global_search(self, text: str) -> Flow[SearchResult]:
        """Search repositories by part of a name, or images by `repository:tag` or digest."""
        parts: list[SearchResult] = []

        def take(found: Mapping[str, Any], reply: Reply) -> int:
            part = reply.validated(SearchResult, found)
            parts.append(part)
            return max(len(part.repositories), len(part.images), len(part.layers))

        yield from self._walk(
            queries.GLOBAL_SEARCH, "GlobalSearch", take, sort="RELEVANCE", text=text
        )
        return SearchResult(
            repositories=tuple(each for part in parts for each in part.repositories),
            images=tuple(each for part in parts for each in part.images),
            layers=tuple(each for part in parts for each in part.layers),
        )

    def image_summary(self, repository: str, tag: str) -> Flow[ImageSummary]:
        """Get the details of an image by its tag; zot accepts no digest here."""
        name = f"{check_repository(repository)}:{check_tag(tag)}"
        found, reply = yield from self._ask(queries.IMAGE, "Image", image=name)
        image = reply.validated(ImageSummary, found)
        if not image.digest:
            raise _hidden(f"image {name}")
        return image

    def images(self, repository: str) -> Flow[list[ImageSummary]]:
        """List the tagged images of a repository."""
        check_repository(repository)
        found = yield from self._pages(
            ImageSummary, queries.IMAGES, "ImageList", repository=repository
        )
        if not found:
            # zot also sends an empty list if the repository does not exist or may not be read. The
            # following query raises an error in these cases.
            yield from self._summary(queries.MARKS, repository)
        return found

    def repository_info(self, repository: str) -> Flow[RepositoryInfo]:
        """Get the details of a repository, with its images."""
        summary, found, reply = yield from self._summary(queries.REPOSITORY, repository)
        images = validated_items(reply, ImageSummary, _list(found, "Images", reply))
        return RepositoryInfo(summary=summary, images=tuple(images))

    def _summary(
        self, query: str, repository: str
    ) -> Flow[tuple[RepositorySummary, Mapping[str, Any], Reply]]:
        """Run a query on a repository.

        Returns:
            the repository's summary, the whole result of the query, and the HTTP reply.
        """
        check_repository(repository)
        found, reply = yield from self._ask(query, "ExpandedRepoInfo", repository=repository)
        summary = found.get("Summary")
        if not isinstance(summary, dict) or not summary.get("Name"):
            raise _hidden(f"repository {repository}")
        return reply.validated(RepositorySummary, summary), found, reply

    def newest_images(self) -> Flow[list[ImageSummary]]:
        """List the newest image of each repository, newest first."""
        found = yield from self._pages(
            RepositorySummary, queries.NEWEST, "RepoListWithNewestImage", sort="UPDATE_TIME"
        )
        return [each.newest_image for each in found if each.newest_image]

    def images_for_digest(self, digest: str) -> Flow[list[ImageSummary]]:
        """List the images that have a manifest, index, config or layer with this digest."""
        return (
            yield from self._pages(
                ImageSummary, queries.FOR_DIGEST, "ImageListForDigest", digest=str(Digest(digest))
            )
        )

    def base_images(self, image: str) -> Flow[list[ImageSummary]]:
        """List the images that `image` may be built on.

        The layers of `image` begin with all layers of each listed image.
        """
        return (
            yield from self._pages(ImageSummary, queries.BASE, "BaseImageList", image=tagged(image))
        )

    def derived_images(self, image: str) -> Flow[list[ImageSummary]]:
        """List the images that may be built on `image`.

        The layers of each listed image begin with all layers of `image`.
        """
        return (
            yield from self._pages(
                ImageSummary, queries.DERIVED, "DerivedImageList", image=tagged(image)
            )
        )


def failure(errors: Any, reply: Reply) -> SearchError:
    """The exception for the GraphQL errors of a reply."""
    entries = [error for error in errors if isinstance(error, dict)] if errors else []
    texts = [str(entry.get("message", "")) for entry in entries] or ["an error without a message"]
    kind = next((kind for text, kind in _BY_TEXT if any(text in t for t in texts)), SearchError)
    message = f"{redacted_url(reply.url.partition('?')[0])}: {one_line('; '.join(texts))}"
    if reply.status == 422 and any("Cannot query field" in text for text in texts):
        message += " (this zot may be an older version)"
    return kind(message, errors=entries, status=reply.status)


def split_image(image: str) -> tuple[str, str]:
    """Split `repository:tag` or `repository@digest` into its two parts.

    Raises:
        ImageInvalid: the string has neither form.
    """
    name, at, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    try:
        if at:
            return check_repository(name), str(Digest(digest))
        if colon:
            return check_repository(repository), check_tag(tag)
    except RegistryError as error:
        raise ImageInvalid(f"{one_line(image)!r} does not name an image: {error}") from None
    raise ImageInvalid(f"{one_line(image)!r} does not name an image: repository:tag is expected")


def tagged(image: str) -> str:
    """Check that a string has the form `repository:tag`, and return it.

    Raises:
        ImageInvalid: the string has another form.
    """
    repository, reference = split_image(image)
    if ":" in reference:
        raise ImageInvalid(f"{one_line(image)!r}: zot looks these up by tag, not by digest")
    return f"{repository}:{reference}"


def _hidden(what: str) -> SearchForbidden:
    """The error for a reply with empty fields, which zot sends if reading is not allowed."""
    return SearchForbidden(f"{what}: these credentials may not read it", status=200)


def _list(found: Mapping[str, Any], key: str, reply: Reply) -> Iterable[object]:
    items = found.get(key) or ()
    if not isinstance(items, list | tuple):
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {key!r} is not a list")
    return items


def _total(found: Mapping[str, Any]) -> int:
    """The number of items on all pages together.

    It is in `Summary` in the reply to a CVE diff, and in `Page` in the replies to other queries.
    """
    for key, name in (("Summary", "Count"), ("Page", "TotalCount")):
        said = found.get(key)
        if isinstance(said, dict) and isinstance(said.get(name), int):
            total: int = said[name]
            return total
    return 0
