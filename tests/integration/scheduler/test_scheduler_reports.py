"""Failed executions, from the store through the scheduler to error handlers: Sentry, and ones of every temper."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from easyq.v1.notification_service_pb2 import Delivery
from easyq.v1.spec_pb2 import ReportFailure
from easyq_chassis import error_reports
from easyq_chassis.error_reports import Report, Reporter
from easyq_chassis.error_reports.outlet import Outlet
from easyq_scheduler.config import SchedulerSettings
from tests.integration.scheduler.conftest import Sending, fails
from tests.support.receivers import http_receiver
from tests.support.sentry import Sentry, sentry
from tests.support.waiting import eventually

# The outbox is the store's: on each of its databases.
on_each_store = pytest.mark.parametrize("sending", ["sqlite", "mongo"], indirect=True)
CANARY = "c4n4ry-77ee"
FINAL: dict[str, Any] = {"report_failure": ReportFailure.FINAL}


@pytest.fixture
async def server() -> AsyncIterator[Sentry]:
    with sentry() as made:
        settings = {"sentry_dsn": made.dsn, "sentry_environment": "testing", "farm": "farm-7"}
        error_reports.configure("scheduler", SchedulerSettings.model_validate(settings))
        yield made
        made.gate.set()
        error_reports.close(5)


@on_each_store
async def test_a_failure_is_told_with_the_end_of_its_output(sending: Sending, server: Sentry) -> None:
    await sending.scheduler()
    envs = {"API_TOKEN": CANARY, "PLAIN": "shown"}
    output = f"using {CANARY} and https://u:{CANARY}x@h/ and shown\n".encode()
    job_id = await sending.end_job(3, stdout=b"password=hunter2 is working\n", stderr=output, envs=envs, **FINAL)
    told = await sending.becomes(job_id, Delivery.DELIVERED)
    assert (told.channel, told.target, told.event) == (Delivery.Channel.REPORT, "error handlers", Delivery.Event.FAILS)
    (event,) = server.events
    assert event["event_id"] == told.delivery_id.replace("-", "")
    assert (event["environment"], event["level"], event["transaction"]) == ("testing", "error", "mail")
    assert event["logentry" if "logentry" in event else "message"] == "mail failed: exit code 3"
    assert event["fingerprint"] == ["execution", "mail", "NONZERO_EXIT", "3"]
    tags = {"service": "scheduler", "farm": "farm-7", "kind": "execution", "task": "mail", "job": job_id}
    assert tags.items() <= event["tags"].items()
    assert (event["tags"]["execution"], event["tags"]["attempt"]) == (told.execution_id, "1")
    assert (event["tags"]["agent"], event["tags"]["exitCode"], event["tags"]["outcome"]) == ("host-a", "3", "FAILED")
    assert event["extra"]["stdout"] == "password=[redacted] is working"
    assert event["extra"]["stderr"] == "using [redacted] and https://u:[redacted]@h/ and shown"
    assert event["extra"]["link"] == f"https://jobs.test/tasks/mail/jobs/{job_id}"
    assert CANARY.encode() not in server.texts()


@on_each_store
async def test_without_a_handler_it_waits_and_says_so(sending: Sending) -> None:
    await sending.scheduler()
    job_id = await sending.end_job(**FINAL)
    told = await sending.failed_with(job_id, "no error handler is set (error_handlers)")
    assert told.state == Delivery.PENDING


@on_each_store
async def test_sentry_away_or_busy_is_tried_again(sending: Sending, server: Sentry) -> None:
    server.status = 503
    await sending.scheduler()
    job_id = await sending.end_job(**FINAL)
    told = await sending.failed_with(job_id, "sentry: NotSent: Sentry did not take it: status_503")
    assert (told.state, server.events) == (Delivery.PENDING, [])
    server.status = 200
    await sending.becomes(job_id, Delivery.DELIVERED)
    assert [event["tags"]["job"] for event in server.events] == [job_id]


async def test_a_slow_handler_is_waited_for(sending: Sending, server: Sentry) -> None:
    server.delay = 0.1
    await sending.scheduler(notify_timeout=60)
    for job_id in [await sending.end_job(**FINAL) for _ in range(5)]:
        assert (await sending.becomes(job_id, Delivery.DELIVERED)).attempts == 1
    assert len(server.events) == 5


async def test_a_handler_that_hangs_harms_neither_jobs_nor_other_deliveries(sending: Sending, server: Sentry) -> None:
    server.gate.clear()
    await sending.scheduler(notify_timeout=0.2)
    stuck = [await sending.end_job(**FINAL) for _ in range(6)]
    await sending.failed_with(stuck[0], "did not take it within 0.2 s")
    async with http_receiver() as receiver:
        for _ in range(5):
            await sending.becomes(await sending.end_job(**fails(receiver.url)), Delivery.DELIVERED)
    assert server.events == []
    server.gate.set()
    for job_id in stuck:
        await sending.becomes(job_id, Delivery.DELIVERED)
    # However often it was tried: what Sentry once has taken is one event to it.
    assert {event["tags"]["job"] for event in server.events} == set(stuck)
    assert len({event["event_id"] for event in server.events}) == len(stuck)


class Fails:
    """Raises until it is told not to; keeps what it got."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.got: list[Report] = []

    def handle(self, report: Report) -> None:
        if not self.works.is_set():
            raise RuntimeError(f"https://u:{CANARY}@h")
        self.got.append(report)

    def close(self) -> None:
        """Holds nothing."""


@on_each_store
async def test_of_several_handlers_only_those_that_failed_are_asked_again(sending: Sending) -> None:
    good, bad = Fails(), Fails()
    good.works.set()
    error_reports.use(Reporter("scheduler", [Outlet("good", lambda: good), Outlet("bad", lambda: bad)]))
    await sending.scheduler()
    job_id = await sending.end_job(**FINAL)
    told = await sending.failed_with(job_id, "bad: RuntimeError: https://u:[redacted]@h")
    assert CANARY not in told.error
    bad.works.set()
    told = await sending.becomes(job_id, Delivery.DELIVERED)
    assert told.attempts > 1
    assert (len(good.got), len(bad.got)) == (1, 1)
    assert good.got[0].output == {}
    # By hand, once more: everybody.
    await sending.resend(told)
    await eventually(lambda: (len(good.got), len(bad.got)) == (2, 2))
    error_reports.close(5)
