"""What it costs to count: processor time of single measurements, and of all that the store counts of a job."""

import time
from collections.abc import Callable

from bench.report import Figure
from easyq_chassis.metrics import Registry, TaskLabels
from easyq_chassis.metrics.usage import Plugins
from easyq_chassis.patterns import Pattern
from easyq_store.adapters.metrics import StoreMetrics
from easyq_store.domain.states import ExecutionState
from tests.support.store_records import T0, execution, job

_TIMES = 100_000


def measure(runs: int) -> list[Figure]:
    """In microseconds of a processor, the loop around it left out."""
    registry = Registry()
    counter = registry.counter("bench.counter", "", labels=("task", "pool"))
    histogram = registry.histogram("bench.histogram", "", labels=("task", "pool"))
    store = StoreMetrics(TaskLabels(Pattern(".*"), 100), Plugins((), registry), lambda: T0, registry)
    new, first = job(), execution()
    held = execution(state=ExecutionState.ASSIGNED, pool="p", assigned_at=T0 + 5)
    ended = execution(state=ExecutionState.SUCCEEDED, pool="p", assigned_at=T0 + 5, exit_code=0, ran_ms=5)

    def life() -> None:
        store.take([(None, new), (None, first)])
        store.take([(first, held)])
        store.take([(held, ended)])

    parts: dict[str, Callable[[], None]] = {
        "a count": lambda: counter.add(1, "task", "pool"),
        "a measurement of a histogram": lambda: histogram.record(0.3, "task", "pool"),
        "all that the store counts of a job": life,
    }
    return [Figure(name=name, unit="µs", runs=[_each(part) for _ in range(runs)]) for name, part in parts.items()]


def _each(part: Callable[[], None]) -> float:
    return _loop(part) - _loop(lambda: None)


def _loop(part: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(_TIMES):
        part()
    return (time.process_time() - began) / _TIMES * 1e6
