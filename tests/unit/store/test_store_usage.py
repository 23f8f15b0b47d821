"""What writes mean for metrics, and what is counted of them."""

from typing import Any, cast

import pytest

from easyq_chassis.metrics import Registry, TaskLabels
from easyq_chassis.metrics.usage import Kind, Usage
from easyq_chassis.patterns import Pattern
from easyq_store.adapters.metrics import StoreMetrics
from easyq_store.domain.records import Failure, Needs
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason, Stream, Trigger
from easyq_store.domain.usage import exit_class, late_by, log_bytes, ran_ms, waited_ms
from tests.support.store_records import T0, agent, execution, job

S, R = ExecutionState, FailureReason


def failed(reason: FailureReason, **fields: Any) -> Any:
    return execution(state=S.FAILED, failure=Failure(reason=reason), **fields)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (execution(state=S.SUCCEEDED, exit_code=0), "success"),
        (failed(R.NONZERO_EXIT, exit_code=1), "error"),
        (failed(R.NONZERO_EXIT, exit_code=125), "error"),
        (failed(R.NONZERO_EXIT, exit_code=128), "error"),
        (failed(R.NONZERO_EXIT, exit_code=126), "command"),
        (failed(R.NONZERO_EXIT, exit_code=127), "command"),
        (failed(R.NONZERO_EXIT, exit_code=137), "signal"),
        (failed(R.OOM_KILLED, exit_code=137), "oom"),
        (execution(state=S.TIMED_OUT, exit_code=137), "timeout"),
        (execution(state=S.LOST), "none"),
    ],
)
def test_classes_of_exits(ended: Any, said: str) -> None:
    assert exit_class(ended) == said


def test_how_long_it_waited() -> None:
    assert waited_ms(execution()) is None
    assert waited_ms(execution(assigned_at=T0 + 5)) == 5
    assert waited_ms(execution(assigned_at=T0 + 5, due_at=T0 + 2)) == 3
    assert waited_ms(execution(assigned_at=T0 + 5, queued_at=None, due_at=T0 + 1)) == 4
    assert waited_ms(execution(assigned_at=T0 - 5)) == 0


def test_how_long_it_ran_and_wrote() -> None:
    assert ran_ms(execution()) is None
    assert ran_ms(execution(started_at=T0)) is None
    assert ran_ms(execution(started_at=T0, finished_at=T0 + 7)) == 7
    assert ran_ms(execution(ran_ms=9, started_at=T0, finished_at=T0 + 7)) == 9
    assert log_bytes(execution()) is None
    assert log_bytes(execution(stdout_size=1)) is None
    assert log_bytes(execution(stdout_size=1, stderr_size=2)) == 3


def test_how_late_it_became_ready() -> None:
    planned = execution(state=S.SCHEDULED, queued_at=None)
    assert late_by(planned, execution(queued_at=T0 + 40)) == ("start", 40)
    assert late_by(planned, execution(queued_at=T0 - 40)) == ("start", 0)
    for trigger in (Trigger.RETRY, Trigger.INFRA_RETRY):
        assert late_by(planned, execution(queued_at=T0 + 1, trigger=trigger)) == ("retry", 1)
    assert late_by(planned, execution(queued_at=T0 + 1, trigger=Trigger.SCHEDULE)) == ("fire", 1)
    assert late_by(None, execution(queued_at=T0 + 1, trigger=Trigger.SCHEDULE)) == ("fire", 1)
    # For now, given back, not ready.
    assert late_by(None, execution()) is None
    assert late_by(execution(state=S.ASSIGNED), execution()) is None
    assert late_by(None, planned) is None
    assert late_by(None, execution(queued_at=None)) is None


class Told:
    """In place of plugins."""

    def __init__(self, some: bool = False) -> None:
        self.records: list[Usage] = []
        self._some = some

    def __bool__(self) -> bool:
        return self._some

    def give(self, records: list[Usage]) -> None:
        self.records += records


class Counted:
    def __init__(self, pattern: str = ".*", plugins: bool = False) -> None:
        self.registry = Registry()
        self.told = cast("Any", Told(plugins))
        self.metrics = StoreMetrics(TaskLabels(Pattern(pattern), 100), self.told, lambda: T0 + 9, self.registry)

    def values(self, name: str) -> dict[tuple[str, ...], Any]:
        (found,) = [one for one in self.registry.instruments() if one.described.name == name]
        return dict(found.values)


