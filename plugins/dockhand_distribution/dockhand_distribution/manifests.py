"""Manifests and tags.

Follows: OCI Distribution Specification 1.1, "Pulling manifests", "Pushing Manifests",
"Deleting Manifests", "Deleting tags".
"""

from __future__ import annotations

import json

from dockhand_core.driver import ManifestData
from dockhand_core.errors import (
    DigestMismatch,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
    Unsupported,
)
from dockhand_core.flow import BytesSource, Flow, Reply, call
from dockhand_core.http.urls import resolve_url
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    PushResult,
    check_reference,
    check_repository,
    check_tag,
    media,
    parse_manifest,
)
from dockhand_distribution.scopes import Scopes

CONFIG_LIMIT = 8 << 20
_ACCEPT = {"Accept": media.ACCEPT}


class Manifests(Scopes):
    """The operations on manifests."""

    def manifest(
        self, repository: str, reference: str | Descriptor
    ) -> Flow[ImageManifest | ImageIndex]:
        """Get it, naming all four media types, and hash it."""
        reply = yield from self._manifest_call("GET", repository, reference)
        digest = verify(repository, reference, reply)
        return parse_manifest(
            reply.body, media_type=reply.headers.get("content-type"), digest=digest
        )

    def manifest_head(self, repository: str, reference: str | Descriptor) -> Flow[ManifestHead]:
        """Ask for the headers; where they lack something, for the manifest."""
        reply = yield from self._manifest_call("HEAD", repository, reference)
        asked = name_of(reference)
        digest = reply.headers.get("docker-content-digest") or (asked if ":" in asked else "")
        if ":" in asked and digest.startswith(Digest(asked).algorithm) and digest != asked:
            raise DigestMismatch(
                f"repository {repository}: the registry says {digest[:200]} of manifest {asked}",
                expected=asked,
                actual=digest,
            )
        size = reply.headers.get("content-length", "")
        kind = reply.headers.get("content-type", "")
        if not digest or not size.isdecimal() or len(size) > 18 or not kind:
            document = yield from self.manifest(repository, reference)
            return ManifestHead(
                digest=document.digest, size=len(document.raw), media_type=document.media_type
            )
        return ManifestHead(
            digest=Digest(digest), size=int(size), media_type=kind.partition(";")[0].strip()
        )

    def _manifest_call(
        self, method: str, repository: str, reference: str | Descriptor
    ) -> Flow[Reply]:
        check_repository(repository)
        return (
            yield from call(
                method,
                f"{repository}/manifests/{name_of(reference)}",
                headers=_ACCEPT,
                scopes=self.reading(repository),
                kind="manifest",
                repository=repository,
            )
        )

    def _put(
        self, repository: str, reference: str, manifest: ManifestData, media_type: str | None
    ) -> Flow[tuple[PushResult, ImageManifest | ImageIndex, Reply]]:
        """Put a manifest's bytes, unchanged."""
        check_repository(repository)
        raw, document = content(manifest, media_type)
        asked = check_reference(reference)
        digest = Digest.of(raw, asked.algorithm if isinstance(asked, Digest) else "sha256")
        if isinstance(asked, Digest) and digest != asked:
            raise DigestMismatch(
                f"repository {repository}: the manifest to push as {asked} has the digest {digest}",
                expected=asked,
                actual=digest,
            )
        reply = yield from call(
            "PUT",
            f"{repository}/manifests/{asked}",
            headers={"Content-Type": media_type or document.media_type},
            body=BytesSource(raw),
            scopes=self.writing(repository),
            expect=frozenset({201}),
            kind="manifest",
            repository=repository,
        )
        said = reply.headers.get("docker-content-digest")
        if said and said.startswith(digest.algorithm) and said != digest:
            raise DigestMismatch(
                f"repository {repository}: the registry keeps manifest {digest} as {said[:200]}",
                expected=digest,
                actual=said,
            )
        location = resolve_url(reply.url, reply.headers.get("location", ""))
        return PushResult(digest=digest, location=location), document, reply

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete by tag. Distribution 2.8 answers 400 DIGEST_INVALID, and keeps everything."""
        check_repository(repository)
        check_tag(tag)
        try:
            yield from self._delete(repository, tag)
        except RegistryError as error:
            if error.status not in (400, 405) or isinstance(error, Unsupported):
                raise
            raise error.explained(
                "this registry does not delete tags; delete_manifest deletes a manifest with all "
                "its tags",
                Unsupported,
            ) from error

    def _delete(self, repository: str, reference: str) -> Flow[None]:
        try:
            yield from call(
                "DELETE",
                f"{repository}/manifests/{reference}",
                scopes=self.deleting(repository),
                expect=frozenset({200, 202, 204}),
                kind="manifest",
                repository=repository,
            )
        except ManifestUnknown as error:
            if error.attempts == 1:  # else an earlier try, whose reply was lost, deleted it
                raise

    def image_config(
        self, repository: str, source: ImageManifest | Descriptor
    ) -> Flow[ImageConfig]:
        """Read the blob that the manifest names."""
        descriptor = source.config if isinstance(source, ImageManifest) else source
        raw = yield from self.read_blob(repository, descriptor.digest, max_size=CONFIG_LIMIT)
        return ImageConfig.parse(raw)


def name_of(reference: str | Descriptor) -> str:
    """The tag or digest, checked."""
    return reference.digest if isinstance(reference, Descriptor) else check_reference(reference)


def verify(repository: str, reference: str | Descriptor, reply: Reply) -> Digest:
    """The digest of a manifest that was received, compared with what was asked for.

    For a tag that is what the registry says; it still shows a body that was cut or changed.
    """
    asked = name_of(reference)
    expected = Digest(asked) if ":" in asked else None
    said = reply.headers.get("docker-content-digest")
    if expected is None and said:
        expected = Digest(said)
    actual = Digest.of(reply.body, expected.algorithm if expected else "sha256")
    if expected is not None and actual != expected:
        raise DigestMismatch(
            f"repository {repository}: manifest {asked} should have the digest {expected}, "
            f"its {len(reply.body)} bytes have {actual}",
            expected=expected,
            actual=actual,
        )
    return actual


def content(
    manifest: ManifestData, media_type: str | None
) -> tuple[bytes, ImageManifest | ImageIndex]:
    """The bytes to send, and what they say."""
    if isinstance(manifest, ImageManifest | ImageIndex):
        return manifest.raw, manifest
    if isinstance(manifest, dict):
        try:
            manifest = json.dumps(manifest, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise ManifestInvalid(f"the manifest cannot be written as JSON: {error}") from None
    return manifest, parse_manifest(manifest, media_type=media_type)
