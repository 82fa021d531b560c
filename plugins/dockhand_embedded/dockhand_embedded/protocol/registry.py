"""The registry: it takes a request and returns a reply, without network I/O.

`Registry.handle` takes a request whose body is an iterable; reading the body may block.
`Registry.reply_generator` is for servers that receive the body in pieces (an ASGI server). The
generator is advanced once for each piece, in any thread, and occupies no thread in between.

Follows: OCI Distribution Specification 1.1; for the catalog, Docker's Registry HTTP API V2.
"""

from __future__ import annotations

import errno
import logging
import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockhand_embedded.protocol.blobs import BlobHandlers
from dockhand_embedded.protocol.manifests import ManifestHandlers
from dockhand_embedded.protocol.messages import (
    RegistryReply,
    RegistryRequest,
    ReplyGenerator,
    RequestRejectedError,
    json_reply,
)
from dockhand_embedded.protocol.pagination import page_reply
from dockhand_embedded.protocol.tags import TagHandlers
from dockhand_embedded.protocol.uploads import UploadHandlers
from dockhand_embedded.storage.base import OutsideRootError, Storage

if TYPE_CHECKING:
    from dockhand_embedded.notifications import Notifier

# Repository names contain slashes, so the end of a path decides what the path means. For example,
# `/v2/x/tags/tags/list` is the list of tags of the repository `x/tags`.
_UPLOADS_PATH = re.compile(r"/v2/(.+)/blobs/uploads/?", re.DOTALL)
_UPLOAD_PATH = re.compile(r"/v2/(.+)/blobs/uploads/([^/]+)", re.DOTALL)
# An extension of this registry: the specification has no list of all manifests.
_MANIFESTS_PATH = re.compile(r"/v2/(.+)/_dockhand/manifests/list", re.DOTALL)
_TAGS_PATH = re.compile(r"/v2/(.+)/tags/list", re.DOTALL)
_CONTENT_PATH = re.compile(r"/v2/(.+)/(blobs|manifests|referrers)/([^/]+)", re.DOTALL)
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_METHODS = ("GET", "HEAD")
_log = logging.getLogger("dockhand_embedded")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on sizes and on the number of uploads.

    Attributes:
        manifest: the largest manifest in bytes; larger ones get 413. The specification requires a
            limit of at least 4 MiB.
        blob: the largest blob in bytes; larger ones get 413. None for no limit.
        uploads: the largest number of uploads in progress; further ones get 429. Each of
            them takes a file, until it was idle for a day. None for no limit.
    """

    manifest: int = 4 * 1024 * 1024
    blob: int | None = None
    uploads: int | None = 10_000


class Registry:
    """An OCI registry for one storage; safe to use from many threads."""

    def __init__(
        self, storage: Storage, limits: Limits | None = None, notifier: Notifier | None = None
    ) -> None:
        """Serve a storage.

        Args:
            storage: the storage of the repositories.
            limits: the sizes and numbers above which requests are rejected.
            notifier: gets the actions of each successful request.
        """
        limits = limits or Limits()
        self.storage = storage
        self.notifier = notifier
        self._blobs = BlobHandlers(storage)
        self._uploads = UploadHandlers(storage, limits.blob, limits.uploads)
        self._manifests = ManifestHandlers(storage, limits.manifest)
        self._tags = TagHandlers(storage)

    def handle(self, request: RegistryRequest) -> RegistryReply:
        """Answer a request, and read its body as far as needed.

        The caller must close the reply. An exception raised by the body propagates unchanged; the
        bytes before the exception stay in the upload.
        """
        with closing(self.reply_generator(request)) as generator:
            try:
                next(generator)
                for piece in request.body:
                    if piece:
                        generator.send(piece)
                generator.send(b"")
            except StopIteration as done:
                reply: RegistryReply = done.value
                return reply
        raise RuntimeError("the reply generator expects more pieces after the end of the body")

    def reply_generator(self, request: RegistryRequest) -> ReplyGenerator:
        """Return a generator that receives the body piece by piece and returns the reply.

        Start it with `next`. At each yield, `send` a piece of the body that is not empty, or `b""`
        at the end of the body. The reply is the value of the `StopIteration`, which may be raised
        before the end of the body. Call `close` if the client disconnects.
        """
        try:
            result = self._route(request)
            reply = result if isinstance(result, RegistryReply) else (yield from result)
            reply.load_small_file()
            if self.notifier and reply.actions:
                self.notifier.notify(request, reply.actions)
        except RequestRejectedError as error:
            reply = error.reply()
        except OutsideRootError:
            reply = RequestRejectedError(
                403, "DENIED", "a symbolic link leads out of the registry's folder"
            ).reply()
        except OSError as error:
            # Raised by the storage: an error of the body is raised outside of this generator. The
            # message may contain a path, so it is logged and not sent to the client.
            _log.exception("%s %r failed", request.method, request.path)
            status = 507 if error.errno in _DISK_FULL else 500
            reply = RequestRejectedError(status, "UNKNOWN", "the registry's storage failed").reply()
        reply.headers.append(("Docker-Distribution-Api-Version", "registry/2.0"))
        if request.method == "HEAD":
            reply.close()
            reply.body = b""
        return reply

    def _route(self, request: RegistryRequest) -> RegistryReply | ReplyGenerator:
        path, method = request.path, request.method
        kind, name, rest = parse_path(path)
        if kind == "base":
            _check_method(method, *_READ_METHODS)
            return json_reply({})
        if kind == "catalog":
            _check_method(method, *_READ_METHODS)
            return page_reply(request, "repositories", self.storage.repository_page, {})
        if kind == "uploads":
            _check_method(method, "POST")
            return self._uploads.start(request, name)
        if kind == "upload":
            return self._upload(request, name, rest)
        if kind == "tags":
            _check_method(method, *_READ_METHODS)
            return self._tags.list(request, name)
        if kind == "manifest list":
            _check_method(method, *_READ_METHODS)
            return self._manifests.list(request, name)
        if kind == "unknown":
            raise RequestRejectedError(404, "UNSUPPORTED", "no such endpoint", {"path": path[:300]})
        return self._content(request, name, kind, rest)

    def _upload(
        self, request: RegistryRequest, name: str, upload_id: str
    ) -> RegistryReply | ReplyGenerator:
        _check_method(request.method, *_READ_METHODS, "PATCH", "PUT", "DELETE")
        if request.method == "PATCH":
            return self._uploads.patch(request, name, upload_id)
        if request.method == "PUT":
            return self._uploads.put(request, name, upload_id)
        if request.method == "DELETE":
            return self._uploads.cancel(name, upload_id)
        return self._uploads.status(name, upload_id)

    def _content(
        self, request: RegistryRequest, name: str, kind: str, reference: str
    ) -> RegistryReply | ReplyGenerator:
        if kind == "referrers":
            _check_method(request.method, *_READ_METHODS)
            return self._manifests.referrers(request, name, reference)
        if kind == "blobs":
            _check_method(request.method, *_READ_METHODS, "DELETE")
            if request.method == "DELETE":
                return self._blobs.delete(name, reference)
            return self._blobs.get(request, name, reference)
        _check_method(request.method, *_READ_METHODS, "PUT", "DELETE")
        if request.method == "PUT":
            return self._manifests.put(request, name, reference)
        if request.method == "DELETE":
            if ":" in reference:
                return self._manifests.delete(name, reference)
            return self._tags.delete(name, reference)
        return self._manifests.get(request, name, reference)


def parse_path(path: str) -> tuple[str, str, str]:
    """Split a path into its kind, the repository, and the digest, tag or upload id.

    The kind is `base`, `catalog`, `uploads`, `upload`, `tags`, `manifest list`, `blobs`,
    `manifests`, `referrers`, or `unknown` for a path that this registry does not serve. The other
    two parts may be empty, and are not validated.
    """
    if path in {"/v2", "/v2/"}:
        return "base", "", ""
    if path == "/v2/_catalog":
        return "catalog", "", ""
    if match := _UPLOADS_PATH.fullmatch(path):
        return "uploads", match[1], ""
    if match := _UPLOAD_PATH.fullmatch(path):
        return "upload", match[1], match[2]
    if match := _MANIFESTS_PATH.fullmatch(path):
        return "manifest list", match[1], ""
    if match := _TAGS_PATH.fullmatch(path):
        return "tags", match[1], ""
    if match := _CONTENT_PATH.fullmatch(path):
        return match[2], match[1], match[3]
    return "unknown", "", ""


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise RequestRejectedError(
            405,
            "UNSUPPORTED",
            f"{method[:20]} is not supported here",
            None,
            [("Allow", ", ".join(allowed))],
        )
