"""The hooks of this package. Dockhand imports this module at every start, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import DockhandError, hookimpl

if TYPE_CHECKING:
    from dockhand_core import AsyncDockhand, Dockhand, PluginSettings
    from dockhand_core.events import RegistryBaseEvent
    from dockhand_mirror.mirror import Mirror

__all__ = ["MirrorPlugin", "plugin"]


class MirrorPlugin:
    """The handler, with the mirror of each manager whose configuration has `[plugins.mirror]`."""

    def __init__(self) -> None:
        self._mirrors: list[Mirror] = []

    @hookimpl
    def dockhand_configure(
        self, settings: PluginSettings, dockhand: Dockhand | AsyncDockhand
    ) -> None:
        """Make a mirror; called for each manager of the process, also for those without the table.

        Raises:
            ConfigError: a setting is wrong.
        """
        if settings:
            from dockhand_mirror.mirror import Mirror, Settings

            made = Mirror(settings.parse(Settings), dockhand)
            self._mirrors = [each for each in self._mirrors if not each.closed] + [made]

    @hookimpl
    def dockhand_event(self, event: RegistryBaseEvent) -> None:
        """Mirror an event; called in a thread.

        It is one handler for events of all classes, so that it gets the pushes and deletions of a
        repository in their order. Any exception makes the receiver call it again later.
        """
        if self._mirrors:
            newest = next((each for each in reversed(self._mirrors) if not each.closed), None)
            if newest is None:
                raise DockhandError("the manager with the settings of the mirror is closed")
            newest.handle(event)


plugin = MirrorPlugin()
