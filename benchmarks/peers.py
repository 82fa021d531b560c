"""Comparisons with the clients oras-py and dxf, used with one session as their docs show."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import Row, compare, ratio_row
from benchmarks.server import BLOBS, FULL_PAGE, MANIFESTS, Server, push_tags
from benchmarks.transfer import Blob
from dockhand_core import RegistryClient, connect

__all__ = ["against_dxf", "against_oras"]

Action = Callable[[], object]
LISTS = 30
FULL_PAGE_WHY = (
    "One request more is sent: 100 tags without a Link may be a full page. See the README."
)
URLLIB3_WHY = (
    "Both peers use urllib3, which moves large bodies at a lower cost per block than httpx."
)
ORAS_WHY = (
    "oras-py neither hashes the received bytes nor flushes them to disk; in the next row it does. "
    + URLLIB3_WHY
)


class PeerComparison:
    """A comparison of Dockhand's sync client with another client; it collects the rows."""

    def __init__(
        self, peer: str, server: Server, blob: Blob, client: RegistryClient, rounds: int
    ) -> None:
        self.peer, self.client, self.blob = peer, client, blob
        self.copy = blob.path.with_suffix(".copy")
        self.part = server.tags[:100]
        self.size = f"{blob.size >> 20} MiB"
        self._server, self._rounds = server, rounds
        self.rows: list[Row] = []

    def add(
        self,
        what: str,
        ours: Action,
        theirs: Action,
        *,
        prepare: Action | None = None,
        how: str = "",
        why: str = "",
        judged: bool = True,
    ) -> None:
        """Time both sides, and add a row with the result."""
        pair = compare(ours, theirs, self._rounds, prepare=prepare)
        target = 1.0 if judged else None
        against = self.peer + how
        self.rows.append(ratio_row(what, against, pair, target, strict=True, why=why))

    def push(self, theirs: Callable[[], str]) -> str:
        """Measure the push of a file; return the digest of the blob that was pushed last."""
        pushed: list[str] = []

        def prepare() -> None:
            while pushed:
                self._server.drop(pushed.pop())
            self.blob.change()

        self.add(
            f"push {self.size}",
            lambda: pushed.append(self.client.upload_blob(BLOBS, self.blob.path).digest),
            lambda: pushed.append(theirs()),
            prepare=prepare,
        )
        prepare()
        return str(self.client.upload_blob(BLOBS, self.blob.path).digest)

    def download(self, digest: str, theirs: Action, **options: Any) -> None:
        """Measure the pull of a blob to a file."""

        def prepare() -> None:
            self.copy.unlink(missing_ok=True)
            os.sync()

        self.add(
            f"pull {self.size} to a file",
            lambda: self.client.download_blob(BLOBS, digest, self.copy),
            theirs,
            prepare=prepare,
            **options,
        )
        self.copy.unlink(missing_ok=True)

    def read(self, digest: str, theirs: Action, **options: Any) -> None:
        """Measure the pull of a blob block by block."""

        def ours() -> None:
            with self.client.open_blob(BLOBS, digest) as reader:
                for _ in reader:
                    pass

        self.add(f"verified pull of {self.size}", ours, theirs, **options)

    def manifests(self, action: str, ours: Action, theirs: Action) -> None:
        """Measure 100 requests for manifests."""
        self.add(f"{len(self.part)} x manifest {action}", ours, theirs)

    def tags(self, theirs: Callable[[str], list[str]]) -> None:
        """Measure lists of all tags; each round makes many, since one takes only milliseconds.

        A list of 100 tags may be a full page of a registry that sends no `Link`, so Dockhand asks
        whether there are more.
        """
        full = push_tags(self.client, FULL_PAGE, 100)
        for repository, tags, why in (
            (MANIFESTS, self._server.tags, ""),
            (FULL_PAGE, full, FULL_PAGE_WHY),
        ):
            count = len(tags)
            assert len(theirs(repository)) >= count, f"{self.peer} does not list all tags"
            self.add(
                f"{LISTS} x list {count} tags",
                lambda: [list(self.client.tags(repository)) for _ in range(LISTS)],  # noqa: B023
                lambda: [theirs(repository) for _ in range(LISTS)],  # noqa: B023
                why=why,
            )


