"""Instruments: values by their labels, in plain dicts.

They are written by one event loop and read by any thread: what is read is a copy, each value of it whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

Labels: TypeAlias = tuple[str, ...]
Value = TypeVar("Value")

#: Upper bounds of buckets for durations from a millisecond to a day, in seconds.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
#: Sets of labels that an instrument has at most, whatever is measured: what comes beyond counts as `other`.
MOST_SERIES = 2_000
OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an instrument measures: its name (`easyq.jobs.enqueued`), its UCUM unit, its labels' names, a sentence."""

    name: str
    unit: str
    description: str
    labels: tuple[str, ...]


class _Instrument(Generic[Value]):
    """`values` by label values, in the order of the labels' names."""

    __slots__ = ("described", "values")

    def __init__(self, described: Description) -> None:
        self.described = described
        self.values: dict[Labels, Value] = {}

    def _within(self, labels: Labels) -> Labels:
        """The labels, or `other` where there are too many; raises ValueError where their number is wrong."""
        if len(labels) != len(self.described.labels):
            raise ValueError(f"{self.described.name} has the labels {self.described.labels}, not {labels!r}")
        return labels if len(self.values) < MOST_SERIES else (OTHER,) * len(labels)


class _Number(_Instrument[float]):
    """One number for each set of labels. What is watched is asked at each reading, beside what was noted."""

    __slots__ = ("_reads",)

    def __init__(self, described: Description) -> None:
        super().__init__(described)
        self._reads: list[Callable[[], Mapping[Labels, float]]] = []

    def watch(self, read: Callable[[], Mapping[Labels, float]]) -> Callable[[], None]:
        """Has `read` asked at each reading; returns what ends that. It must be cheap, and any thread may call it."""
        self._reads.append(read)

        def end() -> None:
            if read in self._reads:
                self._reads.remove(read)

        return end

    def now(self) -> dict[Labels, float]:
        """All values."""
        found = dict(self.values)
        for read in list(self._reads):
            found.update(read())
        return found


class Counter(_Number):
    """Counts what happens; only grows."""

    __slots__ = ()

    def add(self, amount: float, *labels: str) -> None:
        """Adds to the count of these labels."""
        values = self.values
        if labels in values:
            values[labels] += amount
        else:
            labels = self._within(labels)
            values[labels] = values.get(labels, 0) + amount


class Gauge(_Number):
    """What is now."""

    __slots__ = ()

    def set(self, value: float, *labels: str) -> None:
        """Sets it."""
        self.values[labels if labels in self.values else self._within(labels)] = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Sets all of it: what is not among `values` is no more. Of too many the greatest stay."""
        kept = sorted(values.items(), key=lambda pair: -pair[1])[:MOST_SERIES]
        self.values = dict(kept)


class Histogram(_Instrument[list[float]]):
    """How measurements are spread. A value is the counts of its buckets (one more than `bounds`), then the sum."""

    __slots__ = ("bounds",)

    def __init__(self, described: Description, bounds: Sequence[float] = DURATIONS) -> None:
        super().__init__(described)
        # As floats, so that Prometheus shows each in the one form that OpenMetrics has for it.
        self.bounds = tuple(map(float, bounds))

    def record(self, value: float, *labels: str) -> None:
        """Takes a measurement in."""
        cells = self.values.get(labels)
        if cells is None:
            cells = self.values.setdefault(self._within(labels), [0] * (len(self.bounds) + 2))
        cells[bisect_left(self.bounds, value)] += 1
        cells[-1] += value


Instrument: TypeAlias = Counter | Gauge | Histogram
