"""The store behind a real socket, in this process."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.batching import MicroBatcher
from easyq_chassis.channel import open_channel
from easyq_chassis.ids import new_execution_id, new_job_id
from easyq_internal.store.v1 import farm_store_pb2 as farm_pb
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import log_store_pb2 as log_pb
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1.farm_store_pb2_grpc import FarmStoreServiceStub
from easyq_internal.store.v1.job_store_pb2_grpc import JobStoreServiceStub
from easyq_internal.store.v1.log_store_pb2_grpc import LogStoreServiceStub
from easyq_internal.store.v1.time_store_pb2_grpc import TimeStoreServiceStub
from easyq_store.app import App
from easyq_store.config import StoreSettings
from tests.support.process import make_folder, remove_folder


@dataclass
class Client:
    """Stubs of all four services, and the frequent calls as other services make them."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.jobs: Any = JobStoreServiceStub(self.channel)
        self.farm: Any = FarmStoreServiceStub(self.channel)
        self.logs: Any = LogStoreServiceStub(self.channel)
        self.time: Any = TimeStoreServiceStub(self.channel)
        self.submit: MicroBatcher[Any, Any] = MicroBatcher(self.jobs.Submit, job_pb.SubmitRequest)
        self.beat: MicroBatcher[Any, Any] = MicroBatcher(self.farm.Beat, farm_pb.BeatRequest)
        self.assign: MicroBatcher[Any, Any] = MicroBatcher(self.farm.Assign, farm_pb.AssignRequest)
        self.report: MicroBatcher[Any, Any] = MicroBatcher(self.farm.Report, farm_pb.ReportRequest)
        self.append: MicroBatcher[Any, Any] = MicroBatcher(self.logs.Append, log_pb.AppendRequest)

    async def close(self) -> None:
        for batcher in (self.submit, self.beat, self.assign, self.report, self.append):
            await batcher.close()
        await self.channel.close()

    async def enqueue(self, task_id: str = "mail", **fields: Any) -> job_pb.SubmitAccepted:
        """A new job; keyword arguments go into its spec."""
        result = await self.submit.call(new_job(task_id, **fields))
        assert result.HasField("accepted"), result
        accepted: job_pb.SubmitAccepted = result.accepted
        return accepted

    async def hello(self, agent_id: str = "host-a", **fields: Any) -> farm_pb.OpenSessionResponse:
        request = farm_pb.OpenSessionRequest(agent_id=agent_id, daemon_id=f"daemon-{agent_id}", slots=4, **fields)
        opened: farm_pb.OpenSessionResponse = await self.farm.OpenSession(request)
        return opened

    async def run(self, execution_id: str, session: int, agent_id: str = "host-a") -> records.Assignment:
        """Assigned, and started."""
        claim = farm_pb.AssignItem(
            execution_id=execution_id, epoch=0, generation=0, agent_id=agent_id, session=session, pool="default"
        )
        result = await self.assign.call(claim)
        assert result.HasField("assignment"), result
        await self.say(execution_id, result.assignment.epoch, started=records.Started(container_id="c0ffee"))
        assignment: records.Assignment = result.assignment
        return assignment

    async def say(self, execution_id: str, epoch: int, agent_id: str = "host-a", **word: Any) -> records.ReportResult:
        report = records.Report(execution_id=execution_id, epoch=epoch, **word)
        result: records.ReportResult = await self.report.call(farm_pb.AgentReport(agent_id=agent_id, report=report))
        return result


def new_job(task_id: str = "mail", *, key: str = "", **fields: Any) -> job_pb.NewJob:
    return job_pb.NewJob(
        task_id=task_id,
        job_id=new_job_id(),
        execution_id=new_execution_id(),
        spec=JobSpec(**{"image": "echo:1", **fields}),
        idempotency_key=key,
    )


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; what runs in it is ended with the test."""
    folder = make_folder("store")
    yield folder
    remove_folder(folder)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    settings = StoreSettings.model_validate(
        {
            "listen": "127.0.0.1:0",
            "database": f"sqlite:///{tmp_path}/store.db",
            "log_poll": 0.05,
            "lost_margin": 0.0,
            "lost_interval": 0.05,
        }
    )
    made = App(settings)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def store(app: App) -> AsyncIterator[Client]:
    client = Client(open_channel(app.address))
    yield client
    await client.close()
