"""Lateness of recurring jobs: many schedules in the store, a steady number of them due each second."""

import asyncio
import json
import sqlite3
import statistics
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from bench.report import Figure, Goal
from easyq.v1.spec_pb2 import JobSpec
from easyq_internal.store.v1.job_store_pb2 import NewJob
from easyq_store.adapters.sqlite.persistence import SqlitePersistence
from easyq_store.convert.jobs import new_job
from easyq_store.domain.records import Job, evolve
from easyq_store.ports import Inserted, Plan, Steps
from easyq_store.usecases.submit import new_recurring
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer

# Every schedule fires once in 8 minutes, at a minute and a second of its own: 100,000 of them give 208 a second.
CRON = "H/8 * * * * H"
SCHEDULES = 100_000
# Schedules beyond that number fire once a month, so that no more are due: what they cost is what is not due.
RARE = "H H H * * H"
_MONTH_MS = 28 * 86_400_000
_BATCH = 1_000
# Seconds of fires that one run looks at, and what it leaves to the farm to come to rest after the schedules were made.
_WINDOW = 20.0
_REST = 5.0


def measure(redis: RedisServer, folder: Path, runs: int, count: int = SCHEDULES) -> list[Figure]:
    """How long after their due time executions are ready, p99, and how many were due a second."""
    redis.start().flush()
    database = folder / f"{uuid.uuid4().hex}.db"
    often = min(count, SCHEDULES)
    asyncio.run(_fill(database, count - often))
    with SplitFarm([], redis=redis.url, store={"database": f"sqlite:///{database}"}, copies=1) as farm:
        began = time.monotonic()
        _schedule(farm, often)
        made = often / (time.monotonic() - began)
        time.sleep(_REST)
        windows = [_window(database) for _ in range(runs)]
    return [
        Figure(
            name=f"ready after the due time, p99, {count:,} schedules",
            unit="ms",
            runs=[_p99(window) for window in windows],
            goal=Goal(at_most=100),
            details={
                "p50ms": [round(statistics.median(window), 1) for window in windows],
                "dueASecond": [round(len(window) / _WINDOW) for window in windows],
            },
        ),
        Figure(name="  due a second", unit="fires/s", runs=[len(window) / _WINDOW for window in windows]),
        Figure(name="  schedules accepted by POST /batch", unit="jobs/s", runs=[made]),
    ]


async def _fill(database: Path, count: int) -> None:
    """Puts planned schedules that aren't due within the hour straight into the database."""
    store = SqlitePersistence(database)
    await store.open()
    spec = JobSpec(image="easyq/example:1", command=["true"], cron=RARE, time_zone="UTC")
    soonest = int(time.time() * 1000) + 3_600_000
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        await store.run_all([_inserting(_planned(spec, soonest + number * _MONTH_MS // count)) for number in numbers])
    await store.close()


def _planned(spec: JobSpec, fire_at: int) -> Job:
    new = NewJob(task_id="rare", job_id=uuid.uuid4().hex[:24], execution_id=str(uuid.uuid4()), spec=spec)
    job = new_recurring(new_job(new), now=int(time.time() * 1000))
    return evolve(job, fire_at=fire_at, next_run_at=fire_at)


def _inserting(job: Job) -> Plan[Inserted]:
    async def plan(steps: Steps) -> Inserted:
        return await steps.insert_job(job)

    return plan


def _schedule(farm: SplitFarm, count: int) -> None:
    spec = {"image": "easyq/example:1", "command": "true", "cron": CRON}
    for first in range(0, count, _BATCH):
        jobs = [{"taskId": "schedules", "spec": spec}] * min(_BATCH, count - first)
        results = farm.rest.post("/batch", json.dumps({"jobs": jobs}).encode())["results"]
        assert all("job" in result for result in results), results[0]


def _window(database: Path) -> Sequence[float]:
    """Milliseconds from the due time until it was ready, of each execution that was due in the window."""
    since = int(time.time() * 1000)
    time.sleep(_WINDOW)
    until = since + int(_WINDOW * 1000)
    # What was due at the very end may take a moment.
    time.sleep(1.0)
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        statement = "SELECT queued_at - due_at FROM execution WHERE due_at >= ? AND due_at < ?"
        found = [float(late) for (late,) in connection.execute(statement, (since, until))]
    assert found, "nothing was due"
    return found


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]
