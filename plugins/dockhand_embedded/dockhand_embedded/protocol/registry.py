"""The registry: a request goes in, a reply comes out. No I/O framework, no socket.

`Registry.handle` is for whoever has the body at hand as blocking pieces. `Registry.steps` is for
whoever gets the pieces pushed (an ASGI server): a generator that is advanced once per piece, in
any thread, and holds none in between.

Follows: OCI Distribution Specification 1.1; the catalog is Docker's Registry HTTP API V2.
"""

from __future__ import annotations

import errno
import logging
import re
from bisect import bisect_right
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from dockhand_embedded.protocol.blobs import Blobs
from dockhand_embedded.protocol.manifests import Manifests
from dockhand_embedded.protocol.messages import Refused, Reply, Request, Steps, json_reply
from dockhand_embedded.protocol.uploads import Uploads
from dockhand_embedded.storage.base import OutsideError, Storage

if TYPE_CHECKING:
    from dockhand_embedded.notifications import Notifier

# Names have slashes, so the endpoint is recognised from the path's end: in `a/blobs/uploads` the
# last two components are never a blob's digest, and a repository named `x/tags` has tags, too.
_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/?", re.DOTALL)
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([^/]+)", re.DOTALL)
_TAGS = re.compile(r"/v2/(.+)/tags/list", re.DOTALL)
_CONTENT = re.compile(r"/v2/(.+)/(blobs|manifests|referrers)/([^/]+)", re.DOTALL)
_COUNT = re.compile(r"[0-9]{1,18}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ = ("GET", "HEAD")
_log = logging.getLogger("dockhand_embedded")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the registry refuses.

    Attributes:
        manifest: bytes; larger ones get 413. The specification expects 4 MiB to be possible.
        blob: bytes; larger ones get 413. No limit if None.
        uploads: how many may be on their way at once; beyond, 429. No limit if None.
    """

    manifest: int = 4 * 1024 * 1024
    blob: int | None = None
    uploads: int | None = None


class Registry:
    """An OCI registry over a storage; safe to use from many threads."""

    def __init__(
        self, storage: Storage, limits: Limits | None = None, notifier: Notifier | None = None
    ) -> None:
        """Serve a storage.

        Args:
            storage: where repositories are kept.
            limits: what is refused.
            notifier: is told what happens.
        """
        limits = limits or Limits()
        self.storage = storage
        self.notifier = notifier
        self._blobs = Blobs(storage)
        self._uploads = Uploads(storage, limits.blob, limits.uploads)
        self._manifests = Manifests(storage, limits.manifest)

    def handle(self, request: Request) -> Reply:
        """Answer a request, reading its body as far as it is needed.

        The reply must be closed. An exception that the body raises comes out as it is; bytes that
        an upload got before it are kept.
        """
        with closing(self.steps(request)) as steps:
            try:
                next(steps)
                for piece in request.body:
                    if piece:
                        steps.send(piece)
                steps.send(b"")
            except StopIteration as done:
                reply: Reply = done.value
                return reply
        raise RuntimeError("the registry asked for more after the end of the body")

    def steps(self, request: Request) -> Steps:
        """Answer a request whose body is pushed in.

        Start it with `next`. At each yield `send` a piece of the body that is not empty, or `b""`
        at its end; the reply is the `StopIteration`'s value, and can come before the body's end.
        `close` it if the client goes away.
        """
        try:
            answer = self._route(request)
            reply = answer if isinstance(answer, Reply) else (yield from answer)
            reply.hold_small()
            if self.notifier and reply.happened:
                self.notifier.tell(request, reply.happened)
        except Refused as refused:
            reply = refused.reply()
        except OutsideError:
            reply = Refused(403, "DENIED", "this name leads out of the registry's folder").reply()
        except OSError as error:
            # Only the storage's: the body's errors do not pass through here. Paths stay in the log.
            _log.exception("%s %s failed", request.method, request.path)
            status = 507 if error.errno in _FULL else 500
            reply = Refused(status, "UNKNOWN", "the registry's storage failed").reply()
        reply.headers.append(("Docker-Distribution-Api-Version", "registry/2.0"))
        if request.method == "HEAD":
            reply.close()
            reply.body = b""
        return reply

    def _route(self, request: Request) -> Reply | Steps:
        path, method = request.path, request.method
        kind, name, rest = endpoint(path)
        if kind == "base":
            _allow(method, *_READ)
            return json_reply({})
        if kind == "catalog":
            _allow(method, *_READ)
            return _listing(request, "repositories", self.storage.repositories(), {})
        if kind == "uploads":
            _allow(method, "POST")
            return self._uploads.start(request, name)
        if kind == "upload":
            return self._upload(request, name, rest)
        if kind == "tags":
            _allow(method, *_READ)
            return _listing(request, "tags", self._manifests.tags(name), {"name": name})
        if kind == "unknown":
            raise Refused(404, "UNSUPPORTED", "no such endpoint", {"path": path[:300]})
        return self._content(request, name, kind, rest)

    def _upload(self, request: Request, name: str, upload_id: str) -> Reply | Steps:
        _allow(request.method, *_READ, "PATCH", "PUT", "DELETE")
        if request.method == "PATCH":
            return self._uploads.patch(request, name, upload_id)
        if request.method == "PUT":
            return self._uploads.put(request, name, upload_id)
        if request.method == "DELETE":
            return self._uploads.cancel(name, upload_id)
        return self._uploads.status(name, upload_id)

    def _content(self, request: Request, name: str, kind: str, reference: str) -> Reply | Steps:
        if kind == "referrers":
            _allow(request.method, *_READ)
            return self._manifests.referrers(request, name, reference)
        if kind == "blobs":
            _allow(request.method, *_READ, "DELETE")
            if request.method == "DELETE":
                return self._blobs.delete(name, reference)
            return self._blobs.get(request, name, reference)
        _allow(request.method, *_READ, "PUT", "DELETE")
        if request.method == "PUT":
            return self._manifests.put(request, name, reference)
        if request.method == "DELETE":
            return self._manifests.delete(name, reference)
        return self._manifests.get(request, name, reference)


def endpoint(path: str) -> tuple[str, str, str]:
    """What a path is about, the repository in it, and what it names in there.

    The first is `base`, `catalog`, `uploads`, `upload`, `tags`, `blobs`, `manifests`, `referrers`,
    or `unknown` for what this registry does not have; the others may be empty. Nothing is checked.
    """
    if path in {"/v2", "/v2/"}:
        return "base", "", ""
    if path == "/v2/_catalog":
        return "catalog", "", ""
    if match := _UPLOADS.fullmatch(path):
        return "uploads", match[1], ""
    if match := _UPLOAD.fullmatch(path):
        return "upload", match[1], match[2]
    if match := _TAGS.fullmatch(path):
        return "tags", match[1], ""
    if match := _CONTENT.fullmatch(path):
        return match[2], match[1], match[3]
    return "unknown", "", ""


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise Refused(
            405,
            "UNSUPPORTED",
            f"{method[:20]} is not supported here",
            None,
            [("Allow", ", ".join(methods))],
        )


def _listing(request: Request, key: str, items: list[str], head: dict[str, str]) -> Reply:
    """A page of a sorted list: `n` items behind `last`, and where the next page is."""
    text, last = request.param("n"), request.param("last")
    if text is not None and not _COUNT.fullmatch(text):
        raise Refused(
            400, "PAGINATION_NUMBER_INVALID", "n must be a number from 0 on", {"n": text[:100]}
        )
    rest = items[bisect_right(items, last) :] if last else items
    page = rest if text is None else rest[: int(text)]
    headers = []
    if page and len(page) < len(rest):
        query = urlencode({"last": page[-1], "n": text})
        headers.append(("Link", f'<{quote(request.path)}?{query}>; rel="next"'))
    return json_reply({**head, key: page}, headers=headers)
