"""The contract of event handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from dockhand_core import Dockhand
from dockhand_core.events import EVENTS, EventHandler, RegistryBaseEvent, event_handlers
from dockhand_testing.contracts.blocking_calls import no_blocking_calls
from dockhand_testing.pytest_plugin import imported, installed_name
from dockhand_testing.rules import rule

__all__ = ["EventHandlerContract", "sample_event"]

_DETAILS: dict[str, Any] = {
    "media_type": "application/vnd.oci.image.manifest.v1+json",
    "size": 416,
    "url": "http://registry.test/v2/library/app/manifests/v1",
    "tag": "v1",
    "from_repository": "library/base",
}


class EventHandlerContract:
    """The contract of event handlers: subclass it in the tests of handlers::

        class TestAudit(EventHandlerContract):
            handler = "dockhand_audit.hooks"

            def state(self):
                return sorted(audit_table.rows())       # what the handler has brought about

            def handled(self, event):
                return event.id in [row.id for row in audit_table.rows()]

    A handler that ignores all of the events passes every test but `test_acts`, which needs
    `handled`.

    Attributes:
        handler: the object or module with hooks, such as `dockhand_manifest_pushed`, its class, or
            where to import it from: `package.module`, or `package.module:object`.
        settings: the settings that the hook `dockhand_configure` gets.
        events: the events that the handler gets, for one that ignores the samples. The samples are
            one event of each class, of the connection `main`, the repository `library/app` and the
            actor `alice`; with the tag `v1` where the class has one, and a digest of `sha256:`
            and 32 times `4b`; and one of each class without optional fields.
    """

    handler: ClassVar[Any]
    settings: ClassVar[Mapping[str, Any]] = {}
    events: ClassVar[Sequence[RegistryBaseEvent]] = ()

    def state(self) -> object:
        """The effects of the handler so far, such as the rows of a table."""
        return None

    def handled(self, event: RegistryBaseEvent) -> bool:
        """Whether the effect of an event is there; override it for `test_acts`."""
        raise NotImplementedError(f"handled({event.id})")

    @pytest.fixture
    def handler_object(self) -> Any:
        """The object with hooks; override it for one that needs arguments."""
        found = self.handler
        if isinstance(found, str):
            found = imported(found)
        return found() if isinstance(found, type) else found

    @pytest.fixture
    def own_settings(self) -> dict[str, Any]:
        """The settings; override it for settings that need a fixture, such as a file."""
        return dict(self.settings)

    @pytest.fixture
    def handlers(
        self,
        handler_object: Any,
        own_settings: dict[str, Any],
        dockhand_config: Mapping[str, Any],
    ) -> Iterator[list[EventHandler]]:
        """The handlers, as a manager finds them; `dockhand_config` has the connections they use."""
        name = installed_name(handler_object)
        tables = dict(dockhand_config.get("plugins", {}))
        if own_settings:
            tables[name or "under-test"] = own_settings
        with Dockhand({**dockhand_config, "plugins": tables}) as dockhand:
            if name is None:
                dockhand.plugins.register(handler_object, name="under-test")
            found = event_handlers(dockhand.plugins)
            yield [
                each for each in found.values() if each.name.startswith(f"{name or 'under-test'}/")
            ]

    @pytest.fixture
    def deliveries(
        self, handlers: list[EventHandler]
    ) -> list[tuple[EventHandler, RegistryBaseEvent]]:
        """Each handler with each event that it gets."""
        events = self.events or [sample_event(name) for name in EVENTS]
        return [
            (handler, event)
            for event in events
            for handler in handlers
            if handler.subscribes_to(event)
        ]

    @rule(
        "A handler has a hook of events, with the right name and arguments.",
        why="a misspelt hook is never called",
        where="dockhand_core.hookspecs: dockhand_event and one hook for each class",
    )
    def test_hooks(self, handlers: list[EventHandler], deliveries: list[Any]) -> None:
        assert handlers, "there is no hook of events; is @hookimpl missing?"
        assert deliveries, "no event of `events` is for a hook of the handler"

    @rule(
        "A handler takes every event of its classes, each in one call, without an exception.",
        why="an event whose handler fails is tried again for hours, and blocks its repository",
        where="dockhand_event",
    )
    def test_takes_its_events(self, deliveries: list[tuple[EventHandler, Any]]) -> None:
        for handler, event in deliveries:
            before = event.model_dump_json()
            _deliver(handler, event)
            assert event.model_dump_json() == before, f"{handler.name} changed the event"

    @rule(
        "A handler acts on one of its events at least.",
        why="one that ignores every event keeps all other rules",
        where="EventHandlerContract.handled",
    )
    def test_acts(self, deliveries: list[tuple[EventHandler, Any]]) -> None:
        if type(self).handled is EventHandlerContract.handled:
            pytest.skip("handled(event) is not overridden, so that no effect can be seen")
        for handler, event in deliveries:
            _deliver(handler, event)
        assert any(self.handled(event) for _, event in deliveries), (
            "handled(event) is false for all events; let `events` have some that it acts on"
        )

    @rule(
        "The same event may come again, and then changes nothing.",
        why="a handler is called at least once, and again after a crash",
        where="dockhand_event: it may get an event with the same event.id again",
    )
    def test_same_event_twice(self, deliveries: list[tuple[EventHandler, Any]]) -> None:
        for handler, event in deliveries:
            _deliver(handler, event)
            before = self.state()
            _deliver(handler, event)
            assert self.state() == before, f"{handler.name} acted twice on one event"

    @rule(
        "A handler takes events without optional fields, and truncated ones.",
        why="registries leave fields out, and large events lose their details",
        where="RegistryBaseEvent: an optional field is None, `truncated`",
    )
    def test_events_with_few_fields(self, handlers: list[EventHandler]) -> None:
        if self.events:
            pytest.skip("`events` names the events that the handler gets")
        for name in EVENTS:
            event = sample_event(name, few=True)
            for handler in handlers:
                if handler.subscribes_to(event):
                    _deliver(handler, event)

    @rule(
        "An `async` handler does not block the event loop.",
        why="the receiver serves all registries and handlers in one loop",
        where="dockhand_event: a plain function runs in a thread",
    )
    def test_async_handlers_do_not_block(self, deliveries: list[tuple[EventHandler, Any]]) -> None:
        for handler, event in deliveries:
            if handler.is_async:
                _deliver(handler, event)  # imports what it imports at first use
                calls = asyncio.run(_recorded(handler, event))
                assert not calls, f"{handler.name} called {', '.join(calls)} in the event loop"

    @rule(
        "A handler may run for several repositories at the same time.",
        why="the events of one repository come in order; those of others do not wait",
        where="dockhand_event",
    )
    def test_several_repositories(self, deliveries: list[tuple[EventHandler, Any]]) -> None:
        several = [
            (handler, event.model_copy(update={"repository": f"{event.repository}/{number}"}))
            for handler, event in deliveries
            for number in range(4)
        ]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda each: _deliver(*each), several))


def sample_event(name: str, *, few: bool = False) -> RegistryBaseEvent:
    """Make an event of a class of `dockhand_core.events`.

    Args:
        name: name of the class.
        few: leave out optional fields, as if the event had been truncated.
    """
    kind = EVENTS[name]
    values: dict[str, Any] = {
        "id": f"sample-{name}",
        "timestamp": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "action": "delete" if name.endswith("Deleted") else "push",
        "repository": "library/app",
    }
    if few:
        values["truncated"] = True
    else:
        values |= {
            "digest": f"sha256:{'4b' * 32}",
            "actor_name": "alice",
            "request_method": "PUT",
            "connection": "main",
            "raw": {"id": "sample"},
        }
    for field, value in _DETAILS.items():
        if field in kind.model_fields and (not few or kind.model_fields[field].is_required()):
            values[field] = value
    return kind.model_validate(values)


def _deliver(handler: EventHandler, event: RegistryBaseEvent) -> None:
    if handler.is_async:
        asyncio.run(_called(handler, event))
    else:
        handler.call(event=event)


async def _called(handler: EventHandler, event: RegistryBaseEvent) -> None:
    await handler.call(event=event)


async def _recorded(handler: EventHandler, event: RegistryBaseEvent) -> list[str]:
    with no_blocking_calls() as calls:
        await handler.call(event=event)
    return calls
