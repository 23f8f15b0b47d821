"""Running a job again with changes: a new job of the same task, from the stored spec."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq_gateway import convert_secrets
from easyq_gateway.domain.problems import Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.creating import Creating
from easyq_internal.store.v1 import job_store_pb2

# What makes a job wait or recur: the copy runs once, and now.
_OF_TIME = (
    "start_at", "start_in", "cron", "time_zone", "overlap", "misfire", "jitter", "expiration", "misfire_deadline",
    "start_after", "end_at", "max_runs",
)  # fmt: skip


class Again:
    """Copies of jobs."""

    def __init__(self, *, checker: Checker, store: JobStore, creating: Creating, redactor: Redactor) -> None:
        self._checker = checker
        self._store = store
        self._creating = creating
        self._redactor = redactor

    async def run(
        self, job_id: str, spec: spec_pb2.JobSpec, found: Sequence[Problem] = ()
    ) -> job_service_pb2.CreateJobResponse:
        """Enqueues `spec` under the job's task. What is redacted in it is what the job has stored.

        Raises `NotFound`, and what CreateJob raises.
        """
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        self._checker.require(request)
        stored: job_pb2.Job = await self._store.get_job(job_store_pb2.GetJobRequest(job_id=job_id))
        copy = spec_pb2.JobSpec()
        copy.CopyFrom(spec)
        for name in _OF_TIME:
            copy.ClearField(name)  # type: ignore[arg-type]
        convert_secrets.put_back(copy, stored.spec, self._redactor)
        wanted = job_service_pb2.CreateJobRequest(task_id=stored.task_id, spec=copy)
        return await self._creating.create(wanted, found)
