"""Whether a registry is there, and its lists: repositories and tags.

Follows: OCI Distribution Specification 1.1, "Determining Support", "Listing Tags";
Distribution's "Listing Repositories".
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dockhand_core.errors import (
    ConnectionFailed,
    PaginationNumberInvalid,
    RegistryError,
    ResponseInvalid,
)
from dockhand_core.flow import Flow, Reply, call
from dockhand_core.http.headers import next_link
from dockhand_core.http.urls import redacted_url, resolve_url
from dockhand_core.models import ApiVersion, Page, check_repository
from dockhand_distribution.scopes import Scopes


class Lists(Scopes):
    """The operations on a whole registry, and the list of a repository's tags."""

    def ping(self) -> Flow[None]:
        """Ask for `/v2/`."""
        yield from call("GET", "")

    def is_online(self) -> Flow[bool]:
        """Ask once: who asks whether it is there does not want to wait for it."""
        try:
            yield from call("GET", "", once=True)
        except ConnectionFailed:
            return False
        except RegistryError as error:
            return error.status in (401, 403, 429)
        return True

    def api_version(self) -> Flow[ApiVersion]:
        """Ask for `/v2/`; a 401 carries the header too."""
        reply = yield from call("GET", "", expect=frozenset({200, 401}))
        header = reply.headers.get("docker-distribution-api-version")
        said = re.fullmatch(r"(?:registry/)?(\d{1,9})\.(\d{1,9})", header or "")
        if said is None:
            return ApiVersion(header=header)
        return ApiVersion(major=int(said[1]), minor=int(said[2]), header=header)

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Ask for `_catalog`."""
        reply = yield from self._list(
            "_catalog", limit, after, scopes=self.listing(), kind="catalog"
        )
        return Page(items=strings(reply, "repositories"), next=position(reply))

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Ask for `tags/list`, and cut the page where the registry knows none.

        Distribution 2.8 sends all tags, unsorted, whatever `n` and `last` say.
        """
        check_repository(repository)
        reply = yield from self._list(
            f"{repository}/tags/list",
            limit,
            after,
            scopes=self.reading(repository),
            kind="tags",
            repository=repository,
        )
        tags, following = strings(reply, "tags"), position(reply)
        if limit is None or following is not None:
            return Page(items=tags, next=following)
        if len(tags) <= limit and after not in tags:
            return Page(items=tags)
        rest = sorted(tag for tag in tags if after is None or tag > after)
        return Page(items=tuple(rest[:limit]), next=rest[limit - 1] if rest[limit:] else None)

    def _list(self, path: str, limit: int | None, after: str | None, **options: Any) -> Flow[Reply]:
        if limit is not None and limit < 1:
            raise PaginationNumberInvalid(f"a page of {limit} is not possible: 1 or more")
        if after is not None and after.startswith(("/", "http://", "https://")):
            return (yield from call("GET", after, **options))  # a Link that has no `last`
        query = [("n", str(limit))] if limit is not None else []
        query += [("last", after)] if after is not None else []
        return (yield from call("GET", path, query=query, **options))


def parsed(reply: Reply) -> dict[str, Any]:
    """The JSON object that a reply is, or ResponseInvalid."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        kind = reply.headers.get("content-type", "no content type")
        raise ResponseInvalid(
            f"{redacted_url(reply.url)}: a JSON object was due, "
            f"not {len(reply.body)} bytes of {kind[:80]}",
            status=reply.status,
        )
    return body


def strings(reply: Reply, key: str) -> tuple[str, ...]:
    """The strings under a key; registries send null for none."""
    found = parsed(reply).get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {key!r} is not a list of strings")
    return tuple(found)


def position(reply: Reply) -> str | None:
    """Where the next page starts: the `last` of its link, or the whole link where it has none."""
    target = next_link(reply.headers)
    if target is None:
        return None
    url = resolve_url(reply.url, target)
    parts, here = urlsplit(url), urlsplit(reply.url)
    last = parse_qs(parts.query).get("last")
    if last and (parts.scheme, parts.netloc, parts.path) == (here.scheme, here.netloc, here.path):
        return last[0]
    return url
