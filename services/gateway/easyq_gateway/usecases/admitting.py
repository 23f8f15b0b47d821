"""Who admits a job, and who is told of it."""

from __future__ import annotations

from easyq_gateway import convert
from easyq_gateway.ports import Admission, Dispatchers
from easyq_internal.store.v1 import job_store_pb2


class Admitting:
    """Hands jobs with a time to the scheduler and all others to the store, and tells the dispatchers what is ready."""

    def __init__(self, *, store: Admission, scheduler: Admission, dispatchers: Dispatchers) -> None:
        self._store = store
        self._scheduler = scheduler
        self._dispatchers = dispatchers

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        """Makes a job; it is durable when this returns."""
        accepted = await self._of(job).submit(job)
        if accepted.HasField("ready"):
            self._dispatchers.tell_ready(accepted.ready)
        return accepted

    async def put(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        """Creates or replaces a job. Raises `FailedPrecondition` (another task's), `Aborted` (another revision)."""
        answer = await self._of(request.job).put_job(request)
        if answer.HasField("ready"):
            self._dispatchers.tell_ready(answer.ready)
        return answer

    def _of(self, job: job_store_pb2.NewJob) -> Admission:
        return self._scheduler if convert.has_time(job.spec) else self._store