def against_oras(server: Server, blob: Blob, rounds: int) -> list[Row]:
    """Compare with oras-py: push, pull to a file, GET of manifests, and tags.

    oras-py has neither HEAD of a manifest nor a blob reader.
    """
    import oras.container
    import oras.oci
    import oras.provider

    host = urlsplit(server.url).netloc
    logging.getLogger("oras").setLevel(logging.ERROR)
    registry = oras.provider.Registry(host, insecure=not server.url.startswith("https://"))
    blobs = oras.container.Container(f"{host}/{BLOBS}")

    with connect(server.url) as client:
        comparison = PeerComparison("oras-py", server, blob, client, rounds)

        def push() -> str:
            layer = oras.oci.NewLayer(str(blob.path))
            registry.upload_blob(str(blob.path), blobs, layer).raise_for_status()
            return str(layer["digest"])

        def checked() -> None:
            registry.download_blob(blobs, digest, str(comparison.copy))
            with comparison.copy.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            assert f"sha256:{found}" == digest

        def get() -> None:
            for tag in comparison.part:
                registry.get_manifest(oras.container.Container(f"{host}/{MANIFESTS}:{tag}"))

        digest = comparison.push(push)
        comparison.download(
            digest,
            lambda: registry.download_blob(blobs, digest, str(comparison.copy)),
            why=ORAS_WHY,
        )
        comparison.download(digest, checked, how=", then sha256 and fsync", judged=False)
        comparison.manifests("get", lambda: _get_manifests(client, comparison.part), get)
        comparison.tags(lambda repository: list(registry.get_tags(f"{host}/{repository}")))
        server.drop(digest)
    return comparison.rows


def against_dxf(server: Server, blob: Blob, rounds: int) -> list[Row]:
    """Compare with dxf: push, pull, HEAD and GET of manifests, and tags."""
    import dxf

    host, insecure = urlsplit(server.url).netloc, not server.url.startswith("https://")
    with (
        connect(server.url) as client,
        dxf.DXF(host, BLOBS, insecure=insecure) as blobs,
        dxf.DXF(host, MANIFESTS, insecure=insecure) as manifests,
        dxf.DXF(host, FULL_PAGE, insecure=insecure) as full_page,
    ):
        comparison = PeerComparison("dxf", server, blob, client, rounds)

        def read(chunk: int | None) -> None:
            for _ in _blocks(blobs.pull_blob(digest, chunk_size=chunk)):
                pass

        def save() -> None:
            with comparison.copy.open("wb") as file:
                for block in _blocks(blobs.pull_blob(digest)):
                    file.write(block)

        def head() -> None:
            for tag in comparison.part:
                manifests.head_manifest_and_response(tag)

        def get() -> None:
            for tag in comparison.part:
                manifests.get_manifest(tag)

        def tags(repository: str) -> list[str]:
            found = full_page if repository == FULL_PAGE else manifests
            return [str(tag) for tag in found.list_aliases(iterate=True)]

        digest = comparison.push(lambda: str(blobs.push_blob(str(blob.path))))
        comparison.read(digest, lambda: read(None))
        comparison.read(digest, lambda: read(1 << 20), how=", chunk_size=1 MiB", why=URLLIB3_WHY)
        comparison.download(digest, save, why="Ours is flushed to disk before it is renamed.")
        comparison.manifests("head", lambda: _get_heads(client, comparison.part), head)
        comparison.manifests("get", lambda: _get_manifests(client, comparison.part), get)
        comparison.tags(tags)
        server.drop(digest)
    return comparison.rows


def _blocks(found: Any) -> Any:
    return found  # typed as Any, since dxf's types also allow bytes or a number


def _get_heads(client: RegistryClient, tags: list[str]) -> None:
    for tag in tags:
        client.manifest_head(MANIFESTS, tag)


def _get_manifests(client: RegistryClient, tags: list[str]) -> None:
    for tag in tags:
        client.manifest(MANIFESTS, tag)
