"""The store's database in memory: same suite as the real ones, plus crashes and interleavings between steps."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.domain.images import is_named, matches
from easyq_store.domain.records import (
    Agent,
    Delivery,
    DueDelivery,
    DueHead,
    Execution,
    Head,
    HeldHead,
    Job,
    LogChunk,
    Skip,
    Task,
)
from easyq_store.domain.sites import Sites
from easyq_store.domain.states import WAITING, ExecutionState, JobState, Stream
from easyq_store.domain.stats import Cell, add
from easyq_store.ports import MOST_SKIPS, ExecutionFilter, Found, Inserted, JobFilter, Place, Plan

R = TypeVar("R")
Listed = TypeVar("Listed", Job, Execution, Delivery)

# Called with a step's name before it takes effect; may wait (others go first) or raise (the process died here).
Between = Callable[[str], Awaitable[None]]
# Called with every job and execution that is written, and what it was before.
Watch = Callable[[Job | Execution | None, Job | Execution], None]


@dataclass
class Tables:
    """All that the database holds."""

    jobs: dict[str, Job] = field(default_factory=dict)
    specs: dict[tuple[str, int], bytes] = field(default_factory=dict)
    asked: dict[tuple[str, int], bytes | None] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    chunks: dict[tuple[str, Stream], list[LogChunk]] = field(default_factory=dict)
    # Of each job, newest first.
    skips: dict[str, list[Skip]] = field(default_factory=dict)
    # Tasks that go with the last of their jobs.
    doomed_tasks: set[str] = field(default_factory=set)
    # By span, task and time.
    stats: dict[tuple[int, str, int], dict[str, int]] = field(default_factory=dict)
    generation: int = 0
    clock: int = 0
    last_seq: int = 0

    def copy(self) -> "Tables":
        """A copy that later changes do not reach: the records themselves never change."""
        return Tables(
            jobs=dict(self.jobs),
            specs=dict(self.specs),
            asked=dict(self.asked),
            tasks=dict(self.tasks),
            executions=dict(self.executions),
            agents=dict(self.agents),
            deliveries=dict(self.deliveries),
            chunks={key: list(chunks) for key, chunks in self.chunks.items()},
            skips={job_id: list(skips) for job_id, skips in self.skips.items()},
            doomed_tasks=set(self.doomed_tasks),
            stats={key: dict(counts) for key, counts in self.stats.items()},
            generation=self.generation,
            clock=self.clock,
            last_seq=self.last_seq,
        )


class FakeLookups:
    """Reads that plans need as well."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    async def get_job(self, job_id: str) -> Job | None:
        return self._tables().jobs.get(job_id)

    async def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        jobs = self._tables().jobs.values()
        return next(
            (j for j in jobs if (j.task_id, j.idempotency_key) == (task_id, idempotency_key) != (task_id, "")),
            None,
        )

    async def get_spec(self, job_id: str, revision: int) -> bytes | None:
        job = self._tables().jobs.get(job_id)
        if job is not None and job.revision == revision:
            return job.spec
        return self._tables().specs.get((job_id, revision))

    async def get_asked(self, job_id: str, revision: int) -> bytes | None:
        job = self._tables().jobs.get(job_id)
        if job is not None and job.revision == revision:
            return job.asked
        return self._tables().asked.get((job_id, revision))

    async def get_execution(self, execution_id: str) -> Execution | None:
        return self._tables().executions.get(execution_id)

    async def newest_execution(self, job_id: str) -> Execution | None:
        return max(self._of(job_id), key=lambda e: e.attempt, default=None)

    async def open_executions(self, job_id: str) -> list[Execution]:
        return sorted((e for e in self._of(job_id) if not e.ended), key=lambda e: e.attempt)

    async def open_series(self, job_id: str) -> list[Execution]:
        found = (e for e in self._of(job_id) if not e.ended or (e.next and e.unsettled_since is not None))
        return sorted(found, key=lambda e: e.attempt)

    async def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        return sorted(self._of(job_id), key=lambda e: e.attempt)[:limit]

    async def held_by(self, agent_id: str) -> list[Execution]:
        found = [e for e in self._tables().executions.values() if e.held and e.agent_id == agent_id]
        return sorted(found, key=lambda e: e.execution_id)

    async def get_agent(self, agent_id: str) -> Agent | None:
        return self._tables().agents.get(agent_id)

    async def get_delivery(self, delivery_id: str) -> Delivery | None:
        return self._tables().deliveries.get(delivery_id)

    async def has_unsent(self, job_id: str, execution_id: str = "") -> bool:
        found = [d for d in self._tables().deliveries.values() if d.job_id == job_id and d.next_at is not None]
        return any(execution_id in {"", delivery.execution_id} for delivery in found)

    async def generation(self) -> int:
        return self._tables().generation

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        chunks = self._tables().chunks.get((execution_id, stream))
        return chunks[-1].end if chunks else 0

    def _of(self, job_id: str) -> list[Execution]:
        return [e for e in self._tables().executions.values() if e.job_id == job_id]


