"""How jobs and executions are shown: without secrets, and with why they wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from easyq.v1 import job_pb2
from easyq_gateway import convert, convert_secrets
from easyq_gateway.domain import waiting as words
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.ports import Dispatchers, Explained
from easyq_internal.dispatcher.v1 import dispatcher_pb2


class Presenter:
    """Makes what the store has fit to be shown, in place."""

    def __init__(self, *, dispatchers: Dispatchers, redactor: Redactor) -> None:
        self._dispatchers = dispatchers
        self._redactor = redactor

    async def job(self, job: job_pb2.Job) -> job_pb2.Job:
        """Redacts the job, explains its newest execution, and gives the job that one's reason unless it recurs."""
        newest = job.executions[-1:]
        await self._explain(newest)
        self._show(job, newest[0] if newest else None)
        return job

    async def listed_jobs(self, jobs: Sequence[job_pb2.Job], waiting: Mapping[str, job_pb2.Execution]) -> None:
        """Redacts the jobs of a list, and gives each the reason of the execution that it waits with, all in one go."""
        await self._explain(list(waiting.values()))
        for job in jobs:
            self._show(job, waiting.get(job.job_id))

    def _show(self, job: job_pb2.Job, execution: job_pb2.Execution | None) -> None:
        if execution is not None and execution.HasField("waiting") and not convert.is_recurring(job.spec):
            job.waiting.CopyFrom(execution.waiting)
        elif told := words.of_job(convert.job_snapshot_of(job)):
            convert.set_waiting(job.waiting, told)
        if job.HasField("waiting"):
            # What waits for its time, or its back-off, does so since the job's last change.
            convert.set_since(job.waiting, job, "last_modified_at")
        convert_secrets.redact_job(job, self._redactor)

    async def executions(self, executions: Sequence[job_pb2.Execution], *, patient: bool = False) -> None:
        """Redacts and explains; `patient`: why they wait is what was asked for."""
        await self._explain(executions, patient=patient)
        for execution in executions:
            convert_secrets.redact_execution(execution, self._redactor)

    async def silent_hosts(self, executions: Sequence[job_pb2.Execution]) -> None:
        """Says of those that run whose host is silent that EasyQ waits for it."""
        running = [execution for execution in executions if convert.state_name(execution) == "RUNNING"]
        if running:
            explained = await self._dispatchers.explain([_item(execution) for execution in running], patient=True)
            for execution in running:
                known = explained.waiting.get(execution.execution_id)
                if known is not None and known.reason == job_pb2.Waiting.HOST_SILENT:
                    execution.waiting.CopyFrom(known)

    async def _explain(self, executions: Sequence[job_pb2.Execution], *, patient: bool = False) -> None:
        asked = []
        for execution in executions:
            if convert.state_name(execution) in words.ASK_DISPATCHER:
                asked.append(execution)
            elif told := words.from_record(convert.snapshot_of(execution)):
                convert.set_waiting(execution.waiting, told)
        if asked:
            items = [_item(execution) for execution in asked]
            self._tell(asked, await self._dispatchers.explain(items, patient=patient))

    @staticmethod
    def _tell(executions: Sequence[job_pb2.Execution], explained: Explained) -> None:
        for execution in executions:
            known = explained.waiting.get(execution.execution_id)
            if known is not None:
                execution.waiting.CopyFrom(known)
                held = convert.state_name(execution) == "ASSIGNED"
                convert.set_since(execution.waiting, execution, "assigned_at" if held else "queued_at")
                continue
            snapshot = convert.snapshot_of(execution)
            if explained.answered:
                told = words.unexplained(snapshot)
            else:
                told = words.without_dispatcher(snapshot, slow_after=explained.slow_after)
            if told:
                convert.set_waiting(execution.waiting, told)


def _item(execution: job_pb2.Execution) -> dispatcher_pb2.ExplainItem:
    return dispatcher_pb2.ExplainItem(
        execution_id=execution.execution_id, task_id=execution.task_id, agent_id=execution.host
    )
