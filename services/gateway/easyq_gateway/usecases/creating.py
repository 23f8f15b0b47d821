"""New jobs, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from easyq.v1 import job_service_pb2, spec_pb2
from easyq_chassis import wishes
from easyq_chassis.errors import AlreadyExists, FieldProblem, InvalidArgument, NotFound
from easyq_chassis.tracing import current
from easyq_gateway import convert, convert_secrets
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.domain.difference import differing
from easyq_gateway.domain.problems import MOST_FIELDS, Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import JobStore
from easyq_gateway.usecases.admitting import Admitting
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.schedules import Schedules
from easyq_internal.store.v1 import job_store_pb2

# Members of a spec whose objects have the user's own keys.
_MAPS = frozenset({"envs", "labels", "agentLabels"})
# Coming fires of a recurring job that was only checked.
_SHOWN_FIRES = 10
_DIFFERS = "differs from what this key was used with"


class Creating:
    """Enqueues: checks, resolves the defaults, makes the ids, and hands on."""

    def __init__(
        self,
        *,
        checker: Checker,
        schedules: Schedules,
        store: JobStore,
        admitting: Admitting,
        redactor: Redactor,
        links: Links,
        new_job_id: Callable[[], str],
        new_execution_id: Callable[[], str],
    ) -> None:
        self._checker = checker
        self._schedules = schedules
        self._store = store
        self._admitting = admitting
        self._redactor = redactor
        self._links = links
        self._new_job_id = new_job_id
        self._new_execution_id = new_execution_id

    async def create(
        self, request: job_service_pb2.CreateJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.CreateJobResponse:
        """CreateJob. Raises `InvalidArgument`, `AlreadyExists` (the idempotency key), `Unavailable`."""
        if not request.validate_only:
            try:
                await self._schedules.require(request, found)
            except InvalidArgument:
                repeat = await self.repeated(request, found)
                if repeat is None:
                    raise
                return repeat
            made = await self.accept(request)
            current.note(easyq__task=made.task_id, easyq__job=made.job_id, easyq__execution=made.execution_id)
            return made
        fires = await self._schedules.require(request, found, count=_SHOWN_FIRES)
        self._checker.resolve(request.task_id, request.spec)
        convert_secrets.redact_spec(request.spec, self._redactor)
        response = job_service_pb2.CreateJobResponse(task_id=request.task_id, spec=request.spec)
        for nominal in fires:
            response.next_fires.add().FromMilliseconds(nominal)
        return response

    async def accept(
        self, request: job_service_pb2.CreateJobRequest | job_service_pb2.BatchItem
    ) -> job_service_pb2.CreateJobResponse:
        """Enqueues what has been checked. It is durable when this returns; repeats with the same key are harmless."""
        asked = convert.asked(request.spec) if request.idempotency_key else b""
        self._checker.resolve(request.task_id, request.spec)
        job = job_store_pb2.NewJob(
            task_id=request.task_id,
            job_id=self._new_job_id(),
            execution_id=self._new_execution_id(),
            spec=request.spec,
            idempotency_key=request.idempotency_key,
            asked=asked,
            trace=current.current_text(),
        )
        try:
            accepted = await self._admitting.submit(job)
        except InvalidArgument:
            # It was sound but for the clock, which may have gone on since an attempt whose answer was lost.
            known = await self._known(job)
            if known is None:
                raise
            return known
        # Our own ids may come back as a repeat's, where the first answer was lost on its way.
        replayed = accepted.HasField("replayed_spec") and accepted.job_id != job.job_id
        if replayed:
            _require_same(job, accepted)
        return self._response(request.task_id, accepted, replayed)

    async def repeated(
        self, request: job_service_pb2.CreateJobRequest | job_service_pb2.BatchItem, found: Sequence[Problem]
    ) -> job_service_pb2.CreateJobResponse | None:
        """The answer for a request that is refused now and was accepted with its idempotency key before, if it was."""
        if not request.idempotency_key or not self._checker.fits_schema(request, found):
            return None
        job = job_store_pb2.NewJob(
            task_id=request.task_id,
            spec=request.spec,
            idempotency_key=request.idempotency_key,
            asked=convert.asked(request.spec),
        )
        self._checker.resolve(job.task_id, job.spec)
        return await self._known(job)

    async def _known(self, job: job_store_pb2.NewJob) -> job_service_pb2.CreateJobResponse | None:
        """The answer for a job that is there: by its ids, or by its key if the same was asked for with it."""
        try:
            accepted = await self._store.find_submitted(job)
        except NotFound:
            return None
        replayed = accepted.HasField("replayed_spec")
        if replayed and any(one.ListFields() for one in _differences(job, accepted)):
            return None
        return self._response(job.task_id, accepted, replayed)

    def _response(
        self, task_id: str, accepted: job_store_pb2.SubmitAccepted, replayed: bool
    ) -> job_service_pb2.CreateJobResponse:
        return job_service_pb2.CreateJobResponse(
            task_id=task_id,
            job_id=accepted.job_id,
            queue_job_id=accepted.execution_id,
            execution_id=accepted.execution_id,
            task_url=self._links.task(task_id),
            job_url=self._links.job(task_id, accepted.job_id),
            execution_url=self._links.execution(task_id, accepted.job_id, accepted.execution_id),
            replayed=replayed,
        )


def _require_same(job: job_store_pb2.NewJob, known: job_store_pb2.SubmitAccepted) -> None:
    """The same was asked for, or it comes to the same. Raises `AlreadyExists`, with the fields, otherwise."""
    if job.spec == known.replayed_spec:
        return
    asked, stored = _differences(job, known)
    if not asked.ListFields() and not stored.ListFields():
        return
    one: Any = to_tree(asked)
    paths = list(differing(one, to_tree(stored), "spec", _MAPS))[:MOST_FIELDS] or ["spec"]
    raise AlreadyExists(
        f"the idempotency key was used with another spec; different are {', '.join(paths[:4])}",
        reason="IDEMPOTENCY_CONFLICT",
        fields=[FieldProblem(field=path, message=_DIFFERS) for path in paths],
    )


def _differences(
    job: job_store_pb2.NewJob, known: job_store_pb2.SubmitAccepted
) -> tuple[spec_pb2.JobSpec, spec_pb2.JobSpec]:
    stored = wishes.wish(known.replayed_asked, known.replayed_spec)
    return wishes.differences(wishes.wish(job.asked, job.spec), stored)
