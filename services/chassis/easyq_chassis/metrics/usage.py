"""Usage for others' programs: what an operator's own packages get of each enqueue, start and end.

A package registers under the entry-point group `easyq.metrics` something callable without arguments, which returns a
sink (`take`), or a labeller (`labels` and `label`), or one that is both. Each works in a thread of its own behind a
bounded queue: one that fails, hangs or is slow loses records, which are counted, and harms nothing else.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.instruments import OTHER, Labels
from easyq_chassis.metrics.registry import Registry

GROUP = "easyq.metrics"
# Records that wait for one plugin, at most.
MOST_WAITING = 10_000
# Records that it gets at once, at most.
_AT_ONCE = 500
#: Sets of label values of one labeller: the first that come. All others count as `other`.
MOST_LABELS = 100
# Characters of a label's value.
_LONGEST = 128
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NO_WORD = re.compile(r"[^A-Za-z0-9_]")


class Kind(Enum):
    """What happened."""

    ENQUEUED = "enqueued"
    STARTED = "started"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """One job that was enqueued, or one execution that started or ended. Durable when it is told; told at most once.

    Times are ms since the epoch, durations seconds; what is not known, or not yet, is None or empty.
    """

    kind: Kind
    at: int
    task_id: str
    job_id: str
    execution_id: str = ""
    attempt: int = 0
    #: The job's own.
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    pool: str = ""
    agent_id: str = ""
    #: SUCCEEDED, FAILED, TIMED_OUT, STOPPED, LOST, EXPIRED; only with ENDED.
    state: str = ""
    exit_code: int | None = None
    #: Why it failed (`NONZERO_EXIT`).
    reason: str = ""
    #: From when it was due until it was assigned.
    waited: float | None = None
    #: How long its container ran.
    ran: float | None = None
    #: What it asked for: thousandths of a core, bytes, GPUs (-1: all).
    cpu_millis: int = 0
    memory: int = 0
    gpus: int = 0
    #: Bytes of output.
    log_bytes: int | None = None


@runtime_checkable
class Sink(Protocol):
    """Gets all records, in their order."""

    def take(self, records: Sequence[Usage]) -> None:
        """Takes some. What it raises is logged, and these records are not told again."""
        ...


@runtime_checkable
class Labeller(Protocol):
    """Tells usage apart by labels of its own."""

    #: Their names.
    labels: Sequence[str]

    def label(self, record: Usage) -> Sequence[str]:
        """Returns a value for each label. At most 100 sets of values have metrics of their own."""
        ...


class Plugin:
    """One plugin, its queue and its thread, in which it is also made. Whatever it does ends there."""

    def __init__(self, name: str, make: Callable[[], object], registry: Registry) -> None:
        """`make` imports it and returns it."""
        self.name = name
        self._make = make
        self._registry = registry
        self._dropped = registry.counter(
            "easyq.usage.dropped",
            "Usage records that a plugin of metrics did not get: it was behind, or raised, or can't be made.",
            unit="{record}",
            labels=("plugin", "why"),
        )
        self._waiting: deque[Usage] = deque()
        self._arrived = threading.Event()
        self._closing = False
        self._unusable = False
        self._log = get_logger()
        self._thread = threading.Thread(target=self._work, name=f"metrics:{name}", daemon=True)
        self._thread.start()

    def give(self, records: Sequence[Usage]) -> None:
        """Hands records on; those that it has no room for are dropped."""
        if self._unusable:
            self._dropped.add(len(records), self.name, "unusable")
            return
        room = MOST_WAITING - len(self._waiting)
        self._waiting.extend(records[:room])
        if room < len(records):
            self._dropped.add(len(records) - max(0, room), self.name, "behind")
        self._arrived.set()

    def close(self, patience: float) -> None:
        """Lets it take what it has, for so many seconds."""
        self._closing = True
        self._arrived.set()
        self._thread.join(patience)

    # In the thread ----------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        takers = self._takers()
        while takers:
            self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self._hand_over(takers, [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))])
            if self._closing:
                return
        self._unusable = True
        self._dropped.add(len(self._waiting), self.name, "unusable")
        self._waiting.clear()

    def _takers(self) -> list[Callable[[Sequence[Usage]], None]]:
        """What gets its records; empty: it can't be used, which was told."""
        try:
            made = self._make()
            takers: list[Callable[[Sequence[Usage]], None]] = []
            if isinstance(made, Sink):
                takers.append(made.take)
            if isinstance(made, Labeller):
                takers.append(_Labelled(self.name, made, self._registry).count)
            if not takers:
                raise TypeError("it has neither `take`, nor `labels` and `label`")
        except BaseException as error:  # noqa: BLE001 - others' code, which may even call `sys.exit`
            self._log.error("metrics_plugin_failed", plugin=self.name, error=repr(error), exc_info=error)
            return []
        return takers

    def _hand_over(self, takers: Iterable[Callable[[Sequence[Usage]], None]], records: Sequence[Usage]) -> None:
        try:
            for take in takers:
                take(records)
        except BaseException as error:  # noqa: BLE001 - whatever others' code raises ends here, and is told
            self._dropped.add(len(records), self.name, "raised")
            self._log.warning("metrics_plugin_failed", plugin=self.name, records=len(records), error=repr(error))


