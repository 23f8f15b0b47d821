"""The instruments of a process, by their names."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from easyq_chassis.metrics.instruments import DURATIONS, Counter, Description, Gauge, Histogram, Instrument

I = TypeVar("I", Counter, Gauge, Histogram)  # noqa: E741 - an instrument


class Registry:
    """Instruments by name. Asking again for one returns the one that is there."""

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}
        #: Since when they count: ns since the epoch.
        self.since = time.time_ns()

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


def _described(name: str, unit: str, description: str, labels: Sequence[str]) -> Description:
    return Description(name=name, unit=unit, description=description, labels=tuple(labels))


#: The process's own.
REGISTRY = Registry()
