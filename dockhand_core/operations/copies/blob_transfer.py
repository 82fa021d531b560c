"""The transfer of one blob from a repository to another: skipped, mounted or sent.

Follows: OCI Distribution Specification 1.1, "Mounting a blob from another repository", "Pushing a
blob monolithically".
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    BlobUnknown,
    Denied,
    DigestMismatch,
    DockhandError,
    Unauthorized,
    Unsupported,
)
from dockhand_core.flow import (
    BytesSource,
    FileSource,
    Flow,
    Part,
    Peer,
    Progress,
    Source,
    at,
    blocking,
    drain,
    reserve,
    verified,
)
from dockhand_core.models import Descriptor, Digest, PushResult, Upload
from dockhand_core.operations.copies.blob_stream import blob_stream

__all__ = ["BlobTransfer", "Connection", "Outcome", "Route", "is_distributable"]

T = TypeVar("T")

SMALL = 1 << 20  # bytes; a blob of at most this size is read into memory, then sent
_REMEMBERED = 20_000  # blobs of a registry whose repository is remembered


@dataclass(frozen=True)
class Connection:
    """A connection, as far as copies need it.

    Attributes:
        driver: the registry driver.
        peer: the runner of its flows.
        registry: is equal for connections to one registry.
    """

    driver: RegistryDriver
    peer: Peer
    registry: Hashable


@dataclass(frozen=True)
class Route:
    """The source and the target of a copy. Flows of the copy run on the connection `source`.

    Attributes:
        source, target: the connections.
        from_repository, to_repository: the repositories.
    """

    source: Connection
    target: Connection
    from_repository: str
    to_repository: str

    @property
    def same_registry(self) -> bool:
        """Whether both ends are one registry, where blobs can be mounted."""
        return self.source.registry == self.target.registry

    @property
    def same_repository(self) -> bool:
        """Whether both ends are one repository, which has all blobs."""
        return self.same_registry and self.from_repository == self.to_repository

    def there(self, flow: Flow[T]) -> Flow[T]:
        """Run a flow on the target's connection."""
        if self.target.peer is self.source.peer:
            return (yield from flow)
        return (yield from at(self.target.peer, flow))


class Outcome(Enum):
    """The way in which a blob came to the target."""

    SKIPPED = "skipped"
    MOUNTED = "mounted"
    COPIED = "copied"
    LEFT_OUT = "left out"


