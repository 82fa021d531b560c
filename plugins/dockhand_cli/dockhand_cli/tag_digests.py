"""The digests of all tags of a repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockhand_core import RegistryClient
    from dockhand_core.flow import Flow
    from dockhand_core.models import ManifestHead

__all__ = ["tag_heads"]

_WORKERS = 16  # requests at a time


def tag_heads(
    client: RegistryClient,
    repository: str,
    progress: Callable[[int, int | None], object],
) -> dict[str, ManifestHead]:
    """Fetch the heads of all tags of a repository, with one request each.

    Tags that point to no manifest are left out.

    Args:
        client: the client of the registry.
        repository: the repository's name.
        progress: called with the number of tags that are done, and their number.
    """
    from dockhand_core.errors import NameUnknown, NotFound
    from dockhand_core.flow import parallel

    done = 0

    def head(tag: str) -> Flow[ManifestHead | None]:
        nonlocal done
        try:
            found = yield from client.driver.manifest_head(repository, tag)
        except NotFound:
            found = None
        done += 1  # a lost count of two threads costs a step of the bar
        progress(done, len(tags))
        return found

    try:
        tags = list(client.tags(repository))
    except NameUnknown:  # some registries forget a repository without tags
        return {}
    heads = client.run(parallel((head(tag) for tag in tags), limit=_WORKERS))
    return {tag: found for tag, found in zip(tags, heads, strict=True) if found is not None}
