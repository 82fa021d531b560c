"""Referrers of a manifest: the referrers API, or the referrers tag if the registry has no API.

Follows: OCI Distribution Specification 1.1, "Listing Referrers", "Referrers Tag Schema",
"Pushing Manifests with Subject", "Deleting Manifests".
"""

from __future__ import annotations

from collections.abc import Callable

from dockhand_core.driver import ManifestData
from dockhand_core.errors import NotFound, RegistryError, ResponseInvalid, Unsupported
from dockhand_core.flow import Flow, call
from dockhand_core.http.headers import next_link
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    PushResult,
    check_repository,
    media,
    parse_manifest,
)
from dockhand_distribution.manifests import Manifests

# Number of attempts to change the referrers tag, which another client may overwrite each time.
ATTEMPTS = 4
MAX_PAGES = 1000


class Referrers(Manifests):
    """The operations on referrers.

    The first reply that shows whether the registry has the referrers API is remembered.
    """

    _has_api: bool | None = None

    def put_manifest(
        self, repository: str, reference: str, manifest: ManifestData, *, media_type: str | None
    ) -> Flow[PushResult]:
        """Push a manifest, and add it to the referrers tag of its subject if necessary.

        A reply with `OCI-Subject` shows that the registry has the referrers API, so that the tag is
        not necessary.
        """
        result, document, reply = yield from self._put(repository, reference, manifest, media_type)
        if "oci-subject" in reply.headers:
            self._has_api = True
        elif document.subject is not None:
            yield from self._add_referrer(repository, document, result.digest)
        return result

    def delete_manifest(self, repository: str, digest: str) -> Flow[None]:
        """Delete a manifest by digest, and remove it from the referrers tag of its subject."""
        check_repository(repository)
        known = Digest(digest)
        document = yield from self._listed_in_tag(repository, known)
        yield from self._delete_content(repository, "manifest", known)
        if document is not None:
            yield from self._remove_referrer(repository, document, known)

    def referrers(
        self, repository: str, digest: str, *, artifact_type: str | None
    ) -> Flow[ImageIndex]:
        """Fetch all referrers with the API or, if the registry has no API, from the referrers tag.

        Distribution 2.8 and 3.1 have no API. They answer with a plain 404, even without valid
        credentials.
        """
        check_repository(repository)
        subject = Digest(digest)
        found: tuple[Descriptor, ...] | None = None
        if self._has_api is not False:
            found = yield from self._from_api(repository, subject, artifact_type)
        if found is None:
            index = yield from self._from_tag(repository, subject)
            found = index.manifests
        kept = [d for d in found if artifact_type is None or d.artifact_type == artifact_type]
        return ImageIndex(manifests=tuple(kept))

    def _from_api(
        self, repository: str, subject: Digest, artifact_type: str | None
    ) -> Flow[tuple[Descriptor, ...] | None]:
        path = f"{repository}/referrers/{subject}"
        query = [("artifactType", artifact_type)] if artifact_type else []
        found: list[Descriptor] = []
        for _ in range(MAX_PAGES):
            try:
                reply = yield from call(
                    "GET",
                    path,
                    query=query,
                    headers={"Accept": media.OCI_INDEX},
                    scopes=self.pull_scopes(repository),
                    kind="referrers",
                    repository=repository,
                )
            except (NotFound, Unsupported):
                self._has_api = False
                return None
            document = parse_manifest(reply.body, media_type=reply.headers.get("content-type"))
            if not isinstance(document, ImageIndex):
                raise ResponseInvalid(f"repository {repository}: the referrers are not an index")
            self._has_api = True
            found += document.manifests
            following = next_link(reply.headers)
            if following is None:
                return tuple(found)
            path, query = following, []
        raise ResponseInvalid(f"repository {repository}: more than {MAX_PAGES} pages of referrers")

    def _from_tag(self, repository: str, subject: Digest) -> Flow[ImageIndex]:
        try:
            document = yield from self.manifest(repository, fallback_tag(subject))
        except NotFound:
            return ImageIndex()
        return document if isinstance(document, ImageIndex) else ImageIndex()

    def _add_referrer(
        self, repository: str, document: ImageManifest | ImageIndex, digest: Digest
    ) -> Flow[None]:
        config = document.config.media_type if isinstance(document, ImageManifest) else None
        entry = Descriptor(
            media_type=document.media_type,
            digest=digest,
            size=len(document.raw),
            annotations=document.annotations,
            artifact_type=document.artifact_type or config,
        )
        yield from self._edit_tag(
            repository,
            document,
            lambda old: (*(d for d in old if d.digest != digest), entry),
        )

    def _remove_referrer(
        self, repository: str, document: ImageManifest | ImageIndex, digest: Digest
    ) -> Flow[None]:
        yield from self._edit_tag(
            repository, document, lambda old: tuple(d for d in old if d.digest != digest)
        )

    def _edit_tag(
        self,
        repository: str,
        document: ImageManifest | ImageIndex,
        edit: Callable[[tuple[Descriptor, ...]], tuple[Descriptor, ...]],
    ) -> Flow[None]:
        """Change the referrers tag, and repeat this until the tag has the change.

        Registries have no conditional write of a tag, so another client may overwrite the change.
        """
        assert document.subject is not None
        subject = document.subject.digest
        for _ in range(ATTEMPTS):
            index = yield from self._from_tag(repository, subject)
            wanted = edit(index.manifests)
            if {d.digest for d in wanted} == {d.digest for d in index.manifests}:
                return
            yield from self.put_manifest(
                repository,
                fallback_tag(subject),
                index.model_copy(update={"manifests": wanted}),
                media_type=None,
            )

    def _listed_in_tag(
        self, repository: str, digest: Digest
    ) -> Flow[ImageManifest | ImageIndex | None]:
        """Fetch a manifest if its deletion has to change a referrers tag; otherwise return None."""
        if self._has_api:
            return None
        try:
            document = yield from self.manifest(repository, digest)
        except RegistryError:
            return None  # the following DELETE raises the right error, if any
        if document.subject is None:
            return None
        if self._has_api is None:
            yield from self._from_api(repository, document.subject.digest, None)
        return None if self._has_api else document


def fallback_tag(subject: Digest) -> str:
    """The referrers tag of a manifest, such as `sha256-0123…`.

    The algorithm is cut off after 32 characters, the encoded part after 64.
    """
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"
