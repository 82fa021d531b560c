"""Stars, bookmarks and API keys of a user.

Follows: zot's documentation of `userprefs` and of its API keys.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

from dockhand_core import Scope
from dockhand_core.errors import NotFound
from dockhand_core.flow import BytesSource, Flow, call, pause
from dockhand_zot import queries
from dockhand_zot.errors import ApiKeyInvalid, SearchError
from dockhand_zot.extensions import Extensions, validated_items
from dockhand_zot.models import ApiKey, NewApiKey, RepositorySummary
from dockhand_zot.search import Search

USERPREFS = "_zot/ext/userprefs"
# Relative to `/v2/`, so that a prefix that a proxy adds before `/v2/` is kept.
API_KEYS = "../zot/auth/apikey"
_ATTEMPTS = 6


class Preferences(Search):
    """The operations on stars and bookmarks."""

    def star(self, repository: str) -> Flow[bool]:
        """Star a repository unless it is starred; return whether that changed anything."""
        return (yield from self._set(repository, "toggleStar", "starred", wanted=True))

    def unstar(self, repository: str) -> Flow[bool]:
        """Remove the star of a repository; return whether there was one."""
        return (yield from self._set(repository, "toggleStar", "starred", wanted=False))

    def bookmark(self, repository: str) -> Flow[bool]:
        """Bookmark a repository unless it is bookmarked; return whether that changed anything."""
        return (yield from self._set(repository, "toggleBookmark", "bookmarked", wanted=True))

    def unbookmark(self, repository: str) -> Flow[bool]:
        """Remove the bookmark of a repository; return whether there was one."""
        return (yield from self._set(repository, "toggleBookmark", "bookmarked", wanted=False))

    def _set(self, repository: str, action: str, field: str, *, wanted: bool) -> Flow[bool]:
        """Set a star or bookmark to the wanted state; return whether that changed anything.

        zot can only toggle a star or bookmark, so the state is read, toggled if needed, and read
        again.
        """
        changed = False
        for attempt in range(_ATTEMPTS):
            if attempt > 1:
                # Another program is toggling the same star or bookmark. A random pause prevents the
                # two programs from undoing each other's toggles again and again.
                yield from pause(random.uniform(0, 0.05 * 2**attempt))
            summary, _, _ = yield from self._summary(queries.MARKS, repository)
            if getattr(summary, field) == wanted:
                return changed
            # Never retried automatically: a second toggle undoes the first.
            yield from self._extension(
                "userprefs",
                "PUT",
                USERPREFS,
                query=[("action", action), ("repo", repository)],
                scopes=(Scope.repository("", "push"),),
                repeatable=False,
            )
            changed = True
        raise SearchError(
            f"repository {repository} does not stay {'' if wanted else 'un'}{field}: "
            "another program with this user's credentials keeps changing it"
        )

    def starred(self) -> Flow[list[RepositorySummary]]:
        """List the repositories that this user has starred."""
        return (yield from self._pages(RepositorySummary, queries.STARRED, "StarredRepos"))

    def bookmarked(self) -> Flow[list[RepositorySummary]]:
        """List the repositories that this user has bookmarked."""
        return (yield from self._pages(RepositorySummary, queries.BOOKMARKED, "BookmarkedRepos"))


class ApiKeys(Extensions):
    """The operations on API keys."""

    def api_keys(self) -> Flow[list[ApiKey]]:
        """List this user's API keys, oldest first."""
        reply = yield from self._extension("apikey", "GET", API_KEYS)
        found = validated_items(reply, ApiKey, reply.json().get("apiKeys") or ())
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda key: (key.created_at or start, key.id))

    def create_api_key(
        self, label: str, *, scopes: tuple[str, ...], expires_at: datetime | None
    ) -> Flow[NewApiKey]:
        """Create an API key for this user."""
        wanted: dict[str, Any] = {"label": label}
        if scopes:
            wanted["scopes"] = list(scopes)
        if expires_at is not None:
            if expires_at.tzinfo is None:
                raise ApiKeyInvalid("expires_at needs a time zone, as datetime.now(UTC) has")
            if expires_at <= datetime.now(UTC):
                raise ApiKeyInvalid(f"expires_at is in the past: {expires_at.isoformat()}")
            wanted["expirationDate"] = expires_at.isoformat()
        reply = yield from self._extension(
            "apikey",
            "POST",
            API_KEYS,
            headers={"Content-Type": "application/json"},
            body=BytesSource(json.dumps(wanted).encode()),
            expect=frozenset({200, 201}),
            repeatable=False,  # a retry could create a second API key
        )
        return reply.validated(NewApiKey, reply.json())

    def revoke_api_key(self, key_id: str) -> Flow[None]:
        """Revoke an API key.

        The API key is looked up first, because zot reports success even if it does not exist.
        """
        known = yield from self.api_keys()
        if key_id not in {key.id for key in known}:
            raise NotFound(f"no API key {key_id[:100]!r} belongs to this user")
        yield from call("DELETE", API_KEYS, query=[("id", key_id)], expect=frozenset({200, 204}))
