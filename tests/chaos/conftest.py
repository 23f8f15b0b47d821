"""Sizes and randomness of the fault tests, and the farms that they break.

By default every kind of fault happens once, with few jobs. `FULL=1` takes the sizes that EasyQ promises: 50 jobs, ten
random moments for each kind, outages of 20 s. `EASYQ_CHAOS_SEED` repeats a run.
"""

import os
import random
import uuid
from collections.abc import Iterator

import pytest

# The same fixtures and the same logs beside failures as in the e2e tests.
from tests.e2e.conftest import new_farm, pytest_runtest_makereport
from tests.support.farm import UpFarm
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory

__all__ = ["new_farm", "pytest_runtest_makereport"]

FULL = os.environ.get("FULL", "") not in {"", "0"}
JOBS = 50 if FULL else 20
ROUNDS = 10 if FULL else 1
# Seconds for which a Docker Engine stays away.
OUTAGE = 20.0 if FULL else 5.0
SEED = int(os.environ.get("EASYQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SLOTS = 4


@pytest.fixture
def numbers(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test; what pytest shows of a failure has the seed."""
    print(f"EASYQ_CHAOS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def task() -> str:
    return f"chaos-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def hosts(dockerd: DockerFactory) -> list[DockerHost]:
    return [dockerd("a"), dockerd("b")]


@pytest.fixture(scope="session")
def chaos_farm(hosts: list[DockerHost]) -> Iterator[UpFarm]:
    farm = UpFarm(hosts, slots=SLOTS)
    yield farm
    farm.close()


@pytest.fixture
def farm(chaos_farm: UpFarm) -> UpFarm:
    """`easyq up` on two Docker Engines, of which tests kill what they like; the next test finds it running."""
    if not chaos_farm.running:
        chaos_farm.start()
    return chaos_farm
