"""What the client offers to those who run a farm, and to those who look after jobs that run for long."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from easyq import _rpc
from easyq.spec import DurationLike, to_duration
from easyq.v1.farm_service_pb2 import (
    Agent,
    CordonAgentRequest,
    DeclareAgentDeadRequest,
    DeclareAgentDeadResponse,
    DrainAgentRequest,
    GetAgentRequest,
    GetStatusRequest,
    ListAgentsRequest,
    Status,
    UncordonAgentRequest,
)
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2 import (
    DeleteJobRequest,
    DeleteJobResponse,
    ExplainJobRequest,
    ExplainJobResponse,
    GetScheduleRequest,
    GetScheduleResponse,
    PauseJobRequest,
    PutJobRequest,
    ResumeJobRequest,
    RetryJobRequest,
    RetryJobResponse,
    TriggerJobRequest,
    TriggerJobResponse,
)
from easyq.v1.spec_pb2 import JobSpec

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
    from easyq.v1.job_service_pb2_grpc import JobServiceStub

Answer = TypeVar("Answer")


#: The task of jobs that are given none.
DEFAULT_TASK = "run"


def recurring(job_id: str, spec: JobSpec, task: str) -> PutJobRequest:
    """The request that makes a job recur. Raises ValueError where the spec doesn't."""
    if spec.WhichOneof("schedule") != "cron":
        raise ValueError('a schedule needs a spec with a cron, as job_spec(…, cron="0 3 * * *")')
    return _rpc.made(PutJobRequest, task_id=task, job_id=job_id, spec=spec)


class OperatorCalls(ABC):
    """Mixed into the client, whose docstring tells what all calls have in common."""

    _farm: FarmServiceStub
    _jobs: JobServiceStub

    @abstractmethod
    def _call(self, method: Callable[..., Answer], request: Message, *, repeat: bool = True) -> Answer:
        """Makes a call, with the client's address, deadline and errors; again after an outage, where `repeat`."""

    def status(self) -> Status:
        """How the farm is, with what is missing in words."""
        return self._call(self._farm.GetStatus, GetStatusRequest())

    def agents(self) -> Sequence[Agent]:
        """All agents that the farm knows, by name."""
        return self._call(self._farm.ListAgents, ListAgentsRequest()).items

    def agent(self, agent_id: str) -> Agent:
        """One agent. Raises NotFound."""
        return self._call(self._farm.GetAgent, _rpc.made(GetAgentRequest, agent_id=agent_id))

    def cordon(self, agent_id: str) -> Agent:
        """Takes nothing new to an agent; what it runs goes on. A repeat is harmless. Raises NotFound."""
        return self._call(self._farm.CordonAgent, _rpc.made(CordonAgentRequest, agent_id=agent_id)).agent

    def uncordon(self, agent_id: str) -> Agent:
        """Takes new work to an agent again, also where it drained. A repeat is harmless. Raises NotFound."""
        return self._call(self._farm.UncordonAgent, _rpc.made(UncordonAgentRequest, agent_id=agent_id)).agent

    def drain(self, agent_id: str, *, deadline: DurationLike | None = None) -> Agent:
        """Lets what an agent runs end, for `deadline` at most, and ends the agent once it is empty.

        What is stopped by the deadline runs again elsewhere. Raises NotFound, and ValueError for a wrong duration.
        """
        request = _rpc.made(DrainAgentRequest, agent_id=agent_id)
        if deadline is not None:
            request.deadline.CopyFrom(to_duration(deadline))
        return self._call(self._farm.DrainAgent, request).agent

    def declare_dead(self, agent_id: str) -> DeclareAgentDeadResponse:
        """Says that a host is gone for good: what it had is LOST, and runs again elsewhere where it may.

        Only for hosts that are: what still ran there would run beside its second run. Raises NotFound.
        """
        return self._call(self._farm.DeclareAgentDead, _rpc.made(DeclareAgentDeadRequest, agent_id=agent_id))

    def pause(self, job_id: str) -> Job:
        """Lets a recurring job's fires rest. A repeat is harmless. Raises NotFound, FailedPrecondition."""
        return self._call(self._jobs.PauseJob, _rpc.made(PauseJobRequest, job_id=job_id)).job

    def resume(self, job_id: str) -> Job:
        """Goes on with a paused job. A repeat is harmless. Raises NotFound, FailedPrecondition."""
        return self._call(self._jobs.ResumeJob, _rpc.made(ResumeJobRequest, job_id=job_id)).job

    def trigger(self, job_id: str) -> TriggerJobResponse:
        """Runs a job now. Made once, since a repeat might run it twice. Raises NotFound, FailedPrecondition."""
        return self._call(self._jobs.TriggerJob, _rpc.made(TriggerJobRequest, job_id=job_id), repeat=False)

    def retry(self, job_id: str) -> RetryJobResponse:
        """Runs a job that has ended once more. Made once. Raises NotFound, FailedPrecondition (it has not ended)."""
        return self._call(self._jobs.RetryJob, _rpc.made(RetryJobRequest, job_id=job_id), repeat=False)

    def schedule(
        self, job_id: str, spec: JobSpec | None = None, *, task: str = DEFAULT_TASK, coming: int = 10
    ) -> GetScheduleResponse:
        """A recurring job's schedule, with its `coming` next fires; with a `spec` that of the job as it shall be.

        A spec (one with a `cron`) creates the job of that id under `task`, or replaces its whole spec; the same spec
        again changes nothing. Raises ValueError (the spec does not recur), InvalidArgument, NotFound,
        FailedPrecondition (the job does not recur, or belongs to another task).
        """
        if spec is not None:
            self._call(self._jobs.PutJob, recurring(job_id, spec, task))
        return self._call(self._jobs.GetSchedule, _rpc.made(GetScheduleRequest, job_id=job_id, next=coming))

    def explain(self, job_id: str) -> ExplainJobResponse:
        """Why a job, and each of its executions, waits. Raises NotFound."""
        return self._call(self._jobs.ExplainJob, _rpc.made(ExplainJobRequest, job_id=job_id))

    def delete(self, job_id: str, *, force: bool = False) -> DeleteJobResponse:
        """Deletes a job with its executions and logs; with `force` also one that has not ended.

        Made once, since a repeat would not find what the first has deleted. Raises NotFound, FailedPrecondition.
        """
        return self._call(self._jobs.DeleteJob, _rpc.made(DeleteJobRequest, job_id=job_id, force=force), repeat=False)
