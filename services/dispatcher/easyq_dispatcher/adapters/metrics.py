"""Metrics of the dispatcher: queues, pools, limits, breakers, and how long Redis takes."""

from __future__ import annotations

from collections import Counter, defaultdict

from easyq_chassis.metrics import REGISTRY, Registry, TaskLabels
from easyq_dispatcher.domain.breakers import Phase
from easyq_dispatcher.ports import Gauged

_PLACE = ("task", "pool")
# Open breakers that are shown by name.
_MOST_OPEN = 100


class DispatcherMetrics:
    """`Gauges`. Each dispatcher shows the whole farm; slots are those of agents that are connected to it."""

    def __init__(self, tasks: TaskLabels, registry: Registry = REGISTRY) -> None:
        self._tasks = tasks
        self._depth = registry.gauge(
            "easyq.queue.depth", "Executions that are QUEUED.", unit="{execution}", labels=_PLACE
        )
        self._oldest = registry.gauge(
            "easyq.queue.oldest.age", "For how long the oldest of them has been.", unit="s", labels=_PLACE
        )
        self._running = registry.gauge(
            "easyq.pool.running", "Executions that are ASSIGNED or RUNNING.", unit="{execution}", labels=("pool",)
        )
        self._slots = registry.gauge(
            "easyq.pool.slots",
            "Slots of agents that take work and are connected to this dispatcher.",
            unit="{slot}",
            labels=("pool",),
        )
        limit = ("limit",)
        self._limit_running = registry.gauge(
            "easyq.limit.running", "Executions that count against a limit.", unit="{execution}", labels=limit
        )
        self._limit_most = registry.gauge(
            "easyq.limit.most", "Most executions that a limit allows.", unit="{execution}", labels=limit
        )
        self._breakers = registry.gauge(
            "easyq.breakers",
            "Breakers by phase; closed ones only while they count failures.",
            unit="{breaker}",
            labels=("kind", "phase"),
        )
        self._open = registry.gauge(
            "easyq.breaker.open", "1 for each breaker that is open or half-open.", labels=("kind", "subject")
        )

    def show(self, gauged: Gauged | None) -> None:
        """As the port says."""
        gauges = (self._depth, self._oldest, self._running, self._slots, self._limit_running, self._limit_most)
        if gauged is None:
            for gauge in gauges:
                gauge.replace({})
            return
        depth: defaultdict[tuple[str, ...], float] = defaultdict(float)
        oldest: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for pool in gauged.slots:
            # So that an empty queue is 0 and not away.
            depth["", pool], oldest["", pool] = 0, 0
        for queue, pool in gauged.queues:
            labels = self._tasks.of(queue.task_id), pool
            depth[labels] += queue.queued
            oldest[labels] = max(oldest[labels], queue.oldest)
        self._depth.replace(depth)
        self._oldest.replace(oldest)
        self._slots.replace({(pool,): slots for pool, slots in gauged.slots.items()})
        self._running.replace({(pool,): running for pool, running in (gauged.running or {}).items()})
        self._limit_running.replace({(pattern,): running for pattern, running, _ in gauged.limits})
        self._limit_most.replace({(pattern,): most for pattern, _, most in gauged.limits})
        self._show_breakers(gauged)

    def _show_breakers(self, gauged: Gauged) -> None:
        if gauged.running is None:
            # Redis can't be asked, and the breakers stay as they were in it: an alert that an outage of Redis ended
            # would begin its time anew behind it. That Redis is away is told by `easyq_ready`.
            return
        phases: Counter[tuple[str, ...]] = Counter(
            {(kind, phase.value): 0 for kind in ("HOST", "IMAGE") for phase in Phase}
        )
        shown: dict[tuple[str, ...], float] = {}
        for breaker in gauged.breakers:
            phase = breaker.phase(gauged.now_ms)
            phases[breaker.kind.value, phase.value] += 1
            if phase is not Phase.CLOSED and len(shown) < _MOST_OPEN:
                shown[breaker.kind.value, breaker.subject] = 1
        self._breakers.replace(phases)
        self._open.replace(shown)
