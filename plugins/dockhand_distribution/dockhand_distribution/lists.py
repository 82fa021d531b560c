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
)
from dockhand_core.flow import CallOptions, Flow, Reply, call
from dockhand_core.http.urls import is_relative
from dockhand_core.models import ApiVersion, Page, check_repository
from dockhand_distribution.base import DistributionBase
from dockhand_distribution.pages import Batch, page_of, strings


class Lists(DistributionBase):
    """The operations on a whole registry, and the list of a repository's tags."""

    def ping(self) -> Flow[None]:
        """Check with GET `/v2/` that the registry answers and accepts the credentials."""
        yield from call("GET", "")

    def is_online(self) -> Flow[bool]:
        """Return whether the registry answers GET `/v2/`.

        A registry that refuses the credentials or limits the rate is online, too. The request is
        sent without credentials, so that no token endpoint and no credential helper is needed, and
        never retried, so that the caller gets the answer at once.
        """
        try:
            yield from call("GET", "", once=True, anonymous=True)
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
        """Fetch a page of repositories with GET `_catalog`.

        No specification orders the catalog: the registry of `crane registry serve` sends any `n` of
        its repositories, whatever `last` is.
        """

        def fetch(limit: int | None, after: str | None) -> Flow[Batch]:
            return self._list(
                "_catalog",
                "repositories",
                limit,
                after,
                scopes=self.catalog_scopes(),
                kind="catalog",
            )

        return (yield from self._limited(page_of(fetch, limit, after, sorted_by_registry=False)))

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of tags with GET `tags/list`.

        Distribution 2.8 ignores `n` and `last`, and sends all tags, unsorted. The page is then cut
        out of this list here.
        """
        check_repository(repository)

        def fetch(limit: int | None, after: str | None) -> Flow[Batch]:
            return self._list(
                f"{repository}/tags/list",
                "tags",
                limit,
                after,
                scopes=self.pull_scopes(repository),
                kind="tags",
                repository=repository,
            )

        return (yield from self._limited(page_of(fetch, limit, after)))

    def _list(
        self,
        path: str,
        key: str,
        limit: int | None,
        after: str | None,
        /,
        **options: Unpack[CallOptions],
    ) -> Flow[Batch]:
        """Request a part of a list, and return its items and the position that its `Link` names."""
        if limit is not None and limit < 1:
            raise PaginationNumberInvalid(f"the page size is {limit}; it must be 1 or more")
        if after is not None and not is_relative(after):
            # Here `after` is the whole URL of a `Link`: see `_next_position`.
            reply = yield from call("GET", after, **options)
        else:
            query = [("n", str(limit))] if limit is not None else []
            query += [("last", after)] if after is not None else []
            options["query"] = query
            reply = yield from call("GET", path, **options)
        return strings(reply, key), self._next_position(reply, path)

    def _next_position(self, reply: Reply, path: str) -> str | None:
        """The position of the next page, or None if the reply has no `Link` to one.

        The position is the parameter `last` of the link, if it has one. Its host and path are not
        used: a registry behind a proxy may not know its own. Without `last`, the position is the
        URL of the link, as `next_page_url` returns it. A link with an empty `last` and no other
        position would lead to the first page again, and is ignored.
        """
        url = self.next_page_url(reply, path)
        if url is None:
            return None
        parameters = parse_qs(urlsplit(url).query, keep_blank_values=True)
        last = parameters.get("last")
        if last == [""] and parameters.keys() <= {"n", "last"}:
            return None
        return last[0] if last and last[0] and is_relative(last[0]) else url
