"""Copies of images, indexes and artifacts from one repository to another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypedDict

from dockhand_core.errors import DockhandError
from dockhand_core.flow import Flow, Progress
from dockhand_core.models import (
    CopyResult,
    Descriptor,
    Platform,
    check_reference,
    check_repository,
)
from dockhand_core.operations.ages import tag_ages
from dockhand_core.operations.copies.blob_transfer import Route
from dockhand_core.operations.copies.job import CopyJob, CopyOptions, CopyRun
from dockhand_core.operations.image_tree import parsed_platforms
from dockhand_core.operations.page_cursor import all_tags
from dockhand_core.operations.tag_patterns import TagPatterns, is_signature_tag
from dockhand_core.operations.transfers import BlobFunction

__all__ = ["CopyArguments", "TagCopies", "copy_image"]

_SECONDS = 1.0  # the least time between two deliveries of results, for which transfers pause
_NO_AGE = datetime.min.replace(tzinfo=UTC)


class CopyArguments(TypedDict):
    """The arguments that `copy` and `copy_tags` share."""

    platforms: Iterable[Platform | str] | None
    platform: Platform | str | None
    referrers: bool
    convert: str | None
    concurrency: int
    progress: Progress | None
    blob_progress: BlobFunction | None


def _run(route: Route, arguments: CopyArguments, *, keeps_going: bool = False) -> CopyRun:
    """Check the arguments, and make the state of a run."""
    check_repository(route.from_repository)
    check_repository(route.to_repository)
    platforms, platform = arguments["platforms"], arguments["platform"]
    convert, limit = arguments["convert"], arguments["concurrency"]
    if platforms is not None and platform is not None:
        raise DockhandError("copy: pass platforms, for an index, or platform, for an image")
    chosen = () if platforms is None else parsed_platforms(platforms)
    if platforms is not None and not chosen:
        raise DockhandError("copy: platforms is empty; name at least one, or omit it to copy all")
    if convert not in (None, "oci"):
        raise DockhandError(f"copy: convert is {convert!r:.100}; it can be 'oci' or None")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise DockhandError(f"copy: concurrency is {limit!r:.100}; it is a number of at least 1")
    options = CopyOptions(
        platforms=chosen,
        platform=Platform.parse(platform) if isinstance(platform, str) else platform,
        referrers=arguments["referrers"],
        oci=convert == "oci",
    )
    return CopyRun(
        route,
        options,
        limit,
        arguments["progress"],
        arguments["blob_progress"],
        keeps_going=keeps_going,
    )


def copy_image(
    route: Route,
    reference: str | Descriptor,
    to_reference: str | None,
    arguments: CopyArguments,
) -> Flow[CopyResult]:
    """Copy an image, index or artifact; the flow runs on the source's connection.

    Args:
        route: both ends.
        reference: a tag, a digest or a descriptor, at the source.
        to_reference: a tag or digest at the target; None for the tag of `reference`, or for no tag.
        arguments: the other arguments of `RegistryClient.copy`.
    """
    run = _run(route, arguments)
    name = reference.digest if isinstance(reference, Descriptor) else check_reference(reference)
    if to_reference is not None:
        check_reference(to_reference)
    target = to_reference or name
    if run.options.platforms and ":" in target:
        raise DockhandError(
            f"copy: a part of an index has another digest than {target}; pass a tag as "
            "to_reference, or platform for one image without an index"
        )
    run.progress.begin()
    job = CopyJob(run, reference, target if to_reference or ":" not in target else None)
    job.add()
    yield from run.pool.run()
    return job.result()


class TagCopies:
    """The copies of many tags: `prepare`, then `next_results` while there are `more`.

    Nothing is transferred between two calls. Therefore results are delivered at most once a second;
    otherwise the connections would often be idle.

    Args:
        route: both ends.
        tags: patterns of tags.
        newest: number of tags to copy, the newest ones; None for all.
        arguments: the other arguments of `RegistryClient.copy_tags`.
    """

    def __init__(
        self, route: Route, tags: Sequence[str], newest: int | None, arguments: CopyArguments
    ) -> None:
        self._run = _run(route, arguments, keeps_going=True)
        self._patterns = TagPatterns(tags)
        if newest is not None and (isinstance(newest, bool) or newest < 1):
            raise DockhandError(f"copy_tags: newest is {newest!r:.100}; it is at least 1, or None")
        self._newest = newest
        self._waiting: list[str] = []
        self._begun = self._active = 0
        self._results: list[CopyResult] = []
        self._since = 0.0
        self._lock = threading.Lock()

    @property
    def more(self) -> bool:
        """Whether there are more results; False before `prepare`."""
        return bool(self._waiting or self._run.pool or self._results)

    def prepare(self) -> Flow[None]:
        """Find the tags."""
        source, repository = self._run.route.source.driver, self._run.route.from_repository
        found = yield from all_tags(source, repository)
        tags = [tag for tag in found if self._patterns.match(tag) and not is_signature_tag(tag)]
        if self._newest is not None:
            ages = yield from tag_ages(source, repository, tags)
            tags = sorted(ages, key=lambda tag: ages[tag] or _NO_AGE, reverse=True)[: self._newest]
        self._waiting = tags[::-1]
        self._run.progress.unplanned = len(tags)
        self._run.progress.begin()

    def next_results(self) -> Flow[list[CopyResult]]:
        """Copy tags until some are done, and return their results."""
        self._since = time.monotonic()
        while self._waiting and self._active < self._run.limit:
            self._add_next()
        yield from self._run.pool.run()
        results, self._results = self._results, []
        return results

    def _add_next(self) -> None:
        tag = self._waiting.pop()
        self._begun += 1
        self._active += 1
        CopyJob(self._run, tag, tag, priority=self._begun, ended=self._ended).add()

    def _ended(self, job: CopyJob) -> None:
        self._results.append(job.result())
        with self._lock:
            self._active -= 1
            if self._waiting:
                self._add_next()
        if time.monotonic() - self._since > _SECONDS:
            self._run.pool.pause()
