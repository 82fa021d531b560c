"""A private mirror: copies the tags of a list of public images that are new or have moved.

    python private_mirror.py private_mirror.toml --dry-run       # show what would be copied
    python private_mirror.py private_mirror.toml                 # copy it
    python private_mirror.py private_mirror.toml --watch 3600    # again and again, after each hour

`private_mirror.toml` has a table for each image:

    target = "private"                      # a connection of dockhand.toml
    digests = "private_mirror.json"         # the program writes each tag's digests here

    [[images]]
    source = "docker.io/library/nginx"      # as docker names it, or @connection/repository
    repository = "mirror/nginx"             # at the target; if absent, the source's name
    tags = ["1.*-alpine", "stable"]         # tags and globs
    newest = 5                              # if given, only the newest of these
    platforms = ["linux/amd64"]             # if absent, all
    referrers = true                        # copy signatures and SBOMs, too
    pinned = { "1.27.3" = "sha256:…" }      # these tags get these digests

The source's credentials are those of the connection in `dockhand.toml` with that host, or docker's.
A tag is not fetched again while its digest is the same at the source and at the target. HEAD
requests find that out, which Docker Hub does not count as pulls. With `referrers`, it is fetched in
each run, since a signature may come later. With `newest`, the manifests of all matching tags are
fetched as soon as one of them is new: write narrow patterns. When a registry limits the rate of
requests, its other images are left for the next run.

Exit status: 0 everything is up to date; 1 a tag or an image failed; 2 the command or a setting is
wrong; 3 nothing failed but the rate limit; 130 stopped by Ctrl-C or SIGTERM. An interrupted run is
simply repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, Field, TypeAdapter

from dockhand_core import (
    ConfigError,
    CopyResult,
    Dockhand,
    DockhandError,
    NotFound,
    Place,
    RegistryClient,
    TooManyRequests,
)
from dockhand_core.config import read_toml, validate_table

Outcome: TypeAlias = CopyResult | DockhandError | str  # the text is the plan of a dry run

FAILED, WRONG, LIMITED, INTERRUPTED = 1, 2, 3, 130  # exit statuses
KNOWN = TypeAdapter(dict[str, dict[str, Any]])
SIGNATURE = re.compile("sha(256|512)-[0-9a-f]{64}.*")  # copied with `referrers`, not by themselves


class Image(BaseModel):
    """A table `[[images]]`."""

    source: str
    repository: str | None = None
    tags: list[str] = []
    newest: int | None = Field(None, ge=1)
    platforms: list[str] | None = Field(None, min_length=1)
    referrers: bool = False
    pinned: dict[str, str] = {}


class Settings(BaseModel):
    """The settings of the file."""

    target: str
    digests: Path
    images: list[dict[str, Any]] = Field(min_length=1)


class Mirror:
    """The mirror of all images.

    Raises:
        ConfigError: a setting is missing or wrong.
    """

    def __init__(self, file: Path, dockhand: Dockhand) -> None:
        base = file.absolute().parent
        settings = validate_table(Settings, read_toml(file, os.environ), where=str(file), base=base)
        self.name, self.digests = settings.target, settings.digests
        self.target: RegistryClient = dockhand.connection(settings.target)
        self.images: list[tuple[Image, Place[RegistryClient]]] = []
        for number, table in enumerate(settings.images, 1):
            where = f"{file}: images, table {number}"
            image = validate_table(Image, table, where=where, base=base)
            if not (image.tags or image.pinned):
                raise ConfigError(f"{where}: give tags, such as ['1.*'], or pinned")
            if "@" in image.source[1:] or ":" in image.source.rpartition("/")[2]:
                raise ConfigError(f"{where}: source is {image.source!r}; put its tag into tags")
            self.images.append((image, dockhand.locate(image.source)))
        # By name and tag at the target: the digests there and at the source, and the options.
        self.known: dict[str, dict[str, Any]] = {}
        if self.digests.exists():
            try:
                self.known = KNOWN.validate_json(self.digests.read_bytes())
            except ValueError:
                raise ConfigError(
                    f"{self.digests}: this program has not written it; move it away"
                ) from None

    def run(self, *, dry_run: bool) -> tuple[int, float]:
        """Bring all images up to date; return the exit status and the seconds to wait at least."""
        failures, limited, wait = 0, set[int](), 0.0
        for image, place in self.images:
            if id(place.client) in limited:
                report(f"{image.source}: left for the next run", failed=True)
                continue
            try:
                for tag, result in self._update(image, place, dry_run=dry_run):
                    if isinstance(result, TooManyRequests):
                        raise result
                    failures += isinstance(result, DockhandError)
                    report(f"@{self.name}/{tag}{described(result)}",
                           failed=isinstance(result, DockhandError))  # fmt: skip
            except DockhandError as error:
                report(f"{image.source}{described(error)}", failed=True)
                if isinstance(error, TooManyRequests):
                    limited.add(id(place.client))
                    wait = max(wait, error.retry_after or 0.0)
                else:
                    failures += 1
            finally:
                if not dry_run:
                    self._save()
        return FAILED if failures else LIMITED if limited else 0, wait

    def _update(
        self, image: Image, place: Place[RegistryClient], *, dry_run: bool
    ) -> Iterator[tuple[str, Outcome]]:
        """Copy the tags of an image that are new or have moved; yield each with its outcome."""
        name, source = image.repository or place.repository, place.client
        found: dict[str, str] = {}  # the digests at the source
        for tag, digest in self._matching(image, place):
            if isinstance(digest, DockhandError):
                yield f"{name}:{tag}", digest
            else:
                found[tag] = digest
        kept = {"platforms": image.platforms, "referrers": image.referrers, "newest": image.newest}

        def remember(tag: str, digest: str, copied: CopyResult | None) -> None:
            here = copied.digest if copied else None
            self.known[f"{name}:{tag}"] = {"source": digest, "target": here, **kept}

        stale = [tag for tag in found if not self._is_current(name, tag, kept, found[tag])]
        pinned = {tag: digest for tag, digest in image.pinned.items()
                  if not self._is_current(name, tag, kept, digest)}  # fmt: skip
        if dry_run:
            note = f", if it is among the {image.newest} newest" if image.newest else ""
            yield from ((f"{name}:{tag}", f"@{found[tag]}: would be copied{note}") for tag in stale)
            yield from ((f"{name}:{tag}", f"@{pinned[tag]}: would be copied") for tag in pinned)
            return
        options: dict[str, Any] = {"platforms": image.platforms, "referrers": image.referrers,
                                   "to": self.target, "to_repository": name,
                                   "progress": progress_bar()}  # fmt: skip
        if stale:
            tags, older = list(found) if image.newest else stale, dict(found)
            for result in source.copy_tags(
                place.repository, tags=tags, newest=image.newest, **options
            ):
                tag = str(result.tag)
                digest = older.pop(tag)
                if result.error is None:
                    remember(tag, digest, result)
                yield f"{name}:{tag}", result.error or result
            if image.newest:  # tags that are not among the newest are not asked about again
                for tag, digest in older.items():
                    remember(tag, digest, None)
        for tag, digest in pinned.items():
            try:
                result = source.copy(place.repository, digest, to_reference=tag, **options)
            except DockhandError as error:
                yield f"{name}:{tag}", error
            else:
                remember(tag, digest, result)
                yield f"{name}:{tag}", result

    def _matching(
        self, image: Image, place: Place[RegistryClient]
    ) -> Iterator[tuple[str, str | DockhandError]]:
        """Yield the source's tags that match, without the pinned ones; each with its digest."""
        tags = [tag for tag in image.tags if not any(mark in tag for mark in "*?[")]
        globs = [pattern for pattern in image.tags if pattern not in tags]
        listed = list(place.client.tags(place.repository)) if globs else []
        for pattern in globs:
            matched = [tag for tag in listed if fnmatchcase(tag, pattern)]
            if not matched:
                yield pattern, DockhandError("no tag of the source matches")
            tags += [tag for tag in matched if not SIGNATURE.fullmatch(tag)]
        for tag in dict.fromkeys(tags):
            if tag not in image.pinned:
                try:
                    yield tag, place.client.manifest_head(place.repository, tag).digest
                except NotFound as error:
                    yield tag, error

    def _is_current(self, name: str, tag: str, kept: dict[str, Any], digest: str) -> bool:
        """Whether the target has the copy of this digest of the source, made with these options."""
        known = self.known.get(f"{name}:{tag}", {})
        if kept["referrers"] or known != {"source": digest, "target": known.get("target"), **kept}:
            return False
        try:
            return known["target"] in (None, self.target.manifest_head(name, tag).digest)
        except NotFound:
            return known["target"] is None

    def _save(self) -> None:
        """Replace the file of digests, so that it is never half written."""
        written = self.digests.with_name(f"{self.digests.name}.new")
        written.write_text(json.dumps(self.known, indent=2, sort_keys=True) + "\n")
        written.replace(self.digests)


