"""The operations of the sync client on archives, artifacts and retention."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_core.copy_client import CopyClient
from dockhand_core.flow import Progress
from dockhand_core.models import BlobProgress, Descriptor, Platform, PushResult

# The operations are imported when they are used: most programs use few of them.
if TYPE_CHECKING:
    from dockhand_core.operations.archives import ArchiveFormat
    from dockhand_core.operations.artifacts.files import ArtifactFile
    from dockhand_core.operations.artifacts.push import AnyFile
    from dockhand_core.operations.retention.apply import ItemDone
    from dockhand_core.operations.retention.plan import RetentionPlan, RetentionResult
    from dockhand_core.operations.retention.policy import RetentionPolicy

__all__ = ["ImageClient"]


class ImageClient(CopyClient):
    """The base of `RegistryClient`, with the operations on archives, artifacts and retention."""

    # -- archives --------------------------------------------------------------------------

    def save_image(
        self,
        repository: str,
        reference: str | Descriptor,
        path: str | Path,
        *,
        format: ArchiveFormat = "oci-archive",  # noqa: A002
        platform: Platform | str | None = None,
        platforms: Sequence[Platform | str] | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> Descriptor:
        """Save an image into an archive, which appears only when it is complete and verified.

        Manifests, configs and layers are written as they are stored, in a fixed order and without
        times, so the same image gives the same bytes. Existing files are replaced. An existing
        layout (format `oci`) keeps its other images, and the blobs that it has.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            path: the file to write; for the format `oci`, the folder.
            format: `oci` for a folder with an OCI image layout, `oci-archive` for a tar file of
                such a layout, or `docker-archive` for the tar file that `docker load` and
                `podman load` read.
            platform: the platform of the image to save; its manifest is saved alone. If it is not
                given, an index is saved as a whole; of an index, a `docker-archive` holds the image
                for `linux/amd64`.
            platforms: of an index, the platforms to save, with their attestations. The index that
                is saved lists only these, so its digest differs.
            name: the image's name in the archive: the annotation
                `org.opencontainers.image.ref.name`, by default the tag; in a `docker-archive` the
                RepoTag, by default `<repository>:<tag>`.
            progress: called with the number of bytes written so far and the size in bytes of all
                blobs.
            blob_progress: called with the `BlobProgress` of each blob, as by `copy`. Blobs that a
                folder has already are `skipped`.

        Returns:
            The descriptor of the manifest or index that was saved.

        Raises:
            ManifestUnknown, BlobUnknown: the repository lacks the image, or a part of it.
            PlatformNotFound: the image has no such platform; the message lists its platforms.
            DigestMismatch: received bytes have another digest, or are fewer than stated.
            ResponseTooLarge: a blob has more bytes than its descriptor states.
            Unsupported: a `docker-archive` cannot hold the image: it is an artifact, or has layers
                that are to be fetched from URLs.
            ArchiveInvalid: `path` is a folder with other content than an image layout.
            OSError: the archive cannot be written.

        Follows: OCI Image Specification 1.1, "Image Layout"; Docker Image Specification 1.2.
        """
        from dockhand_core.operations import archives

        return self.run(
            archives.save_image(
                self.driver, repository, reference, Path(path), archive_format=format,
                platform=platform, platforms=platforms, name=name, progress=progress,
                blob_progress=blob_progress,
            )
        )  # fmt: skip

    def load_image(
        self,
        path: str | Path,
        repository: str,
        reference: str | None = None,
        *,
        source: str | None = None,
        platforms: Sequence[Platform | str] | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> PushResult:
        """Push an image from an archive.

        The archive may be a folder with an OCI image layout, a tar file of one, or a
        docker-archive, as `docker save` and `podman save` write it; tar files also in gzip. Nothing
        is unpacked to disk, and every blob and manifest is verified. Blobs that the repository has
        are not sent. The tag is written last.

        Layers that a docker-archive holds without compression are compressed with gzip, always to
        the same bytes by the same version of zlib.

        Args:
            path: the archive. It is read more than once, so it cannot be a pipe.
            repository: the repository to push to.
            reference: the tag to write; None to push the image by its digest alone.
            source: the tag, name or digest of the image in the archive, if it holds several.
            platforms: the platforms to push, with their attestations; others may be missing in the
                archive. An index then lists only these, so its digest differs.
            progress: called with the number of bytes that the repository has so far and the size in
                bytes of all blobs.
            blob_progress: called with the `BlobProgress` of each blob, as by `copy`.

        Returns:
            The digest and location of the image's manifest or index.

        Raises:
            ArchiveInvalid: the archive is malformed or unsafe, or lacks a part of the image; the
                message names the member. Or it holds several images, which the message lists.
            PlatformNotFound: the image has no such platform; the message lists its platforms.
            DigestMismatch: `reference` is a digest, but the image has another digest.
            OSError: the archive cannot be read.

        Follows: OCI Image Specification 1.1, "Image Layout"; Docker Image Specification 1.2.
        """
        from dockhand_core.operations import archives

        return self.run(
            archives.load_image(
                self.driver, Path(path), repository, reference,
                source=source, platforms=platforms, progress=progress, blob_progress=blob_progress,
            )
        )  # fmt: skip

    # -- artifacts -------------------------------------------------------------------------

    def push_artifact(
        self,
        repository: str,
        reference: str | Descriptor | None,
        files: Iterable[AnyFile],
        *,
        artifact_type: str | None = None,
        subject: str | Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
        config: ArtifactFile | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> PushResult:
        """Push files and folders as an artifact, as `oras push` and `oras attach` do.

        Each file is a layer with its name as the title. A folder is packed into a tar file with
        gzip, in a temporary file; owners are left out, and modes and times of its files are kept.
        The same files give the same digest if `annotations` has the time
        `org.opencontainers.image.created`, which is otherwise the current time.

        Args:
            repository: the repository's name.
            reference: a tag; or None, to push by digest only.
            files: paths of files and folders, and `ArtifactFile`s; none for an artifact that
                consists of its annotations. The name of a file in the artifact is its path, if this
                is relative and below the working directory; otherwise the path's last component.
            artifact_type: type of the artifact, a media type; by default
                `application/vnd.unknown.artifact.v1`, or with a config none.
            subject: the manifest that the artifact is attached to: its tag, digest or descriptor.
            annotations: annotations of the manifest, name to value.
            config: the config of the artifact; by default the empty config. Its media type is by
                default `application/vnd.unknown.config.v1+json`.
            progress: called with the number of bytes sent so far and the number of bytes of all
                distinct files, of folders packed; files that the repository has count as sent.
            blob_progress: called with the `BlobProgress` of each distinct file and of the config,
                as by `copy`. The annotation `org.opencontainers.image.title` has the file's name.

        Returns:
            The digest and location of the artifact's manifest.

        Raises:
            ArtifactInvalid: a file could not be pulled again, because of its name or kind, or
                because two files have the same name; or an argument is malformed. Nothing was sent.
            ManifestUnknown: the subject does not exist.
            DigestMismatch: a file was changed meanwhile; no manifest was pushed.
            OSError: a file cannot be read.
            Unsupported: as for `put_manifest`, if there is a subject.

        Follows: OCI Image Specification 1.1, "Guidelines for Artifact Usage".
        """
        from dockhand_core.operations.artifacts.push import push_artifact

        return self.run(
            push_artifact(
                self.driver,
                repository,
                reference,
                files,
                artifact_type=artifact_type,
                subject=subject,
                annotations=annotations,
                config=config,
                progress=progress,
                blob_progress=blob_progress,
            )
        )

    def pull_artifact(
        self,
        repository: str,
        reference: str | Descriptor,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        max_size: int | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> list[Path]:
        """Pull the files and folders of an artifact into a folder, all of them or none.

        Layers without a title are skipped. The others are downloaded, verified and unpacked in a
        temporary folder `.dockhand-…` inside the folder, and then moved. Nothing outside the folder
        is written, and links in it are not followed. Modes of files in folders are kept, without
        setuid, setgid and sticky bits; and so are their times.

        Args:
            repository: the repository's name.
            reference: a tag, a digest, or a descriptor.
            folder: the folder; it is made if it does not exist. Folders of the artifact that exist
                there already get the artifact's files beside their own.
            overwrite: whether to replace existing files.
            max_size: maximum number of bytes to write in total; by default 4 GiB. An artifact has
                at most 65,536 files.
            progress: called with the number of bytes received so far and the number of bytes of
                all distinct layers with a title.
            blob_progress: called with the `BlobProgress` of each layer with a title, as by `copy`.

        Returns:
            The path of each file and each folder that is a layer, in the order of the layers.

        Raises:
            ManifestUnknown: the artifact does not exist.
            ArtifactInvalid: the reference is an index; or the artifact has names or links that lead
                out of the folder, two files of one name, devices, more than `max_size` bytes or a
                damaged folder. Nothing of it was left in the folder.
            ArtifactFileExists: a file exists already, and `overwrite` is false. Nothing was
                changed.
            DownloadFileRefused: the folder cannot be written to; or a link or a file stands in the
                place of a folder of the artifact, or a folder in that of a file.
            DigestMismatch, ResponseTooLarge: the bytes of a layer are wrong.
            OSError: a file cannot be written, for example because the disk is full.

        Follows: OCI Image Specification 1.1, "Guidelines for Artifact Usage".
        """
        from dockhand_core.operations.artifacts.pull import pull_artifact

        return self.run(
            pull_artifact(
                self.driver,
                repository,
                reference,
                folder,
                overwrite=overwrite,
                max_size=max_size,
                progress=progress,
                blob_progress=blob_progress,
            )
        )

    # -- retention -------------------------------------------------------------------------

    def plan_retention(
        self,
        repository: str,
        policy: RetentionPolicy,
        *,
        progress: Progress | None = None,
    ) -> RetentionPlan:
        """Decide which tags and manifests of a repository a retention policy deletes.

        Nothing is changed. To find out whether the registry can delete a tag alone, the drivers of
        some registries send a DELETE of a random tag that does not exist; this happens only if the
        plan has such a deletion.

        The age of a tag is the time of the push where the driver knows it (that of zot does, with
        the extension search). Elsewhere it is the time of the build: `created` in the image's
        config, of an index that of its newest image, or the annotation
        `org.opencontainers.image.created`. So an old image that was copied to the registry today is
        old. A tag without a time, or with one before 1981 or in the future, is not deleted.

        The manifest of a deleted tag is deleted, too, unless another tag reaches it, directly or
        through an index; with it go the images of an index that nothing else reaches, and all
        referrers and signatures.

        Each tag takes a HEAD; each different manifest, also those in indexes, a GET, and one more
        for the config of a candidate's image. Each manifest that is to be deleted takes a request
        for its referrers. zot's push times take a request for every 100 tags, and no configs.

        Args:
            repository: the repository's name.
            policy: the policy.
            progress: called with the number of steps that are done, and their number: two for each
                tag.

        Returns:
            The plan, for `apply_retention`. `RetentionPlan.to_json` writes it to a text.

        Raises:
            RetentionLimitExceeded: the plan has more deletions than the policy's `max_delete`.
            ManifestInvalid: an index cannot be read, so it is not known which manifests it needs.
            NameUnknown: the repository does not exist.
            Unsupported: the policy has `untagged_older_than`, and the driver cannot list manifests.

        Follows: "Listing Tags", "Listing Referrers", "Referrers Tag Schema".
        """
        from dockhand_core.operations.retention.planning import plan_retention

        return self.run(plan_retention(self.driver, repository, policy, progress))

    def apply_retention(
        self,
        plan: RetentionPlan,
        *,
        progress: Progress | None = None,
        item_done: ItemDone | None = None,
    ) -> RetentionResult:
        """Make the deletions of a retention plan, except where tags have changed since it was made.

        Before each deletion, all tags are listed again, and each takes a HEAD. A manifest is left
        alone if one of its tags has moved, or if a tag outside the plan reaches it by now; so are
        the images and referrers that belong to it. In a large repository, where this look takes
        longer than a second, it serves for the deletions in a following time of the same length,
        for which only new tags and those of the manifest take a HEAD.

        No registry has a conditional DELETE, so a tag that moves between the look and the DELETE
        is not noticed. Do not push to the repository meanwhile.

        If the application is interrupted, the same plan can be applied again: it deletes the rest.

        The registry frees the bytes of blobs with its own garbage collection.

        Args:
            plan: the plan, from `plan_retention` or `RetentionPlan.from_json`.
            progress: called with the number of deletions that are done, and their number.
            item_done: called after each item with its outcome (`"deleted"`, `"changed"`, `"failed"`
                or `"gone"`) and the item, as the result will have it.

        Returns:
            The items of the plan by their outcome. An error of a deletion does not raise an
            exception; if the registry cannot be reached or deletes no manifests, no further
            deletion is tried.

        Raises:
            RetentionPlanInvalid: the plan was made for another registry.

        Follows: "Deleting Manifests", "Deleting tags".
        """
        from dockhand_core.operations.retention.apply import apply_retention

        return self.run(apply_retention(self.driver, plan, progress, item_done))
