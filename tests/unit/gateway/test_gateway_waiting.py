"""Why an execution waits, as far as its record tells."""

from dataclasses import replace

import pytest

from easyq_gateway.domain.waiting import Snapshot, from_record, unexplained, without_dispatcher

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
    assert "attempt 2 is due at 2030" in words.message


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