def described(outcome: Outcome) -> str:
    """The end of a line about a tag."""
    if isinstance(outcome, CopyResult):
        size = f"{outcome.blobs_copied} blobs, {outcome.bytes_copied / 1e6:.1f} MB"
        return f"@{outcome.digest}: copied, {size}"
    if isinstance(outcome, DockhandError):
        return f": {type(outcome).__name__}: {outcome}"
    return outcome


def report(line: str, *, failed: bool) -> None:
    """Print a line, failures on standard error."""
    print(line, file=sys.stderr if failed else sys.stdout, flush=True)


def progress_bar() -> Callable[[int, int | None], None] | None:
    """Return a function that shows the progress in a line of the terminal, if there is one."""

    def show(done: int, total: int | None) -> None:
        of = f" of {total / 1e6:.1f}" if total else ""
        print(f"\r{done / 1e6:.1f}{of} MB ", end="\r", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else None


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Keep a private mirror of images up to date.")
    parser.add_argument("settings", type=Path, help="the file with the list of images")
    parser.add_argument("--dry-run", action="store_true", help="show what would be copied")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="repeat after this time")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    try:
        with Dockhand() as dockhand:
            mirror = Mirror(options.settings, dockhand)
            while True:
                status, wait = mirror.run(dry_run=options.dry_run)
                if options.watch is None:
                    return status
                time.sleep(max(1.0, options.watch, wait))
    except (DockhandError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
