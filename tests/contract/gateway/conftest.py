"""The gateway's ports to a store, at each kind of server."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq.v1.job_pb2 import Job
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis import ids
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import EasyQError
from easyq_gateway import convert
from easyq_gateway.adapters.store import GrpcJobStore, GrpcLogStore
from easyq_gateway.domain.defaults import Defaults
from easyq_internal.store.v1.job_store_pb2 import GetJobRequest, NewJob, SubmitAccepted
from easyq_store.app import App as StoreApp
from easyq_store.config import StoreSettings
from tests.fakes.gateway import Behind

DEFAULTS = Defaults()


def spec(**fields: Any) -> JobSpec:
    """A resolved spec."""
    made = JobSpec(**{"image": "busybox:1", "command": ["true"], **fields})
    convert.resolve(made, convert.spec_of(DEFAULTS), DEFAULTS)
    return made


def new_job(task: str = "mail", *, key: str = "", job_id: str = "", asked: bytes = b"", **fields: Any) -> NewJob:
    return NewJob(
        task_id=task,
        job_id=job_id or ids.new_job_id(),
        execution_id=ids.new_execution_id(),
        spec=spec(**fields),
        idempotency_key=key,
        asked=asked,
    )


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What the gateway has of a store. `channel` is for what others call: agents, schedulers."""

    kind: str
    channel: grpc.aio.Channel
    jobs: GrpcJobStore
    logs: GrpcLogStore

    async def submit(self, task: str = "mail", **fields: Any) -> SubmitAccepted:
        return await self.jobs.submit(new_job(task, **fields))

    async def get(self, job_id: str, task: str = "") -> Job:
        return await self.jobs.get_job(GetJobRequest(task_id=task, job_id=job_id, executions=20))


@pytest.fixture(params=["fake", "sqlite"])
async def ports(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    """The ports at each kind of server."""
    with tempfile.TemporaryDirectory(prefix="easyq-") as folder:
        if request.param == "fake":
            server: Any = Behind(Path(folder))
            address = server.addresses["store"]
            await server.start("store")
        else:
            address = f"unix:{folder}/store.sock"
            told: dict[str, Any] = {"listen": address, "database": f"sqlite:///{folder}/db", "shutdown_grace": 0.2}
            server = StoreApp(StoreSettings(**told))
            await server.start()
        channel = open_channel(address)
        jobs = GrpcJobStore(channel, patience=2.0)
        yield Ports(kind=request.param, channel=channel, jobs=jobs, logs=GrpcLogStore(channel))
        await jobs.close()
        await channel.close()
        await (server.stop_all() if request.param == "fake" else server.stop())


async def refused(call: Any) -> EasyQError:
    with pytest.raises(EasyQError) as error:
        await call
    return error.value
