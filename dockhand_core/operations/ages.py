"""Ages of tags: the time of the push where the driver knows it, else the time of the build.

The time of the build is `created` in the image's config, of an index that of its newest image; else
the annotation `org.opencontainers.image.created`. A time before 1981 does not count, because
reproducible builds write 1970; nor does a time in the future.

Follows: OCI Image Specification 1.1, "Image Configuration", "Pre-Defined Annotation Keys".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    DigestMismatch,
    ManifestInvalid,
    NotFound,
    ResponseTooLarge,
    SizeInvalid,
)
from dockhand_core.flow import Flow, parallel
from dockhand_core.models import (
    Descriptor,
    Digest,
    ImageIndex,
    ImageManifest,
    TagDetails,
    media,
)

__all__ = ["built_at", "newest_build", "push_times", "tag_ages", "usable_time"]

CREATED = "org.opencontainers.image.created"
EARLIEST = datetime(1981, 1, 1, tzinfo=UTC)
WORKERS = 8  # requests at a time
_DEPTH = 4  # levels of nested indexes


def usable_time(time: datetime | None, now: datetime) -> datetime | None:
    """The time in UTC; None if it is before 1981 or after `now`."""
    found = _in_utc(time)
    return found if found is not None and EARLIEST <= found <= now else None


def _in_utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    try:
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, ValueError):  # in the year 1 or 9999, in another time zone
        return None


def _parsed(text: str | None) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None


def _dated(*times: datetime | None) -> datetime | None:
    """The first of some times that is not before 1981."""
    found = map(_in_utc, times)
    return next((time for time in found if time is not None and time >= EARLIEST), None)


def built_at(
    driver: RegistryDriver, repository: str, config: Descriptor, annotations: Mapping[str, str]
) -> Flow[datetime | None]:
    """The time when an image or artifact was made, which may lie in the future.

    The config is read with one request, if it is the config of an image. If it is missing or
    damaged, it has no time.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        config: the `config` of the manifest.
        annotations: the annotations of the manifest.
    """
    created = None
    if config.media_type in media.IMAGE_CONFIGS:
        with suppress(DigestMismatch, ManifestInvalid, NotFound, ResponseTooLarge, SizeInvalid):
            created = (yield from driver.image_config(repository, config)).created
    return _dated(created, _parsed(annotations.get(CREATED)))


def newest_build(
    annotations: Mapping[str, str], images: Iterable[datetime | None]
) -> datetime | None:
    """The time when an index was made, from its annotations and the times of its images."""
    newest = max((time for time in images if time is not None), default=None)
    return _dated(newest, _parsed(annotations.get(CREATED)))


def push_times(
    driver: RegistryDriver, repository: str, now: datetime
) -> Flow[dict[Digest, datetime]]:
    """The times of pushes by digest, as far as the driver knows them; the latest of several tags.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        now: the present time.
    """
    details: Mapping[str, TagDetails] = yield from driver.tag_details(repository)
    found: dict[Digest, datetime] = {}
    for each in details.values():
        time = usable_time(each.pushed_at, now)
        if time is not None:
            found[each.digest] = max(time, found.get(each.digest, time))
    return found


def tag_ages(
    driver: RegistryDriver, repository: str, tags: Iterable[str]
) -> Flow[dict[str, datetime | None]]:
    """The times by which tags are ordered by age; None for a tag without a usable time.

    Each tag takes a HEAD request. Each digest whose push time the driver does not know also takes
    the requests for its manifests and configs. A tag that no longer exists is left out.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        tags: the tags.
    """
    now = datetime.now(UTC)
    names = list(tags)
    times = yield from push_times(driver, repository, now)

    def head(tag: str) -> Flow[Digest | None]:
        try:
            return (yield from driver.manifest_head(repository, tag)).digest
        except NotFound:
            return None

    digests = yield from parallel((head(tag) for tag in names), limit=WORKERS)
    unknown = list({d: None for d in digests if d is not None and d not in times})

    def read(digest: Digest) -> Flow[datetime | None]:
        try:
            document = yield from driver.manifest(repository, digest)
        except (ManifestInvalid, NotFound):
            return None
        return (yield from _age(driver, repository, document, _DEPTH))

    read_times = yield from parallel((read(digest) for digest in unknown), limit=WORKERS)
    built = {d: usable_time(t, now) for d, t in zip(unknown, read_times, strict=True)}
    return {
        tag: times.get(digest) or built.get(digest)
        for tag, digest in zip(names, digests, strict=True)
        if digest is not None
    }


def _age(
    driver: RegistryDriver, repository: str, document: ImageManifest | ImageIndex, depth: int
) -> Flow[datetime | None]:
    if isinstance(document, ImageManifest):
        return (yield from built_at(driver, repository, document.config, document.annotations))
    times: list[datetime | None] = []
    for entry in document.manifests if depth else ():
        try:
            child = yield from driver.manifest(repository, entry)
        except (ManifestInvalid, NotFound, SizeInvalid):  # an index may list what was never pushed
            continue
        times.append((yield from _age(driver, repository, child, depth - 1)))
    return newest_build(document.annotations, times)
