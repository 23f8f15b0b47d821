"""Why an execution waits, as far as its record tells."""

from dataclasses import replace

import pytest

from easyq_gateway.domain.waiting import JobSnapshot, Snapshot, from_record, of_job, unexplained, without_dispatcher

QUEUED = Snapshot(
    state="QUEUED",
    trigger="ENQUEUE",
    attempt=2,
    host="host-1",
    due_at_ms=1_900_000_000_000,
    queued_at_ms=5,
    assigned_at_ms=7,
)


def test_before_its_time() -> None:
    words = from_record(replace(QUEUED, state="SCHEDULED"))
    assert words is not None
    assert (words.reason, words.message) == ("NOT_DUE", "It is due at 2030-03-17 17:46:40 UTC.")


@pytest.mark.parametrize(("trigger", "told"), [("RETRY", "failed"), ("INFRA_RETRY", "infrastructure")])
def test_between_attempts(trigger: str, told: str) -> None:
    words = from_record(replace(QUEUED, state="SCHEDULED", trigger=trigger))
    assert words is not None
    assert words.reason == "BACKOFF"
    assert told in words.message
    assert "next attempt at 2030-03-17 17:46:40 UTC, number 2." in words.message
    assert words.next_look_ms == 1_900_000_000_000


def test_without_a_time() -> None:
    words = from_record(replace(QUEUED, state="SCHEDULED", due_at_ms=None))
    assert words is not None
    assert words.message == "It is due later."


def test_other_states_are_not_told_by_the_record() -> None:
    assert from_record(QUEUED) is None
    assert from_record(replace(QUEUED, state="RUNNING")) is None


def test_no_dispatcher() -> None:
    words = without_dispatcher(QUEUED)
    assert words is not None
    assert (words.reason, words.since_ms) == ("DISPATCHER_UNAVAILABLE", 5)
    assert "stored" in words.message


def test_a_slow_dispatcher_is_not_told_as_absent() -> None:
    words = without_dispatcher(QUEUED, slow_after=0.3)
    assert words is not None
    assert (words.reason, words.since_ms) == ("DISPATCHER_SLOW", 5)
    assert "No dispatcher has answered within 0.3 s" in words.message
    assert "can be reached" not in words.message


def test_a_dispatcher_that_does_not_know_it() -> None:
    words = unexplained(QUEUED)
    assert words is not None
    assert (words.reason, words.since_ms) == ("POSITION", 5)


@pytest.mark.parametrize("tell", [without_dispatcher, unexplained])
def test_assigned_ones_are_with_their_agent(tell: object) -> None:
    words = tell(replace(QUEUED, state="ASSIGNED"))  # type: ignore[operator]
    assert (words.reason, words.since_ms) == ("STARTING", 7)
    assert "host-1" in words.message
    assert tell(replace(QUEUED, state="RUNNING")) is None  # type: ignore[operator]


DUE = 1_900_000_000_000


@pytest.mark.parametrize(
    ("job", "reason", "told", "since", "next_look"),
    [
        (JobSnapshot(state="SCHEDULED", next_run_ms=DUE, last_modified_ms=5), "NOT_DUE", "due at 2030-03-17", 5, DUE),
        (
            JobSnapshot(state="RETRYING", next_run_ms=DUE, last_modified_ms=5),
            "BACKOFF",
            "next attempt at 2030",
            5,
            DUE,
        ),
        (JobSnapshot(state="PAUSED", paused_ms=3), "PAUSED", "until it is resumed", 3, None),
        (JobSnapshot(state="ACTIVE", next_run_ms=DUE), "NOT_DUE", "next fire is due at 2030", None, DUE),
        (JobSnapshot(state="ACTIVE", next_run_ms=DUE, waiting_fire_ms=9), "OVERLAP", "Its run of 1970-01-01", 9, DUE),
    ],
)
def test_a_job_as_a_whole(job: JobSnapshot, reason: str, told: str, since: int | None, next_look: int | None) -> None:
    words = of_job(job)
    assert words is not None
    assert (words.reason, words.since_ms, words.next_look_ms) == (reason, since, next_look)
    assert told in words.message


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "SUCCEEDED", "STOPPED", "ACTIVE", ""])
def test_a_job_that_waits_for_no_time(state: str) -> None:
    assert of_job(JobSnapshot(state=state)) is None
