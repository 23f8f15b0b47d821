"""Errors of services on their way to Sentry: real envelopes to a real HTTP server."""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq.v1.job_pb2 import Job
from easyq_chassis import error_reports
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import Internal, NotFound
from easyq_chassis.loops import Loop
from easyq_chassis.server import GrpcServer
from easyq_internal.store.v1.job_store_pb2 import GetJobRequest
from easyq_internal.store.v1.job_store_pb2_grpc import (
    JobStoreServiceServicer,
    JobStoreServiceStub,
    add_JobStoreServiceServicer_to_server,
)
from easyq_store.config import StoreSettings
from tests.support.canaries import Canaries, Seen
from tests.support.process import end, spawn, tail
from tests.support.sentry import KEY, Sentry, sentry
from tests.support.waiting import eventually, wait_until

NAME = "easyq_internal.store.v1.JobStoreService"
CANARY = Canaries()


class Servicer(JobStoreServiceServicer):
    """Fails as told."""

    error: Exception = ValueError("nothing")

    async def GetJob(self, request: GetJobRequest, _context: Any) -> Job:
        password = CANARY["variable"]
        assert password
        self.fail(request.job_id)
        return Job()

    def fail(self, job_id: str) -> None:
        raise self.error


@pytest.fixture
def server() -> Iterator[Sentry]:
    with sentry() as made:
        yield made


def reporting_to(server: Sentry, **more: Any) -> None:
    settings = {
        "sentry_dsn": server.dsn,
        "sentry_environment": "testing",
        "farm": "farm-7",
        "database": f"mongodb://easyq:{CANARY['database']}@127.0.0.1/x",
        **more,
    }
    error_reports.configure("store", StoreSettings.model_validate(settings))


@pytest.fixture
async def calls(server: Sentry) -> AsyncIterator[tuple[Servicer, Any]]:
    """A servicer behind a real server that reports to Sentry, and a stub of it."""
    reporting_to(server)
    servicer = Servicer()  # type: ignore[abstract]
    served = GrpcServer("127.0.0.1:0")
    served.add(add_JobStoreServiceServicer_to_server, servicer, NAME)
    await served.start()
    async with open_channel(served.address) as channel:
        yield servicer, JobStoreServiceStub(channel)
    await served.stop(0)
    error_reports.close(5)


async def ask(stub: Any, job_id: str) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetJob(GetJobRequest(task_id="mail", job_id=job_id))
    code: grpc.StatusCode = caught.value.code()
    return code


async def test_a_call_that_crashes_is_told(server: Sentry, calls: tuple[Servicer, Any]) -> None:
    servicer, stub = calls
    servicer.error = ValueError(
        f"can't use redis://:{CANARY['redis']}@h/0, {{'API_TOKEN': '{CANARY['env']}'}}, {CANARY['database']}, "
        f'envs {{ key: "DB_PASSWORD" value: "{CANARY["proto"]}" }}, Bearer {CANARY["bearer"]}, {server.dsn}'
    )
    assert await ask(stub, "job-1") is grpc.StatusCode.INTERNAL
    servicer.error = ValueError("of the same cause, in other words")
    await ask(stub, "job-2")
    servicer.error = KeyError("another")
    await ask(stub, "job-3")
    # Answers to callers are no faults, nor is one that another service answered with.
    servicer.error = NotFound("no such job")
    assert await ask(stub, "job-4") is grpc.StatusCode.NOT_FOUND
    servicer.error = Internal("seen for what it is")
    assert await ask(stub, "job-5") is grpc.StatusCode.INTERNAL
    await eventually(lambda: len(server.events) == 4, 60)

    first, second, third, fourth = server.events
    assert first["tags"] == {"service": "store", "farm": "farm-7", "kind": "crash", "task": "mail", "job": "job-1"}
    assert (first["environment"], first["level"], first["transaction"]) == ("testing", "error", f"/{NAME}/GetJob")
    assert first["release"].startswith("easyq-server@0.")
    (raised,) = first["exception"]["values"]
    assert raised["type"] == "ValueError"
    assert raised["value"].startswith("can't use redis://:[redacted]@h/0")
    frames = raised["stacktrace"]["frames"]
    assert frames[0]["module"] == "easyq_chassis.interceptors"
    assert frames[0]["in_app"]
    assert frames[-1]["function"] == "Servicer.fail"
    assert first["fingerprint"] == second["fingerprint"] != third["fingerprint"]
    assert [event["tags"]["job"] for event in (second, third, fourth)] == ["job-2", "job-3", "job-5"]

    # Neither values of variables, nor lines of code, nor what the process was started with.
    seen = Seen(CANARY)
    seen.add("Sentry", server.texts())
    seen.check()
    assert KEY not in json.dumps(server.events)
    assert {"vars", "context_line", "pre_context"}.isdisjoint({key for frame in frames for key in frame})
    assert {"request", "user", "breadcrumbs", "modules"}.isdisjoint(first)
    assert "sys.argv" not in first.get("extra", {})


