"""What a user starred and bookmarked, and their API keys.

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
# Beside /v2/, also where a proxy puts a prefix before both.
API_KEYS = "../zot/auth/apikey"
_ATTEMPTS = 6


class Preferences(Search):
    """The operations on stars and bookmarks."""

    def star(self, repository: str) -> Flow[bool]:
        """Star it, unless it is."""
        return (yield from self._set(repository, "toggleStar", "starred", wanted=True))

    def unstar(self, repository: str) -> Flow[bool]:
        """Take the star away, if there is one."""
        return (yield from self._set(repository, "toggleStar", "starred", wanted=False))

    def bookmark(self, repository: str) -> Flow[bool]:
        """Bookmark it, unless it is."""
        return (yield from self._set(repository, "toggleBookmark", "bookmarked", wanted=True))

    def unbookmark(self, repository: str) -> Flow[bool]:
        """Take the bookmark away, if there is one."""
        return (yield from self._set(repository, "toggleBookmark", "bookmarked", wanted=False))

    def _set(self, repository: str, action: str, field: str, *, wanted: bool) -> Flow[bool]:
        """Read, toggle if it is otherwise, read again: zot has nothing but toggles."""
        changed = False
        for attempt in range(_ATTEMPTS):
            if attempt > 1:  # others toggle it at the same time: do not go on in step with them
                yield from pause(random.uniform(0, 0.05 * 2**attempt))
            summary, _, _ = yield from self._summary(queries.MARKS, repository)
            if getattr(summary, field) == wanted:
                return changed
            # Not to be repeated by itself: twice is as good as never.
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
            f"repository {repository}: it does not stay {'' if wanted else 'un'}{field}: "
            "somebody else with this user's credentials changes it all the time"
        )

    def starred(self) -> Flow[list[RepositorySummary]]:
        """What this user starred."""
        return (yield from self._pages(RepositorySummary, queries.STARRED, "StarredRepos"))

    def bookmarked(self) -> Flow[list[RepositorySummary]]:
        """What this user bookmarked."""
        return (yield from self._pages(RepositorySummary, queries.BOOKMARKED, "BookmarkedRepos"))


class ApiKeys(Extensions):
    """The operations on API keys."""

    def api_keys(self) -> Flow[list[ApiKey]]:
        """This user's, in the order that they were made in."""
        reply = yield from self._extension("apikey", "GET", API_KEYS)
        found = validated_items(reply, ApiKey, reply.json().get("apiKeys") or ())
        start = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda key: (key.created_at or start, key.id))

    def create_api_key(
        self, label: str, *, scopes: tuple[str, ...], expires_at: datetime | None
    ) -> Flow[NewApiKey]:
        """Make one."""
        wanted: dict[str, Any] = {"label": label}
        if scopes:
            wanted["scopes"] = list(scopes)
        if expires_at is not None:
            if expires_at.tzinfo is None:
                raise ApiKeyInvalid("expires_at has no time zone: datetime.now(UTC) has one")
            if expires_at <= datetime.now(UTC):
                raise ApiKeyInvalid(f"expires_at is over: {expires_at.isoformat()}")
            wanted["expirationDate"] = expires_at.isoformat()
        reply = yield from self._extension(
            "apikey",
            "POST",
            API_KEYS,
            headers={"Content-Type": "application/json"},
            body=BytesSource(json.dumps(wanted).encode()),
            expect=frozenset({200, 201}),
            repeatable=False,  # a second key would be one that nobody knows of
        )
        return reply.validated(NewApiKey, reply.json())

    def revoke_api_key(self, key_id: str) -> Flow[None]:
        """Look for it first: zot says that it revoked whatever it is asked to."""
        known = yield from self.api_keys()
        if key_id not in {key.id for key in known}:
            raise NotFound(f"no API key {key_id[:100]!r} of this user")
        yield from call("DELETE", API_KEYS, query=[("id", key_id)], expect=frozenset({200, 204}))
