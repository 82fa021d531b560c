"""The referrers tag, an index that clients keep up to date where a registry has no referrers API.

Follows: OCI Distribution Specification 1.1, "Referrers Tag Schema", "Pushing Manifests with
Subject", "Deleting Manifests".
"""

from __future__ import annotations

import random
import time
from contextlib import suppress

from dockhand_core.errors import NotFound, RegistryError, Unsupported
from dockhand_core.flow import Flow, pause
from dockhand_core.models import Descriptor, Digest, ImageIndex, ImageManifest
from dockhand_distribution.flow_locks import holding
from dockhand_distribution.manifests import Manifests

# Number of times that a change is written before it is given up: another client may overwrite it
# each time.
ATTEMPTS = 12
# Seconds. The tag is read again after a pause of at least this length.
PAUSE = 0.5
# The pause is at least this many times as long as the change took, because other clients probably
# need as long for theirs.
CHANGES_PER_PAUSE = 3


class ReferrersTag(Manifests):
    """The operations on referrers tags."""

    def _tag_index(self, repository: str, subject: Digest) -> Flow[ImageIndex | None]:
        """Fetch the index of a referrers tag.

        Returns:
            the index, which is empty if the tag does not exist; None if the tag is not an index of
            referrers. GitLab resolves the tag to the subject itself.
        """
        tag = fallback_tag(subject)
        try:
            document = yield from self._limited(self.manifest(repository, tag), objects=True)
        except NotFound:
            return ImageIndex()
        if not isinstance(document, ImageIndex):
            return None
        itself = subject == Digest.of(document.raw, subject.algorithm)
        return None if itself else document

    def _add_referrer(
        self, repository: str, document: ImageManifest | ImageIndex, digest: Digest
    ) -> Flow[None]:
        """Add a pushed manifest to the referrers tag of its subject.

        Raises:
            RegistryError: the tag could not be changed; the message says that the manifest was
                pushed. `Unsupported` if the tag is not an index of referrers.
        """
        config = document.config.media_type if isinstance(document, ImageManifest) else None
        entry = Descriptor(
            media_type=document.media_type,
            digest=digest,
            size=len(document.raw),
            annotations=document.annotations,
            artifact_type=document.artifact_type or config,
        )
        assert document.subject is not None
        try:
            yield from self._keep_changed(repository, document.subject.digest, digest, entry)
        except RegistryError as error:
            raise error.with_hint(
                f"the manifest {digest} was pushed, but is not among the referrers of its subject"
            ) from error

    def _remove_referrer(self, repository: str, subject: Digest, digest: Digest) -> Flow[None]:
        """Remove a manifest from the referrers tag of its subject."""
        yield from self._keep_changed(repository, subject, digest, None)

    def _keep_changed(
        self, repository: str, subject: Digest, digest: Digest, entry: Descriptor | None
    ) -> Flow[None]:
        """Add an entry to a referrers tag or remove it, until the tag has the change for good.

        Registries have no conditional write of a tag, so another client may overwrite the change.
        In this process, a lock lets one flow at a time change a tag. For other processes, the tag
        is read again after the change, and once more after a pause, in which all clients that read
        the tag before the change will probably have written it. A client that takes longer than
        the pause may still remove the change.
        """
        key = (self._base, repository, subject)
        spent = 0.0
        for _ in range(ATTEMPTS):
            start = time.monotonic()
            changed = yield from holding(key, self._change(repository, subject, digest, entry))
            spent = max(spent, time.monotonic() - start)
            if not changed:
                return
            # random, so that two clients do not overwrite each other in step
            length = max(PAUSE, spent * CHANGES_PER_PAUSE)
            yield from pause(length * random.uniform(1, 1.5))
        if (yield from holding(key, self._has(repository, subject, digest))) != (entry is not None):
            raise RegistryError(
                f"repository {repository}: other clients overwrote the tag "
                f"{fallback_tag(subject)} after each of {ATTEMPTS} changes; try again"
            )

    def _change(
        self, repository: str, subject: Digest, digest: Digest, entry: Descriptor | None
    ) -> Flow[bool]:
        """Change the tag if necessary, and again if it has lost the change by the next read.

        After three changes, the caller makes the pause first.

        Returns:
            whether the tag was changed.
        """
        changed = False
        for _ in range(3):
            index = yield from self._tag_index(repository, subject)
            if index is None:
                raise Unsupported(
                    f"repository {repository}: the tag {fallback_tag(subject)} is not an index of "
                    "referrers, so it is not overwritten, and this registry has no other place for "
                    "them",
                    repository=repository,
                )
            others = tuple(d for d in index.manifests if d.digest != digest)
            if (len(others) < len(index.manifests)) == (entry is not None):
                break
            wanted = others if entry is None else (*others, entry)
            try:
                yield from self._put_index(repository, subject, index, wanted)
            except NotFound:
                # The registry of `crane registry serve` refuses an index with an entry that was
                # deleted, for example by a client that has not changed the tag yet.
                existing = yield from self._existing(repository, wanted)
                if len(existing) == len(wanted):
                    raise
                yield from self._put_index(repository, subject, index, existing)
            changed = True
        return changed

    def _put_index(
        self, repository: str, subject: Digest, old: ImageIndex, entries: tuple[Descriptor, ...]
    ) -> Flow[None]:
        update = {"manifests": entries, "subject": None}
        yield from self._put(repository, fallback_tag(subject), old.model_copy(update=update), None)

    def _existing(
        self, repository: str, entries: tuple[Descriptor, ...]
    ) -> Flow[tuple[Descriptor, ...]]:
        found: list[Descriptor] = []
        for entry in entries:
            with suppress(NotFound):
                yield from self.manifest_head(repository, entry)
                found.append(entry)
        return tuple(found)

    def _has(self, repository: str, subject: Digest, digest: Digest) -> Flow[bool]:
        index = yield from self._tag_index(repository, subject)
        return index is not None and any(d.digest == digest for d in index.manifests)


def fallback_tag(subject: Digest) -> str:
    """The referrers tag of a manifest, such as `sha256-0123…`.

    The algorithm is cut off after 32 characters, the encoded part after 64.
    """
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"
