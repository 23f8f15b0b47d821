"""A flood in one task: how long a single job of another waits for its turn."""

import contextlib
import json
import sqlite3
import time
import uuid
from pathlib import Path

from bench.control_plane import agents_on
from bench.report import Figure, Goal
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer

FLOOD = 100_000
SINGLES = 20
_BATCH = 1_000
_SPEC = {"image": "easyq/example:1", "command": "true"}


def measure(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    """From the moment at which a single job is ready to its assignment, while simulated agents work on the flood."""
    redis.start().flush()
    database = folder / f"{uuid.uuid4().hex}.db"
    with SplitFarm([], redis=redis.url, store={"database": f"sqlite:///{database}"}, copies=1) as farm:
        for _ in range(FLOOD // _BATCH):
            body = json.dumps({"jobs": [{"taskId": "flood", "spec": _SPEC}] * _BATCH}).encode()
            farm.rest.post("/batch", body)
        with agents_on(farm):
            tasks = [f"single-{run}" for run in range(runs)]
            for task in tasks:
                for _ in range(SINGLES):
                    farm.rest.post(f"/tasks/{task}", json.dumps(_SPEC).encode())
                    time.sleep(0.05)
            waits = [_waits(database, task) for task in tasks]
            left = farm.rest.get("/tasks/flood")["states"]
    queued = {one["state"]: one["count"] for one in left}.get("QUEUED", 0)
    assert queued, "the flood was over before the measurement"
    return [
        Figure(
            name=f"a job beside {FLOOD:,} of another task, ready to assigned, worst of {SINGLES}",
            unit="ms",
            runs=[max(wait) for wait in waits],
            goal=Goal(at_most=50),
            details={"floodLeft": queued},
        )
    ]


def _waits(database: Path, task: str) -> list[float]:
    statement = "SELECT assigned_at - queued_at FROM execution WHERE task_id = ? AND assigned_at IS NOT NULL"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found = [float(wait) for (wait,) in connection.execute(statement, (task,))]
        if len(found) == SINGLES:
            return found
        time.sleep(0.2)
    raise AssertionError(f"jobs of {task} were not assigned")
