"""Protos and the domain agree, number by number; and what the store reads of a spec."""

from enum import Enum, IntEnum
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import farm_service_pb2, job_pb2, log_service_pb2, spec_pb2
from easyq.v1.job_service_pb2 import ListJobsRequest
from easyq.v1.log_service_pb2 import ReadLogsRequest
from easyq_chassis.errors import FieldProblem, InvalidArgument, NotFound, Unavailable
from easyq_internal.store.v1 import farm_store_pb2, log_store_pb2, records_pb2, time_store_pb2
from easyq_store.convert import basics, farm, jobs, logs, schedules, spec
from easyq_store.domain import logs as log_domain
from easyq_store.domain import moves, reconcile, states
from easyq_store.domain.policy import Backoff, Policy
from easyq_store.domain.records import Failure, Needs, Schedule, Skip, WaitingFire
from easyq_store.domain.recurring import Fire, FireDecision
from easyq_store.domain.states import FailureReason, JobState, OnLost, Outcome, Overlap, SkipReason, Trigger
from easyq_store.domain.timing import Timing
from easyq_store.usecases import report
from tests.support.store_records import T0, job


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (states.JobState, job_pb2.Job.State),
        (states.ExecutionState, job_pb2.Execution.State),
        (states.Trigger, job_pb2.Trigger.Kind),
        (states.FailureReason, job_pb2.Failure.Reason),
        (states.OnLost, spec_pb2.OnLost.Mode),
        (states.Overlap, spec_pb2.Overlap.Mode),
        (states.SkipReason, job_pb2.Skip.Reason),
        (states.AgentState, farm_service_pb2.Agent.State),
        (states.Stream, log_service_pb2.LogStream.Name),
        (states.Outcome, records_pb2.Finish.Outcome.Kind),
        (states.Phase, records_pb2.Held.Phase.Name),
        (reconcile.Order, records_pb2.Directive.Order.Kind),
        (moves.Refusal, farm_store_pb2.AssignResult.Refusal.Kind),
        (report.Verdict, records_pb2.ReportResult.Verdict.Kind),
        (log_domain.Taken, log_store_pb2.AppendResult.Verdict.Kind),
    ],
)
def test_numbers_of_enumerations(ours: type[Enum], theirs: Any) -> None:
    names = {name: number for name, number in theirs.items() if name != "UNSPECIFIED"}
    assert {member.name: member.value for member in ours if member.name != "UNSPECIFIED"} == names
    assert issubclass(ours, IntEnum) or all(isinstance(member.value, int) for member in ours)


