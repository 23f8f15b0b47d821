"""Any database, with its visible writes told to the feed of changes, and counted. No use case knows of it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.adapters.crowd import Crowd
from easyq_store.domain.changes import Note
from easyq_store.domain.records import Agent, Delivery, Execution, Job, LogChunk, Skip
from easyq_store.domain.states import Stream
from easyq_store.domain.stats import Cell
from easyq_store.ports import Inserted, Persistence, Plan, Reads, Steps
from easyq_store.usecases.feed import Feed

R = TypeVar("R")
Written = TypeVar("Written", Job, Execution, Agent)


class ObservedPersistence:
    """`easyq_store.ports.Persistence` around another one.

    A plan's notes of what it writes are handed on when it is durable, before its caller goes on. A plan that is run
    again begins its notes anew. `count` gets all notes, of jobs that change only with `count_all`; `stored` gets the
    bytes of output. The feed gets them while somebody watches, and only then is a plan waited for whose caller has
    gone. With neither, a plan costs the count of it and no more. What is under way is bounded by `crowd`: beyond it,
    plans are refused (`Unavailable`).
    """

    def __init__(
        self,
        inner: Persistence,
        feed: Feed,
        *,
        count: Callable[[Sequence[Note]], None] | None = None,
        stored: Callable[[Stream, int], None] | None = None,
        count_all: bool = False,
        crowd: Crowd | None = None,
    ) -> None:
        self._inner = inner
        self._feed = feed
        self._count = count
        self._stored = stored
        self._count_all = count_all
        # Plans under way that take no notes.
        self._unnoted = 0
        self._all_noted = asyncio.Event()
        self._crowd = crowd or Crowd()

    @property
    def reads(self) -> Reads:
        return self._inner.reads

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def ready(self) -> None:
        """Returns when all plans take notes, and what those before them wrote can be read.

        Errors: `Unavailable` (the database is away).
        """
        while self._unnoted:
            self._all_noted.clear()
            await self._all_noted.wait()
        # Where a caller went away its plan may still wait for its commit: whatever does is durable before this is.
        await self._inner.run(_nothing)

    async def run(self, plan: Plan[R]) -> R:
        if (refusal := self._crowd.refusal(1)) is not None:
            raise refusal
        if self._feed.wanted:
            return await self._crowd.to_its_end(self._noted(plan, watched=True), 1)
        self._unnoted += 1
        try:
            work = self._inner.run(plan) if self._count is None else self._noted(plan, watched=False)
            return await self._crowd.with_its_caller(work, 1)
        finally:
            self._end_unnoted()

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        if (refusal := self._crowd.refusal(len(plans))) is not None:
            return [refusal] * len(plans)
        if self._feed.wanted:
            return await self._crowd.to_its_end(self._all(plans, watched=True), len(plans))
        self._unnoted += 1
        try:
            work = self._inner.run_all(plans) if self._count is None else self._all(plans, watched=False)
            return await self._crowd.with_its_caller(work, len(plans))
        finally:
            self._end_unnoted()

    def _end_unnoted(self) -> None:
        self._unnoted -= 1
        if not self._unnoted:
            self._all_noted.set()

    async def _noted(self, plan: Plan[R], *, watched: bool) -> R:
        log = _Log()
        try:
            result = await self._inner.run(log.noting(plan, watched=watched or self._count_all))
        except BaseException as error:
            self._hand_on([log], [error], watched=watched)
            raise
        self._hand_on([log], [None], watched=watched)
        return result

    async def _all(self, plans: Sequence[Plan[R]], *, watched: bool) -> list[R | EasyQError]:
        logs = [_Log() for _ in plans]
        try:
            whole = watched or self._count_all
            noting = [log.noting(plan, watched=whole) for log, plan in zip(logs, plans, strict=True)]
            results = await self._inner.run_all(noting)
        except BaseException as error:
            self._hand_on(logs, [error] * len(logs), watched=watched)
            raise
        self._hand_on(logs, results, watched=watched)
        return results

    def _hand_on(self, logs: Sequence["_Log"], results: Sequence[object], *, watched: bool) -> None:
        """Tells the feed, and counts. Of a plan that failed an atomic backend keeps nothing; others what was noted."""
        notes: list[Note] = []
        unknown = False
        for log, result in zip(logs, results, strict=True):
            failed = isinstance(result, BaseException)
            if not failed or not log.atomic:
                notes += log.notes
                for stream, size in log.stored:
                    if self._stored is not None:
                        self._stored(stream, size)
                # A write that was under way then: nobody can say whether it took effect.
                unknown = unknown or (failed and log.writing and _is_unknown(result))
        if notes and self._count is not None:
            self._count(notes)
        if notes and watched:
            self._feed.take(notes)
        if unknown and watched:
            self._feed.take_gap()


def _is_unknown(error: object) -> bool:
    return isinstance(error, Unavailable) or not isinstance(error, EasyQError)


async def _nothing(_: Steps) -> None:
    """A plan that waits for those before it."""


class _Log:
    """What one plan wrote."""

    __slots__ = ("atomic", "notes", "stored", "writing")

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.stored: list[tuple[Stream, int]] = []
        self.writing = False
        self.atomic = False

    def noting(self, plan: Plan[R], *, watched: bool) -> Plan[R]:
        noting_steps = ObservedSteps if watched else CountedSteps

        async def noted(steps: Steps) -> R:
            self.notes = []
            self.stored = []
            self.writing = False
            self.atomic = steps.atomic
            return await plan(noting_steps(steps, self))

        return noted


class ObservedSteps:
    """`easyq_store.ports.Steps` around others. What is not watched is handed through."""

    __slots__ = ("_inner", "_log")

    def __init__(self, inner: Steps, log: _Log) -> None:
        self._inner = inner
        self._log = log

    @property
    def atomic(self) -> bool:
        return self._inner.atomic

    # ------------------------------------------------------------------------------------------------ what is watched
    async def insert_job(self, job: Job) -> Inserted:
        self._log.writing = True
        done = await self._inner.insert_job(job)
        self._written(None, job if done is Inserted.DONE else None)
        return done

    async def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Job | None:
        seen: list[Job] = []
        return self._changed(seen, await self._change(self._inner.change_job, job_id, decide, seen))

    async def insert_execution(self, execution: Execution) -> bool:
        self._log.writing = True
        done = await self._inner.insert_execution(execution)
        self._written(None, execution if done else None)
        return done

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        seen: list[Execution] = []
        return self._changed(seen, await self._change(self._inner.change_execution, execution_id, decide, seen))

    async def insert_agent(self, agent: Agent) -> bool:
        self._log.writing = True
        done = await self._inner.insert_agent(agent)
        self._written(None, agent if done else None)
        return done

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        seen: list[Agent] = []
        return self._changed(seen, await self._change(self._inner.change_agent, agent_id, decide, seen))

    async def delete_execution(self, execution: Execution) -> bool:
        self._log.writing = True
        done = await self._inner.delete_execution(execution)
        self._written(execution if done else None, None)
        return done

    async def delete_job(self, job: Job) -> bool:
        self._log.writing = True
        done = await self._inner.delete_job(job)
        self._written(job if done else None, None)
        return done

    def _change(
        self,
        change: Callable[[str, Callable[[Written], Written]], Coroutine[Any, Any, Written | None]],
        record_id: str,
        decide: Callable[[Written], Written],
        seen: list[Written],
    ) -> Coroutine[Any, Any, Written | None]:
        def noticed(old: Written) -> Written:
            decided = decide(old)
            seen[:] = (old,)
            self._log.writing = self._log.writing or decided is not old
            return decided

        return change(record_id, noticed)

    def _changed(self, seen: list[Written], after: Written | None) -> Written | None:
        # Without a write the record comes back as it was read.
        if after is not None and seen and after.write_no != seen[0].write_no:
            self._written(seen[0], after)
        self._log.writing = False
        return after

    def _written(self, before: Job | Execution | Agent | None, after: Job | Execution | Agent | None) -> None:
        self._log.writing = False
        if before is not None or after is not None:
            self._log.notes.append((before, after))

    # ----------------------------------------------------------------------------------------- what is handed through
    def get_job(self, job_id: str) -> Coroutine[Any, Any, Job | None]:
        return self._inner.get_job(job_id)

    def job_by_key(self, task_id: str, idempotency_key: str) -> Coroutine[Any, Any, Job | None]:
        return self._inner.job_by_key(task_id, idempotency_key)

    def get_spec(self, job_id: str, revision: int) -> Coroutine[Any, Any, bytes | None]:
        return self._inner.get_spec(job_id, revision)

    def get_asked(self, job_id: str, revision: int) -> Coroutine[Any, Any, bytes | None]:
        return self._inner.get_asked(job_id, revision)

    def get_execution(self, execution_id: str) -> Coroutine[Any, Any, Execution | None]:
        return self._inner.get_execution(execution_id)

    def newest_execution(self, job_id: str) -> Coroutine[Any, Any, Execution | None]:
        return self._inner.newest_execution(job_id)

    def open_executions(self, job_id: str) -> Coroutine[Any, Any, list[Execution]]:
        return self._inner.open_executions(job_id)

    def open_series(self, job_id: str) -> Coroutine[Any, Any, list[Execution]]:
        return self._inner.open_series(job_id)

    def first_executions(self, job_id: str, limit: int) -> Coroutine[Any, Any, list[Execution]]:
        return self._inner.first_executions(job_id, limit)

    def held_by(self, agent_id: str) -> Coroutine[Any, Any, list[Execution]]:
        return self._inner.held_by(agent_id)

    def get_agent(self, agent_id: str) -> Coroutine[Any, Any, Agent | None]:
        return self._inner.get_agent(agent_id)

    def get_delivery(self, delivery_id: str) -> Coroutine[Any, Any, Delivery | None]:
        return self._inner.get_delivery(delivery_id)

    def has_unsent(self, job_id: str, execution_id: str = "") -> Coroutine[Any, Any, bool]:
        return self._inner.has_unsent(job_id, execution_id)

    def generation(self) -> Coroutine[Any, Any, int]:
        return self._inner.generation()

    def log_end(self, execution_id: str, stream: Stream) -> Coroutine[Any, Any, int]:
        return self._inner.log_end(execution_id, stream)

    def keep_spec(
        self, job_id: str, revision: int, spec: bytes, asked: bytes | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._inner.keep_spec(job_id, revision, spec, asked)

    def keep_skips(self, job_id: str, skips: Sequence[Skip]) -> Coroutine[Any, Any, None]:
        return self._inner.keep_skips(job_id, skips)

    def next_seq(self) -> Coroutine[Any, Any, int]:
        return self._inner.next_seq()

    def raise_generation(self, from_: int) -> Coroutine[Any, Any, bool]:
        return self._inner.raise_generation(from_)

    def insert_delivery(self, delivery: Delivery) -> Coroutine[Any, Any, bool]:
        return self._inner.insert_delivery(delivery)

    def change_delivery(
        self, delivery_id: str, decide: Callable[[Delivery], Delivery]
    ) -> Coroutine[Any, Any, Delivery | None]:
        return self._inner.change_delivery(delivery_id, decide)

    def delete_delivery(self, delivery_id: str) -> Coroutine[Any, Any, None]:
        return self._inner.delete_delivery(delivery_id)

    async def insert_chunk(self, chunk: LogChunk) -> bool:
        done = await self._inner.insert_chunk(chunk)
        if done:
            self._log.stored.append((chunk.stream, len(chunk.data)))
        return done

    def delete_chunks(self, execution_id: str, limit: int) -> Coroutine[Any, Any, int]:
        return self._inner.delete_chunks(execution_id, limit)

    def delete_task(self, task_id: str) -> Coroutine[Any, Any, None]:
        return self._inner.delete_task(task_id)

    def add_stats(self, cells: Sequence[Cell]) -> Coroutine[Any, Any, None]:
        return self._inner.add_stats(cells)

    def delete_stats(self, span: int, before: int, limit: int) -> Coroutine[Any, Any, int]:
        return self._inner.delete_stats(span, before, limit)

    def raise_clock(self, mark: int) -> Coroutine[Any, Any, int]:
        return self._inner.raise_clock(mark)


class CountedSteps(ObservedSteps):
    """Notes only what counts, at the least cost: jobs and executions that are made, executions and agents in another
    state.

    Nobody asks here what was under way when a plan failed, so that is not kept.
    """

    __slots__ = ()

    async def insert_job(self, job: Job) -> Inserted:
        done = await self._inner.insert_job(job)
        if done is Inserted.DONE:
            self._log.notes.append((None, job))
        return done

    def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Coroutine[Any, Any, Job | None]:
        return self._inner.change_job(job_id, decide)

    async def insert_execution(self, execution: Execution) -> bool:
        done = await self._inner.insert_execution(execution)
        if done:
            self._log.notes.append((None, execution))
        return done

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        before: Execution | None = None

        def noticed(old: Execution) -> Execution:
            nonlocal before
            before = old
            return decide(old)

        after = await self._inner.change_execution(execution_id, noticed)
        if before is not None and after is not None and after.state is not before.state:
            self._log.notes.append((before, after))
        return after

    def insert_agent(self, agent: Agent) -> Coroutine[Any, Any, bool]:
        return self._inner.insert_agent(agent)

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        before: Agent | None = None

        def noticed(old: Agent) -> Agent:
            nonlocal before
            before = old
            return decide(old)

        after = await self._inner.change_agent(agent_id, noticed)
        if before is not None and after is not None and after.state is not before.state:
            self._log.notes.append((before, after))
        return after

    def delete_execution(self, execution: Execution) -> Coroutine[Any, Any, bool]:
        return self._inner.delete_execution(execution)

    def delete_job(self, job: Job) -> Coroutine[Any, Any, bool]:
        return self._inner.delete_job(job)
