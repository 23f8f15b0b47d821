"""Jobs under an id of the caller's: created, or their spec replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq_chassis.errors import Aborted, InvalidArgument, NotFound
from easyq_chassis.tracing import current
from easyq_gateway import convert, convert_secrets
from easyq_gateway.domain.problems import Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.admitting import Admitting
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter
from easyq_gateway.usecases.schedules import Schedules
from easyq_internal.store.v1 import job_store_pb2

# How often the stored values are read anew where the job changes in between.
_ROUNDS = 3
_FIRING = frozenset({job_pb2.Job.ACTIVE, job_pb2.Job.PAUSED})


class Replacing:
    """PutJob."""

    def __init__(
        self,
        *,
        checker: Checker,
        schedules: Schedules,
        store: JobStore,
        admitting: Admitting,
        presenter: Presenter,
        redactor: Redactor,
        new_execution_id: Callable[[], str],
    ) -> None:
        self._checker = checker
        self._schedules = schedules
        self._store = store
        self._admitting = admitting
        self._presenter = presenter
        self._redactor = redactor
        self._new_execution_id = new_execution_id

    async def put(
        self, request: job_service_pb2.PutJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.PutJobResponse:
        """Creates or replaces. Raises `InvalidArgument`, `FailedPrecondition`, `Aborted` (revision), `Unavailable`."""
        has_marks = convert_secrets.are_marked(request.spec, self._redactor)
        execution_id = self._new_execution_id()
        sent = spec_pb2.JobSpec()
        if has_marks:
            sent.CopyFrom(request.spec)
        for _ in range(_ROUNDS - 1):
            try:
                return await self._put(request, found, has_marks, execution_id)
            except Aborted:
                if not has_marks or request.revision:
                    raise
                request.spec.CopyFrom(sent)
        return await self._put(request, found, has_marks, execution_id)

    async def _put(
        self,
        request: job_service_pb2.PutJobRequest,
        found: Sequence[Problem],
        has_marks: bool,
        execution_id: str,
    ) -> job_service_pb2.PutJobResponse:
        revision = request.revision
        if has_marks:
            stored = await self._stored(request)
            convert_secrets.put_back(request.spec, stored.spec, self._redactor)
            # What was kept must be what is stored at that moment.
            revision = revision or stored.revision
        job = job_store_pb2.NewJob(
            task_id=request.task_id,
            job_id=request.job_id,
            execution_id=execution_id,
            spec=request.spec,
            asked=convert.asked(request.spec),
            trace=current.current_text(),
        )
        current.note(easyq__task=request.task_id, easyq__job=request.job_id)
        try:
            await self._require(request, found)
            self._checker.resolve(job.task_id, job.spec)
            answer = await self._admitting.put(job_store_pb2.PutJobRequest(job=job, revision=revision))
        except InvalidArgument:
            same = await self._same(job, revision) if self._checker.fits_schema(request, found) else None
            if same is None:
                raise
            answer = same
        return job_service_pb2.PutJobResponse(job=await self._presenter.job(answer.job), created=answer.created)

    async def _same(self, job: job_store_pb2.NewJob, revision: int) -> job_store_pb2.PutJobResponse | None:
        """The job as it is, if the same was asked for when the clock, or the settings, did not speak against it yet."""
        self._checker.resolve(job.task_id, job.spec)
        asked = job_store_pb2.PutJobRequest(job=job, revision=revision, only_same=True)
        try:
            return await self._store.put_job(asked)
        except NotFound:
            return None

    async def _require(self, request: job_service_pb2.PutJobRequest, found: Sequence[Problem]) -> None:
        try:
            await self._schedules.require(request, found, job_id=request.job_id)
        except InvalidArgument:
            anchor = await self._anchor(request, found)
            if not anchor:
                raise
            # Times that stay are not refused, though there may be no further fire.
            await self._schedules.require(request, found, job_id=request.job_id, anchor=anchor)

    async def _anchor(self, request: job_service_pb2.PutJobRequest, found: Sequence[Problem]) -> int:
        """From when the times of a job with a window are counted (ms), if it is there, and they stay; 0 otherwise."""
        if not request.spec.HasField("end_at") or not self._checker.fits_schema(request, found):
            return 0
        asked = convert.schedule_of(request.spec, (), self._checker.defaults.of(request.task_id))
        stored = await self._stored(request)
        if asked is None or stored.state not in _FIRING or not convert.same_times(asked, stored.spec):
            return 0
        return convert.ms_of(stored.schedule, "anchor") or 0

    async def _stored(self, request: job_service_pb2.PutJobRequest) -> job_pb2.Job:
        try:
            return await self._store.get_job(
                job_store_pb2.GetJobRequest(task_id=request.task_id, job_id=request.job_id)
            )
        except NotFound:
            return job_pb2.Job()