class _Labelled:
    """The metrics of one labeller."""

    def __init__(self, name: str, labeller: Labeller, registry: Registry) -> None:
        self._labeller = labeller
        self._own: set[Labels] = set()
        names = tuple(labeller.labels)
        if any(_LABEL.fullmatch(one) is None for one in names) or len({*names, "state"}) <= len(names):
            raise ValueError(f"labels are distinct words of a-z, 0-9 and _, other than `state`, not {names!r}")
        self._size = len(names)
        name = _NO_WORD.sub("_", name)
        self._enqueued = registry.counter(
            f"easyq.usage.{name}.jobs.enqueued", "Jobs that were enqueued.", unit="{job}", labels=names
        )
        self._started = registry.counter(
            f"easyq.usage.{name}.executions.started", "Executions that started.", unit="{execution}", labels=names
        )
        self._ended = registry.counter(
            f"easyq.usage.{name}.executions.ended",
            "Executions that ended, by state.",
            unit="{execution}",
            labels=(*names, "state"),
        )
        self._ran = registry.counter(f"easyq.usage.{name}.run.time", "How long containers ran.", unit="s", labels=names)

    def count(self, records: Iterable[Usage]) -> None:
        """Counts records."""
        for record in records:
            labels = self._bounded(tuple(map(_clean, self._labeller.label(record))))
            match record.kind:
                case Kind.ENQUEUED:
                    self._enqueued.add(1, *labels)
                case Kind.STARTED:
                    self._started.add(1, *labels)
                case Kind.ENDED:
                    self._ended.add(1, *labels, record.state)
                    self._ran.add(record.ran or 0.0, *labels)

    def _bounded(self, labels: Labels) -> Labels:
        if labels in self._own:
            return labels
        if len(labels) != self._size:
            raise ValueError(f"{len(labels)} values for {self._size} labels")
        if len(self._own) >= MOST_LABELS:
            return (OTHER,) * self._size
        self._own.add(labels)
        return labels


def _clean(value: object) -> str:
    """A label's value as it can be told: half a surrogate pair would keep all metrics from being shown."""
    return str(value)[:_LONGEST].encode("utf-8", "replace").decode("utf-8")


def _made(point: EntryPoint) -> object:
    made: object = point.load()()
    return made


class Plugins:
    """All that are installed and wanted: `names`, or all for `*`."""

    def __init__(
        self,
        names: Sequence[str],
        registry: Registry,
        *,
        found: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=GROUP),
    ) -> None:
        self._log = get_logger()
        self._plugins: list[Plugin] = []
        installed = {point.name: point for point in found()} if names else {}
        wanted = sorted(installed) if "*" in names else names
        for name in wanted:
            if name not in installed:
                self._log.error("metrics_plugin_missing", plugin=name, installed=sorted(installed))
                continue
            self._plugins.append(Plugin(name, partial(_made, installed[name]), registry))

    def __bool__(self) -> bool:
        return bool(self._plugins)

    def give(self, records: Sequence[Usage]) -> None:
        """Hands records to each."""
        for plugin in self._plugins:
            plugin.give(records)

    def close(self, patience: float) -> None:
        """Lets each take what it has, for so many seconds in all."""
        for plugin in self._plugins:
            plugin.close(patience / len(self._plugins))
