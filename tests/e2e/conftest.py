"""Farms that the e2e tests share, and their logs where a test fails."""

import os
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agents import Agents
from tests.e2e.rules import RulesText
from tests.support.farm import Rest, SplitFarm, UpFarm, Witness
from tests.support.ferretdb import FerretDB
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer

SLOTS = 3
# The shared farm holds this many of the tasks `limited-…` at once.
LIMIT = 2
# Seconds of silence after which an agent of the split farm starts nothing new.
LEASE = 8


@pytest.fixture(scope="session")
def hosts(dockerd: DockerFactory) -> list[DockerHost]:
    """The two Docker Engines of the shared farm."""
    return [dockerd("a"), dockerd("b")]


@pytest.fixture(scope="session")
def shared_farm(hosts: list[DockerHost]) -> Iterator[UpFarm]:
    env = {
        "EASYQ_GATEWAY_EXPLAIN_TIMEOUT": "5",
        "EASYQ_DISPATCHER_GAUGE_INTERVAL": "1",
        # Others' tasks count together: there are more than have labels of their own.
        "EASYQ_STORE_METRIC_TASKS": "metered-.*",
        "EASYQ_DISPATCHER_METRIC_TASKS": "metered-.*",
    }
    with UpFarm(hosts, slots=SLOTS, arguments=["--limit", f"limited-.*={LIMIT}"], env=env) as farm:
        yield farm


@pytest.fixture
def farm(shared_farm: UpFarm) -> UpFarm:
    """`easyq up` with two agents of three slots each; shared, so a test takes task names of its own."""
    if not shared_farm.running:
        shared_farm.start()
    return shared_farm


@pytest.fixture
def rest(farm: UpFarm) -> Rest:
    return farm.rest


@pytest.fixture(scope="session")
def split_hosts(dockerd: DockerFactory) -> list[DockerHost]:
    """The two Docker Engines of the split farm."""
    return [dockerd("split-a"), dockerd("split-b")]


@pytest.fixture(scope="session")
def _split_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text("", encoding="ascii")
    return path


@pytest.fixture(scope="session")
def shared_split_farm(
    split_hosts: list[DockerHost], _redis: RedisServer, _ferretdb: FerretDB, _split_rules: Path
) -> Iterator[SplitFarm]:
    _redis.start().flush()
    rules = {"rules": str(_split_rules)}
    settings = {
        # A busy machine is no reason to know nothing.
        "gateway": {**rules, "explain_timeout": "5", "status_timeout": "5", "store_patience": "15"},
        "dispatcher": {
            **rules,
            "beat_every": "1",
            "lease": str(LEASE),
            "breaker_failures": "2",
            "breaker_wait": "1.5",
            "gauge_interval": "1",
        },
    }
    store = {
        "database": f"{_ferretdb.url}split_{os.getpid()}",
        "retain_interval": "0.5",
        **rules,
        "metric_tasks_most": "2000",
    }
    with SplitFarm(split_hosts, redis=_redis.url, store=store, slots=SLOTS, settings=settings) as farm:
        yield farm


@pytest.fixture
def split_farm(shared_split_farm: SplitFarm) -> SplitFarm:
    """Services as commands of their own, on Redis and MongoDB's protocol; shared as `farm` is."""
    for service in shared_split_farm.services:
        service.start()
    return shared_split_farm


@pytest.fixture
def split_redis(split_farm: SplitFarm, _redis: RedisServer) -> RedisServer:
    """The Redis of the split farm."""
    return _redis


@pytest.fixture(params=["up", "split"])
def either(request: pytest.FixtureRequest) -> UpFarm | SplitFarm:
    """Each test once on `farm` and once on `split_farm`."""
    found: UpFarm | SplitFarm = request.getfixturevalue("farm" if request.param == "up" else "split_farm")
    return found


@pytest.fixture
def rules(split_farm: SplitFarm, _split_rules: Path) -> Iterator[RulesText]:
    """The file of rules of the split farm; empty again after the test."""
    file = RulesText(_split_rules, split_farm)
    yield file
    file.write("")


@pytest.fixture
def task() -> str:
    """A task name that no other test has."""
    return f"task-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def witness(farm: UpFarm) -> Witness:
    """A folder of this test, which containers may mount."""
    return Witness(farm.mounts / uuid.uuid4().hex[:10])


@pytest.fixture
def agents(split_farm: SplitFarm, rules: RulesText, task: str) -> Iterator[Agents]:
    """Agents of the split farm that are the test's own: they serve the tasks whose names begin with `task`."""
    own = Agents(split_farm, rules, task)
    yield own
    for job in split_farm.rest.get("/jobs?state=QUEUED&state=RUNNING&state=SCHEDULED&state=RETRYING")["items"]:
        if job["taskId"].startswith(task):
            split_farm.rest.call("POST", f"/jobs/{job['jobId']}/stop")
    own.close()


class FarmMaker:
    """`new_farm([host], slots=2)` gives a started farm; it takes what UpFarm does, and `start=False`."""

    def __init__(self) -> None:
        self.farms: list[UpFarm] = []

    def __call__(self, *arguments: Any, start: bool = True, **options: Any) -> UpFarm:
        farm = UpFarm(*arguments, **options)
        self.farms.append(farm)
        return farm.start() if start else farm


@pytest.fixture
def new_farm() -> Iterator[FarmMaker]:
    """Farms that are the test's own."""
    maker = FarmMaker()
    yield maker
    for farm in reversed(maker.farms):
        farm.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of each farm's log with a test that failed."""
    report = yield
    if report.failed:
        values = list(item.funcargs.values())
        values += [farm for one in values if isinstance(one, FarmMaker) for farm in one.farms]
        farms = {id(one): one for one in values if isinstance(one, UpFarm | SplitFarm)}
        report.sections += [("log of the farm", farm.tail()) for farm in farms.values()]
    return report
