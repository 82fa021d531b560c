"""The counts of an inbox, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dockhand_webhook.inbox.inbox import Counts

__all__ = ["CONTENT_TYPE_LATEST", "exposition"]

_PREFIX = "dockhand_webhook_"


def exposition(counts: Counts, refused: int) -> bytes:
    """Format the counts for Prometheus; the media type of the result is `CONTENT_TYPE_LATEST`.

    Args:
        counts: the counts of an inbox.
        refused: number of requests without a valid token, in this process.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(counts, refused))
    return generate_latest(registry)


class _Collector:
    def __init__(self, counts: Counts, refused: int) -> None:
        self._counts, self._refused = counts, refused

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield _total("received", "Events that were stored.", counts.received)
        yield _total("duplicated", "Events that had been stored before.", counts.duplicated)
        yield _total("invalid", "Notifications that could not be read.", counts.invalid)
        yield _total("refused", "Requests without a valid token, in this process.", self._refused)
        yield GaugeMetricFamily(
            f"{_PREFIX}dead_letters", "Dead letters that exist now.", counts.dead_letters
        )
        yield _total(
            "dead_letters_deleted", "Dead letters deleted because of the limits.", counts.deleted
        )
        handlers = counts.handlers.items()
        for name, text in (
            ("delivered", "Calls of a handler that succeeded."),
            ("failed", "Calls of a handler that failed."),
            ("dead", "Events of a handler that became dead letters."),
        ):
            rows = [(handler, getattr(each, name)) for handler, each in handlers]
            yield _by_handler(CounterMetricFamily(_PREFIX + name, text, labels=["handler"]), rows)
        for name, attribute, text in (
            ("waiting", "waiting", "Events that are not delivered to a handler yet."),
            ("lag_seconds", "lag", "Time since the oldest of these arrived."),
        ):
            rows = [(handler, getattr(each, attribute)) for handler, each in handlers]
            yield _by_handler(GaugeMetricFamily(_PREFIX + name, text, labels=["handler"]), rows)


def _total(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)


def _by_handler(
    family: CounterMetricFamily | GaugeMetricFamily, rows: Iterable[tuple[str, float]]
) -> Metric:
    for handler, value in rows:
        family.add_metric([handler], value)
    return family
