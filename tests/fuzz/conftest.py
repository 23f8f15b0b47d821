"""A gateway with a real store, scheduler, dispatcher and Redis behind it; no agent, so that nothing runs."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from easyq_gateway.openapi import examples
from tests.fuzz import fuzzed
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer


class Ledger:
    """What is kept, read from the store's own database."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
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
    # Receivers that are made up are nobody of this machine or its network.
    settings = {
        "gateway": {"status_timeout": "5", "explain_timeout": "2"},
        "scheduler": {"webhook_guard": "true", "notify_timeout": "1"},
    }
    store = {"database": f"sqlite:///{database}"}
    with SplitFarm([], redis=_redis.url, store=store, copies=1, settings=settings) as farm:
        yield farm


@pytest.fixture(scope="session")
def known(fuzzed_farm: SplitFarm) -> Sequence[fuzzed.Known]:
    """A job that waits, one that recurs, one that was stopped; the first is that of the document's examples."""
    task, rest = examples.PATH_VALUES["task_id"], fuzzed_farm.rest
    made = []
    for job, more in ((examples.PATH_VALUES["job_id"], {}), ("nightly", {"cron": "0 3 * * *"}), ("stopped", {})):
        spec = {"image": "busybox:1", "command": "true", "labels": {"team": "mail"}, "retries": 2, **more}
        assert rest.call("PUT", f"/tasks/{task}/jobs/{job}", spec).status == 200
        triggered = rest.call("POST", f"/jobs/{job}/trigger").json() if more else {}
        execution = triggered.get("executionId") or rest.get(f"/jobs/{job}")["executions"][0]["executionId"]
        made.append(fuzzed.Known(task=task, job=job, execution=execution))
    rest.call("POST", "/jobs/stopped/stop")
    return made


@pytest.fixture(scope="session")
def ledger(fuzzed_farm: SplitFarm) -> Iterator[Ledger]:
    made = Ledger(Path(fuzzed_farm.store.settings["database"].removeprefix("sqlite:///")))
    yield made
    made.close()
