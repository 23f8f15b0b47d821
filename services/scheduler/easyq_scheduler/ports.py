"""What the scheduler needs of others.

It relays messages between the store, its callers and the dispatchers without reading into them. So the ports speak
those messages; only the timing of a spec is looked at (`convert.timing_of`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from easyq_internal.store.v1 import delivery_store_pb2, job_store_pb2, records_pb2, time_store_pb2
from easyq_scheduler.domain.hook import Answer


class JobSink(Protocol):
    """The store's way in for jobs."""

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitResult:
        """Stores one job, durably. Raises Unavailable where the outcome is not known; a repeat is harmless."""
        ...

    async def put(self, request: job_store_pb2.PutJobRequest, timeout: float) -> job_store_pb2.PutJobResponse:
        """Creates or replaces a job under its own id, within `timeout` seconds. Raises the store's error."""
        ...


class TimeStore(Protocol):
    """The store's view of time. Any call may raise Unavailable."""

    async def list_due(self, limit: int) -> time_store_pb2.ListDueResponse:
        """Up to `limit` executions whose time has come, and when the next one is due."""
        ...

    async def fire(self, items: Sequence[time_store_pb2.DueExecution]) -> Sequence[records_pb2.Head]:
        """Makes them ready by compare-and-set; returns the heads of those that this call made ready."""
        ...

    async def list_due_schedules(self, limit: int) -> time_store_pb2.ListDueSchedulesResponse:
        """Up to `limit` recurring jobs whose next fire is due or not planned, and when the next one is due."""
        ...

    async def fire_schedules(
        self, decisions: Sequence[time_store_pb2.ScheduleDecision]
    ) -> time_store_pb2.FireSchedulesResponse:
        """Records decisions by compare-and-set; those of jobs that changed meanwhile are left aside."""
        ...

    async def expire_waiting(self, limit: int) -> time_store_pb2.ExpireWaitingResponse:
        """Ends up to `limit` executions that have waited too long."""
        ...


class ReadyNews(Protocol):
    """The way to the dispatchers for news that may be lost."""

    def announce(self, heads: Sequence[records_pb2.Head], stops: Sequence[job_store_pb2.StopHint] = ()) -> None:
        """Tells every dispatcher that these are ready, and these to be stopped. Never waits and never fails."""
        ...


class Deliveries(Protocol):
    """The store's notifications. Any call may raise Unavailable."""

    async def claim(
        self, *, limit: int, lease: float, per_lane: int, per_site: int, under_way: Mapping[str, int]
    ) -> delivery_store_pb2.ClaimDeliveriesResponse:
        """Takes up to `limit` due ones for `lease` seconds: with those `under_way`, at most `per_lane` of a lane,
        and `per_site` of hosts below one domain.
        """
        ...

    async def record(self, request: delivery_store_pb2.RecordDeliveryRequest) -> None:
        """Tells what became of an attempt; a repeat is harmless."""
        ...


class Sender(Protocol):
    """A way to a receiver."""

    async def send(self, item: delivery_store_pb2.ClaimedDelivery) -> Answer:
        """Makes one attempt, within a time of its own."""
        ...