class _Places:
    """The repositories of a registry that are known to have some blobs."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._lock = threading.Lock()

    def find(self, digest: str) -> str | None:
        return self._places.get(digest)

    def add(self, digest: str, repository: str) -> None:
        with self._lock:
            self._places.pop(digest, None)
            self._places[digest] = repository
            if len(self._places) > _REMEMBERED:
                del self._places[next(iter(self._places))]

    def forget(self, digest: str) -> None:
        with self._lock:
            self._places.pop(digest, None)


_places: weakref.WeakKeyDictionary[Peer, _Places] = weakref.WeakKeyDictionary()


def is_distributable(layer: Descriptor) -> bool:
    """Whether registries store a layer; others, such as Windows base layers, are left out."""
    return "nondistributable" not in layer.media_type and ".foreign." not in layer.media_type


class BlobTransfer:
    """Brings blobs from the source of a route to its target.

    Args:
        route: the route.
        stopped: returns whether to give up.
    """

    def __init__(self, route: Route, stopped: Callable[[], bool]) -> None:
        self._route, self._stopped = route, stopped
        self._places = _places.setdefault(route.target.peer, _Places())

    def bring(self, blob: Descriptor, sent: Callable[[int], None]) -> Flow[Outcome]:
        """Bring a blob to the target, unless the target has it.

        Args:
            blob: the blob's descriptor.
            sent: called with the number of bytes sent; it may fall if they are sent again.
        """
        route = self._route
        there = route.target.driver
        if (yield from route.there(there.blob_exists_for_push(route.to_repository, blob.digest))):
            self._places.add(blob.digest, route.to_repository)
            return Outcome.SKIPPED
        mounted = yield from self._mount(blob.digest)
        if isinstance(mounted, PushResult):
            return Outcome.MOUNTED
        try:
            yield from self._send(blob, mounted, lambda count, _: sent(count))
        except BlobUnknown:
            if not blob.urls:
                raise
            return Outcome.LEFT_OUT  # as the manifest says, it is elsewhere
        self._places.add(blob.digest, route.to_repository)
        return Outcome.COPIED

    def _mount(self, digest: Digest) -> Flow[PushResult | Upload | None]:
        """Mount a blob, if the target's registry is known to have it in another repository.

        Returns:
            an upload to continue, if the registry did not mount the blob; None if no mount was
            tried, or it was refused.
        """
        route = self._route
        origin = route.from_repository if route.same_registry else self._places.find(digest)
        if origin is None or origin == route.to_repository:
            return None
        try:
            result = yield from route.there(
                route.target.driver.mount_blob(route.to_repository, digest, origin)
            )
        except (Denied, Unauthorized, Unsupported):
            return None
        if isinstance(result, Upload) and not route.same_registry:
            self._places.forget(digest)
        return result

    def _send(self, blob: Descriptor, upload: Upload | None, progress: Progress) -> Flow[None]:
        """Send a blob, into the upload that a mount has begun if there is one."""
        route = self._route
        sent = False
        release: Callable[[], None] | None = None
        try:
            if self._stopped():
                raise DockhandError(f"repository {route.to_repository}: the copy was stopped")
            if blob.size <= SMALL:
                data = yield from self._read_small(blob)
                sent = True
                yield from self._send_source(blob, BytesSource(data), upload, progress)
                return
            release = yield from reserve(route.source.peer, route.target.peer)
            sent = True
            if release is None:
                yield from self._send_spooled(blob, upload, progress)
            else:
                yield from self._send_stream(blob, upload, progress)
        except GeneratorExit:
            raise
        except BaseException:
            if upload is not None and not sent:
                yield from self._cancel(upload)
            raise
        finally:
            if release is not None:
                release()

    def _read_small(self, blob: Descriptor) -> Flow[bytes]:
        route = self._route
        try:
            return (
                yield from route.source.driver.read_blob(
                    route.from_repository, blob, max_size=blob.size
                )
            )
        except DigestMismatch as error:
            raise DigestMismatch(
                f"the source's {error}", expected=error.expected, actual=error.actual
            ) from None

    def _verified(self, blob: Descriptor, source: Source) -> Source:
        """The source, verified; a wrong digest is then an error of the source's registry."""
        subject = f"the source's repository {self._route.from_repository}: the blob"
        return verified(source, Digest(blob.digest), subject)

    def _cancel(self, upload: Upload) -> Flow[None]:
        with suppress(DockhandError):  # the error that made it necessary is raised
            yield from self._route.there(self._route.target.driver.cancel_upload(upload))

    def _send_stream(
        self, blob: Descriptor, upload: Upload | None, progress: Progress
    ) -> Flow[None]:
        """Send a blob while it is received."""
        route = self._route
        stream = blob_stream(
            route.source.peer, route.source.driver, route.from_repository, blob, self._stopped
        )
        try:
            yield from self._send_source(blob, self._verified(blob, stream), upload, progress)
        except GeneratorExit:
            raise
        except BaseException:
            yield from stream.release()
            raise
        yield from stream.release()

    def _send_spooled(
        self, blob: Descriptor, upload: Upload | None, progress: Progress
    ) -> Flow[None]:
        """Receive a blob into a temporary file, then send it.

        A client with a single connection cannot do both at a time.
        """
        from tempfile import TemporaryFile  # loaded when it is used

        route = self._route
        with TemporaryFile() as file:
            try:
                stream = blob_stream(
                    route.source.peer,
                    route.source.driver,
                    route.from_repository,
                    blob,
                    self._stopped,
                )
                yield from drain(Part(stream, blob.size), file.write)
            except GeneratorExit:
                raise
            except BaseException:
                yield from stream.release()
                if upload is not None:
                    yield from self._cancel(upload)
                raise
            yield from blocking(file.seek, 0)
            received = self._verified(blob, FileSource(file))
            yield from self._send_source(blob, received, upload, progress)

    def _send_source(
        self, blob: Descriptor, source: Source, upload: Upload | None, progress: Progress
    ) -> Flow[None]:
        route = self._route
        yield from route.there(
            route.target.driver.send_blob(
                route.to_repository, source, digest=blob.digest, upload=upload, progress=progress
            )
        )
