"""What follows an end: every outcome, every counter, every bound."""

import uuid
from typing import Any

import pytest

from easyq_store.domain.decide import Blame, Decision, End, decide, judge, successor_id
from easyq_store.domain.policy import Backoff, Policy
from easyq_store.domain.records import Failure, Planned
from easyq_store.domain.states import ExecutionState, FailureReason, OnLost, Outcome, Trigger
from easyq_store.domain.timing import Timing
from tests.support.store_records import T0, execution

FIXED = Backoff(min_ms=10_000, factor=2, max_ms=60_000, jitter=0)
RAN = execution(state=ExecutionState.RUNNING, attempt=3, fence=5, retries_used=1, infra_used=2)


def decided(end: End, policy: Policy, **changes: Any) -> Decision:
    arguments: dict[str, Any] = {"revision": 7, "now": T0 + 1000, "share": 0.5, "stop_requested": False}
    made = changes.pop("execution", RAN)
    return decide(made, end, policy, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("end", "state", "reason", "blame"),
    [
        (End(outcome=Outcome.EXITED, exit_code=0), "SUCCEEDED", None, Blame.FINAL),
        (End(outcome=Outcome.EXITED, exit_code=0, oom_killed=True), "SUCCEEDED", None, Blame.FINAL),
        (End(outcome=Outcome.EXITED, exit_code=1), "FAILED", "NONZERO_EXIT", Blame.PROGRAM),
        (End(outcome=Outcome.EXITED, exit_code=137), "FAILED", "NONZERO_EXIT", Blame.PROGRAM),
        (End(outcome=Outcome.EXITED, exit_code=137, oom_killed=True), "FAILED", "OOM_KILLED", Blame.PROGRAM),
        (End(outcome=Outcome.EXITED, exit_code=1, oom_killed=True), "FAILED", "OOM_KILLED", Blame.PROGRAM),
        (End(outcome=Outcome.EXITED), "LOST", "HOST_LOST", Blame.INFRASTRUCTURE),
        (End(outcome=Outcome.TIMED_OUT), "TIMED_OUT", "TIMEOUT", Blame.PROGRAM),
        (End(outcome=Outcome.STOPPED), "STOPPED", "STOP_REQUESTED", Blame.FINAL),
        (End(outcome=Outcome.REJECTED), "FAILED", "INVALID_CONTAINER", Blame.FINAL),
        (End(outcome=Outcome.INFRA_FAILED), "FAILED", "HOST_FAILED", Blame.INFRASTRUCTURE),
        (End(outcome=Outcome.LOST), "LOST", "HOST_LOST", Blame.INFRASTRUCTURE),
        (End(outcome=Outcome.EXPIRED), "EXPIRED", "START_DEADLINE", Blame.FINAL),
    ],
)
def test_the_state_and_the_blame_of_each_end(end: End, state: str, reason: str | None, blame: Blame) -> None:
    judged_state, failure, judged_blame = judge(end)
    assert (judged_state.name, judged_blame) == (state, blame)
    assert (failure.reason.name if failure else None) == reason
    assert failure is None or failure.message


def test_the_agents_own_words_are_kept() -> None:
    told = Failure(reason=FailureReason.IMAGE_NOT_FOUND, message="no such image")
    assert decided(End(outcome=Outcome.REJECTED, failure=told), Policy()).failure == told
    assert decided(End(outcome=Outcome.EXITED, exit_code=3, failure=told), Policy()).failure == told
    oom = decided(End(outcome=Outcome.EXITED, exit_code=137, oom_killed=True, failure=told), Policy()).failure
    assert oom == Failure(reason=FailureReason.OOM_KILLED, message="killed for want of memory (exit code 137)")


def test_a_retry_uses_up_retries_and_nothing_else() -> None:
    policy = Policy(retries=2, backoff=FIXED, priority=9, timing=Timing(start_deadline=5_000))
    decision = decided(End(outcome=Outcome.EXITED, exit_code=1), policy)
    assert decision.state is ExecutionState.FAILED
    assert decision.next == Planned(
        execution_id=successor_id(RAN.execution_id),
        attempt=4,
        fence=6,
        trigger=Trigger.RETRY,
        due_at=T0 + 1000 + 20_000,
        latest_start=T0 + 1000 + 25_000,
        priority=9,
        spec_revision=7,
        retries_used=2,
        infra_used=2,
        series_due_at=RAN.series_due_at,
    )


