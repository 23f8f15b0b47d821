"""What the instruments say, in OpenTelemetry's words."""

from __future__ import annotations

import time
from collections.abc import Iterator

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Gauge as GaugeData
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

from easyq_chassis.metrics.instruments import Counter, Gauge, Histogram, Instrument
from easyq_chassis.metrics.registry import Registry

_CUMULATIVE = AggregationTemporality.CUMULATIVE


def metrics_of(registry: Registry) -> list[Metric]:
    """What they say now; those that were never used say nothing."""
    now = time.time_ns()
    found = (_metric(one, registry.since, now) for one in registry.instruments())
    return [metric for metric in found if metric.data.data_points]


def _metric(one: Instrument, since: int, now: int) -> Metric:
    data: Sum | GaugeData | HistogramData
    match one:
        case Counter():
            points = list(_numbers(one, since, now))
            data = Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
        case Gauge():
            data = GaugeData(data_points=list(_numbers(one, since, now)))
        case Histogram():
            data = HistogramData(data_points=list(_spreads(one, since, now)), aggregation_temporality=_CUMULATIVE)
    described = one.described
    return Metric(name=described.name, description=described.description, unit=described.unit, data=data)


def _numbers(one: Counter | Gauge, since: int, now: int) -> Iterator[NumberDataPoint]:
    for labels, value in one.now().items():
        yield NumberDataPoint(
            attributes=dict(zip(one.described.labels, labels, strict=True)),
            start_time_unix_nano=since,
            time_unix_nano=now,
            value=value,
        )


def _spreads(one: Histogram, since: int, now: int) -> Iterator[HistogramDataPoint]:
    for labels, cells in dict(one.values).items():
        *counts, total = list(cells)
        buckets = [int(count) for count in counts]
        yield HistogramDataPoint(
            attributes=dict(zip(one.described.labels, labels, strict=True)),
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=sum(buckets),
            sum=total,
            bucket_counts=buckets,
            explicit_bounds=one.bounds,
            # Not kept, as the protocol allows: extremes of everything since the start say little.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )
