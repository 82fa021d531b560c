"""The contract of event parsers, for those of the core: Distribution's and zot's."""

from __future__ import annotations

from collections.abc import Mapping

from dockhand_testing import EventParserContract
from notifications import recorded

from dockhand_core import hookimpl
from dockhand_core.events import ManifestPushed
from dockhand_core.events.distribution import DistributionParser

(PUSH, *_) = (each for each in recorded("distribution-3.1.1") if b'"push"' in each.body)
(UPDATE, *_) = (each for each in recorded("zot") if b"image.updated" in str(each.headers).encode())


class TestDistribution(EventParserContract):
    parser = "dockhand_core.events.distribution:DistributionParser"
    headers = PUSH.headers
    body = PUSH.body
    malformed = (b"{}", b'{"events": 1}', b'{"events": [1]}')


class TestZot(EventParserContract):
    parser = "dockhand_core.events.cloudevents:ZotParser"
    headers = UPDATE.headers
    body = UPDATE.body
    kinds = (ManifestPushed,)


class RouteParser(DistributionParser):
    """A parser of one route."""

    def matches(self, headers: Mapping[str, str], connection: str | None = None) -> bool:
        return connection == "third" and super().matches(headers)


class RoutePlugin:
    """The plugin that provides it."""

    @hookimpl
    def dockhand_event_parsers(self) -> list[RouteParser]:
        return [RouteParser()]


class TestRoute(EventParserContract):
    """A parser that reads the notifications of one connection."""

    parser = RouteParser
    plugin = RoutePlugin()
    headers = PUSH.headers
    body = PUSH.body
    connection = "third"
