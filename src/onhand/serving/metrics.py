"""Metrics: counted in plain integers on the hot path, named and labelled only when scraped.

`prometheus_client`'s own `labels().inc()` takes a few microseconds; a page read has about sixty
in all. So the counters here are dictionary entries and lists, and one collector turns them into
metric families for each scrape.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from onhand.contracts.answers import IngestReport

__all__ = ["SECONDS", "Histogram", "Metrics"]

SECONDS: Final = (
    0.00005, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005,
    0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)


class Histogram:
    """Counts of observations by upper bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value`; well under a microsecond."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        """The Prometheus form: cumulative buckets and the sum."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), total))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


class Metrics(Collector):
    """Everything the server counts, and the registry that exposes it."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.decisions: defaultdict[tuple[str, str | None], int] = defaultdict(int)
        self.page_seconds = Histogram(SECONDS)
        self.ingest_seconds = Histogram(SECONDS)
        self.commit_seconds = Histogram(SECONDS)
        self.commit_requests = Histogram(_SIZES)
        self.loop_lag_seconds = Histogram(SECONDS)
        self.histograms: dict[str, tuple[str, Histogram]] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.labelled: dict[str, tuple[str, str, Callable[[], Mapping[str, float]]]] = {}
        self.counters: dict[str, tuple[str, str, Callable[[], Mapping[str, int]]]] = {}
        self.crossed: dict[str, tuple[str, tuple[str, str], Mapping[tuple[str, str], int]]] = {}
        self._accepted: defaultdict[str, int] = defaultdict(int)
        self._duplicates: defaultdict[str, int] = defaultdict(int)
        self._rejected: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.letters_lost = 0
        """Refused records that could not be kept."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def count_report(self, contract: str, report: IngestReport) -> None:
        """Count what was taken by a contract, `events@1`."""
        self._accepted[contract] += report.accepted
        self._duplicates[contract] += report.duplicates

    def count_refusal(self, contract: str, code: str, records: int = 1) -> None:
        """Count records that were refused."""
        self._rejected[contract, code] += records

    def expose(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Turn the counts into metric families."""
        requests = CounterMetricFamily(
            "onhand_requests", "Requests by route and status.", labels=["route", "status"]
        )
        for (route, status), count in list(self.requests.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        decisions = CounterMetricFamily(
            "onhand_decisions",
            "Answers by how well the visitor was known and which fallback answered.",
            labels=["tier", "degraded"],
        )
        for (tier, degraded), count in list(self.decisions.items()):
            decisions.add_metric([tier, degraded or "no"], count)
        yield decisions
        yield from self._records()
        yield self.page_seconds.family(
            "onhand_page_read_seconds", "Time from a page read's first byte of work to its answer."
        )
        yield self.ingest_seconds.family(
            "onhand_ingest_seconds", "Time from a write request to its acknowledgement."
        )
        yield self.commit_seconds.family(
            "onhand_commit_seconds", "One group commit, fsync and all."
        )
        yield self.commit_requests.family(
            "onhand_commit_requests", "Requests that shared one group commit."
        )
        yield self.loop_lag_seconds.family(
            "onhand_event_loop_lag_seconds", "How late the event loop ran a timer."
        )
        for name, (documentation, histogram) in self.histograms.items():
            yield histogram.family(name, documentation)
        for name, (documentation, read) in self.gauges.items():
            yield GaugeMetricFamily(name, documentation, value=read())
        for name, (documentation, label, values) in self.labelled.items():
            gauge = GaugeMetricFamily(name, documentation, labels=[label])
            for value, number in values().items():
                gauge.add_metric([value], number)
            yield gauge
        for name, (documentation, label, counts) in self.counters.items():
            family = CounterMetricFamily(name, documentation, labels=[label])
            for value, count in list(counts().items()):
                family.add_metric([value], count)
            yield family

        for name, (documentation, labels, pairs) in self.crossed.items():
            family = CounterMetricFamily(name, documentation, labels=labels)
            for pair, count in list(pairs.items()):
                family.add_metric(pair, count)
            yield family

    def _records(self) -> Iterable[Metric]:
        accepted = CounterMetricFamily(
            "onhand_records_accepted", "Records durable and applied.", labels=["contract"]
        )
        for kind, count in self._accepted.items():
            accepted.add_metric([kind], count)
        duplicates = CounterMetricFamily(
            "onhand_records_duplicate", "Records sent again and counted once.", labels=["contract"]
        )
        for kind, count in self._duplicates.items():
            duplicates.add_metric([kind], count)
        rejected = CounterMetricFamily(
            "onhand_records_rejected",
            "Records refused, by contract and reason.",
            labels=["contract", "code"],
        )
        for (kind, code), count in self._rejected.items():
            rejected.add_metric([kind, code], count)
        return accepted, duplicates, rejected
