"""Pulling, pushing and deleting manifests and tags, and reading the configuration of an image.

Follows: OCI Distribution Specification 1.1, "Pulling manifests", "Pushing Manifests",
"Deleting Manifests", "Deleting tags".
"""

from __future__ import annotations

import json

from dockhand_core.driver import ManifestData
from dockhand_core.errors import (
    ManifestInvalid,
    RegistryError,
    ResponseInvalid,
    SizeInvalid,
    Unsupported,
)
from dockhand_core.flow import BytesSource, Flow, Reply, call
from dockhand_core.http.urls import one_line, redacted_url
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    PushResult,
    check_digest,
    check_reference,
    check_repository,
    check_tag,
    media,
    parse_manifest,
)
from dockhand_distribution.base import (
    DistributionBase,
    announced_digest,
    check_announced_digest,
    content_length,
    refuses_head,
)

CONFIG_LIMIT = 8 << 20  # bytes
_GENERAL = frozenset({"application/json", "application/octet-stream", "binary/octet-stream"})
_ACCEPT = {"Accept": media.ACCEPT}


class Manifests(DistributionBase):
    """The operations on manifests."""

    def manifest(
        self, repository: str, reference: str | Descriptor
    ) -> Flow[ImageManifest | ImageIndex]:
        """Fetch a manifest or index with GET, and verify its digest.

        The request accepts the OCI and Docker media types of manifests and indexes.
        """
        reply = yield from self._manifest_call("GET", repository, reference)
        digest = _verified_digest(repository, reference, reply)
        if isinstance(reference, Descriptor):
            _check_size(reference, len(reply.body), f"repository {repository}: the manifest")
        content_type = reply.headers.get("content-type")
        try:
            return parse_manifest(reply.body, media_type=content_type, digest=digest)
        except ManifestInvalid as error:
            raise ManifestInvalid(
                f"{redacted_url(reply.url)} (Content-Type "
                f"{one_line(content_type[:80]) if content_type else 'missing'}): {error}",
                status=reply.status,
                repository=repository,
            ) from None

    def manifest_head(self, repository: str, reference: str | Descriptor) -> Flow[ManifestHead]:
        """Get the digest, size and media type of a manifest from a HEAD reply.

        If the reply lacks one of the headers, or one says nothing (a `Content-Length` of 0, a
        general `Content-Type` such as text/plain, a digest that cannot be computed here), or the
        registry does not support HEAD, the manifest is fetched with GET.

        Raises:
            ResponseInvalid: the `Docker-Content-Digest` of the reply is malformed, and the
                reference is a tag.
        """
        try:
            reply = yield from self._manifest_call("HEAD", repository, reference)
        except RegistryError as error:
            if not refuses_head(error):
                raise
            return _head_of((yield from self.manifest(repository, reference)))
        name = _path_name(reference)
        asked = Digest(name) if ":" in name else None
        if asked is not None:
            check_announced_digest(reply, asked, f"repository {repository}: the manifest")
        announced = reply.headers.get("docker-content-digest")
        digest = asked or announced_digest(reply)
        if announced and digest is None:
            raise ResponseInvalid(
                f"HEAD {redacted_url(reply.url)}: the Docker-Content-Digest is "
                f"{one_line(announced[:160])!r}, which is not a digest",
                status=reply.status,
                repository=repository,
            )
        size = content_length(reply)
        media_type = reply.headers.get("content-type", "").partition(";")[0].strip()
        if media_type.lower() in media.INDEXES | media.MANIFESTS:
            media_type = media_type.lower()
        known = digest is not None and digest.algorithm in ("sha256", "sha512")
        if digest is None or not known or not size or _says_nothing(media_type):
            return _head_of((yield from self.manifest(repository, reference)))
        return ManifestHead(digest=digest, size=size, media_type=media_type)

    def _manifest_call(
        self, method: str, repository: str, reference: str | Descriptor
    ) -> Flow[Reply]:
        check_repository(repository)
        return (
            yield from call(
                method,
                f"{repository}/manifests/{_path_name(reference)}",
                headers=_ACCEPT,
                scopes=self.pull_scopes(repository),
                kind="manifest",
                repository=repository,
            )
        )

    def _put(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        media_type: str | None,
    ) -> Flow[tuple[PushResult, ImageManifest | ImageIndex, Reply]]:
        """Push the exact bytes of a manifest; return the result, the parsed manifest, the reply."""
        check_repository(repository)
        raw, document = encode_manifest(manifest, media_type)
        asked = _path_name(reference)
        digest = Digest.of(raw, asked.algorithm if isinstance(asked, Digest) else "sha256")
        if isinstance(asked, Digest):
            check_digest(asked, digest, f"repository {repository}: the manifest to push")
        if isinstance(reference, Descriptor):
            _check_size(reference, len(raw), f"repository {repository}: the manifest to push")
        reply = yield from call(
            "PUT",
            f"{repository}/manifests/{asked}",
            headers={"Content-Type": media_type or document.media_type},
            body=BytesSource(raw),
            scopes=self.push_scopes(repository),
            expect=frozenset({200, 201, 202, 204}),  # the specification's status is 201
            kind="manifest",
            repository=repository,
        )
        check_announced_digest(reply, digest, f"repository {repository}: the manifest")
        return self.pushed(repository, "manifest", digest, reply), document, reply

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete a tag.

        Raises:
            Unsupported: the registry does not delete tags. Distribution 2.8 answers 400
                DIGEST_INVALID, and changes nothing.
        """
        check_repository(repository)
        check_tag(tag)
        try:
            yield from self._delete_content(repository, "manifest", tag)
        except RegistryError as error:
            if error.status not in (400, 405) or isinstance(error, Unsupported):
                raise
            raise error.with_hint(
                "this registry does not delete tags; delete_manifest deletes a manifest with all "
                "its tags",
                Unsupported,
            ) from error

    def image_config(
        self, repository: str, source: ImageManifest | Descriptor
    ) -> Flow[ImageConfig]:
        """Read and parse the blob that a manifest's `config` names.

        Raises:
            SizeInvalid: the blob does not have the size that the descriptor states.
        """
        descriptor = source.config if isinstance(source, ImageManifest) else source
        raw = yield from self.read_blob(repository, descriptor.digest, max_size=CONFIG_LIMIT)
        _check_size(descriptor, len(raw), f"repository {repository}: the image config")
        return ImageConfig.parse(raw)


def _head_of(document: ImageManifest | ImageIndex) -> ManifestHead:
    return ManifestHead(
        digest=document.digest, size=len(document.raw), media_type=document.media_type
    )


def _says_nothing(media_type: str) -> bool:
    """Whether a media type is missing, or so general that any file may have it."""
    return (
        not media_type or media_type.lower().startswith("text/") or media_type.lower() in _GENERAL
    )


def _path_name(reference: str | Descriptor) -> str:
    """The tag or digest that stands for a reference in a URL."""
    return reference.digest if isinstance(reference, Descriptor) else check_reference(reference)


def _check_size(descriptor: Descriptor, size: int, subject: str) -> None:
    """Check the size of bytes that have the right digest against their descriptor.

    Raises:
        SizeInvalid: the descriptor states another size.
    """
    if size != descriptor.size:
        raise SizeInvalid(
            f"{subject} {descriptor.digest} has {size} bytes, but its descriptor says "
            f"{descriptor.size}"
        )


def _verified_digest(repository: str, reference: str | Descriptor, reply: Reply) -> Digest:
    """Verify a received manifest, and return its digest.

    If the manifest was requested by digest, it must have this digest. If it was requested by tag,
    it must have the digest in the reply's header, so that a truncated or changed body is detected.
    A header that is malformed, or has an algorithm that cannot be computed here, is ignored.

    Raises:
        DigestMismatch: the manifest has another digest.
    """
    asked = _path_name(reference)
    announced = announced_digest(reply)
    if announced is not None and announced.algorithm not in ("sha256", "sha512"):
        announced = None
    expected = Digest(asked) if ":" in asked else announced
    actual = Digest.of(reply.body, expected.algorithm if expected else "sha256")
    if expected is not None:
        subject = f"repository {repository}: manifest {asked} ({len(reply.body)} bytes)"
        check_digest(expected, actual, subject)
    return actual


def encode_manifest(
    manifest: ManifestData, media_type: str | None
) -> tuple[bytes, ImageManifest | ImageIndex]:
    """Encode a manifest for a push; return its bytes and the parsed manifest.

    Raises:
        ManifestInvalid: the data is not a manifest, or cannot be written as JSON.
    """
    if isinstance(manifest, ImageManifest | ImageIndex):
        return manifest.raw, manifest
    if isinstance(manifest, dict):
        try:
            manifest = json.dumps(manifest, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise ManifestInvalid(f"the manifest cannot be written as JSON: {error}") from None
    return manifest, parse_manifest(manifest, media_type=media_type)
