"""`Claims` as the store tells them."""

from __future__ import annotations

import grpc
import grpc.aio

from easyq.v1.execution_service_pb2 import GetExecutionRequest
from easyq.v1.job_pb2 import Execution
from easyq_chassis.errors import NotFound
from easyq_chassis.outages import asking, neighbour
from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1.job_store_pb2_grpc import JobStoreServiceStub
from easyq_runner.domain.records import Terms

_HELD = {Execution.State.ASSIGNED, Execution.State.RUNNING}
# Seconds.
_PATIENCE = 5.0
_STORE = neighbour("store")


class StoreClaims:
    """Asks the store for each execution. One that it does not know has been deleted."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = JobStoreServiceStub(channel)

    async def is_claimed(self, terms: Terms, agent_id: str) -> bool:
        asked = GetExecutionRequest(task_id=terms.task_id, job_id=terms.job_id, execution_id=terms.key.execution_id)
        try:
            with asking(_STORE):
                try:
                    found = await self._stub.GetExecution(asked, timeout=_PATIENCE)
                except grpc.aio.AioRpcError as error:
                    raise from_rpc_error(error) from error
        except NotFound:
            return False
        return found.state in _HELD and found.host in {"", agent_id}