def test_retries_end() -> None:
    end = End(outcome=Outcome.EXITED, exit_code=1)
    assert decided(end, Policy(retries=1)).next is None
    assert decided(end, Policy()).next is None
    assert decided(End(outcome=Outcome.TIMED_OUT), Policy(retries=2)).next is not None


@pytest.mark.parametrize(
    ("rules", "end", "again"),
    [
        ((), End(outcome=Outcome.TIMED_OUT), True),
        (("timeout",), End(outcome=Outcome.TIMED_OUT), True),
        (("timeout",), End(outcome=Outcome.EXITED, exit_code=1), False),
        (("137",), End(outcome=Outcome.TIMED_OUT, exit_code=137), False),
        (("oom",), End(outcome=Outcome.EXITED, exit_code=137, oom_killed=True), True),
        (("oom",), End(outcome=Outcome.EXITED, exit_code=137), False),
        (("137",), End(outcome=Outcome.EXITED, exit_code=137, oom_killed=True), True),
        (("75",), End(outcome=Outcome.EXITED, exit_code=75), True),
        (("75",), End(outcome=Outcome.EXITED, exit_code=7), False),
        (("100-110",), End(outcome=Outcome.EXITED, exit_code=100), True),
        (("1", "100-110"), End(outcome=Outcome.EXITED, exit_code=110), True),
        (("100-110",), End(outcome=Outcome.EXITED, exit_code=111), False),
        (("oom", "timeout"), End(outcome=Outcome.EXITED, exit_code=1), False),
    ],
)
def test_retry_on(rules: tuple[str, ...], end: End, again: bool) -> None:
    assert (decided(end, Policy(retries=9, retry_on=rules)).next is not None) is again


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.INFRA_FAILED])
def test_failures_of_the_infrastructure_never_use_up_the_users_retries(outcome: Outcome) -> None:
    following = decided(End(outcome=outcome), Policy(retries=0, infra_retries=5), share=0.25).next
    assert following is not None
    assert (following.trigger, following.retries_used, following.infra_used) == (Trigger.INFRA_RETRY, 1, 3)
    assert following.due_at == T0 + 1000 + 1000  # a quarter of 4 s, the third wait
    assert decided(End(outcome=outcome), Policy(retries=9, infra_retries=2)).next is None


@pytest.mark.parametrize(
    ("mode", "outcome", "again"),
    [
        (OnLost.RERUN, Outcome.LOST, True),
        (OnLost.WAIT, Outcome.LOST, True),  # its agent is back, and says so itself
        (OnLost.FAIL, Outcome.LOST, False),
        (OnLost.FAIL, Outcome.INFRA_FAILED, True),  # it never ran
    ],
)
def test_on_lost(mode: OnLost, outcome: Outcome, again: bool) -> None:
    assert (decided(End(outcome=outcome), Policy(on_lost=mode)).next is not None) is again


@pytest.mark.parametrize("outcome", Outcome)
def test_a_stop_wins_over_every_further_attempt(outcome: Outcome) -> None:
    policy = Policy(retries=9, infra_retries=9)
    assert decided(End(outcome=outcome, exit_code=1), policy, stop_requested=True).next is None


def test_no_retry_is_due_after_max_elapsed() -> None:
    end = End(outcome=Outcome.EXITED, exit_code=1)
    exactly = Backoff(min_ms=9_000, factor=1, max_ms=9_000, jitter=0, max_elapsed_ms=10_000)
    assert decided(end, Policy(retries=9, backoff=exactly)).next is not None
    less = Backoff(min_ms=9_000, factor=1, max_ms=9_000, jitter=0, max_elapsed_ms=9_999)
    assert decided(end, Policy(retries=9, backoff=less)).next is None
    assert decided(End(outcome=Outcome.LOST), Policy(backoff=less)).next is not None


@pytest.mark.parametrize("end", [End(outcome=Outcome.EXITED, exit_code=1), End(outcome=Outcome.LOST)])
def test_no_attempt_follows_that_could_not_start_any_more(end: End) -> None:
    late = Policy(retries=9, backoff=FIXED, timing=Timing(expiration=T0 + 1_500))
    assert decided(end, late).next is None
    early = Policy(retries=9, backoff=FIXED, timing=Timing(expiration=T0 + 30_000))
    following = decided(end, early).next
    assert following is not None
    assert following.latest_start == T0 + 30_000


def test_successors_have_one_id_each_for_all_time() -> None:
    assert successor_id("a") == "c7c33666-941f-5a44-9b8b-9151feb389fc"
    assert successor_id("a") != successor_id("b")
    assert uuid.UUID(successor_id("a")).version == 5
