"""The mirror: it brings a tag of the target to the state that the tag has at the source."""

from __future__ import annotations

import atexit
import fnmatch
import logging
import re
import threading
import time

from pydantic import BaseModel, Field

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    Dockhand,
    ManifestInvalid,
    NameInvalid,
    NotFound,
    RegistryClient,
    Unsupported,
)
from dockhand_core.events import ManifestPushed, RegistryBaseEvent, TagDeleted
from dockhand_core.models import check_repository

__all__ = ["USER_AGENT", "Mirror", "Settings"]

USER_AGENT = "dockhand-mirror"  # marks requests of mirrors, which no mirror may copy back

_log = logging.getLogger("dockhand_mirror")

# Seconds between looks at a tag that is not yet what the event says, see `_Work._current`.
PAUSES = (0.1, 0.4, 1.5)

# Tags such as cosign's signature `sha256-….sig`. Without a suffix, it is the list of an image's
# referrers, which `copy` writes itself if the target needs it.
_SIGNATURE = re.compile(r"sha256-(?P<subject>[0-9a-f]{64})(?P<suffix>\..+)?")


class Settings(BaseModel, extra="forbid", frozen=True):
    """The table `[plugins.mirror]` of `dockhand.toml`.

    Attributes:
        sources: the key `from`: names of the connections whose pushes are copied.
        to: name of the connection that they are copied to.
        repositories: patterns of repositories; `*` matches within a component, `**` any number.
        tags: patterns of tags, such as `v*`.
        to_repository: name of a repository at the target, with `{repository}` and perhaps
            `{connection}`, the name of the source.
        referrers: whether signatures, SBOMs and other referrers are copied, too.
        deletions: whether a tag is deleted at the target when it was deleted at the source.
    """

    sources: tuple[str, ...] = Field(alias="from", min_length=1)
    to: str
    repositories: tuple[str, ...] = ("**",)
    tags: tuple[str, ...] = ("*",)
    to_repository: str = "{repository}"
    referrers: bool = True
    deletions: bool = False