async def test_a_loop_that_fails_is_told(server: Sentry) -> None:
    async def run_once() -> None:
        raise LookupError(f"https://u:{CANARY['loop']}@h")

    reporting_to(server)
    loop = Loop("sweep", run_once, 60)
    loop.start()
    await eventually(lambda: server.events, 60)
    await loop.stop()
    error_reports.close(5)
    event = server.events[0]
    assert (event["transaction"], event["exception"]["values"][0]["type"]) == ("loop sweep", "LookupError")
    assert CANARY["loop"].encode() not in server.texts()


@pytest.mark.parametrize("status", [500, 429, 413])
def test_what_sentry_does_not_take_is_counted_as_failed(server: Sentry, status: int) -> None:
    server.status = status
    reporting_to(server)
    error_reports.report_error(ValueError("x"), "here")
    wait_until(lambda: error_reports.counts()["sentry"].failed == 1, 60)
    error_reports.close(5)
    assert server.asked == 1


def test_one_that_nobody_listens_to_fails(server: Sentry) -> None:
    reporting_to(server, sentry_dsn=f"http://{KEY}@127.0.0.1:9/7")
    error_reports.report_error(ValueError("x"), "here")
    wait_until(lambda: error_reports.counts()["sentry"].failed == 1, 30)
    error_reports.close(5)


def starting(tmp_path: Path, server: Sentry, database: str, **more: str) -> tuple[int, str]:
    """Status and log of a store that is started with this database."""
    log = tmp_path / "store.log"
    environment = {
        "PATH": "/usr/bin:/bin",
        "EASYQ_STORE_LISTEN": f"unix:{tmp_path}/s.sock",
        "EASYQ_STORE_DATABASE": database,
        "EASYQ_STORE_SENTRY_DSN": server.dsn,
        "EASYQ_STORE_LOG_FORMAT": "json",
        "DB_PASSWORD": CANARY["environment"],
        **more,
    }
    process = spawn([sys.executable, "-m", "easyq_store"], log=log, env=environment)
    try:
        status = process.wait(60)
    finally:
        end(process)
    return status, tail(log)


def test_a_process_that_can_not_start_says_so_before_it_ends(server: Sentry, tmp_path: Path) -> None:
    broken = tmp_path / "easyq.db"
    broken.write_bytes(b"this is no database" * 1_000)
    status, log = starting(tmp_path, server, f"sqlite:///{broken}")
    assert status == 2, log
    (event,) = server.events
    assert (event["level"], event["transaction"], event["tags"]["service"]) == ("fatal", "process", "store")
    assert event["environment"] == "production"
    assert CANARY["environment"].encode() not in server.texts()
    assert KEY not in log


def test_a_process_that_can_not_start_ends_although_sentry_hangs(server: Sentry, tmp_path: Path) -> None:
    server.gate.clear()
    rules = tmp_path / "rules.toml"
    rules.write_text("[[nonsense]]\n")
    began = time.monotonic()
    status, log = starting(tmp_path, server, f"sqlite:///{tmp_path}/e.db", EASYQ_STORE_RULES=str(rules))
    assert status == 2, log
    assert "cannot_start" in log
    assert "error_handler_left" in log
    # Not a matter of speed: it waits for an answer that never comes.
    assert time.monotonic() - began < 60
    assert server.asked == 1


def test_unknown_handlers_are_refused_at_the_start(server: Sentry, tmp_path: Path) -> None:
    status, log = starting(tmp_path, server, f"sqlite:///{tmp_path}/e.db", EASYQ_STORE_ERROR_HANDLERS="sentry,pagerr")
    assert status == 2
    assert "EASYQ_STORE_ERROR_HANDLERS" in log
    assert "there is no error handler pagerr; there are" in log
