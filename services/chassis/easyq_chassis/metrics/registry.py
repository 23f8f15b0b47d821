"""The instruments of a process, and what they say in OpenTelemetry's words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Gauge as GaugeData
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

from easyq_chassis.metrics.instruments import DURATIONS, Counter, Description, Gauge, Histogram, Instrument, Labels

I = TypeVar("I", Counter, Gauge, Histogram)  # noqa: E741 - an instrument
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Registry:
    """Instruments by name. Asking again for one returns the one that is there."""

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}
        self._since = time.time_ns()

    def counter(self, name: str, description: str, *, unit: str = "1", labels: Sequence[str] = ()) -> Counter:
        """Returns the counter of this name. `unit` is UCUM's (`s`, `By`, `{job}`)."""
        return self._keep(Counter(_described(name, unit, description, labels)))

    def gauge(self, name: str, description: str, *, unit: str = "1", labels: Sequence[str] = ()) -> Gauge:
        """Returns the gauge of this name."""
        return self._keep(Gauge(_described(name, unit, description, labels)))

    def histogram(
        self,
        name: str,
        description: str,
        *,
        unit: str = "s",
        labels: Sequence[str] = (),
        bounds: Sequence[float] = DURATIONS,
    ) -> Histogram:
        """Returns the histogram of this name, with these upper bounds of its buckets."""
        return self._keep(Histogram(_described(name, unit, description, labels), bounds))

    def _keep(self, made: I) -> I:
        kept = self._instruments.setdefault(made.described.name, made)
        if type(kept) is not type(made) or kept.described.labels != made.described.labels:
            raise ValueError(f"{made.described.name} is there already, as another kind or with other labels")
        return kept

    def instruments(self) -> list[Instrument]:
        """All of them."""
        return list(self._instruments.values())

    def metrics(self) -> list[Metric]:
        """What they say now; those that were never used say nothing."""
        now = time.time_ns()
        found = (self._metric(one, now) for one in self.instruments())
        return [metric for metric in found if metric.data.data_points]

    def _metric(self, one: Instrument, now: int) -> Metric:
        described = one.described
        data: Sum | GaugeData | HistogramData
        match one:
            case Counter():
                points = list(self._numbers(one, one.now(), now))
                data = Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
            case Gauge():
                data = GaugeData(data_points=list(self._numbers(one, one.now(), now)))
            case Histogram():
                data = HistogramData(data_points=list(self._spreads(one, now)), aggregation_temporality=_CUMULATIVE)
        return Metric(name=described.name, description=described.description, unit=described.unit, data=data)

    def _numbers(self, one: Instrument, values: dict[Labels, float], now: int) -> Iterator[NumberDataPoint]:
        for labels, value in values.items():
            yield NumberDataPoint(
                attributes=dict(zip(one.described.labels, labels, strict=True)),
                start_time_unix_nano=self._since,
                time_unix_nano=now,
                value=value,
            )

    def _spreads(self, one: Histogram, now: int) -> Iterator[HistogramDataPoint]:
        for labels, cells in dict(one.values).items():
            *counts, total = list(cells)
            buckets = [int(count) for count in counts]
            yield HistogramDataPoint(
                attributes=dict(zip(one.described.labels, labels, strict=True)),
                start_time_unix_nano=self._since,
                time_unix_nano=now,
                count=sum(buckets),
                sum=total,
                bucket_counts=buckets,
                explicit_bounds=one.bounds,
                # Not kept, as the protocol allows: extremes of everything since the start say little.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
            )


def _described(name: str, unit: str, description: str, labels: Sequence[str]) -> Description:
    return Description(name=name, unit=unit, description=description, labels=tuple(labels))


#: The process's own.
REGISTRY = Registry()
