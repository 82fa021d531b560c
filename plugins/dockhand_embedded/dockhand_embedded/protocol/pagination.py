"""Pages of tag lists and of the catalog.

Follows: OCI Distribution Specification 1.1, "Listing Tags"; Docker's Registry HTTP API V2,
"Pagination".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode

from dockhand_embedded.protocol.messages import (
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
    json_reply,
)

_PAGE_SIZE = re.compile(r"[0-9]{1,18}")
# A page has at most this many items, so that no reply is larger than a few MiB.
MAX_PAGE_SIZE = 10_000
ListPage = Callable[[str | None, int], tuple[list[str], bool]]


def requested_page_size(request: RegistryRequest, default: int) -> int:
    """The parameter `n` of a request, or the default.

    Raises:
        RequestRejectedError: 400 PAGINATION_NUMBER_INVALID, if `n` is not a number.
    """
    size = request.param("n")
    if size is None:
        return default
    if not _PAGE_SIZE.fullmatch(size):
        raise RequestRejectedError(
            400, "PAGINATION_NUMBER_INVALID", "n must be a number, 0 or greater", {"n": size[:100]}
        )
    return int(size)


def next_link(request: RegistryRequest, query: dict[str, str]) -> tuple[str, str]:
    """The `Link` header to the next page: the path of the request with another query."""
    return "Link", f'<{quote(request.path)}?{urlencode(query)}>; rel="next"'


def page_reply(
    request: RegistryRequest, key: str, page_of: ListPage, other_fields: dict[str, str]
) -> RegistryReply:
    """The reply with one page of a list, and with a `Link` header if there is a next page.

    Args:
        request: the request. Its parameter `n` is the number of items on the page, and `last` is
            the item before the page. Without `n`, or with a greater one, the page contains at most
            `MAX_PAGE_SIZE` items, which the specification allows.
        key: the field of the JSON document that contains the items.
        page_of: gets `last` and a number of items, and returns items in ASCII order, and whether
            more items follow.
        other_fields: further fields of the document.

    Raises:
        RequestRejectedError: 400 PAGINATION_NUMBER_INVALID, if `n` is not a number.
    """
    size = min(requested_page_size(request, MAX_PAGE_SIZE), MAX_PAGE_SIZE)
    page, more = page_of(request.param("last"), size)
    headers = [next_link(request, {"last": page[-1], "n": str(size)})] if page and more else []
    return json_reply({**other_fields, key: page}, headers=headers)