def test_a_job_from_enqueue_to_its_end() -> None:
    counted = Counted()
    first = execution()
    assigned = execution(state=S.ASSIGNED, pool="gpu", assigned_at=T0 + 2000)
    running = execution(state=S.RUNNING, pool="gpu", assigned_at=T0 + 2000, started_at=T0 + 2100)
    ended = failed(R.NONZERO_EXIT, pool="gpu", exit_code=3, ran_ms=1500, assigned_at=T0 + 2000)
    again = execution("job-1-2", trigger=Trigger.RETRY, attempt=2)
    counted.metrics.take([(None, job()), (None, first), (first, assigned), (assigned, running), (running, ended)])
    counted.metrics.take([(None, again)])
    assert counted.values("easyq.jobs.enqueued") == {("mail",): 1}
    assert counted.values("easyq.executions.created") == {("mail", "ENQUEUE"): 1, ("mail", "RETRY"): 1}
    assert counted.values("easyq.executions.retried") == {("mail", "user"): 1}
    assert counted.values("easyq.executions.ended") == {("mail", "gpu", "FAILED", "error", "NONZERO_EXIT"): 1}
    assert counted.values("easyq.executions.lost") == {}
    assert counted.values("easyq.execution.wait.duration")["mail", "gpu"][-1] == 2.0
    assert counted.values("easyq.execution.run.duration")["mail", "gpu"][-1] == 1.5


def test_lost_ones_retried_for_their_host_and_late_ones() -> None:
    counted = Counted(pattern="report")
    held = execution(state=S.RUNNING, pool="default", agent_id="h")
    lost = execution(state=S.LOST, pool="default", agent_id="h", failure=Failure(reason=R.HOST_LOST))
    planned = execution("job-1-2", trigger=Trigger.INFRA_RETRY, state=S.SCHEDULED, queued_at=None)
    ready = execution("job-1-2", trigger=Trigger.INFRA_RETRY, queued_at=T0 + 250)
    counted.metrics.take([(held, lost), (None, planned), (planned, ready)])
    assert counted.values("easyq.executions.lost") == {("other", "default"): 1}
    assert counted.values("easyq.executions.ended") == {("other", "default", "LOST", "none", "HOST_LOST"): 1}
    assert counted.values("easyq.executions.retried") == {("other", "infra"): 1}
    assert counted.values("easyq.schedule.lateness")["retry",][-1] == 0.25


def test_what_changes_no_state_counts_for_nothing() -> None:
    counted = Counted()
    counted.metrics.take([(execution(), execution(priority=3)), (job(), job(revision=2)), (execution(), None)])
    counted.metrics.take([(agent(), agent(beats=2)), (execution(state=S.LOST), execution(state=S.FAILED))])
    assert counted.values("easyq.jobs.enqueued") == counted.values("easyq.executions.ended") == {}


def test_output_and_agents() -> None:
    counted = Counted()
    counted.metrics.stored(Stream.STDERR, 5)
    counted.metrics.stored(Stream.STDERR, 6)
    assert counted.values("easyq.log.stored") == {("stdout",): 0, ("stderr",): 11}
    dead = agent(state=AgentState.DEAD)
    counted.metrics.take([(agent(), dead), (dead, dead), (dead, agent(session=2)), (None, agent("new"))])
    assert counted.values("easyq.agents.lost") == {(): 1}
    agents = [agent(), agent(healthy=False), agent(cordoned_at=1), agent(drained_at=1), agent(state=AgentState.DEAD)]
    counted.metrics.agents(agents, lambda _: False)
    assert counted.values("easyq.agents") == {
        ("TAKES_WORK",): 1, ("UNHEALTHY",): 1, ("SILENT",): 0, ("CORDONED",): 2, ("PARKED",): 0, ("DEAD",): 1,
    }  # fmt: skip


def test_records_for_plugins_have_the_job_s_labels() -> None:
    counted = Counted(plugins=True)
    made, first = job(labels=("team=a", "x=y=z")), execution(needs=Needs(cpu_millis=500, memory=7, gpus=1))
    held = execution(state=S.ASSIGNED, assigned_at=T0 + 1000, agent_id="h", pool="p")
    done = execution(
        state=S.SUCCEEDED, assigned_at=T0 + 1000, started_at=T0 + 1500, finished_at=T0 + 3500,
        agent_id="h", pool="p", exit_code=0, stdout_size=3, stderr_size=4,
    )  # fmt: skip
    counted.metrics.take([(None, made), (None, first)])
    counted.metrics.take([(first, held), (held, done), (agent(), agent(beats=2))])
    enqueued, started, ended = counted.told.records
    assert (enqueued.kind, enqueued.labels, enqueued.image) == (Kind.ENQUEUED, {"team": "a", "x": "y=z"}, made.image)
    assert (started.kind, started.labels["team"], started.waited, started.ran) == (Kind.STARTED, "a", 1.0, None)
    assert (ended.kind, ended.state, ended.exit_code, ended.ran, ended.log_bytes) == (Kind.ENDED, "SUCCEEDED", 0, 2, 7)
    assert (ended.agent_id, ended.pool, ended.at, ended.labels["team"]) == ("h", "p", T0 + 9, "a")


def test_labels_are_remembered_of_so_many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyq_store.adapters.metrics._REMEMBERED", 2)
    counted = Counted(plugins=True)
    for number in range(3):
        counted.metrics.take([(None, job(f"job-{number}", labels=("n=1",)))])
    ended = [execution(f"job-{number}-1", state=S.STOPPED) for number in range(3)]
    counted.metrics.take([(execution(f"job-{number}-1"), one) for number, one in enumerate(ended)])
    assert [bool(record.labels) for record in counted.told.records[3:]] == [False, True, True]
