"""The log has one line for each decision, with the ids of what it is about."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.domain.changes import Note, Record
from easyq_store.domain.decisions import decisions_of
from easyq_store.domain.records import Failure, Planned, Schedule, Skip
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason, JobState, SkipReason, Trigger
from easyq_store.ports import Steps
from easyq_store.usecases import decisions
from easyq_store.usecases.feed import Feed
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, agent, execution, job

IDS = {"task": "mail", "job": "job-1", "execution": "job-1-1"}
HOLDER = {"agent": "host-a", "session": 7, "epoch": 2}
DUE, LATER = "2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z"

QUEUED = execution()
ASSIGNED = replace(QUEUED, state=ExecutionState.ASSIGNED, agent_id="host-a", session=7, epoch=2, pool="default")
FAILED = replace(
    ASSIGNED,
    state=ExecutionState.FAILED,
    exit_code=3,
    failure=Failure(reason=FailureReason.NONZERO_EXIT, message="cnry0a1b2c3d"),
)
RETRY = Planned(execution_id="job-1-2", attempt=2, fence=2, trigger=Trigger.RETRY, due_at=T0, series_due_at=T0)
SCHEDULE = job(state=JobState.ACTIVE, schedule=Schedule(anchor=T0))
SKIP = Skip(first=T0, last=T0 + 60_000, count=2, reason=SkipReason.OVERLAP, decided_at=T0)


def skipped(times: int) -> Schedule:
    return Schedule(anchor=T0, skipped=times, unkept=(SKIP,))


def told(before: Record | None, after: Record | None) -> list[tuple[str, dict[str, Any], bool]]:
    return [(one.event, one.fields, one.grave) for one in decisions_of((before, after))]


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, QUEUED, ("job_accepted", {**IDS, "trigger": "ENQUEUE", "attempt": 1}, False)),
        (
            None,
            execution(trigger=Trigger.RETRY, attempt=2, state=ExecutionState.SCHEDULED),
            ("execution_planned", {**IDS, "trigger": "RETRY", "attempt": 2, "due": DUE}, False),
        ),
        (
            None,
            execution(trigger=Trigger.SCHEDULE, state=ExecutionState.QUEUED, fire_at=T0),
            ("execution_planned", {**IDS, "trigger": "SCHEDULE", "attempt": 1, "fire": DUE}, False),
        ),
        (QUEUED, ASSIGNED, ("assigned", {**IDS, **HOLDER, "pool": "default"}, False)),
        (ASSIGNED, replace(QUEUED, agent_id=""), ("given_back", {**IDS, **HOLDER}, False)),
        (
            ASSIGNED,
            replace(FAILED, next=RETRY),
            (
                "ended",
                {
                    **IDS,
                    **HOLDER,
                    "state": "FAILED",
                    "attempt": 1,
                    "exit_code": 3,
                    "reason": "NONZERO_EXIT",
                    "next": "job-1-2",
                    "next_due": DUE,
                },
                False,
            ),
        ),
        (
            ASSIGNED,
            replace(ASSIGNED, state=ExecutionState.LOST),
            ("execution_lost", {**IDS, **HOLDER, "state": "LOST", "attempt": 1}, True),
        ),
        (
            QUEUED,
            replace(QUEUED, state=ExecutionState.EXPIRED),
            ("ended", {**IDS, "state": "EXPIRED", "attempt": 1}, False),
        ),
    ],
)
def test_executions(before: Record | None, after: Record, line: object) -> None:
    assert told(before, after) == [line]


def test_each_line_names_the_trace() -> None:
    """Of the record, whoever's call it is that decided."""
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01 vendor=1"
    for before, after in ((None, replace(QUEUED, trace=trace)), (job(), job(revision=2, trace=trace))):
        assert [fields["trace_id"] for _, fields, _ in told(before, after)] == ["ab" * 16]


def test_one_that_expired_before_it_was_made() -> None:
    expired = execution(state=ExecutionState.EXPIRED)
    assert [event for event, _, _ in told(None, expired)] == ["job_accepted", "ended"]


J = {"task": "mail", "job": "job-1"}


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, SCHEDULE, ("schedule_accepted", J)),
        (job(), job(revision=2), ("job_replaced", {**J, "revision": 2})),
        (job(), job(stop_requested_at=T0), ("stop_requested", J)),
        (job(), job(delete_requested=True), ("delete_requested", J)),
        (SCHEDULE, replace(SCHEDULE, state=JobState.PAUSED), ("schedule_paused", {**J, "state": "PAUSED"})),
        (replace(SCHEDULE, state=JobState.PAUSED), SCHEDULE, ("schedule_resumed", {**J, "state": "ACTIVE"})),
        (SCHEDULE, replace(SCHEDULE, state=JobState.EXPIRED), ("schedule_ended", {**J, "state": "EXPIRED"})),
        (
            replace(SCHEDULE, schedule=skipped(1)),
            replace(SCHEDULE, schedule=skipped(3)),
            ("fires_skipped", {**J, "count": 2, "reasons": ["OVERLAP"], "first": DUE, "last": LATER}),
        ),
        (
            replace(SCHEDULE, schedule=skipped(1)),
            replace(SCHEDULE, schedule=replace(skipped(3), unkept=())),
            ("fires_skipped", {**J, "count": 2, "reasons": []}),
        ),
    ],
)
def test_jobs(before: Record | None, after: Record, line: tuple[str, object]) -> None:
    assert told(before, after) == [(*line, False)]


