"""Whatever happens in whatever order: limits and slots hold at every moment, nothing runs twice, everything runs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyq_dispatcher.domain.breakers import Patience
from tests.fakes.dispatcher_index import FakeIndexServer
from tests.unit.dispatcher.rig import Core, Rig
from tests.unit.dispatcher.world import HARM, HARMLESS, LIMITS, World, play

# Many steps of what others cover.
pytestmark = pytest.mark.no_cover


class FakeTrouble:
    """What may happen to the fake."""

    def __init__(self, server: FakeIndexServer) -> None:
        self._server = server

    @property
    def away(self) -> bool:
        return self._server.away

    @away.setter
    def away(self, away: bool) -> None:
        self._server.away = away

    async def flush(self) -> None:
        self._server.flush()

    async def restart(self) -> None:
        self._server.restart()


def world() -> World:
    rig = Rig(limits=LIMITS, patience=Patience(failures=2, wait_ms=1_000, longest_ms=3_000))
    return World(rig, FakeTrouble(rig.server))


step = st.tuples(st.sampled_from(HARMLESS + HARM), st.integers(0, 1))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, min_size=40, max_size=80))
def test_limits_hold_and_everything_runs(steps: list[tuple[str, int]]) -> None:
    asyncio.run(play(world(), steps))


def assigned_once(cores: list[Core]) -> bool:
    return all(count == 1 for core in cores for count in core.farm.assigned.values())


async def test_without_harm_nothing_is_assigned_twice() -> None:
    it = world()
    for number in range(60):
        await it.do(HARMLESS[number % len(HARMLESS)], number % 2)
    await it.connect(0)
    await it.connect(1)
    await it.heal()
    assert assigned_once(it.cores)
