"""The store as a process: killed, started twice, stopped, started without its database."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq_chassis.channel import open_channel
from easyq_chassis.errors import EasyQError
from easyq_internal.store.v1 import job_store_pb2 as pb
from tests.integration.store.conftest import Client, new_job
from tests.support.process import end, spawn, tail
from tests.support.waiting import eventually


@contextmanager
def running(folder: Path, database: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A store process on `folder`; killed at the end."""
    environment = {
        **os.environ,
        "EASYQ_STORE_LISTEN": f"unix:{folder}/store.sock",
        "EASYQ_STORE_DATABASE": database or f"sqlite:///{folder}/store.db",
        "EASYQ_STORE_RETRY_INTERVAL": "0.05",
    }
    process = spawn([sys.executable, "-m", "easyq_store"], log=folder / "log", env=environment)
    try:
        yield process
    finally:
        end(process, signal.SIGKILL)


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """A store process that ends by itself."""
    command = [sys.executable, "-m", "easyq_store", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def address(folder: Path) -> str:
    return f"unix:{folder}/store.sock"


async def serving(folder: Path) -> bool:
    async with grpc.aio.insecure_channel(address(folder)) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def until_serving(folder: Path) -> None:
    await eventually(lambda: serving(folder), 30, message=tail(folder / "log"))


async def test_a_kill_in_the_middle_of_enqueues_loses_no_acknowledged_one(short_folder: Path) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        with running(short_folder) as process:
            await until_serving(short_folder)
            client = Client(open_channel(address(short_folder)))

            async def enqueue(client: Client) -> None:
                while True:
                    job = new_job()
                    try:
                        result = await client.submit.call(job)
                    except EasyQError:
                        return
                    assert result.HasField("accepted")
                    acknowledged.append(job.job_id)

            before = len(acknowledged)
            callers = [asyncio.ensure_future(enqueue(client)) for _ in range(16)]
            await eventually(lambda before=before: len(acknowledged) > before + 200, 30, interval=0.001)  # type: ignore[misc]
            process.kill()
            await asyncio.gather(*callers)
            await client.close()
    with running(short_folder):
        await until_serving(short_folder)
        client = Client(open_channel(address(short_folder)))
        for job_id in acknowledged:
            job = await client.jobs.GetJob(pb.GetJobRequest(job_id=job_id, executions=1))
            assert len(job.executions) == 1
        counts = await client.jobs.CountJobs(pb.CountJobsRequest())
        assert sum(count.count for count in counts.counts) >= len(acknowledged)
        await client.close()


async def test_a_second_process_is_refused_by_name(short_folder: Path) -> None:
    with running(short_folder) as first:
        await until_serving(short_folder)
        second = await asyncio.to_thread(
            run, "--database", f"sqlite:///{short_folder}/store.db", "--listen", f"unix:{short_folder}/other.sock"
        )
        assert second.returncode == 2
        assert f"held by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert await serving(short_folder)


async def test_a_newer_schema_is_refused(short_folder: Path) -> None:
    connection = sqlite3.connect(short_folder / "store.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with running(short_folder) as process:
        assert await asyncio.to_thread(process.wait, 60) == 2
    assert "schema version 999" in tail(short_folder / "log")


async def test_it_stops_in_order(short_folder: Path) -> None:
    with running(short_folder) as process:
        await until_serving(short_folder)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    with running(short_folder):
        await until_serving(short_folder)


async def test_it_serves_once_its_database_can_be_reached(short_folder: Path) -> None:
    in_the_way = short_folder / "data"
    in_the_way.write_text("not a folder")
    with running(short_folder, f"sqlite:///{in_the_way}/store.db") as process:
        client = Client(open_channel(address(short_folder)))

        async def answered() -> bool:
            try:
                await client.jobs.CountJobs(pb.CountJobsRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE and "not open" in (error.details() or "")
            return False

        await eventually(answered, 30)
        assert not await serving(short_folder)
        in_the_way.unlink()
        await until_serving(short_folder)
        assert (await client.enqueue()).job_id
        assert process.poll() is None
        await client.close()


@pytest.mark.parametrize("url", ["redis://x", "sqlite://x", "mongodb:x"])
def test_a_wrong_setting_is_named(url: str) -> None:
    refused = run("--database", url)
    assert refused.returncode == 2
    assert "--database (EASYQ_STORE_DATABASE)" in refused.stderr
