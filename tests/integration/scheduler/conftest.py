"""A store on SQLite or MongoDB, schedulers that send, jobs that end as a test likes."""

import os
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from easyq.v1.job_pb2 import Job
from easyq.v1.log_service_pb2 import LogStream
from easyq.v1.notification_service_pb2 import Delivery, ListDeliveriesRequest, ResendDeliveryRequest
from easyq.v1.notify_pb2 import Notify, Webhook, Webhooks
from easyq_chassis.channel import open_channel
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1.delivery_store_pb2_grpc import DeliveryStoreServiceStub
from easyq_internal.store.v1.job_store_pb2 import GetJobRequest
from easyq_internal.store.v1.records_pb2 import Chunk
from easyq_scheduler.app import App as Scheduler
from easyq_scheduler.config import SchedulerSettings
from easyq_store.app import App as Store
from easyq_store.config import StoreSettings
from tests.integration.store.conftest import Client
from tests.support.process import end, make_folder, remove_folder, spawn, tail
from tests.support.waiting import eventually

# Quick, so that tests are.
QUICK: dict[str, Any] = {
    "notify_interval": 0.02,
    "notify_first_retry": 0.05,
    "notify_longest_retry": 0.2,
    "notify_timeout": 10.0,
    "public_url": "https://jobs.test/",
}


@dataclass
class Sending:
    """One store, any number of schedulers."""

    folder: Path
    store: Store
    client: Client
    stack: AsyncExitStack
    session: int = 0
    ended: int = 0
    deliveries: Any = field(init=False)

    def __post_init__(self) -> None:
        self.deliveries = DeliveryStoreServiceStub(self.client.channel)

    async def scheduler(self, **settings: Any) -> Scheduler:
        """Another scheduler, until the test ends or stops it."""
        told = {
            "listen": f"unix:{self.folder}/{uuid.uuid4().hex[:8]}.sock",
            "store": self.store.address,
            "dispatchers": "",
            # What is under way when a test stops one would stay its own until its claim ends.
            "shutdown_grace": 5.0,
            **QUICK,
            **settings,
        }
        made = Scheduler(SchedulerSettings.model_validate(told))
        await made.start()
        self.stack.push_async_callback(made.stop)
        return made

    def scheduler_process(self, faults: str, **settings: Any) -> Callable[[], int | None]:
        """One as a process of its own with armed faults; how it ended, None while it runs."""
        told = {"listen": f"unix:{self.folder}/p.sock", "store": self.store.address, "dispatchers": "", **QUICK}
        environment = {f"EASYQ_SCHEDULER_{name.upper()}": str(value) for name, value in {**told, **settings}.items()}
        log = self.folder / "scheduler.log"
        process = spawn(
            [sys.executable, "-m", "easyq_scheduler"],
            log=log,
            env={**os.environ, **environment, "EASYQ_TEST_FAULTS": faults},
        )

        def ended() -> int | None:
            return process.poll()

        self.stack.callback(lambda: (end(process), print(tail(log))))
        return ended

    async def end_job(self, exit_code: int = 1, *, stdout: bytes = b"", stderr: bytes = b"", **spec: Any) -> str:
        """Runs a job with this spec to its end; its id."""
        if not self.session:
            self.session = (await self.client.hello()).session
        made = await self.client.enqueue(**spec)
        assigned = await self.client.run(made.execution_id, self.session)
        outcome = records.Finish.Outcome.EXITED
        finish = records.Finish(outcome=outcome, exit_code=exit_code)
        for stream, data in ((LogStream.STDOUT, stdout), (LogStream.STDERR, stderr)):
            if data:
                finish.tail.append(
                    Chunk(execution_id=made.execution_id, epoch=assigned.epoch, stream=stream, data=data)
                )
        finish.stdout_size, finish.stderr_size = len(stdout), len(stderr)
        await self.client.say(made.execution_id, assigned.epoch, finish=finish)
        return made.job_id

    async def listed(self, job_id: str) -> list[Delivery]:
        page = await self.deliveries.ListDeliveries(ListDeliveriesRequest(job_id=job_id))
        return list(page.items)

    async def one(self, job_id: str) -> Delivery:
        (delivery,) = await self.listed(job_id)
        return delivery

    async def becomes(self, job_id: str, state: Delivery.State.ValueType, timeout: float = 60) -> Delivery:
        """The job's one delivery, once it is in this state."""

        async def there() -> bool:
            return (await self.one(job_id)).state == state

        await eventually(there, timeout)
        return await self.one(job_id)

    async def failed_with(self, job_id: str, words: str, timeout: float = 60) -> Delivery:
        """The job's one delivery, once it tells an error with these words."""

        async def there() -> bool:
            return words in (await self.one(job_id)).error

        await eventually(there, timeout, message=words)
        return await self.one(job_id)

    async def resend(self, delivery: Delivery) -> None:
        request = ResendDeliveryRequest(job_id=delivery.job_id, delivery_id=delivery.delivery_id)
        await self.deliveries.ResendDelivery(request)

    async def job(self, job_id: str) -> Job:
        found: Job = await self.client.jobs.GetJob(GetJobRequest(job_id=job_id))
        return found


def fails(url: str, **fields: Any) -> dict[str, Any]:
    """A spec's wish: this receiver is told of a failure."""
    return {"webhooks": Webhooks(fails=[Webhook(url=url, **fields)])}


def mails(*addresses: str) -> dict[str, Any]:
    """A spec's wish: these addresses are told of a failure."""
    return {"notify": Notify(fails=addresses)}


@pytest.fixture
async def sending(request: pytest.FixtureRequest) -> AsyncIterator[Sending]:
    """A store, and no scheduler yet. On SQLite, or by an indirect parameter (`mongo`) on MongoDB's protocol."""
    on_mongo = getattr(request, "param", "sqlite") == "mongo"
    folder = make_folder("notify")
    async with AsyncExitStack() as stack:
        stack.callback(remove_folder, folder)
        database = request.getfixturevalue("mongo_url") if on_mongo else f"sqlite:///{folder}/store.db"
        settings = {"listen": f"unix:{folder}/store.sock", "database": database}
        store = Store(StoreSettings.model_validate(settings))
        await store.start()
        stack.push_async_callback(store.stop)
        client = Client(open_channel(store.address))
        stack.push_async_callback(client.close)
        yield Sending(folder=folder, store=store, client=client, stack=stack)


@dataclass(frozen=True)
class Certificates:
    """A server's certificate, and the file that trusts it."""

    server: ssl.SSLContext
    ca: str


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For 127.0.0.1."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return Certificates(context, str(file))
