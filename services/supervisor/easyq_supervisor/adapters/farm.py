"""The running farm as `easyq down` needs it: the client, and calls for single executions."""

from __future__ import annotations

from collections.abc import Iterator

from easyq.client import Client
from easyq.v1.execution_service_pb2 import ListExecutionsRequest, StopExecutionRequest
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.job_pb2 import Execution

OPEN_RUNS = (Execution.SCHEDULED, Execution.QUEUED, Execution.ASSIGNED, Execution.RUNNING)
_PAGE = 1000


class Farm(Client):
    """Errors and repeats as of Client."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self._executions = ExecutionServiceStub(self._channel)

    def open_runs(self) -> Iterator[Execution]:
        """All executions that have not ended, newest first."""
        token: str | None = None
        while token != "":
            request = ListExecutionsRequest(state=OPEN_RUNS, page_size=_PAGE, page_token=token or "")
            answer = self._call(self._executions.ListExecutions, request)
            yield from answer.items
            token = answer.next_page_token

    def stop_run(self, execution_id: str) -> None:
        """Asks one execution to stop. A repeat is harmless. Raises NotFound, FailedPrecondition (it has ended)."""
        self._call(self._executions.StopExecution, StopExecutionRequest(execution_id=execution_id))
