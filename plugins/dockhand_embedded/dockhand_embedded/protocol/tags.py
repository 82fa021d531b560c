"""The tag endpoints: listing and deletion.

A tag is created by pushing a manifest (`protocol/manifests.py`).

Follows: OCI Distribution Specification 1.1, "Listing Tags", "Deleting tags".
"""

from __future__ import annotations

from dockhand_embedded.protocol.messages import (
    RegistryAction,
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
    empty_reply,
    manifest_unknown,
)
from dockhand_embedded.protocol.names import check_name, check_tag
from dockhand_embedded.protocol.pagination import page_reply
from dockhand_embedded.storage.base import Storage


class TagHandlers:
    """The tag endpoints for one storage."""

    def __init__(self, storage: Storage) -> None:
        """Serve the tags of a storage."""
        self._storage = storage

    def list(self, request: RegistryRequest, name: str) -> RegistryReply:
        """Answer GET with the tags in ASCII order, or with the page that `n` and `last` select.

        A repository that has blobs but no tags has an empty list.

        Raises:
            RequestRejectedError: 404 NAME_UNKNOWN, if the repository does not exist.
        """
        check_name(name)
        index = self._storage.index(name)
        if index is None:
            raise RequestRejectedError(404, "NAME_UNKNOWN", "no such repository", {"name": name})
        return page_reply(request, "tags", index.tag_page, {"name": name})

    def delete(self, name: str, tag: str) -> RegistryReply:
        """Answer DELETE: remove the tag, and keep the manifest and its other tags."""
        check_name(name)
        check_tag(tag)
        index = self._storage.index(name)
        if index is None or index.tagged(tag) is None:
            raise manifest_unknown(tag)
        with self._storage.edit_index(name) as edit:
            if not edit.delete_tag(tag):
                raise manifest_unknown(tag)
        return empty_reply(202, actions=[RegistryAction("delete", name, tag=tag)])
