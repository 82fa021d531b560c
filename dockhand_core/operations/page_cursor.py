"""Iteration over the pages of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import PluginError, ResponseInvalid
from dockhand_core.flow import LIST_LIMIT, Flow, ListBudget
from dockhand_core.flow.checks import described, dispose, is_flow
from dockhand_core.http.urls import one_line
from dockhand_core.models import Page

__all__ = ["PageCursor", "all_pages", "all_tags"]

T = TypeVar("T")

EMPTY_PAGES = 10  # number allowed in a row; after more, the list is assumed never to end


class PageCursor(Generic[T]):
    """The position in a paginated list; detects lists whose pages never end.

    Args:
        fetch: makes the flow that requests a page. Its argument is the `next` of the page before,
            or None for the first page.
        limit: maximum size in bytes of the replies of all pages together.

    Attributes:
        more: whether another page can be fetched; True before the first page.
    """

    def __init__(
        self, fetch: Callable[[str | None], Flow[Page[T]]], limit: int = LIST_LIMIT
    ) -> None:
        self._fetch = fetch
        self._budget = ListBudget(limit)
        self._after: str | None = None
        self._ahead: Page[T] | None = None
        # hashes of the positions and of the pages so far; a list that repeats one never ends
        self._positions: set[int] = set()
        self._pages: set[int] = set()
        self._empty = 0
        self.more = True

    def next_page(self) -> Flow[tuple[T, ...]]:
        """Fetch the next page, and return its items.

        Raises:
            ResponseInvalid: the registry repeats a page, or sends more than `EMPTY_PAGES` empty
                pages in a row.
            ResponseTooLarge: the replies of all pages exceed the limit.
        """
        page = self._ahead
        if page is None:
            flow = self._fetch(self._after)
            if not is_flow(flow):
                raise self._wrong(flow, "not a flow; it has to be a generator function")
            page = yield from self._budget.metered(flow)
            if not isinstance(page, Page):
                raise self._wrong(page, "not a Page")
        self._ahead = page.ahead
        self._empty = 0 if page.items else self._empty + 1
        position, content = hash(page.next), _hash_of(page.items)
        repeated = position in self._positions or (bool(page.items) and content in self._pages)
        if page.next is not None and (repeated or self._empty > EMPTY_PAGES):
            after = "" if self._after is None else f" after {one_line(self._after)!r}"
            raise ResponseInvalid(
                f"the registry's pages lead in a circle: the page{after} has nothing new and says "
                "that there is more"
            )
        self._positions.add(position)
        self._pages.add(content)
        self._after, self.more = page.next, page.next is not None
        return page.items

    def _wrong(self, value: object, rule: str) -> PluginError:
        dispose(value)
        name = getattr(self._fetch, "__qualname__", "the function given to walk(…)")
        return PluginError(f"{name} returned {described(value)}, {rule}")


def _hash_of(items: tuple[object, ...]) -> int:
    """A hash of a page's items, which need not be hashable themselves."""
    try:
        return hash(items)
    except TypeError:
        return hash(repr(items))


def all_pages(
    fetch: Callable[[str | None], Flow[Page[T]]], limit: int = LIST_LIMIT
) -> Flow[list[T]]:
    """Fetch all pages of a list, and return their items; `PageCursor` describes the arguments."""
    cursor = PageCursor(fetch, limit)
    items: list[T] = []
    while cursor.more:
        items += yield from cursor.next_page()
    return items


def all_tags(driver: RegistryDriver, repository: str) -> Flow[list[str]]:
    """Fetch all tags of a repository, each once.

    Raises:
        NameUnknown: the repository does not exist.
        ResponseInvalid, ResponseTooLarge: as for `PageCursor.next_page`.
    """
    tags = yield from all_pages(
        lambda after: driver.tag_page(repository, limit=None, after=after), driver.list_limit
    )
    return list(dict.fromkeys(tags))
