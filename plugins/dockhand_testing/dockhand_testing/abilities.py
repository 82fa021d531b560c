"""The abilities in which registries differ, for the contract of registry drivers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Abilities"]


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """The abilities in which registries differ.

    Attributes:
        has_logins: whether the registry can demand a user name and a password.
        has_tokens: whether the registry can demand tokens.
        has_referrers: whether the registry has the referrers API.
        deletes_tags: whether a tag can be deleted without its manifest.
        untags: whether the tags of a manifest disappear when the manifest is deleted.
        checks_manifests: whether the registry refuses a manifest that is not valid, or that names
            a blob which is missing.
        names_missing_blobs: whether the error for such a manifest names the missing blob.
        mounts_blobs: whether the registry mounts blobs of other repositories.
        reports_missing_blobs: whether deleting a missing blob is answered with 404, not with 500.
        has_upload_status: whether the registry has the status of an upload, and can cancel it.
        signs_uploads: whether the URL of an upload contains a signed state, which is a secret.
    """

    has_logins: bool = True
    has_tokens: bool = True
    has_referrers: bool = True
    deletes_tags: bool = True
    untags: bool = True
    checks_manifests: bool = True
    names_missing_blobs: bool = True
    mounts_blobs: bool = True
    reports_missing_blobs: bool = True
    has_upload_status: bool = True
    signs_uploads: bool = False
