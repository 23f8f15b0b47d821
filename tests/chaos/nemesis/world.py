"""A history as records that the checks can ask. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.programs import Program

ENDS = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "EXPIRED"})
# Ends of executions that tell what the program did.
TOLD = frozenset({"SUCCEEDED", "FAILED"})


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One container's life, ns. It surely ran from `began` until `ended`, perhaps for longer; None: to the end."""

    host: str
    container: str
    execution: str
    job: str
    task: str
    began: int
    ended: int | None

    def covers(self, at: int) -> bool:
        return self.began <= at and (self.ended is None or at < self.ended)


@dataclass(kw_only=True)
class World:
    """All that was seen."""

    setup: Event = field(default_factory=dict)
    intents: dict[int, Event] = field(default_factory=dict)
    posts: list[Event] = field(default_factory=list)
    stops: list[Event] = field(default_factory=list)
    docker: list[Event] = field(default_factory=list)
    witness: list[Event] = field(default_factory=list)
    faults: list[Event] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    skips: list[Event] = field(default_factory=list)
    commands: list[Event] = field(default_factory=list)
    rests: list[Event] = field(default_factory=list)
    crowds: list[Event] = field(default_factory=list)
    jobs: dict[str, Event] = field(default_factory=dict)
    executions: dict[str, Event] = field(default_factory=dict)
    # More than one record of the same id, which the API must not show.
    repeated: list[Event] = field(default_factory=list)
    logs: dict[tuple[str, str], Event] = field(default_factory=dict)
    standstill: list[str] = field(default_factory=list)
    end: Event = field(default_factory=dict)

    # By job -----------------------------------------------------------------------------------------------------
    def executions_of(self, job: str) -> list[Event]:
        """Oldest first."""
        if "by_job" not in self._cache:
            by_job = _grouped(self.executions.values())
            for found in by_job.values():
                found.sort(key=lambda execution: execution["attempt"])
            self._cache["by_job"] = by_job
        return list(self._cache["by_job"].get(job, ()))

    def skips_of(self, job: str) -> list[Event]:
        return self._of("skips", self.skips, job)

    def stops_of(self, job: str) -> list[Event]:
        return self._of("stops", self.stops, job)

    def commands_of(self, job: str) -> list[Event]:
        return self._of("commands", self.commands, job)

    def _of(self, name: str, events: list[Event], job: str) -> list[Event]:
        if name not in self._cache:
            self._cache[name] = _grouped(events)
        return list(self._cache[name].get(job, ()))

    # What was worked out before, so that a long history is gone through once.
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def intent_of(self, job: str) -> Event | None:
        """What was asked for, as the job itself says by its label."""
        record = self.jobs.get(job)
        return None if record is None else self.intents.get(record["n"])

    def program_of(self, job: str) -> Program | None:
        intent = self.intent_of(job)
        if intent is None:
            return None
        programs: dict[int, Program] = self._cache.setdefault("programs", {})
        if intent["n"] not in programs:
            programs[intent["n"]] = Program.of(intent["program"])
        return programs[intent["n"]]

    def is_recurring(self, job: str) -> bool:
        intent = self.intent_of(job)
        return intent is not None and bool(intent.get("cron"))

    # Containers -------------------------------------------------------------------------------------------------
    @property
    def intervals(self) -> list[Interval]:
        """By begin."""
        if "intervals" not in self._cache:
            self._cache["intervals"] = _intervals(self)
        found: list[Interval] = self._cache["intervals"]
        return found

    def counted_intervals(self) -> list[Interval]:
        """Those that limits count: a LOST execution's container may go on where the agent that would end it can't, from
        the fault on that took it."""
        if "counted" in self._cache:
            return list(self._cache["counted"])
        found = []
        for one in self.intervals:
            execution = self.executions.get(one.execution)
            if execution is not None and execution["state"] == "LOST":
                first = self._first_fault(one.began)
                if first is None or first <= one.began:
                    continue
                ended = first if one.ended is None else min(first, one.ended)
                found.append(_until(one, ended))
            else:
                found.append(one)
        self._cache["counted"] = found
        return list(found)

    def _first_fault(self, at: int) -> int | None:
        """The begin of the first fault that was still on at `at`, or came later. Faults are felt for a while longer."""
        after = [fault["began"] for fault in self.faults if fault["ended"] is None or fault["ended"] + _FELT_NS >= at]
        return min(after, default=None)


def _grouped(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event["job"]].append(event)
    return found


# An agent that was out of reach for the length of a fault is given up by the store only after its time.
_FELT_NS = 20_000_000_000


# Kinds of which all that happened counts, in its order: where each is kept.
_GATHERED = {
    "post": "posts",
    "stop": "stops",
    "docker": "docker",
    "witness": "witness",
    "fault": "faults",
    "seen": "seen",
    "skip": "skips",
    "command": "commands",
    "rest": "rests",
    "crowd": "crowds",
}


def read_world(events: Iterable[Event]) -> World:
    world = World()
    for event in events:
        _take(world, event)
    return world


def _take(world: World, event: Event) -> None:
    kind = event["kind"]
    if kind in _GATHERED:
        gathered: list[Event] = getattr(world, _GATHERED[kind])
        gathered.append(event)
        return
    match kind:
        case "setup":
            world.setup = event
        case "intent":
            world.intents[event["n"]] = event
        case "job":
            _once(world, world.jobs, event["job"], event)
        case "execution":
            _once(world, world.executions, event["execution"], event)
        case "log":
            world.logs[event["execution"], event["stream"]] = event
        case "standstill":
            world.standstill.append(event["job"])
        case "end":
            world.end = event


def _once(world: World, records: dict[str, Event], key: str, event: Event) -> None:
    if key in records:
        world.repeated.append(event)
    records[key] = event


def _intervals(world: World) -> list[Interval]:
    by_container: dict[str, list[Event]] = defaultdict(list)
    for event in world.docker:
        by_container[event["container"]].append(event)
    found = []
    for container, events in by_container.items():
        events.sort(key=lambda event: event["at"])
        starts = [event for event in events if event["action"] == "start"]
        if not starts:
            continue
        start = starts[0]
        ends = [e["at"] for e in events if e["action"] in {"die", "destroy"} and e["at"] >= start["at"]]
        # A daemon that goes down takes its containers with it, or forgets to tell of their end.
        ends += [
            fault["began"]
            for fault in world.faults
            if fault["target"] == f"dockerd-{start['host']}"
            and fault["fault"] != "daemon-hang"
            and fault["began"] >= start["at"]
        ]
        found.append(
            Interval(
                host=start["host"],
                container=container,
                execution=start["execution"],
                job=start["job"],
                task=start["task"],
                began=start["at"],
                ended=min(ends, default=None),
            )
        )
    return sorted(found, key=lambda one: one.began)


def _until(one: Interval, ended: int) -> Interval:
    return Interval(
        host=one.host,
        container=one.container,
        execution=one.execution,
        job=one.job,
        task=one.task,
        began=one.began,
        ended=ended,
    )


def pool_of(setup: Event, task: str) -> str:
    """The first pool whose regex matches the whole name."""
    for name, regex, _most in setup["pools"]:
        if re.fullmatch(regex, task):
            return str(name)
    return "default"
