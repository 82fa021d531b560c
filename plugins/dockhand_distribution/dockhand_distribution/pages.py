"""Pages of lists, also of registries that send no `Link`, or ignore `n` or `last`.

Follows: OCI Distribution Specification 1.1, "Listing Tags", by which a `Link` is optional.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from dockhand_core.errors import RegistryError, ResponseInvalid
from dockhand_core.flow import Flow, Reply
from dockhand_core.http.urls import is_relative, redacted_url
from dockhand_core.models import Page

__all__ = ["Batch", "cut_page", "page_of", "strings"]

# The items of a reply, and the position of the next page if the reply has a `Link` to it.
Batch: TypeAlias = tuple[tuple[str, ...], str | None]
# Requests a part of a list, with the parameters `n` and `last`, which may be None.
Fetch: TypeAlias = Callable[[int | None, str | None], Flow[Batch]]

# The usual default sizes, and maximum sizes, of registries' pages. A list with one of these numbers
# of items and no `Link` may be incomplete.
_USUAL_SIZES = frozenset(
    {10, 20, 25, 30, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10_000, 20_000, 50_000}
)
# Keys of a document that reports an error, although its status is a success
_ERROR_KEYS = frozenset({"error", "errors", "message"})
# Statuses of a registry that does not accept `last`
_REFUSED = frozenset({400, 404, 405, 406, 416, 422, 501})


def page_of(
    fetch: Fetch, limit: int | None, after: str | None, *, sorted_by_registry: bool = True
) -> Flow[Page[str]]:
    """Fetch a page of a list.

    If the reply has no `Link`, and as many items as were asked for (or as many as registries
    usually send), the items after it are requested with `last`. So the page knows whether there is
    another one, and has it as its `ahead`. If the registry ignores `last`, the whole list is
    requested without `n`, and the page is cut out of it.

    Args:
        fetch: requests a part of the list.
        limit: the number of items on the page; None for the registry's default.
        after: the position of the page; None for the first page.
        sorted_by_registry: whether the registry is known to sort the list.
    """
    items, following = yield from fetch(limit, after)
    if following is not None or (after is not None and not is_relative(after)):
        if not items and following == after:
            following = None  # the end: an empty page whose link leads to itself
        if items and items[0] == after:
            items = items[1:]  # `last` is included
        return Page(items=_unique(items), next=following)
    if limit is not None and len(items) > limit:
        return cut_page(items, limit, after)  # the registry ignores `n`: this is the whole list
    sent = items
    if after in items:
        if items[0] != after:
            return (yield from _cut_of_whole(fetch, items, limit, after))
        items = items[1:]  # `last` is included
    if not _may_continue(len(sent), limit):
        return Page(items=_unique(items))
    try:
        more, following = yield from fetch(limit, sent[-1])
    except RegistryError as error:
        if error.status not in _REFUSED:
            raise
        return (yield from _cut_of_whole(fetch, sent, limit, after))
    if not more:
        return Page(items=_unique(items))
    known = {*sent, after}
    honours_last = not any(item in known or item < sent[-1] for item in more if item != sent[-1])
    fresh = _unique(tuple(item for item in more if item not in known))
    if following is None and not (honours_last and fresh and sorted_by_registry):
        whole = yield from _whole(fetch, sent, limit)
        if whole is not None:
            return cut_page(whole, limit, after)
    if not fresh:
        return cut_page(sent, limit, after)
    if following is None and _may_continue(len(more), limit):
        following = more[-1]
    return Page(items=_unique(items), next=sent[-1]).with_ahead(Page(items=fresh, next=following))


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    """The items in their order, each once; some registries repeat items."""
    return tuple(dict.fromkeys(items))


def _may_continue(count: int, limit: int | None) -> bool:
    """Whether a list may have more items than a reply without a `Link` has."""
    return count > 0 and (count in _USUAL_SIZES or (limit is not None and count >= limit))


def _cut_of_whole(
    fetch: Fetch, items: tuple[str, ...], limit: int | None, after: str | None
) -> Flow[Page[str]]:
    """Cut a page out of the whole list, because the registry ignores `last`."""
    whole = yield from _whole(fetch, items, limit)
    return cut_page(items if whole is None else whole, limit, after)


def _whole(fetch: Fetch, items: tuple[str, ...], limit: int | None) -> Flow[tuple[str, ...] | None]:
    """Request a list without `n` and `last`, if `items` may be only a part of it.

    Returns:
        the whole list; None if the registry sends it in pages, or sends no more than before.
    """
    if limit is None or not _may_continue(len(items), limit):
        return None
    whole, following = yield from fetch(None, None)
    return None if following is not None or len(whole) <= len(items) else whole


def cut_page(items: tuple[str, ...], limit: int | None, after: str | None) -> Page[str]:
    """Sort a complete list, and cut one page out of it; the rest of the list is the page's `ahead`.

    Args:
        items: all items, in any order.
        limit: the number of items on the page; None for all that remain.
        after: the page begins with the next item after this one; None for the first page.
    """
    rest = sorted({item for item in items if after is None or item > after})
    if limit is None:
        return Page(items=tuple(rest))
    if not rest[limit:]:
        return Page(items=tuple(rest))
    page = Page[str](items=tuple(rest[:limit]), next=rest[limit - 1])
    return page.with_ahead(Page(items=tuple(rest[limit:])))


def strings(reply: Reply, key: str) -> tuple[str, ...]:
    """The list of strings in a field of a reply; registries send null for an empty list.

    Raises:
        ResponseInvalid: the field is not a list of strings, or the reply is not JSON.
    """
    document = reply.json()
    found = document.get(key)
    if found is None:
        if not _ERROR_KEYS.isdisjoint(document):
            raise ResponseInvalid(
                f"{redacted_url(reply.url)}: the reply has no {key!r}", status=reply.status
            )
        return ()  # a registry may leave out an empty list
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {key!r} is not a list of strings")
    return tuple(found)