def test_times_keep_their_milliseconds() -> None:
    assert basics.timestamp(T0 + 7) == Timestamp(seconds=T0 // 1000, nanos=7_000_000)
    assert basics.timestamp_ms(Timestamp(seconds=5, nanos=7_999_999)) == 5_007
    assert basics.duration(1_500) == Duration(seconds=1, nanos=500_000_000)
    assert basics.duration_ms(Duration(seconds=1, nanos=500_000_000)) == 1_500
    assert basics.timestamp(None) is None
    assert basics.duration(None) is None


def test_the_policy_of_a_full_spec() -> None:
    message = spec_pb2.JobSpec(
        image="i",
        retries=3,
        infra_retries=0,
        backoff=spec_pb2.Backoff(
            min=Duration(seconds=2),
            factor=3,
            max=Duration(seconds=60),
            jitter=0,
            max_elapsed=Duration(seconds=600),
        ),
        retry_on=["75", "oom"],
        on_lost=spec_pb2.OnLost.WAIT,
        priority=-7,
        start_in=Duration(seconds=9),
        expiration=Timestamp(seconds=99),
        start_deadline=Duration(seconds=4),
    )
    assert spec.policy_of(spec.serialized(message)) == Policy(
        retries=3,
        infra_retries=0,
        backoff=Backoff(min_ms=2_000, factor=3, max_ms=60_000, jitter=0, max_elapsed_ms=600_000),
        retry_on=("75", "oom"),
        on_lost=OnLost.WAIT,
        priority=-7,
        timing=Timing(start_in=9_000, expiration=99_000, start_deadline=4_000),
        image="i",
    )


def test_the_policy_of_a_recurring_job() -> None:
    message = spec_pb2.JobSpec(cron="@hourly", overlap=spec_pb2.Overlap.QUEUE, max_runs=3)
    policy = spec.policy_of(spec.serialized(message))
    assert (policy.recurring, policy.overlap, policy.max_runs) == (True, Overlap.QUEUE, 3)
    assert spec.policy_of(spec.serialized(spec_pb2.JobSpec(cron="@hourly"))).overlap is Overlap.SKIP
    assert not spec.policy_of(spec.serialized(spec_pb2.JobSpec(image="i"))).recurring


@pytest.mark.parametrize(
    ("fields", "anew"),
    [
        ({"cron": "@daily"}, True),
        ({"time_zone": "Europe/Paris"}, True),
        ({"jitter": Duration(seconds=1)}, True),
        ({"start_after": Timestamp(seconds=1)}, True),
        ({"end_at": Timestamp(seconds=1)}, True),
        ({"max_runs": 1}, True),
        ({"overlap": spec_pb2.Overlap.ALLOW}, False),
        ({"misfire": spec_pb2.Misfire.ALL, "misfire_deadline": Duration(seconds=9)}, False),
        ({"image": "other", "retries": 2}, False),
    ],
)
def test_which_fields_make_the_times_others(fields: dict[str, Any], anew: bool) -> None:
    before = spec_pb2.JobSpec(image="i", cron="@hourly")
    after = spec_pb2.JobSpec(**{"image": "i", "cron": "@hourly", **fields})
    times = [spec.policy_of(spec.serialized(each)).times for each in (before, after)]
    assert (times[0] != times[1]) is anew


def test_a_due_schedule_has_only_what_is_about_time() -> None:
    about: dict[str, Any] = {
        "cron": "@hourly",
        "time_zone": "UTC",
        "jitter": Duration(seconds=1),
        "misfire": spec_pb2.Misfire.ALL,
        "misfire_deadline": Duration(seconds=9),
        "start_after": Timestamp(seconds=1),
        "end_at": Timestamp(seconds=2),
        "expiration": Timestamp(seconds=3),
        "max_runs": 4,
        "overlap": spec_pb2.Overlap.QUEUE,
    }
    message = spec_pb2.JobSpec(**{"image": "i", "envs": {"A": "secret"}, **about})
    waiting = WaitingFire(nominal=T0, due_at=T0, trigger=Trigger.SCHEDULE, execution_id="e")
    recurring = job(spec=spec.serialized(message), schedule=Schedule(anchor=1, cursor=2, runs=3, waiting=waiting))
    due = schedules.due_schedule(recurring)
    assert due is not None
    assert due.spec == spec_pb2.JobSpec(**about)
    assert (due.job_id, due.revision, due.anchor, due.cursor, due.runs) == ("job-1", 1, 1, 2, 4)
    assert schedules.due_schedule(job()) is None


def test_decisions_name_their_reasons() -> None:
    message = time_store_pb2.ScheduleDecision(job_id="j", revision=2, cursor=3, new_cursor=9_000, next_at=0)
    message.fires.add(nominal=4, due_at=5)
    message.skips.add(reason=job_pb2.Skip.MISFIRED, first=Timestamp(seconds=6), last=Timestamp(seconds=9), count=4)
    skip = Skip(first=6_000, last=9_000, count=4, reason=SkipReason.MISFIRED, decided_at=T0)
    fires = (Fire(nominal=4, due_at=5),)
    decision = FireDecision(job_id="j", revision=2, cursor=3, fires=fires, skips=(skip,), new_cursor=9_000)
    assert schedules.decision(message, now=T0) == decision
    message.skips[0].reason = 77  # type: ignore[assignment]
    with pytest.raises(InvalidArgument, match="reason"):
        schedules.decision(message, now=T0)


def test_what_a_spec_needs_of_its_host() -> None:
    resources = spec_pb2.Resources(cpus=0.0101, memory=5, gpus=-1, pids=9)
    full = spec_pb2.JobSpec(resources=resources, agent_labels={"b": "2", "a": "1"})
    needs = Needs(cpu_millis=11, memory=5, gpus=-1, labels=(("a", "1"), ("b", "2")))
    assert spec.needs_of(full) == needs
    assert spec.policy_of(spec.serialized(full)).needs == needs
    message = basics.needs(needs)
    assert message is not None
    assert (message.cpu_millis, message.memory, message.gpus) == (11, 5, -1)
    assert dict(message.labels) == {"a": "1", "b": "2"}
    assert spec.needs_of(spec_pb2.JobSpec(resources=spec_pb2.Resources(pids=9))) is None
    assert spec.needs_of(spec_pb2.JobSpec(resources=spec_pb2.Resources(cpus=0.1))) == Needs(cpu_millis=100)
    assert basics.needs(None) is None


def test_the_policy_of_a_bare_spec_is_the_default() -> None:
    assert spec.policy_of(b"") == Policy()
    large = spec_pb2.JobSpec(image="i", envs={"A": "x" * 10_000}, start_at=Timestamp(seconds=3))
    assert spec.policy_of(spec.serialized(large)) == Policy(timing=Timing(start_at=3_000), image="i")


def test_the_same_spec_has_the_same_bytes() -> None:
    one = spec_pb2.JobSpec(envs={str(n): "x" for n in range(50)})
    other = spec_pb2.JobSpec(envs={str(n): "x" for n in reversed(range(50))})
    assert spec.serialized(one) == spec.serialized(other)
    assert spec.labels_of(spec_pb2.JobSpec(labels={"b": "2", "a": "1=x"})) == ("a=1=x", "b=2")


def test_failures() -> None:
    made = Failure(reason=FailureReason.OOM_KILLED, message="m")
    message = basics.failure(made)
    assert message is not None
    assert basics.failure_of(message) == made
    assert basics.failure(None) is None
    newer = job_pb2.Failure(message="m")
    newer.reason = 999  # type: ignore[assignment]
    assert basics.failure_of(newer) == Failure(reason=FailureReason.UNSPECIFIED, message="m")


def test_errors_of_items() -> None:
    error = basics.item_error(NotFound("gone", reason="TASK_NOT_FOUND"))
    assert (error.code, error.reason, error.message) == (5, 10, "gone")
    assert basics.item_error(Unavailable("away")).code == 14
    wrong = InvalidArgument("wrong", fields=[FieldProblem(field="cron", message="no such day")])
    (field,) = basics.item_error(wrong).fields
    assert (field.field, field.message) == ("cron", "no such day")


def test_limits_and_pages() -> None:
    assert [basics.limit(n) for n in (-1, 0, 1, 5_000, 9_999)] == [1, 1, 1, 5_000, 5_000]
    assert [jobs.page_size(n) for n in (-1, 0, 1, 1_000, 9_999)] == [50, 50, 1, 1_000, 1_000]


def test_unknown_members_are_refused_by_name() -> None:
    request = ListJobsRequest(state=[job_pb2.Job.QUEUED, job_pb2.Job.UNSPECIFIED, job_pb2.Job.QUEUED])
    assert jobs.job_filter(request).states == (JobState.QUEUED,)
    with pytest.raises(InvalidArgument) as caught:
        basics.members(JobState, [99], "state")
    assert [problem.field for problem in caught.value.fields] == ["state"]


def test_logs_need_a_name_and_chunks_a_stream() -> None:
    with pytest.raises(InvalidArgument, match="job or an execution"):
        logs.wanted(ReadLogsRequest())
    with pytest.raises(InvalidArgument, match="stream"):
        logs.piece(records_pb2.Chunk(execution_id="e"))


def test_an_outcome_of_a_newer_agent_is_a_loss() -> None:
    message = farm_store_pb2.AgentReport(report=records_pb2.Report(execution_id="e"))
    message.report.finish.outcome = 77  # type: ignore[assignment]
    said = farm.word(message).said
    assert isinstance(said, report.Finished)
    assert said.end.outcome is Outcome.LOST


def test_an_agent_without_a_time_gets_the_default_one() -> None:
    assert farm.hello(farm_store_pb2.OpenSessionRequest()).lost_after_ms == 120_000
    told = farm_store_pb2.OpenSessionRequest(lost_after=Duration(seconds=10), labels={"b": "2", "a": "1"})
    assert (farm.hello(told).lost_after_ms, farm.hello(told).labels) == (10_000, (("a", "1"), ("b", "2")))