A = {"agent": "host-a", "session": 1}


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, agent(), ("session_opened", {**A, "pools": ("default",), "slots": 4}, False)),
        (
            agent(),
            agent(session=2),
            ("session_opened", {"agent": "host-a", "session": 2, "pools": ("default",), "slots": 4}, False),
        ),
        (agent(), agent(state=AgentState.PARKED), ("session_parked", A, False)),
        (agent(), agent(state=AgentState.DEAD), ("session_dead", A, True)),
        (
            agent(),
            agent(state=AgentState.DEAD, declared_dead=True),
            ("session_dead", {**A, "by_hand": True}, True),
        ),
        (agent(), agent(cordoned_at=T0), ("agent_cordoned", A, False)),
        (agent(cordoned_at=T0), agent(), ("agent_uncordoned", A, False)),
        (agent(), agent(drained_at=T0), ("agent_drains", {**A, "deadline": None}, False)),
        (agent(), agent(drained_at=T0, drain_deadline=T0), ("agent_drains", {**A, "deadline": DUE}, False)),
    ],
)
def test_agents(before: Record | None, after: Record, line: object) -> None:
    assert told(before, after) == [line]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, job()),
        (job(), None),
        (job(), job(attempts=2)),
        (job(), job(state=JobState.RUNNING)),
        (SCHEDULE, replace(SCHEDULE, fire_at=T0)),
        (QUEUED, replace(QUEUED, priority=3)),
        (ASSIGNED, replace(ASSIGNED, state=ExecutionState.RUNNING)),
        (execution(state=ExecutionState.SCHEDULED), QUEUED),
        (agent(), agent(beats=2)),
    ],
)
def test_what_is_no_decision(before: Record | None, after: Record | None) -> None:
    assert told(before, after) == []


@pytest.mark.parametrize("watched", [True, False])
async def test_a_durable_plan_is_told_with_what_it_decided(watched: bool) -> None:
    """Whether somebody watches the feed or not; no fact on the way is told, and a message of a program never."""
    feed = Feed(now=lambda: T0, new_boot=lambda: "b")
    counted: list[Note] = []

    def take(notes: Sequence[Note]) -> None:
        counted.extend(notes)
        decisions.tell(notes)

    store = ObservedPersistence(FakePersistence(), feed, count=take)
    await store.open()

    async def plan(steps: Steps) -> None:
        await steps.insert_agent(agent())
        await steps.change_agent("host-a", lambda old: replace(old, beats=old.beats + 1))
        await steps.change_agent("host-a", lambda old: old)
        await steps.change_agent("host-a", lambda old: replace(old, state=AgentState.DEAD))
        await steps.insert_job(job())
        await steps.insert_execution(QUEUED)
        await steps.change_job("job-1", lambda old: replace(old, attempts=1, projected_write=1))
        await steps.change_job("job-1", lambda old: replace(old, stop_requested_at=T0))
        await steps.change_execution("job-1-1", lambda _: ASSIGNED)
        await steps.change_execution("job-1-1", lambda _: replace(FAILED, state=ExecutionState.LOST))

    with capture_logs() as lines:
        if watched:
            feed.read()
        await store.run(plan)
    events = [(line["event"], line["log_level"]) for line in lines]
    assert events == [
        ("session_opened", "info"),
        ("session_dead", "warning"),
        ("job_accepted", "info"),
        ("stop_requested", "info"),
        ("assigned", "info"),
        ("execution_lost", "warning"),
    ]
    assert [line["bounded"] for line in lines if line["log_level"] == "warning"] == [False, False]
    assert "cnry0a1b2c3d" not in str(lines)
    assert len(counted) > len(lines) - 1


def test_what_retention_decides_is_told_by_the_sweep_and_each_at_debug() -> None:
    """Nobody is to take it for a person's wish."""
    with capture_logs() as lines:
        with decisions.decided_by("retention"):
            decisions.tell([(job(), job(delete_requested=True))])
        decisions.tell([(job(), job(delete_requested=True))])
    assert [(line["event"], line["log_level"], line.get("by")) for line in lines] == [
        ("delete_requested", "debug", "retention"),
        ("delete_requested", "info", None),
    ]
