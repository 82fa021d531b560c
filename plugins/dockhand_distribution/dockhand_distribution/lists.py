"""The state and API version of a registry, and its lists of repositories and tags.

Follows: OCI Distribution Specification 1.1, "Determining Support", "Listing Tags";
Distribution's "HTTP API V2", section "Listing Repositories".
"""

from __future__ import annotations

import re
from typing import Unpack
from urllib.parse import parse_qs, urlsplit

from dockhand_core.errors import (
    ConnectionFailed,
    PaginationNumberInvalid,
    RegistryError,
    ResponseInvalid,
)
from dockhand_core.flow import CallOptions, Flow, Reply, call
from dockhand_core.http.headers import next_link
from dockhand_core.http.urls import is_relative, redacted_url, resolve_url
from dockhand_core.models import ApiVersion, Page, check_repository
from dockhand_distribution.base import DistributionBase


class Lists(DistributionBase):
    """The operations on a whole registry, and the list of a repository's tags."""

    def ping(self) -> Flow[None]:
        """Check with GET `/v2/` that the registry answers and accepts the credentials."""
        yield from call("GET", "")

    def is_online(self) -> Flow[bool]:
        """Return whether the registry answers GET `/v2/`.

        A registry that refuses the credentials or limits the rate is online, too. The request is
        never retried, so that the caller gets the answer at once.
        """
        try:
            yield from call("GET", "", once=True)
        except ConnectionFailed:
            return False
        except RegistryError as error:
            return error.status in (401, 403, 429)
        return True

    def api_version(self) -> Flow[ApiVersion]:
        """Read the API version from the `Docker-Distribution-API-Version` of GET `/v2/`.

        A 401 reply has this header, too, so valid credentials are not needed.
        """
        reply = yield from call("GET", "", expect=frozenset({200, 401}))
        header = reply.headers.get("docker-distribution-api-version")
        match = re.fullmatch(r"(?:registry/)?(\d{1,9})\.(\d{1,9})", header or "")
        if match is None:
            return ApiVersion(header=header)
        return ApiVersion(major=int(match[1]), minor=int(match[2]), header=header)

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of repositories with GET `_catalog`."""
        reply = yield from self._list(
            "_catalog", limit, after, scopes=self.catalog_scopes(), kind="catalog"
        )
        return Page(items=_strings(reply, "repositories"), next=_next_position(reply))

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of tags with GET `tags/list`.

        Distribution 2.8 ignores `n` and `last`, and sends all tags, unsorted. The page is then cut
        out of this list here.
        """
        check_repository(repository)
        reply = yield from self._list(
            f"{repository}/tags/list",
            limit,
            after,
            scopes=self.pull_scopes(repository),
            kind="tags",
            repository=repository,
        )
        tags, following = _strings(reply, "tags"), _next_position(reply)
        if limit is None or following is not None:
            return Page(items=tags, next=following)
        if len(tags) <= limit and after not in tags:
            return Page(items=tags)
        return cut_page(tags, limit, after)

    def _list(
        self, path: str, limit: int | None, after: str | None, /, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        if limit is not None and limit < 1:
            raise PaginationNumberInvalid(f"a page of {limit} is not possible: 1 or more")
        if after is not None and not is_relative(after):
            # Here `after` is the whole URL of a `Link`: see `_next_position`.
            return (yield from call("GET", after, **options))
        query = [("n", str(limit))] if limit is not None else []
        query += [("last", after)] if after is not None else []
        options["query"] = query
        return (yield from call("GET", path, **options))


def cut_page(items: tuple[str, ...], limit: int | None, after: str | None) -> Page[str]:
    """Sort a complete list, and cut one page out of it.

    Args:
        items: all items, in any order.
        limit: the number of items on the page; None for all that remain.
        after: the page begins with the next item after this one; None for the first page.
    """
    rest = sorted(item for item in items if after is None or item > after)
    if limit is None:
        return Page(items=tuple(rest))
    return Page(items=tuple(rest[:limit]), next=rest[limit - 1] if rest[limit:] else None)


def _strings(reply: Reply, key: str) -> tuple[str, ...]:
    """The list of strings in a field of a reply; registries send null for an empty list."""
    found = reply.json().get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {key!r} is not a list of strings")
    return tuple(found)


def _next_position(reply: Reply) -> str | None:
    """The position of the next page, or None if this is the last one.

    The position is the parameter `last` in the URL of the reply's `Link`. If the URL has no `last`,
    or another path or host than the request, the position is the whole URL.
    """
    target = next_link(reply.headers)
    if target is None:
        return None
    url = resolve_url(reply.url, target)
    parts, here = urlsplit(url), urlsplit(reply.url)
    last = parse_qs(parts.query).get("last")
    if last and (parts.scheme, parts.netloc, parts.path) == (here.scheme, here.netloc, here.path):
        return last[0]
    return url
