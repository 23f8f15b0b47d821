"""GetJob with `wait`: its answer comes with the job's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from easyq.v1 import job_pb2, job_service_pb2
from easyq.v1.event_service_pb2 import EventChange, EventKind
from easyq_chassis.errors import Unavailable
from easyq_gateway.convert import to_ms
from easyq_gateway.deadline import extend
from easyq_gateway.domain.problems import Problem
from easyq_gateway.gate import Gate
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.feed import Entry, Feed, stopping
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.watching import ENDED
from easyq_internal.store.v1 import job_store_pb2

# Seconds between two looks while there is no feed.
_LOOK = 1.0


class Awaiting:
    """Gets jobs. Whoever waits for a job's end counts among the `streams` meanwhile, and not among the `requests`."""

    def __init__(
        self, *, checker: Checker, reading: Reading, store: JobStore, feed: Feed, requests: Gate, streams: Gate
    ) -> None:
        self._checker = checker
        self._reading = reading
        self._store = store
        self._feed = feed
        self._requests = requests
        self._streams = streams

    async def get_job(self, request: job_service_pb2.GetJobRequest, found: Sequence[Problem] = ()) -> job_pb2.Job:
        """GetJob. Raises `NotFound`, `ResourceExhausted`, `Unavailable`."""
        self._checker.require(request, found)
        seconds = to_ms(request.wait) / 1000
        if seconds > 0:
            extend(seconds)
            with self._requests.exchanged(self._streams):
                await self._until_ended(request, seconds)
        return await self._reading.get_job(request, found)

    async def _until_ended(self, request: job_service_pb2.GetJobRequest, seconds: float) -> None:
        """Returns when the job has ended, at the latest after so many seconds. Looks once, and again where told to.

        Where one of several stores is away there is no feed, and the others go on: then it looks now and again.
        """
        wanted = job_store_pb2.GetJobRequest(task_id=request.task_id, job_id=request.job_id)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                watching = self._feed.watch(task_id=request.task_id, job_id=request.job_id, kinds={EventKind.JOB})
                try:
                    watched = await watching
                except Unavailable:
                    await self._look_until_ended(wanted)
                    return
                with watched as watcher:
                    while (await self._store.get_job(wanted)).state not in ENDED:
                        while not any(map(_is_reason_to_look, await watcher.next())):
                            pass
        except TimeoutError:
            if not limit.expired():
                raise

    async def _look_until_ended(self, wanted: job_store_pb2.GetJobRequest) -> None:
        while (await self._store.get_job(wanted)).state not in ENDED:
            if self._feed.closed:
                raise stopping()
            await asyncio.sleep(_LOOK)


def _is_reason_to_look(entry: Entry) -> bool:
    event = entry.event
    return event.ended or event.kind == EventKind.RESET or event.change == EventChange.DELETED
