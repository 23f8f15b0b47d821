"""Farms that the e2e tests share, and their logs where a test fails."""

import uuid
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support.farm import Rest, SplitFarm, UpFarm, Witness
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory

SLOTS = 3
# The shared farm holds this many of the tasks `limited-…` at once.
LIMIT = 2


@pytest.fixture(scope="session")
def hosts(dockerd: DockerFactory) -> list[DockerHost]:
    """The two Docker Engines of the shared farm."""
    return [dockerd("a"), dockerd("b")]


@pytest.fixture(scope="session")
def shared_farm(hosts: list[DockerHost]) -> Iterator[UpFarm]:
    with UpFarm(hosts, slots=SLOTS, arguments=["--limit", f"limited-.*={LIMIT}"]) as farm:
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


@pytest.fixture
def task() -> str:
    """A task name that no other test has."""
    return f"task-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def witness(farm: UpFarm) -> Witness:
    """A folder of this test, which containers may mount."""
    return Witness(farm.mounts / uuid.uuid4().hex[:10])


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
