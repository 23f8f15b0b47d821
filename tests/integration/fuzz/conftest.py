"""A gateway with a real store, scheduler, dispatcher and Redis behind it; no agent, so that nothing runs."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyq_gateway.openapi import examples
from tests.integration.fuzz import fuzzed
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer


class Ledger:
    """What is kept, read from the store's own database."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, autocommit=True)
        self.requests = 0
        self.statuses: dict[int, int] = {}

    def entries(self) -> tuple[int, ...]:
        """What only calls change, and time does not: jobs, their revisions and stops, tasks."""
        jobs = self._connection.execute(
            "SELECT count(*), coalesce(sum(revision), 0), count(stop_requested_at) FROM job"
        ).fetchone()
        tasks = self._connection.execute("SELECT count(*), coalesce(sum(job_count), 0) FROM task").fetchone()
        return (*jobs, *tasks)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def fuzzed_farm(_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitFarm]:
    _redis.start().flush()
    database = tmp_path_factory.mktemp("fuzz") / "easyq.db"
    settings = {"gateway": {"status_timeout": "5", "explain_timeout": "2"}}
    store = {"database": f"sqlite:///{database}"}
    with SplitFarm([], redis=_redis.url, store=store, copies=1, settings=settings) as farm:
        # What the examples of the document name exists.
        task, job = examples.PATH_VALUES["task_id"], examples.PATH_VALUES["job_id"]
        farm.rest.call("PUT", f"/tasks/{task}/jobs/{job}", {"image": "busybox:1", "command": "true"})
        yield farm


@pytest.fixture(scope="session")
def ledger(fuzzed_farm: SplitFarm) -> Iterator[Ledger]:
    made = Ledger(Path(fuzzed_farm.store.settings["database"].removeprefix("sqlite:///")))
    yield made
    made.close()


@pytest.fixture(scope="session")
def fuzz_schema() -> Any:
    return fuzzed.load()
