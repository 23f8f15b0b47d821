"""Metrics of what is written: jobs and executions by task, from the notes of plans that are durable."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from easyq_chassis.metrics import REGISTRY, Registry, TaskLabels
from easyq_chassis.metrics.usage import Kind, Plugins, Usage
from easyq_store.domain.changes import Note
from easyq_store.domain.records import Agent, Execution, Job
from easyq_store.domain.silence import is_missed
from easyq_store.domain.states import AgentState, Stream, Trigger
from easyq_store.domain.usage import exit_class, late_by, log_bytes, ran_ms, waited_ms

_TASK = ("task",)
_PLACE = ("task", "pool")
_RETRIES = {Trigger.RETRY: "user", Trigger.INFRA_RETRY: "infra"}
_STREAMS = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr"}
# States of agents that are shown though there is none.
_STATES = ("TAKES_WORK", "UNHEALTHY", "SILENT", "CORDONED", "PARKED", "DEAD")
# Agents that are shown by name, those first that were heard last.
_MOST_AWAY = 100
# Jobs whose labels are remembered for records of their executions.
_REMEMBERED = 20_000


class StoreMetrics:
    """Counts notes. `plugins` get each as a record, if there are any."""

    def __init__(
        self, tasks: TaskLabels, plugins: Plugins, now: Callable[[], int], registry: Registry = REGISTRY
    ) -> None:
        self._tasks = tasks
        self._plugins = plugins
        self._now = now
        self._labels: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._enqueued = registry.counter(
            "easyq.jobs.enqueued", "Jobs that were enqueued, and are durable.", unit="{job}", labels=_TASK
        )
        self._created = registry.counter(
            "easyq.executions.created",
            "Executions that were made, by what for (`Trigger`).",
            unit="{execution}",
            labels=("task", "trigger"),
        )
        self._retried = registry.counter(
            "easyq.executions.retried",
            "Executions that were made because the one before failed: `user` for its exit, `infra` for its host.",
            unit="{execution}",
            labels=("task", "kind"),
        )
        self._ended = registry.counter(
            "easyq.executions.ended",
            "Executions that ended, by state, class of exit and reason.",
            unit="{execution}",
            labels=("task", "pool", "state", "exit_class", "reason"),
        )
        self._lost = registry.counter(
            "easyq.executions.lost",
            "Executions whose end nobody knows, because their host is gone.",
            unit="{execution}",
            labels=_PLACE,
        )
        self._waits = registry.histogram(
            "easyq.execution.wait.duration",
            "From when an execution could have begun until it was assigned to an agent.",
            labels=_PLACE,
        )
        self._runs = registry.histogram("easyq.execution.run.duration", "How long containers ran.", labels=_PLACE)
        self._late = registry.histogram(
            "easyq.schedule.lateness",
            "How much later than planned executions became ready: fires of recurring jobs, starts, retries.",
            labels=("kind",),
        )
        self._log_bytes = registry.counter(
            "easyq.log.stored", "Bytes of output that were stored.", unit="By", labels=("stream",)
        )
        self._lost_agents = registry.counter(
            "easyq.agents.lost", "Sessions of agents that were declared dead.", unit="{session}"
        )
        self._agents = registry.gauge(
            "easyq.agents",
            "Agents by state: TAKES_WORK, UNHEALTHY, SILENT (nothing heard for their lease), CORDONED (drained ones "
            "as well), PARKED, DEAD.",
            unit="{agent}",
            labels=("state",),
        )
        self._away = registry.gauge(
            "easyq.agent.away",
            "1 for each agent that is SILENT, or was found DEAD within a day and is not back.",
            labels=("agent", "state"),
        )
        for stream in _STREAMS.values():
            self._log_bytes.add(0, stream)
        self._lost_agents.add(0)

    def take(self, notes: Sequence[Note]) -> None:
        """Counts what was written, once it is durable."""
        for before, after in notes:
            if isinstance(after, Execution):
                if before is None or (isinstance(before, Execution) and before.state is not after.state):
                    self._execution(before if isinstance(before, Execution) else None, after)
            elif isinstance(after, Agent):
                if isinstance(before, Agent) and after.state is AgentState.DEAD is not before.state:
                    self._lost_agents.add(1)
            elif before is None and isinstance(after, Job):
                self._enqueued.add(1, self._tasks.of(after.task_id))
        if self._plugins:
            self._tell(notes)

    def stored(self, stream: Stream, size: int) -> None:
        """Counts bytes of output."""
        self._log_bytes.add(size, _STREAMS[stream])

    def agents(self, agents: Sequence[Agent], is_silent: Callable[[Agent], bool]) -> None:
        """Shows how many agents there are by state: of those that live, whether they are heard and take work."""
        counts: Counter[tuple[str, ...]] = Counter({(state,): 0 for state in _STATES})
        away: dict[tuple[str, ...], float] = {}
        for agent in sorted(agents, key=lambda one: one.last_beat_at, reverse=True):
            state = "SILENT" if is_silent(agent) else _state(agent)
            counts[(state,)] += 1
            missed = state == "SILENT" or is_missed(agent, now=self._now())
            if missed and len(away) < _MOST_AWAY:
                away[agent.agent_id, state] = 1
        self._agents.replace(counts)
        self._away.replace(away)

    def _execution(self, before: Execution | None, after: Execution) -> None:
        task = self._tasks.of(after.task_id)
        if before is None:
            self._created.add(1, task, after.trigger.name)
            if kind := _RETRIES.get(after.trigger):
                self._retried.add(1, task, kind)
        if late := late_by(before, after):
            self._late.record(late[1] / 1000, late[0])
        if before is not None and before.waiting and after.held and (waited := waited_ms(after)) is not None:
            self._waits.record(waited / 1000, task, after.pool)
        if after.ended and not (before and before.ended):
            self._end(task, after)

    def _end(self, task: str, after: Execution) -> None:
        reason = after.failure.reason.name if after.failure is not None else ""
        self._ended.add(1, task, after.pool, after.state.name, exit_class(after), reason)
        if after.state.name == "LOST":
            self._lost.add(1, task, after.pool)
        if (ran := ran_ms(after)) is not None:
            self._runs.record(ran / 1000, task, after.pool)

    # -------------------------------------------------------------------------------------------------- for others
    def _tell(self, notes: Sequence[Note]) -> None:
        at = self._now()
        for _, after in notes:
            if isinstance(after, Job):
                self._remember(after)
        records: list[Usage] = []
        for before, after in notes:
            if isinstance(after, Job):
                if before is None:
                    records.append(self._enqueue(after, at))
            elif isinstance(after, Execution):
                old = before if isinstance(before, Execution) else None
                if after.started_at is not None and (old is None or old.started_at is None):
                    records.append(self._record(Kind.STARTED, after, at))
                if after.ended and not (old and old.ended):
                    records.append(self._record(Kind.ENDED, after, at))
        if records:
            self._plugins.give(records)

    def _remember(self, job: Job) -> None:
        self._labels[job.job_id] = dict(label.split("=", 1) for label in job.labels)
        self._labels.move_to_end(job.job_id)
        if len(self._labels) > _REMEMBERED:
            self._labels.popitem(last=False)

    def _enqueue(self, job: Job, at: int) -> Usage:
        return Usage(
            kind=Kind.ENQUEUED,
            at=at,
            task_id=job.task_id,
            job_id=job.job_id,
            labels=self._labels[job.job_id],
            image=job.image,
        )

    def _record(self, kind: Kind, one: Execution, at: int) -> Usage:
        waited, ran, needs = waited_ms(one), ran_ms(one), one.needs
        ended = kind is Kind.ENDED
        return Usage(
            kind=kind,
            at=at,
            task_id=one.task_id,
            job_id=one.job_id,
            execution_id=one.execution_id,
            attempt=one.attempt,
            labels=self._labels.get(one.job_id, {}),
            image=one.image,
            pool=one.pool,
            agent_id=one.agent_id,
            state=one.state.name if ended else "",
            exit_code=one.exit_code,
            reason=one.failure.reason.name if one.failure is not None else "",
            waited=None if waited is None else waited / 1000,
            ran=ran / 1000 if ended and ran is not None else None,
            cpu_millis=needs.cpu_millis if needs else 0,
            memory=needs.memory if needs else 0,
            gpus=needs.gpus if needs else 0,
            log_bytes=log_bytes(one) if ended else None,
        )


def _state(agent: Agent) -> str:
    if agent.state is not AgentState.LIVE:
        return agent.state.name
    if agent.cordoned_at is not None or agent.drained_at is not None:
        return "CORDONED"
    return "TAKES_WORK" if agent.healthy else "UNHEALTHY"
