"""How long each page takes with 100,000 jobs behind it: until it is answered, and until a browser has shown it."""

import asyncio
import contextlib
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from bench.report import Figure, Goal
from easyq.v1.notify_pb2 import Webhook
from easyq.v1.spec_pb2 import JobSpec
from easyq_store.adapters.sqlite.persistence import SqlitePersistence
from easyq_store.domain import stats
from easyq_store.domain.records import Agent, Delivery, Execution, Failure, Job, LogChunk, Schedule
from easyq_store.domain.states import (
    AgentState,
    DeliveryState,
    ExecutionState,
    FailureReason,
    JobState,
    NoticeChannel,
    NoticeEvent,
    Stream,
    Trigger,
)
from easyq_store.ports import Plan, Steps
from tests.support.browser import chromium
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer

JOBS = 100_000
_TASKS = 400
_IMAGES = 40
_HOSTS = 20
_RECURRING = 500
_ATTEMPTS = 500
_DELIVERIES = 200
_BATCH = 1_000
# Each page so often, of which the slowest but one in twenty counts.
_EACH = 20
_DAY_MS = 86_400_000
# Longer than any bench: nobody beats for these hosts.
_LOST_AFTER_MS = 30 * _DAY_MS
# Of 20 jobs in a row.
_MIX = (
    *[(JobState.SUCCEEDED, ExecutionState.SUCCEEDED)] * 12,
    *[(JobState.FAILED, ExecutionState.FAILED)] * 2,
    (JobState.TIMED_OUT, ExecutionState.TIMED_OUT),
    *[(JobState.QUEUED, ExecutionState.QUEUED)] * 4,
    (JobState.SCHEDULED, ExecutionState.SCHEDULED),
)
_ENDED = (ExecutionState.SUCCEEDED, ExecutionState.FAILED, ExecutionState.TIMED_OUT)
MANY_ATTEMPTS = "many-attempts"


def measure(redis: RedisServer, folder: Path, runs: int, count: int = JOBS) -> list[Figure]:
    """The slowest pages by name; the first look after the start by itself."""
    redis.start().flush()
    database = folder / f"{uuid.uuid4().hex}.db"
    asyncio.run(_fill(database, count))
    store = {"database": f"sqlite:///{database}", "retain_interval": "3600"}
    with SplitFarm([], redis=redis.url, store=store, copies=1) as farm:
        with _connection(farm) as connection:
            first = _took(connection, "/")
            time.sleep(5)
            told = {path: [_worst(connection, path) for _ in range(runs)] for path in pages(farm)}
        shown = asyncio.run(_shown(farm.rest.url, list(told), runs))
    goal = Goal(at_most=200)
    figures = [Figure(name=f"/ at first, {count:,} jobs", unit="ms", runs=[first], goal=goal)]
    figures += [Figure(name=f"  {path}"[:66], unit="ms", runs=times, goal=goal) for path, times in told.items()]
    within = Goal(at_most=1000)
    return figures + [
        Figure(name=f"  shown: {path}"[:66], unit="ms", runs=times, goal=within) for path, times in shown.items()
    ]


def pages(farm: SplitFarm) -> list[str]:
    """Every page, and the lists with what narrows them."""
    job = farm.rest.get("/jobs?state=FAILED&pageSize=1")["items"][0]["jobId"]
    token = farm.rest.get("/jobs?pageSize=50")["nextPageToken"]
    task = "task-007"
    return [
        "/", "/?span=day", "/status", "/admin/tasks", f"/admin/tasks/{task}", f"/admin/tasks/{task}?span=day",
        "/admin/jobs", f"/admin/jobs?pageToken={token}", "/admin/jobs?order=oldest", f"/admin/jobs?taskId={task}",
        "/admin/jobs?state=waiting&order=oldest", "/admin/jobs?state=open", "/admin/jobs?state=ended",
        "/admin/jobs?outcome=FAILED", "/admin/jobs?outcome=SUCCEEDED&state=ended",
        "/admin/jobs?image=registry.test/app-7",
        "/admin/jobs?image=registry.test/app-7&state=ended",
        "/admin/jobs?label=team=3", "/admin/jobs?metadata=order=77",
        "/admin/jobs?taskId=none", f"/admin/jobs?taskId={task}&image=registry.test/app-8&state=ended",
        "/admin/jobs?createdBefore=2001-01-01", f"/admin/jobs/{job}", f"/admin/jobs/{MANY_ATTEMPTS}",
        f"/admin/jobs/{job}/again", "/admin/queues", "/admin/hosts", "/admin/hosts/host-07", "/admin/schedules",
        "/admin/schedules?window=week", "/admin/errors", f"/admin/errors?taskId={task}&reason=NONZERO_EXIT",
        "/admin/errors/retry", "/admin/errors/discard?label=team=3", "/admin/search?query=task-00",
        "/admin/search?query=registry.test/app-7", f"/admin/search?query={job[:4]}", "/admin/search?query=nothing",
    ]  # fmt: skip


# What is there ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class _Number:
    """One job's place among all."""

    at: int
    of: int
    now: int

    @property
    def created(self) -> int:
        """They come evenly over the last day."""
        return self.now - _DAY_MS + self.at * (_DAY_MS - 60_000) // self.of


