"""The store's disk fills up, and its file is taken away: both are told, and neither loses anything."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import Unavailable
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.server import WHY_KEY
from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1 import job_store_pb2 as pb
from easyq_store.adapters.sqlite import SqlitePersistence
from easyq_store.app import App
from easyq_store.config import StoreSettings
from easyq_store.failures import DatabaseGone, DiskFull
from tests.integration.store.conftest import Client, new_job
from tests.integration.store.test_store_process import address, running, until_serving
from tests.support.process import tail
from tests.support.store_records import job
from tests.support.waiting import eventually

LARGE = {"A": "x" * 200_000}


async def test_its_room_is_told_while_it_is_open(tmp_path: Path) -> None:
    gauge = REGISTRY.gauge("easyq.store.disk.free", "", unit="By", labels=("folder",))
    store = SqlitePersistence(tmp_path / "easyq.db")
    await store.open()
    assert gauge.now()[str(tmp_path),] > 0
    await store.close()
    assert (str(tmp_path),) not in gauge.now()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes all the room there is; gives the file to be removed."""
    path = folder / "other"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@pytest.fixture
async def client(small_disk: Path) -> AsyncIterator[Client]:
    told = {"listen": "127.0.0.1:0", "database": f"sqlite:///{small_disk}/store.db", "clock_interval": 0.05}
    app = App(StoreSettings.model_validate(told))
    await app.start()
    made = Client(open_channel(app.address))
    yield made
    await made.close()
    await app.stop()


async def refused(call: Any) -> Unavailable:
    with pytest.raises(Unavailable) as error:
        await call
    return error.value


async def health(client: Client) -> tuple[bool, str]:
    """Whether it is serving, and why not."""
    stub: Any = health_pb2_grpc.HealthStub(client.channel)
    call = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    answer = await call
    why = dict(await call.trailing_metadata()).get(WHY_KEY, b"").decode()
    return answer.status == health_pb2.HealthCheckResponse.SERVING, why


async def test_a_full_disk_is_told_and_passes(
    client: Client, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = await client.enqueue()
    fills = fill(small_disk)
    text = f"the store's disk is full ({small_disk}/store.db)"
    for _ in range(3):
        error = await refused(client.submit.call(new_job(envs=LARGE)))
        assert text in error.message
        assert error.retry_after == 10
    # Small ones are refused with the others, though there may be room for one of them in the log.
    assert text in (await refused(client.submit.call(new_job()))).message
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await client.jobs.PutJob(pb.PutJobRequest(job=new_job()))
    assert text in from_rpc_error(told.value).message

    async def why() -> bool:
        serving, reason = await health(client)
        return not serving and text in reason

    await eventually(why)
    assert (await client.jobs.GetJob(pb.GetJobRequest(job_id=kept.job_id))).job_id == kept.job_id

    fills.unlink()

    async def well() -> bool:
        return await health(client) == (True, "")

    await eventually(well)
    again = await client.enqueue(envs=LARGE)
    assert (await client.jobs.GetJob(pb.GetJobRequest(job_id=again.job_id))).spec == JobSpec(image="echo:1", envs=LARGE)
    log = capsys.readouterr()
    lines = (log.out + log.err).splitlines()
    assert len([line for line in lines if "disk_full" in line]) == 1
    assert len([line for line in lines if "disk_has_room_again" in line]) == 1
    assert not [line for line in lines if "commit_failed" in line]


async def test_a_database_that_can_not_be_made_on_a_full_disk(small_disk: Path) -> None:
    fills = fill(small_disk)
    store = SqlitePersistence(small_disk / "store.db")
    with pytest.raises(DiskFull, match="disk is full"):
        await store.open()
    fills.unlink()
    await store.open()
    await store.run(lambda steps: steps.insert_job(job("one")))
    await store.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_written_into_a_file_that_was_moved_away(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "store.db"
    store = SqlitePersistence(path)
    await store.open()
    path.rename(tmp_path / "elsewhere.db")
    if replaced:
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DatabaseGone, match=r"store\.db was moved away or replaced"):
            await store.run(lambda steps: steps.insert_job(job("lost")))
    await store.close()
    moved = SqlitePersistence(tmp_path / "elsewhere.db")
    await moved.open()
    assert await moved.reads.get_job("lost") is None
    await moved.close()


async def test_a_process_whose_database_was_moved_away_ends_and_says_so(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASYQ_STORE_CLOCK_INTERVAL", "0.05")
    with running(short_folder) as process:
        await until_serving(short_folder)
        client = Client(open_channel(address(short_folder)))
        kept = await client.enqueue()
        # The log goes with it, as whoever moves a database has to do.
        for name in ("store.db", "store.db-wal"):
            (short_folder / name).rename(short_folder / f"moved-{name}")
        in_its_place = short_folder / "store.db-wal"
        in_its_place.write_bytes(b"of another database")
        assert await asyncio.to_thread(process.wait, 30) == 1
        await client.close()
    assert "database_gone" in tail(short_folder / "log")
    assert "moved away or replaced" in tail(short_folder / "log")
    assert in_its_place.read_bytes() == b"of another database"
    moved = SqlitePersistence(short_folder / "moved-store.db")
    await moved.open()
    assert await moved.reads.get_job(kept.job_id) is not None
    await moved.close()
