"""What the inbox has seen, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dockhand_webhook.inbox.inbox import Counts

__all__ = ["CONTENT_TYPE_LATEST", "exposition"]

_PREFIX = "dockhand_webhook_"


def exposition(counts: Counts, refused: int) -> bytes:
    """The counts as text.

    Args:
        counts: of the inbox.
        refused: requests without a valid token, in this process.
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
            f"{_PREFIX}dead_letters", "Dead letters that are there.", counts.letters
        )
        each = counts.handlers.items()
        for name, text in (
            ("delivered", "Calls of a handler that succeeded."),
            ("failed", "Calls of a handler that failed."),
            ("dead", "Events of a handler that were put among the dead letters."),
        ):
            rows = [(handler, getattr(found, name)) for handler, found in each]
            yield _by_handler(CounterMetricFamily(_PREFIX + name, text, labels=["handler"]), rows)
        for name, what, text in (
            ("waiting", "waiting", "Events that a handler is still to be told of."),
            ("lag_seconds", "lag", "How long the oldest of these has waited."),
        ):
            rows = [(handler, getattr(found, what)) for handler, found in each]
            yield _by_handler(GaugeMetricFamily(_PREFIX + name, text, labels=["handler"]), rows)


def _total(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)


def _by_handler(
    family: CounterMetricFamily | GaugeMetricFamily, rows: Iterable[tuple[str, float]]
) -> Metric:
    for handler, value in rows:
        family.add_metric([handler], value)
    return family