async def _fill(database: Path, count: int) -> None:
    """Puts jobs in each state, hosts that hold some, schedules, deliveries and figures straight into the database."""
    store = SqlitePersistence(database)
    await store.open()
    now = int(time.time() * 1000)
    await store.run_all([_host(number, now) for number in range(_HOSTS)])
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        await store.run_all([_job(_Number(at=at, of=count, now=now)) for at in numbers])
    await store.run_all([_recurring(number, now) for number in range(_RECURRING)])
    await store.run_all([_often(now), _figures(now)])
    await store.close()


def _spec(**fields: Any) -> tuple[bytes, JobSpec]:
    spec = JobSpec(command=["python", "-m", "mail", "--all"], retries=2, **fields)
    return spec.SerializeToString(deterministic=True), spec


def _job(number: _Number) -> Plan[None]:
    held = number.at % (number.of // (50 * _HOSTS) or 1) == 0
    state, ended = (JobState.RUNNING, ExecutionState.RUNNING) if held else _MIX[number.at % len(_MIX)]
    job_id, execution_id = uuid.uuid4().hex[:24], str(uuid.uuid4())
    task = f"task-{number.at * 7 % _TASKS:03}"
    image = f"registry.test/app-{number.at * 3 % _IMAGES}:1"
    team = str(number.at % 10)
    spec, _ = _spec(image=image, labels={"team": team}, envs={"MODE": "fast", "API_TOKEN": "x" * 20})
    failure = Failure(reason=FailureReason.NONZERO_EXIT, message="exit code 3")
    failure = replace(failure, reason=FailureReason.TIMEOUT) if state is JobState.TIMED_OUT else failure
    bad = state in {JobState.FAILED, JobState.TIMED_OUT}
    at = number.created
    over = ended in _ENDED
    job = Job(
        job_id=job_id, task_id=task, state=state, spec=spec, image=image, labels=(f"team={team}",),
        metadata=(f"order={number.at % 1000}",), first_execution_id=execution_id, created_at=at,
        last_modified_at=at + 3_000, failure=failure if bad else None, last_end=ended if over else None,
        projected_attempt=1, projected_write=1,
    )  # fmt: skip
    execution = Execution(
        execution_id=execution_id, job_id=job_id, task_id=task, attempt=1, fence=1, trigger=Trigger.ENQUEUE,
        state=ended, created_at=at, series_due_at=at, image=image,
        due_at=at if ended is not ExecutionState.SCHEDULED else number.now + _DAY_MS,
        queued_at=None if ended is ExecutionState.SCHEDULED else at,
        queue_seq=0 if ended is ExecutionState.SCHEDULED else number.at + 1,
        agent_id=f"host-{number.at // 7 % _HOSTS:02}" if held or over else "", session=1 if held or over else 0,
        assigned_at=at + 1 if held or over else None, started_at=at + 500 if held or over else None,
        finished_at=at + 3_000 if over else None, ran_ms=2_500 if over else None,
        failure=failure if bad else None, logs_complete=over, stdout_size=12 if over else None,
        stderr_size=0 if over else None, exit_code={ExecutionState.SUCCEEDED: 0, ExecutionState.FAILED: 3}.get(ended),
        pool="default" if held or over else "", epoch=1 if held or over else 0,
    )  # fmt: skip

    async def plan(steps: Steps) -> None:
        if held or execution.queue_seq:
            execution_now = replace(execution, queue_seq=await steps.next_seq())
        else:
            execution_now = execution
        await steps.insert_job(job)
        await steps.insert_execution(execution_now)
        if over and number.at % 10 == 0:
            await steps.insert_chunk(
                LogChunk(execution_id=execution_id, stream=Stream.STDOUT, offset=0, data=b"hello world\n", at=at)
            )

    return plan


def _host(number: int, now: int) -> Plan[bool]:
    agent = Agent(
        agent_id=f"host-{number:02}", daemon_id=f"daemon-{number}", session=1, state=AgentState.LIVE,
        hostname=f"host-{number:02}.example", pools=("default",), slots=60, lost_after_ms=_LOST_AFTER_MS,
        connected_at=now, last_beat_at=now, version="1",
    )  # fmt: skip

    async def plan(steps: Steps) -> bool:
        return await steps.insert_agent(agent)

    return plan


def _recurring(number: int, now: int) -> Plan[None]:
    spec, told = _spec(image="registry.test/clock:1", cron=f"{number % 60} * * * *", time_zone="Europe/Berlin")
    soon = now + 1_800_000 + number * 1_000
    job = Job(
        job_id=f"clock-{number:03}", task_id=f"clock-{number % 10}", state=JobState.ACTIVE, spec=spec,
        image=told.image, first_execution_id=str(uuid.uuid4()), created_at=now - _DAY_MS, last_modified_at=now,
        attempts=0, schedule=Schedule(anchor=now - 1_000, next_fire=soon), fire_at=soon, next_run_at=soon,
    )  # fmt: skip

    async def plan(steps: Steps) -> None:
        await steps.insert_job(job)

    return plan


def _often(now: int) -> Plan[None]:
    """A job of many attempts, with output, that told its end to many."""
    spec, told = _spec(image="registry.test/app-1:1")
    began = now - _DAY_MS // 2
    ids = [str(uuid.uuid4()) for _ in range(_ATTEMPTS)]
    failure = Failure(reason=FailureReason.NONZERO_EXIT, message="exit code 3")
    job = Job(
        job_id=MANY_ATTEMPTS, task_id="task-007", state=JobState.FAILED, spec=spec, image=told.image,
        first_execution_id=ids[0], created_at=began, last_modified_at=now, failure=failure, attempts=_ATTEMPTS,
        last_end=ExecutionState.FAILED, projected_attempt=_ATTEMPTS, projected_write=1,
    )  # fmt: skip
    line = b"\x1b[32m2030-01-01T00:00:00Z\x1b[0m a line of output as programs write it, with some words in it\n"

    async def plan(steps: Steps) -> None:
        await steps.insert_job(job)
        for number, execution_id in enumerate(ids):
            at = began + number * 60_000
            await steps.insert_execution(
                Execution(
                    execution_id=execution_id,
                    job_id=MANY_ATTEMPTS,
                    task_id="task-007",
                    attempt=number + 1,
                    fence=number + 1,
                    trigger=Trigger.RETRY,
                    state=ExecutionState.FAILED,
                    created_at=at,
                    due_at=at,
                    series_due_at=began,
                    queued_at=at,
                    queue_seq=1,
                    agent_id="host-01",
                    session=1,
                    pool="default",
                    started_at=at + 900,
                    finished_at=at + 30_000,
                    ran_ms=29_000,
                    exit_code=3,
                    failure=failure,
                    image=told.image,
                    epoch=1,
                    logs_complete=True,
                    stdout_size=len(line) * 2_000,
                    stderr_size=0,
                )
            )
        await steps.insert_chunk(
            LogChunk(execution_id=ids[-1], stream=Stream.STDOUT, offset=0, data=line * 2_000, at=now)
        )
        for number in range(_DELIVERIES):
            await steps.insert_delivery(_delivery(number, ids[-1], now))

    return plan


def _delivery(number: int, execution_id: str, now: int) -> Delivery:
    target = Webhook(url=f"https://hooks.example/{number}").SerializeToString(deterministic=True)
    return Delivery(
        delivery_id=str(uuid.uuid4()), execution_id=execution_id, job_id=MANY_ATTEMPTS, task_id="task-007",
        event=NoticeEvent.FAILS, channel=NoticeChannel.WEBHOOK, target=target, lane="hooks.example:443",
        state=DeliveryState.DELIVERED, outcome=JobState.FAILED, created_at=now - number, armed_at=now, attempts=1,
        tries=1, last_attempt_at=now, delivered_at=now, response_code=200,
    )  # fmt: skip


def _figures(now: int) -> Plan[None]:
    cells = []
    for minute in range(2 * 24 * 60):
        at = (now // stats.MINUTE - minute) * stats.MINUTE
        counts = {"j": 70, "c": 70, "e5_0": 50, "e6_3": 8, "r11": 58, "rs": 145_000, "rm": 4_000, "w8": 58, "ws": 9_000}
        cells += [stats.Cell(span=stats.MINUTE, at=at, task_id=task, counts=counts) for task in ("", "task-007")]

    async def plan(steps: Steps) -> None:
        await steps.add_stats(cells)

    return plan


# Looking at it ----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _connection(farm: SplitFarm) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(farm.rest.host, farm.rest.port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def _took(connection: HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept": "text/html"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status in {200, 404}, (path, answer.status)
    return (time.perf_counter() - began) * 1000


def _worst(connection: HTTPConnection, path: str) -> float:
    """All but the slowest of twenty took less."""
    return sorted(_took(connection, path) for _ in range(_EACH))[-2]


async def _shown(url: str, paths: Sequence[str], runs: int) -> dict[str, list[float]]:
    """From the navigation to the end of `load`, as the browser itself tells; its files are fetched anew."""
    found: dict[str, list[float]] = {}
    try:
        async with chromium() as browser:
            for path in paths:
                times = []
                for _ in range(runs):
                    context = await browser.new_context(base_url=url)
                    page = await context.new_page()
                    await page.goto(path, wait_until="load")
                    times.append(await page.evaluate(_LOADED))
                    await context.close()
                found[path] = times
    except pytest.skip.Exception:
        return {}
    return {"the slowest page": [max(one) for one in zip(*found.values(), strict=True)], **_slowest(found)}


_LOADED = """() => new Promise((done) => {
    const look = () => {
        const paint = performance.getEntriesByName("first-contentful-paint")[0];
        const load = performance.getEntriesByType("navigation")[0].loadEventEnd;
        if (paint && load) done(Math.max(paint.startTime, load)); else setTimeout(look, 5);
    };
    look();
})"""


def _slowest(found: dict[str, list[float]]) -> dict[str, list[float]]:
    names = sorted(found, key=lambda path: -statistics.median(found[path]))
    return {path: found[path] for path in names[:5]}
