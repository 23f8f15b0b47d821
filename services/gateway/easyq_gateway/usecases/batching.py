"""Many jobs at once: each accepted or refused on its own."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from easyq._vendor.buf.validate import validate_pb2
from easyq.v1 import job_service_pb2
from easyq_chassis.errors import DeadlineExceeded, EasyQError, InvalidArgument, Unavailable
from easyq_gateway import convert, deadline
from easyq_gateway.codec.wellformed import check_unknown
from easyq_gateway.domain.problems import Problem, Problems, member_path
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.creating import Creating
from easyq_gateway.usecases.schedules import Schedules

_ITEM = re.compile(r"jobs\[([0-9]+)\]")
# Checking a batch must not hold up other requests: after so many items they get their turn.
_ITEMS_AT_A_STRETCH = 32
# Shares of a batch's time after which no item begins, and none is waited for. The rest is for the answer.
_FOR_BEGINNING, _FOR_ENDING = 0.7, 0.85


class Batching:
    """BatchCreateJobs and SubmitJobs; `in_flight` items of one call are under way at a time."""

    def __init__(self, *, checker: Checker, schedules: Schedules, creating: Creating, in_flight: int) -> None:
        self._checker = checker
        self._schedules = schedules
        self._creating = creating
        self._in_flight = in_flight
        options: Any = job_service_pb2.BatchCreateJobsRequest.DESCRIPTOR.fields_by_name["jobs"].GetOptions()
        rule = options.Extensions[validate_pb2.field].repeated
        self._least, self._most = int(rule.min_items), int(rule.max_items)

    async def batch(
        self, request: job_service_pb2.BatchCreateJobsRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.BatchCreateJobsResponse:
        """BatchCreateJobs. Raises `InvalidArgument` for what is wrong with the batch as a whole.

        The answer comes within the request's time whatever was done by then: it has the ids of what was made.
        """
        of_items = self._split(request, found)
        results = [job_service_pb2.BatchResult()] * len(request.jobs)
        waiting = enumerate(request.jobs)
        turns, time = Turns(), _Time()

        async def work() -> None:
            for index, item in waiting:
                if time.is_over:
                    results[index] = _failed(index, _not_reached())
                    continue
                results[index] = await self._in_time(index, item, of_items.get(index, ()), turns, time)
                if index % _ITEMS_AT_A_STRETCH == 0:
                    await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(min(self._in_flight, len(results)))))
        return job_service_pb2.BatchCreateJobsResponse(results=results)

    async def stream(
        self, requests: AsyncIterator[job_service_pb2.SubmitJobsRequest]
    ) -> AsyncIterator[job_service_pb2.SubmitJobsResponse]:
        """SubmitJobs: takes requests while earlier ones are under way, and answers in their order."""
        slots = asyncio.Semaphore(self._in_flight)
        under_way: asyncio.Queue[asyncio.Task[job_service_pb2.BatchResult] | None] = asyncio.Queue()
        turns = Turns()

        async def take() -> None:
            index = 0
            try:
                async for request in requests:
                    await slots.acquire()
                    under_way.put_nowait(asyncio.create_task(self._streamed(index, request, turns)))
                    index += 1
            finally:
                under_way.put_nowait(None)

        taking = asyncio.create_task(take())
        try:
            while (task := await under_way.get()) is not None:
                yield job_service_pb2.SubmitJobsResponse(result=await task)
                slots.release()
            await taking
        finally:
            taking.cancel()
            left = [task for task in _drain(under_way) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(taking, *left, return_exceptions=True)

    def _split(
        self, request: job_service_pb2.BatchCreateJobsRequest, found: Sequence[Problem]
    ) -> dict[int, list[Problem]]:
        of_items: defaultdict[int, list[Problem]] = defaultdict(list)
        of_batch = Problems()
        for problem in found:
            match = _ITEM.match(problem.path)
            if match:
                of_items[int(match[1])].append(problem)
            else:
                of_batch.append(problem)
        check_unknown(request, "", of_batch)
        if not of_batch and not self._least <= len(request.jobs) <= self._most:
            of_batch.add("jobs", f"must hold {self._least} to {self._most} jobs, not {len(request.jobs)}")
        if of_batch:
            raise convert.refusal(of_batch)
        return of_items

    async def _in_time(
        self, index: int, item: job_service_pb2.BatchItem, found: Sequence[Problem], turns: Turns, time: _Time
    ) -> job_service_pb2.BatchResult:
        limit = asyncio.timeout_at(time.last)
        try:
            async with limit, turns.of(item):
                return await self._one(index, item, found, f"jobs[{index}]")
        except TimeoutError:
            if not limit.expired():
                raise
            return _failed(index, _not_answered())

    async def _streamed(
        self, index: int, request: job_service_pb2.SubmitJobsRequest, turns: Turns
    ) -> job_service_pb2.BatchResult:
        found = Problems()
        check_unknown(request, "", found)
        async with turns.of(request.item):
            return await self._one(index, request.item, found, "item")

    async def _one(
        self, index: int, item: job_service_pb2.BatchItem, found: Sequence[Problem], path: str
    ) -> job_service_pb2.BatchResult:
        try:
            return job_service_pb2.BatchResult(index=index, job=await self._job(item, found, path))
        except EasyQError as error:
            return _failed(index, error)

    async def _job(
        self, item: job_service_pb2.BatchItem, found: Sequence[Problem], path: str
    ) -> job_service_pb2.CreateJobResponse:
        problems = self._checker.problems(item, found, path)
        if problems:
            repeat = await self._creating.repeated(item, found)
            if repeat is not None:
                return repeat
            # What is sound but for its schedule is left to the scheduler, which admits it: one call less for each.
            raise convert.refusal(await self._schedules.complete(item, problems, path))
        try:
            return await self._creating.accept(item)
        except InvalidArgument as error:
            error.fields = tuple(replace(one, field=member_path(path, one.field)) for one in error.fields)
            raise


class _Time:
    """Shares of the time that the request at hand has."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        now, left = self._now(), deadline.remaining(inf)
        self._no_more = now + left * _FOR_BEGINNING
        # Until when those under way may end (seconds of the event loop's clock); None where there is no limit.
        self.last = None if left == inf else now + left * _FOR_ENDING

    @property
    def is_over(self) -> bool:
        """Whether no other item may begin."""
        return self._now() >= self._no_more


def _not_reached() -> EasyQError:
    return Unavailable("it was not reached in the time of this request, and nothing was done: send it again")


def _not_answered() -> EasyQError:
    return DeadlineExceeded(
        "it was not answered in the time of this request; whether it was made is not known (sending it again is safe "
        "where it has an idempotency key)"
    )


def _failed(index: int, error: EasyQError) -> job_service_pb2.BatchResult:
    return job_service_pb2.BatchResult(index=index, error=convert.error_body(error))


class Turns:
    """Items of one call with the same idempotency key go one after another: it is the first that makes the job."""

    def __init__(self) -> None:
        # As long as somebody has one, or waits for it: a stream may be endless.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, item: job_service_pb2.BatchItem) -> AbstractAsyncContextManager[None]:
        """Entered in the order of the items."""
        if not item.idempotency_key:
            return nullcontext()
        return self._locks.setdefault((item.task_id, item.idempotency_key), asyncio.Lock())


def _drain(queue: asyncio.Queue[asyncio.Task[job_service_pb2.BatchResult] | None]) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]
