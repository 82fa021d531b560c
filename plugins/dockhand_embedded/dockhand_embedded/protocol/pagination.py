"""Pages of tag lists and of the catalog.

Follows: OCI Distribution Specification 1.1, "Listing Tags"; Docker's Registry HTTP API V2,
"Pagination".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from urllib.parse import quote, urlencode

from dockhand_embedded.protocol.messages import (
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
    json_reply,
)

_PAGE_SIZE = re.compile(r"[0-9]{1,18}")


def page_reply(
    request: RegistryRequest, key: str, items: list[str], other_fields: dict[str, str]
) -> RegistryReply:
    """The reply with one page of a list, and with a `Link` header if there is a next page.

    Args:
        request: the request. Its parameter `n` is the number of items on the page, and `last` is
            the item before the page. Without `n` the page contains all remaining items.
        key: the field of the JSON document that contains the items.
        items: the whole list, in ASCII order.
        other_fields: further fields of the document.

    Raises:
        RequestRejectedError: 400 PAGINATION_NUMBER_INVALID, if `n` is not a number.
    """
    size, last = request.param("n"), request.param("last")
    if size is not None and not _PAGE_SIZE.fullmatch(size):
        raise RequestRejectedError(
            400, "PAGINATION_NUMBER_INVALID", "n must be a number, 0 or greater", {"n": size[:100]}
        )
    remaining = items[bisect_right(items, last) :] if last else items
    page = remaining if size is None else remaining[: int(size)]
    headers = []
    if page and len(page) < len(remaining):
        query = urlencode({"last": page[-1], "n": size})
        headers.append(("Link", f'<{quote(request.path)}?{query}>; rel="next"'))
    return json_reply({**other_fields, key: page}, headers=headers)
