"""Referrers of a manifest: the referrers API, or the referrers tag if the registry has no API.

Follows: OCI Distribution Specification 1.1, "Listing Referrers", "Referrers Tag Schema",
"Pushing Manifests with Subject", "Deleting Manifests".
"""

from __future__ import annotations

import logging

from dockhand_core.driver import ManifestData
from dockhand_core.errors import (
    Denied,
    DockhandError,
    ManifestInvalid,
    NotFound,
    RegistryError,
    ResponseInvalid,
    Unauthorized,
    Unsupported,
)
from dockhand_core.flow import Flow, call
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    PushResult,
    check_repository,
    media,
    parse_manifest,
)
from dockhand_distribution.base import digest_of
from dockhand_distribution.referrers_tag import ReferrersTag, fallback_tag

__all__ = ["Referrers", "fallback_tag"]

MAX_PAGES = 1000
# Statuses of registries without the referrers API, beside 404 and 405.
_NO_API = frozenset({400, 406, 501})

_log = logging.getLogger("dockhand.distribution")


class Referrers(ReferrersTag):
    """The operations on referrers.

    The first reply that shows whether the registry has the referrers API is remembered.
    """

    _has_api: bool | None = None

    def put_manifest(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        *,
        media_type: str | None,
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

    def delete_manifest(self, repository: str, digest: str | Descriptor) -> Flow[None]:
        """Delete a manifest by digest, and remove it from the referrers tag of its subject.

        The DELETE is sent even if the other requests fail: the stored manifest may be damaged, or
        the registry may refuse to list referrers. Their failures are logged.
        """
        check_repository(repository)
        known = digest_of(digest)
        subject = None
        try:
            subject = yield from self._subject_in_tag(repository, known)
        except DockhandError as error:
            # usually the DELETE raises the same error
            _log.info(
                "repository %s: the referrers tag is not changed for %s, which is deleted: %s",
                repository,
                known,
                error,
            )
        yield from self._delete_content(repository, "manifest", known)
        if subject is None:
            return
        try:
            yield from self._remove_referrer(repository, subject, known)
        except DockhandError as error:
            _log.warning(
                "repository %s: %s was deleted, but may still be listed in the tag %s: %s",
                repository,
                known,
                fallback_tag(subject),
                error,
            )

    def referrers(
        self, repository: str, digest: str | Descriptor, *, artifact_type: str | None
    ) -> Flow[ImageIndex]:
        """Fetch all referrers with the API or, if the registry has no API, from the referrers tag.

        Distribution 2.8 and 3.1 have no API. They answer with a plain 404, even without valid
        credentials.

        Raises:
            Unauthorized, Denied: the registry refuses to list the referrers, and has no referrers
                tag for the manifest.
        """
        check_repository(repository)
        subject = digest_of(digest)
        found: tuple[Descriptor, ...] | None = None
        refused: RegistryError | None = None
        if self._has_api is not False:
            try:
                found = yield from self._limited(
                    self._from_api(repository, subject, artifact_type), objects=True
                )
            except (Denied, Unauthorized) as error:
                # The registry may refuse an endpoint that it does not know.
                refused = error
        if found is None:
            index = yield from self._from_tag(repository, subject, refused)
            found = tuple(_of_type(index.manifests, artifact_type))
        return ImageIndex(manifests=found)

    def _from_tag(
        self, repository: str, subject: Digest, refused: RegistryError | None
    ) -> Flow[ImageIndex]:
        try:
            index = yield from self._tag_index(repository, subject)
        except (Denied, Unauthorized):
            if refused is None:
                raise
            index = None
        if refused is not None and (index is None or not index.manifests):
            raise refused  # an empty list would look as if there were no referrers
        return index or ImageIndex()

    def _from_api(
        self, repository: str, subject: Digest, artifact_type: str | None
    ) -> Flow[tuple[Descriptor, ...] | None]:
        """Fetch all pages of the API; return None if the registry does not seem to have it."""
        start = path = f"{repository}/referrers/{subject}"
        query = [("artifactType", artifact_type)] if artifact_type else []
        found: list[Descriptor] = []
        asked: set[str] = set()
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
            except RegistryError as error:
                if path != start or not self._lacks_api(error):
                    raise
                return None
            try:
                document = parse_manifest(reply.body, media_type=reply.headers.get("content-type"))
            except ManifestInvalid as error:
                raise ResponseInvalid(
                    f"{redacted_url(reply.url)}: the referrers are not an index: "
                    f"{one_line(str(error))}"
                ) from None
            if not isinstance(document, ImageIndex):
                raise ResponseInvalid(
                    f"{redacted_url(reply.url)}: the referrers are not an index, but a manifest"
                )
            self._has_api = True
            applied = reply.headers.get("oci-filters-applied", "").replace(",", " ").split()
            found += _of_type(document.manifests, artifact_type, filtered="artifactType" in applied)
            following = self.next_page_url(reply, start)
            if following is None:
                return tuple(found)
            if following in asked:
                raise ResponseInvalid(
                    f"repository {repository}: the pages of referrers lead in a circle: "
                    f"{redacted_url(following)} comes twice"
                )
            asked.add(following)
            path, query = following, []
        raise ResponseInvalid(f"repository {repository}: more than {MAX_PAGES} pages of referrers")

    def _lacks_api(self, error: RegistryError) -> bool:
        """Whether an error means that the referrers tag is to be read instead.

        A 404 with the code NAME_UNKNOWN or MANIFEST_UNKNOWN is about this repository or manifest
        alone. After a 400 or 406, the API may work for another request. So only other errors are
        remembered.
        """
        if type(error) is NotFound or isinstance(error, Unsupported):
            self._has_api = False
            return True
        return isinstance(error, NotFound) or error.status in _NO_API

    def _subject_in_tag(self, repository: str, digest: Digest) -> Flow[Digest | None]:
        """The subject of a manifest, if its referrers tag may list the manifest; otherwise None."""
        if self._has_api:
            return None
        document = yield from self.manifest(repository, digest)
        if document.subject is None:
            return None
        subject = document.subject.digest
        if self._has_api is None:
            try:
                yield from self._limited(self._from_api(repository, subject, None), objects=True)
            except DockhandError as error:
                _log.info(
                    "repository %s: the registry does not list the referrers of %s, so its "
                    "referrers tag is changed: %s",
                    repository,
                    subject,
                    error,
                )
        return None if self._has_api else subject


def _of_type(
    entries: tuple[Descriptor, ...], artifact_type: str | None, *, filtered: bool = False
) -> list[Descriptor]:
    """The entries of an artifact type, or all; registries may ignore the filter.

    Args:
        entries: the entries of the reply.
        artifact_type: the type; None for all.
        filtered: whether the reply says that the filter was applied; an entry may then lack its
            type.
    """
    types = (artifact_type, None) if filtered else (artifact_type,)
    return [d for d in entries if artifact_type is None or d.artifact_type in types]
