"""Watch: the present state of what is watched, then what changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from easyq.v1 import job_pb2, job_service_pb2
from easyq.v1.event_service_pb2 import Event, EventChange, EventKind, WatchRequest
from easyq_chassis.errors import NotFound, Unavailable
from easyq_gateway.domain.feed_positions import time_of
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.feed import Entry, Feed, Watcher
from easyq_gateway.usecases.reading import in_parts
from easyq_internal.store.v1 import job_store_pb2

#: States of jobs that have ended.
ENDED = frozenset(
    {job_pb2.Job.SUCCEEDED, job_pb2.Job.FAILED, job_pb2.Job.TIMED_OUT, job_pb2.Job.STOPPED, job_pb2.Job.EXPIRED}
)
_OPEN = [state for state in job_pb2.Job.State.values() if state and state not in ENDED]
_WAITING = frozenset({job_pb2.Execution.SCHEDULED, job_pb2.Execution.QUEUED})
_OPEN_EXECUTIONS = _WAITING | {job_pb2.Execution.ASSIGNED, job_pb2.Execution.RUNNING}
# What a watcher is shown of the present.
_EXECUTIONS = 20
_JOBS = 100
# The same of those that have ended since a watcher knew everything.
_ENDED_JOBS = 1_000
# Events of one moment are not in the order of their times.
_OVERLAP_MS = 2_000
_MOST_MESSAGE = 1024
# Looks at the present at once: where a store begins anew, all watchers want one.
_LOOKS = 16
_PAUSE = 0.5


class Watching:
    """Watches. `patience` is how long a watcher waits for a store that is away when it needs the present state."""

    def __init__(self, *, checker: Checker, store: JobStore, feed: Feed, patience: float) -> None:
        self._checker = checker
        self._store = store
        self._feed = feed
        self._patience = patience
        self._looks = asyncio.Semaphore(_LOOKS)

    async def watch(
        self, request: WatchRequest, found: Sequence[Problem] = (), *, beat: float | None = None
    ) -> AsyncGenerator[list[Entry]]:
        """Yields at once (perhaps nothing), then events as they come, and nothing after each `beat` seconds of silence.

        Raises `InvalidArgument`, `NotFound`, `Unavailable`.
        """
        self._checker.require(request, found)
        after = request.last_event_id
        watching = self._feed.watch(
            task_id=request.task_id, job_id=request.job_id, kinds=request.kinds, after=after, partly=True
        )
        with await watching as watcher:
            seen = after or self._feed.position
            yield [] if after else await self._look(request, self._feed.position)
            while True:
                entries = await _next(watcher, beat)
                yield entries
                if entries and entries[0].event.kind == EventKind.RESET:
                    yield await self._look_again(request, entries[0].event.id, time_of(seen))
                if entries:
                    seen = entries[-1].event.id

    @property
    def away(self) -> list[str]:
        """Stores of which no events come now."""
        return self._feed.away

    async def _look_again(self, request: WatchRequest, position: str, since_ms: int | None) -> list[Entry]:
        """The present state, with what has ended since the watcher knew everything, if that time is known.

        Waits for a store that is away, and tells that a job is gone.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._patience
        while True:
            try:
                return await self._look(request, position, since_ms)
            except NotFound:
                gone = Event(kind=EventKind.JOB, change=EventChange.DELETED, job_id=request.job_id)
                return _entries([gone], request, position)
            except Unavailable:
                if loop.time() + _PAUSE > ends:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _look(self, request: WatchRequest, position: str, since_ms: int | None = None) -> list[Entry]:
        if not request.job_id and not request.task_id:
            return []
        async with self._looks:
            events = await (self._job(request) if request.job_id else self._task(request, since_ms))
        return _entries(events, request, position)

    async def _job(self, request: WatchRequest) -> list[Event]:
        wanted = job_store_pb2.GetJobRequest(task_id=request.task_id, job_id=request.job_id, executions=_EXECUTIONS)
        job = await self._store.get_job(wanted)
        return [_of_job(job), *map(_of_execution, job.executions)]

    async def _task(self, request: WatchRequest, since_ms: int | None) -> list[Event]:
        ended: Sequence[job_pb2.Job] = ()
        if since_ms is not None:
            # First: what ends from here on comes by the feed.
            wanted = job_service_pb2.ListJobsRequest(task_id=request.task_id, state=ENDED, page_size=_ENDED_JOBS)
            wanted.ended_after.FromMilliseconds(max(0, since_ms - _OVERLAP_MS))
            ended = (await in_parts(self._store.list_jobs, wanted)).items
        wanted = job_service_pb2.ListJobsRequest(task_id=request.task_id, state=_OPEN, page_size=_JOBS)
        return [_of_job(job) for job in (*ended, *(await self._store.list_jobs(wanted)).items)]


async def _next(watcher: Watcher, beat: float | None) -> list[Entry]:
    limit = asyncio.timeout(beat)
    try:
        async with limit:
            return await watcher.next()
    except TimeoutError:
        if not limit.expired():
            raise
        return []


def _entries(events: Sequence[Event], request: WatchRequest, position: str) -> list[Entry]:
    """As entries with an id after which everything follows that is not in them."""
    wanted = [event for event in events if not request.kinds or event.kind in request.kinds]
    for event in wanted:
        event.id = position
    return [Entry(event) for event in wanted]


def _of_job(job: job_pb2.Job) -> Event:
    event = Event(
        kind=EventKind.JOB,
        change=EventChange.CURRENT,
        task_id=job.task_id,
        job_id=job.job_id,
        state=job_pb2.Job.State.Name(job.state),
        ended=job.state in ENDED,
        attempt=job.execution_count,
        revision=job.revision,
    )
    _copy_times(event, job, next_run_at="next_run_at")
    return event


def _of_execution(execution: job_pb2.Execution) -> Event:
    event = Event(
        kind=EventKind.EXECUTION,
        change=EventChange.CURRENT,
        task_id=execution.task_id,
        job_id=execution.job_id,
        execution_id=execution.execution_id,
        agent_id=execution.host,
        state=job_pb2.Execution.State.Name(execution.state),
        ended=execution.state not in _OPEN_EXECUTIONS,
        attempt=execution.attempt,
        exit_code=execution.exit_code if execution.HasField("exit_code") else None,
        trigger=execution.trigger,
        revision=execution.spec_revision,
    )
    _copy_times(event, execution, next_run_at="due_at" if execution.state in _WAITING else "")
    return event


def _copy_times(event: Event, record: job_pb2.Job | job_pb2.Execution, *, next_run_at: str) -> None:
    if next_run_at and record.HasField(next_run_at):  # type: ignore[arg-type]
        event.next_run_at.CopyFrom(getattr(record, next_run_at))
    if record.HasField("stop_requested_at"):
        event.stop_requested_at.CopyFrom(record.stop_requested_at)
    if record.HasField("error"):
        event.error.reason = record.error.reason
        event.error.message = shortened(record.error.message)


def shortened(message: str) -> str:
    """Returns a failure's message as events tell it."""
    return message if len(message) <= _MOST_MESSAGE else message[: _MOST_MESSAGE - 1] + "…"