class FakeSteps(FakeLookups):
    """The writes of a plan."""

    def __init__(self, tables: Callable[[], Tables], *, atomic: bool, between: Between, watch: Watch) -> None:
        super().__init__(tables)
        self._atomic = atomic
        self._between = between
        self._watch = watch

    @classmethod
    def of(cls, store: "FakePersistence") -> "FakeSteps":
        """Steps outside any plan, for tests of parts of plans."""
        return cls(lambda: store.tables, atomic=store.atomic, between=store.between, watch=store.watch)

    @property
    def atomic(self) -> bool:
        return self._atomic

    async def insert_job(self, job: Job) -> Inserted:
        await self._step("insert_job")
        tables = self._tables()
        if job.job_id in tables.jobs:
            return Inserted.ID_TAKEN
        if job.idempotency_key and await self.job_by_key(job.task_id, job.idempotency_key):
            return Inserted.KEY_TAKEN
        tables.jobs[job.job_id] = job
        tables.doomed_tasks.discard(job.task_id)
        known = tables.tasks.get(job.task_id)
        tables.tasks[job.task_id] = (
            Task(task_id=job.task_id, created_at=job.created_at, last_job_at=job.created_at, job_count=1)
            if known is None
            else replace(
                known,
                last_job_at=max(known.last_job_at, job.created_at),
                job_count=known.job_count + 1,
            )
        )
        return Inserted.DONE

    async def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Job | None:
        await self._step("change_job")
        old = self._tables().jobs.get(job_id)
        if old is None or (new := decide(old)) is old:
            return old
        self._tables().jobs[job_id] = new = replace(new, write_no=old.write_no + 1)
        self._watch(old, new)
        return new

    async def keep_spec(self, job_id: str, revision: int, spec: bytes, asked: bytes | None = None) -> None:
        await self._step("keep_spec")
        self._tables().specs.setdefault((job_id, revision), spec)
        self._tables().asked.setdefault((job_id, revision), asked)

    async def keep_skips(self, job_id: str, skips: Sequence[Skip]) -> None:
        for skip in skips:
            await self._step("keep_skips")
            kept = self._tables().skips.setdefault(job_id, [])
            if not any((k.first, k.reason) == (skip.first, skip.reason) for k in kept):
                kept.append(skip)
                kept.sort(key=lambda k: (k.first, k.reason), reverse=True)
                del kept[MOST_SKIPS:]

    async def insert_execution(self, execution: Execution) -> bool:
        await self._step("insert_execution")
        executions = self._tables().executions
        taken = any(e.attempt == execution.attempt for e in self._of(execution.job_id))
        if taken or execution.execution_id in executions:
            return False
        executions[execution.execution_id] = execution
        self._watch(None, execution)
        return True

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        await self._step("change_execution")
        old = self._tables().executions.get(execution_id)
        if old is None or (new := decide(old)) is old:
            return old
        self._tables().executions[execution_id] = new = replace(new, write_no=old.write_no + 1)
        self._watch(old, new)
        return new

    async def next_seq(self) -> int:
        await self._step("next_seq")
        self._tables().last_seq += 1
        return self._tables().last_seq

    async def insert_agent(self, agent: Agent) -> bool:
        await self._step("insert_agent")
        return self._tables().agents.setdefault(agent.agent_id, agent) is agent

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        await self._step("change_agent")
        old = self._tables().agents.get(agent_id)
        if old is None or (new := decide(old)) is old:
            return old
        self._tables().agents[agent_id] = new = replace(new, write_no=old.write_no + 1)
        return new

    async def insert_delivery(self, delivery: Delivery) -> bool:
        await self._step("insert_delivery")
        return self._tables().deliveries.setdefault(delivery.delivery_id, delivery) is delivery

    async def change_delivery(self, delivery_id: str, decide: Callable[[Delivery], Delivery]) -> Delivery | None:
        await self._step("change_delivery")
        old = self._tables().deliveries.get(delivery_id)
        if old is None or (new := decide(old)) is old:
            return old
        self._tables().deliveries[delivery_id] = new = replace(new, write_no=old.write_no + 1)
        return new

    async def delete_delivery(self, delivery_id: str) -> None:
        await self._step("delete_delivery")
        self._tables().deliveries.pop(delivery_id, None)

    async def raise_generation(self, from_: int) -> bool:
        await self._step("raise_generation")
        if self._tables().generation != from_:
            return False
        self._tables().generation += 1
        return True

    async def insert_chunk(self, chunk: LogChunk) -> bool:
        await self._step("insert_chunk")
        chunks = self._tables().chunks.setdefault((chunk.execution_id, chunk.stream), [])
        if any(c.offset == chunk.offset for c in chunks):
            return False
        chunks.append(chunk)
        chunks.sort(key=lambda c: c.offset)
        return True

    async def delete_chunks(self, execution_id: str, limit: int) -> int:
        await self._step("delete_chunks")
        deleted = 0
        for stream in Stream:
            chunks = self._tables().chunks.get((execution_id, stream), [])
            some = min(len(chunks), limit - deleted)
            del chunks[:some]
            deleted += some
        return deleted

    async def delete_execution(self, execution: Execution) -> bool:
        await self._step("delete_execution")
        stored = self._tables().executions.get(execution.execution_id)
        if stored is None or stored.write_no != execution.write_no:
            return False
        del self._tables().executions[execution.execution_id]
        tables = self._tables()
        tables.deliveries = {
            id_: each for id_, each in tables.deliveries.items() if each.execution_id != execution.execution_id
        }
        return True

    async def delete_job(self, job: Job) -> bool:
        await self._step("delete_job")
        tables = self._tables()
        stored = tables.jobs.get(job.job_id)
        if stored is None or stored.write_no != job.write_no:
            return False
        del tables.jobs[job.job_id]
        tables.specs = {key: spec for key, spec in tables.specs.items() if key[0] != job.job_id}
        tables.asked = {key: asked for key, asked in tables.asked.items() if key[0] != job.job_id}
        tables.skips.pop(job.job_id, None)
        left = [j.created_at for j in tables.jobs.values() if j.task_id == job.task_id]
        task = tables.tasks[job.task_id]
        tables.tasks[job.task_id] = replace(task, job_count=len(left), last_job_at=max(left, default=task.created_at))
        self._drop_task(job.task_id)
        return True

    async def delete_task(self, task_id: str) -> None:
        await self._step("delete_task")
        self._tables().doomed_tasks.add(task_id)
        self._drop_task(task_id)

    def _drop_task(self, task_id: str) -> None:
        tables = self._tables()
        task = tables.tasks.get(task_id)
        if task is not None and not task.job_count and task_id in tables.doomed_tasks:
            del tables.tasks[task_id]
            tables.doomed_tasks.discard(task_id)

    async def add_stats(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            await self._step("add_stats")
            add(self._tables().stats.setdefault((cell.span, cell.task_id, cell.at), {}), cell.counts)

    async def delete_stats(self, span: int, before: int, limit: int) -> int:
        await self._step("delete_stats")
        stats = self._tables().stats
        old = [key for key in stats if key[0] == span and key[2] < before][:limit]
        for key in old:
            del stats[key]
        return len(old)

    async def raise_clock(self, mark: int) -> int:
        await self._step("raise_clock")
        self._tables().clock = max(self._tables().clock, mark)
        return self._tables().clock

    async def _step(self, name: str) -> None:
        if not self._atomic:
            await self._between(name)


class FakeReads(FakeLookups):
    """Reads outside plans."""

    async def list_jobs(
        self, where: JobFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Job]:
        found = (
            job
            for job in self._tables().jobs.values()
            if (not where.task_id or job.task_id == where.task_id)
            and (not where.states or job.state in where.states)
            and set(where.labels) <= set(job.labels)
            and set(where.metadata) <= set(job.metadata)
            and (not where.reasons or (job.failure is not None and job.failure.reason in where.reasons))
            and (not where.ends or job.last_end in where.ends)
            and is_named(job.image, where.image)
            and not (where.kept_only and job.delete_requested)
            and _within(job.created_at, where.created_from, where.created_before)
            and _ended_within(job.last_modified_at if job.ended else None, where)
        )
        return Found(_page(found, lambda j: (j.created_at, j.job_id), after, limit, oldest=where.oldest))

    async def count_listed(self, where: JobFilter) -> int:
        return len(await self.list_jobs(where, None, len(self._tables().jobs)))

    async def list_executions(
        self, where: ExecutionFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Execution]:
        found = (
            e
            for e in self._tables().executions.values()
            if (not where.task_id or e.task_id == where.task_id)
            and (not where.job_id or e.job_id == where.job_id)
            and (not where.states or e.state in where.states)
            and (not where.reasons or (e.failure is not None and e.failure.reason in where.reasons))
            and (not where.exit_codes or e.exit_code in where.exit_codes)
            and (not where.agent_id or e.agent_id == where.agent_id)
            and (not where.triggers or e.trigger in where.triggers)
            and is_named(e.image, where.image)
            and _within(e.created_at, where.created_from, where.created_before)
            and _ended_within(e.finished_at, where)
        )
        return Found(_page(found, lambda e: (e.created_at, e.execution_id), after, limit, oldest=where.oldest))

    async def jobs_by_label(self, prefix: str, limit: int) -> list[Job]:
        jobs = self._tables().jobs.values()
        return [job for job in jobs if any(label.startswith(prefix) for label in job.labels)][:limit]

    async def stats(self, span: int, task_id: str, start: int, end: int) -> list[Cell]:
        return [
            Cell(span=span, at=at, task_id=task_id, counts=dict(counts))
            for (s, t, at), counts in sorted(self._tables().stats.items())
            if (s, t) == (span, task_id) and start <= at < end
        ]

    async def executions_of(self, job_id: str, limit: int) -> list[Execution]:
        return sorted(self._of(job_id), key=lambda e: -e.attempt)[:limit]

    async def next_attempt(self, job_id: str, after: int) -> Execution | None:
        later = (e for e in self._of(job_id) if e.attempt > after)
        return min(later, key=lambda e: e.attempt, default=None)

    async def specs(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        found = {key: await self.get_spec(*key) for key in keys}
        return {key: spec for key, spec in found.items() if spec is not None}

    async def get_task(self, task_id: str) -> Task | None:
        return self._tables().tasks.get(task_id)

    async def list_tasks(self, after: str, limit: int) -> list[Task]:
        return [t for name, t in sorted(self._tables().tasks.items()) if name > after][:limit]

    async def count_jobs(self, task_id: str = "") -> Mapping[JobState, int]:
        counts: dict[JobState, int] = {}
        for job in self._tables().jobs.values():
            if not task_id or job.task_id == task_id:
                counts[job.state] = counts.get(job.state, 0) + 1
        return counts

    async def task_ids(self, after: str, limit: int) -> list[str]:
        return sorted(name for name in self._tables().tasks if name > after)[:limit]

    async def count_open(self, task_id: str) -> tuple[int, int]:
        of_task = [e for e in self._tables().executions.values() if e.task_id == task_id]
        return sum(e.state is ExecutionState.QUEUED for e in of_task), sum(e.held for e in of_task)

    async def oldest_queued(self, task_id: str) -> int | None:
        first: dict[int, Execution] = {}
        for one in await self.waiting(task_id, len(self._tables().executions)):
            first.setdefault(one.priority, one)
        return min((one.queued_at for one in first.values() if one.queued_at is not None), default=None)

    async def ended_jobs(self, task_id: str, states: Collection[JobState], before: int, limit: int) -> list[str]:
        found = [
            (job.last_modified_at, job.job_id)
            for job in self._tables().jobs.values()
            if job.task_id == task_id and job.state in states and job.last_modified_at < before
        ]
        return [job_id for _, job_id in sorted(found)][:limit]

    async def doomed_jobs(self, after: str, limit: int) -> list[str]:
        found = [j.job_id for j in self._tables().jobs.values() if j.delete_requested and j.ended and j.job_id > after]
        return sorted(found)[:limit]

    async def with_logs(self, task_id: str, before: int, limit: int) -> list[str]:
        found = [
            (e.finished_at, e.execution_id)
            for e in self._tables().executions.values()
            if e.task_id == task_id
            and e.finished_at is not None
            and e.finished_at < before
            and e.logs_removed_at is None
            and (e.stdout_size is None or e.stderr_size is None or e.stdout_size + e.stderr_size)
        ]
        return [execution_id for _, execution_id in sorted(found)][:limit]

    async def tasks_beginning(self, prefix: str, limit: int) -> list[Task]:
        return [t for name, t in sorted(self._tables().tasks.items()) if name.startswith(prefix)][:limit]

    async def jobs_beginning(self, prefix: str, limit: int) -> list[Job]:
        return [j for name, j in sorted(self._tables().jobs.items()) if name.startswith(prefix)][:limit]

    async def executions_beginning(self, prefix: str, limit: int) -> list[Execution]:
        return [e for name, e in sorted(self._tables().executions.items()) if name.startswith(prefix)][:limit]

    async def jobs_by_image(self, prefix: str, limit: int) -> list[Job]:
        found = [job for job in self._tables().jobs.values() if matches(job.image, prefix)]
        return sorted(found, key=lambda j: (j.created_at, j.job_id), reverse=True)[:limit]

    async def queued_after(self, seq: int, limit: int) -> list[Head]:
        found = [head for head in self._queued() if head.queue_seq > seq]
        return sorted(found, key=lambda h: h.queue_seq)[:limit]

    async def last_seq(self) -> int:
        return self._tables().last_seq

    async def task_queue(self, task_id: str, limit: int) -> list[Head]:
        found = [head for head in self._queued() if head.task_id == task_id]
        return sorted(found, key=lambda h: (-h.priority, h.queue_seq))[:limit]

    async def waiting(self, task_id: str, limit: int) -> list[Execution]:
        executions = self._tables().executions
        return [executions[head.execution_id] for head in await self.task_queue(task_id, limit)]

    async def queued_tasks(self, after: str, limit: int) -> list[str]:
        return sorted({head.task_id for head in self._queued() if head.task_id > after})[:limit]

    async def held(self, after: str, limit: int, agent_id: str = "") -> list[HeldHead]:
        found = [
            HeldHead(
                execution_id=e.execution_id,
                task_id=e.task_id,
                agent_id=e.agent_id,
                session=e.session,
                pool=e.pool,
                epoch=e.epoch,
                needs=e.needs,
            )
            for e in self._tables().executions.values()
            if e.held and e.execution_id > after and (not agent_id or e.agent_id == agent_id)
        ]
        return sorted(found, key=lambda h: h.execution_id)[:limit]

    async def due(self, now: int, limit: int) -> list[DueHead]:
        found = [
            DueHead(execution_id=e.execution_id, epoch=e.epoch, due_at=e.due_at)
            for e in self._tables().executions.values()
            if e.state is ExecutionState.SCHEDULED and e.due_at <= now
        ]
        return sorted(found, key=lambda d: d.due_at)[:limit]

    async def next_due(self, after: int) -> int | None:
        scheduled = (e for e in self._tables().executions.values() if e.state is ExecutionState.SCHEDULED)
        return min((e.due_at for e in scheduled if e.due_at > after), default=None)

    async def expired(self, now: int, limit: int) -> list[str]:
        found = sorted(pair for pair in self._bounded() if pair[0] < now)
        return [execution_id for _, execution_id in found][:limit]

    async def next_expiry(self, after: int) -> int | None:
        return min((latest for latest, _ in self._bounded() if latest > after), default=None)

    async def due_schedules(self, now: int, limit: int) -> list[Job]:
        found = [(j.fire_at, j.job_id, j) for j in self._tables().jobs.values() if j.fire_at is not None]
        return [job for fire_at, _, job in sorted(found, key=lambda f: f[:2]) if fire_at <= now][:limit]

    async def next_schedule(self, after: int) -> int | None:
        times = (j.fire_at for j in self._tables().jobs.values() if j.fire_at is not None)
        return min((at for at in times if at > after), default=None)

    async def skips(self, job_id: str, limit: int) -> list[Skip]:
        return self._tables().skips.get(job_id, [])[:limit]

    async def deliveries_of(self, job_id: str, after: Place | None, limit: int) -> list[Delivery]:
        found = (d for d in self._tables().deliveries.values() if d.job_id == job_id)
        return _page(found, lambda d: (d.created_at, d.delivery_id), after, limit, oldest=False)

    async def due_deliveries(
        self, now: int, per_lane: int, limit: int, *, full: Collection[str], sites: Sites | None = None
    ) -> list[DueDelivery]:
        found = [
            (d.next_at, d.delivery_id, d.lane)
            for d in self._tables().deliveries.values()
            if d.next_at is not None and d.next_at <= now and d.lane not in full
        ]
        lanes: dict[str, list[str]] = {}
        for _, delivery_id, lane in sorted(found):
            lanes.setdefault(lane, []).append(delivery_id)
        due: list[DueDelivery] = []
        room = sites or Sites()
        for lane, ids in lanes.items():
            mine = ids[: room.room(lane, min(per_lane, limit - len(due)))]
            room.take(lane, len(mine))
            due += [DueDelivery(delivery_id=id_, lane=lane) for id_ in mine]
        return due

    async def next_delivery(self, after: int) -> int | None:
        times = (d.next_at for d in self._tables().deliveries.values() if d.next_at is not None)
        return min((at for at in times if at > after), default=None)

    async def agents(self) -> list[Agent]:
        return [agent for _, agent in sorted(self._tables().agents.items())]

    async def unsettled_jobs(self, before: int, limit: int) -> list[str]:
        jobs = self._tables().jobs.values()
        return _longest(((j.unsettled_since, j.job_id) for j in jobs), before, limit)

    async def unsettled_executions(self, before: int, limit: int) -> list[str]:
        executions = self._tables().executions.values()
        return _longest(((e.unsettled_since, e.execution_id) for e in executions), before, limit)

    async def log_ends(self, execution_ids: Collection[str]) -> Mapping[str, tuple[int, int]]:
        ends = {
            id_: (await self.log_end(id_, Stream.STDOUT), await self.log_end(id_, Stream.STDERR))
            for id_ in execution_ids
        }
        return {execution_id: pair for execution_id, pair in ends.items() if pair != (0, 0)}

    async def read_chunks(self, execution_id: str, stream: Stream, offset: int, max_bytes: int) -> list[LogChunk]:
        found: list[LogChunk] = []
        room = max_bytes
        for chunk in self._tables().chunks.get((execution_id, stream), []):
            if chunk.end <= offset:
                continue
            room -= len(chunk.data)
            if found and room < 0:
                break
            found.append(chunk)
        return found

    def _queued(self) -> list[Head]:
        return [
            Head(
                execution_id=e.execution_id,
                task_id=e.task_id,
                priority=e.priority,
                queue_seq=e.queue_seq,
                epoch=e.epoch,
                needs=e.needs,
                image=e.image,
            )
            for e in self._tables().executions.values()
            if e.state is ExecutionState.QUEUED
        ]

    def _bounded(self) -> list[tuple[int, str]]:
        return [
            (e.latest_start, e.execution_id)
            for e in self._tables().executions.values()
            if e.state in WAITING and e.latest_start is not None
        ]


class FakePersistence:
    """`easyq_store.ports.Persistence` in memory.

    `atomic=False` behaves like a database without transactions: `between` is called before each write of a plan.
    `away=True` is a database that can't be reached.
    """

    def __init__(self, *, atomic: bool = True) -> None:
        self.tables = Tables()
        self.atomic = atomic
        self.away = False
        self.between: Between = _nothing
        self.watch: Watch = _look_away
        self._reads = FakeReads(self._reached)

    @property
    def reads(self) -> FakeReads:
        return self._reads

    async def open(self) -> None:
        self._reached()

    async def close(self) -> None:
        self.away = True

    async def run(self, plan: Plan[R]) -> R:
        before = self._reached().copy() if self.atomic else None
        try:
            steps = FakeSteps(self._reached, atomic=self.atomic, between=self.between, watch=self.watch)
            return await plan(steps)
        except BaseException:
            if before is not None:
                self.tables = before
            raise

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        if self.atomic:
            return [await self._settled(plan) for plan in plans]
        return list(await asyncio.gather(*(self._settled(plan) for plan in plans)))

    async def _settled(self, plan: Plan[R]) -> R | EasyQError:
        try:
            return await self.run(plan)
        except EasyQError as error:
            return error

    def _reached(self) -> Tables:
        if self.away:
            raise Unavailable("the database is away")
        return self.tables


async def _nothing(_: str) -> None:
    return None


def _look_away(_: Job | Execution | None, __: Job | Execution) -> None:
    return None


def _within(at: int, from_: int | None, before: int | None) -> bool:
    return (from_ is None or at >= from_) and (before is None or at < before)


def _ended_within(at: int | None, where: JobFilter | ExecutionFilter) -> bool:
    if where.ended_from is None and where.ended_before is None:
        return True
    return at is not None and _within(at, where.ended_from, where.ended_before)


def _page(
    found: Iterable[Listed],
    key: Callable[[Listed], tuple[int, str]],
    after: Place | None,
    limit: int,
    *,
    oldest: bool,
) -> list[Listed]:
    ordered = sorted(found, key=key, reverse=not oldest)
    if after is not None:
        place = (after.created_at, after.id)
        ordered = [record for record in ordered if (key(record) > place if oldest else key(record) < place)]
    return ordered[:limit]


def _longest(marked: Iterable[tuple[int | None, str]], before: int, limit: int) -> list[str]:
    found = sorted((since, id_) for since, id_ in marked if since is not None and since < before)
    return [id_ for _, id_ in found][:limit]