class Mirror:
    """Copies what events report, from several connections of a manager to one other connection.

    Args:
        settings: the settings.
        dockhand: the manager.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, settings: Settings, dockhand: Dockhand | AsyncDockhand) -> None:
        self._settings, self._dockhand = settings, dockhand
        self._blocking = dockhand if isinstance(dockhand, Dockhand) else None
        self._lock = threading.Lock()
        patterns = (re.escape(each) for each in settings.repositories)
        self._repositories = re.compile(
            "|".join(each.replace(r"\*\*", ".*").replace(r"\*", "[^/]*") for each in patterns)
        )
        self._check()

    def _check(self) -> None:
        settings, config = self._settings, self._dockhand.config
        for name in (*settings.sources, settings.to):
            if name not in config.connections:
                raise ConfigError(f"from and to: there is no connection {name!r}")
        if settings.to in settings.sources:
            raise ConfigError(f"to: {settings.to!r} is also in from")
        if "{repository}" not in settings.to_repository:
            raise ConfigError("to_repository: has to contain {repository}")
        for name in settings.sources:
            try:
                check_repository(self._target_name(name, "name"))
            except NameInvalid as error:
                raise ConfigError(f"to_repository: {error}") from None
        headers = config.connections[settings.to].headers
        agents = [value for name, value in headers.items() if name.lower() == "user-agent"]
        if not any(agent.get_secret_value().startswith(USER_AGENT) for agent in agents):
            raise ConfigError(
                f'to: the connection {settings.to!r} needs headers = {{ User-Agent = "{USER_AGENT}"'
                " }, by which mirrors know what not to copy back"
            )

    @property
    def closed(self) -> bool:
        """Whether the manager is closed."""
        return self._dockhand.closed

    def handle(self, event: RegistryBaseEvent) -> None:
        """Copy a pushed manifest, or delete a deleted tag.

        An event only says where to look: the state of the source at this moment counts. So nothing
        is wrong if the event comes twice, or if the tag was moved or deleted since.

        Raises:
            DockhandError: a registry failed; the event should be handled again.
        """
        settings = self._settings
        source = event.connection or (settings.sources[0] if len(settings.sources) == 1 else None)
        if source not in settings.sources or not self._repositories.fullmatch(event.repository):
            return
        if (event.request_user_agent or "").startswith(USER_AGENT):
            return
        if isinstance(event, ManifestPushed | TagDeleted):
            dockhand = self._manager()
            work = _Work(
                dockhand.connection(source),
                dockhand.connection(settings.to),
                event.repository,
                self._target_name(source, event.repository),
                settings,
            )
            if isinstance(event, TagDeleted):
                work.delete(event.tag)
            elif reference := event.tag or event.digest:
                work.copy(reference, event.digest)

    def _target_name(self, source: str, repository: str) -> str:
        name = self._settings.to_repository.replace("{connection}", source)
        return name.replace("{repository}", repository)

    def _manager(self) -> Dockhand:
        """The manager; that of an asyncio program cannot be used here, so it gets a twin.

        No hook is called when the program closes its manager, so the twin lives as long as the
        process.
        """
        with self._lock:
            if self._blocking is None:
                self._blocking = Dockhand(self._dockhand.config)
                atexit.register(self._blocking.close)
            return self._blocking


class _Work:
    """The mirroring of one repository."""

    def __init__(
        self,
        source: RegistryClient,
        target: RegistryClient,
        repository: str,
        target_name: str,
        settings: Settings,
    ) -> None:
        self._source, self._target = source, target
        self._repository, self._target_name = repository, target_name
        self._settings = settings

    def copy(self, reference: str, pushed: str | None) -> None:
        """Copy a tag, or a digest that is a referrer of something at the target.

        Args:
            reference: the tag or digest.
            pushed: the digest that was pushed.
        """
        if not self._is_wanted(reference):
            return
        digest = self._current(reference, pushed)
        if digest is None or digest == _digest(self._target, self._target_name, reference):
            return
        try:
            copied = self._source.copy(
                self._repository,
                reference,
                to=self._target,
                to_repository=self._target_name,
                referrers=self._settings.referrers,
            )
        except NotFound:
            if _digest(self._source, self._repository, reference) is not None:
                raise
        except (ManifestInvalid, NameInvalid) as error:  # further attempts would fail, too
            _log.error("%s %s cannot be mirrored: %s", self._repository, reference, error)
        else:
            _log.info(
                "%s %s mirrored as %s, %s bytes",
                self._repository, reference, self._target_name, copied.bytes_copied,
            )  # fmt: skip

    def delete(self, tag: str) -> None:
        """Delete a tag at the target, unless the source has the tag again."""
        if not self._settings.deletions or not self._is_selected(tag):
            return
        if _digest(self._source, self._repository, tag) is not None:
            return
        try:
            self._target.delete_tag(self._target_name, tag)
        except NotFound:
            pass
        except Unsupported as error:
            _log.error("%s %s cannot be deleted: %s", self._target_name, tag, error)

    def _current(self, reference: str, pushed: str | None) -> str | None:
        """The digest that a pushed tag has now, or None if it is gone.

        Distribution sends the event before it writes the tag. So the tag gets a moment to become
        what was pushed; if it does not, it was moved or deleted since.
        """
        for pause in (*PAUSES, None):
            digest = _digest(self._source, self._repository, reference)
            if digest == pushed or pushed is None or pause is None:
                break
            time.sleep(pause)
        return digest

    def _is_wanted(self, reference: str) -> bool:
        """Whether a pushed tag or digest is to be copied.

        A digest is a part of an index, which is copied when the index gets its tag; or it is a
        referrer, which is copied at once if its subject was copied, else together with it.
        """
        if ":" not in reference and not _SIGNATURE.fullmatch(reference):
            return self._is_selected(reference)
        if not self._settings.referrers:
            return False
        subject = self._subject(reference)
        return subject is not None and self._target.manifest_exists(self._target_name, subject)

    def _is_selected(self, tag: str) -> bool:
        return not _SIGNATURE.fullmatch(tag) and any(
            fnmatch.fnmatchcase(tag, pattern) for pattern in self._settings.tags
        )

    def _subject(self, reference: str) -> str | None:
        """The digest of the manifest that a signature tag or a referrer belongs to."""
        if signature := _SIGNATURE.fullmatch(reference):
            return f"sha256:{signature['subject']}" if signature["suffix"] else None
        try:
            subject = self._source.manifest(self._repository, reference).subject
        except NotFound:
            return None
        return None if subject is None else subject.digest


def _digest(client: RegistryClient, repository: str, reference: str) -> str | None:
    """The digest that a tag has now; None if there is no such tag."""
    try:
        return client.manifest_head(repository, reference).digest
    except NotFound:
        return None
