"""How the processes of a system are ended: wave after wave, each at once."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

from easyq_supervisor.adapters.console import Console
from easyq_supervisor.domain.plan import STOP_WAVES
from easyq_supervisor.system import System


class FakeChild:
    """Ends once all of its wave are being ended."""

    def __init__(self, kind: str, together: asyncio.Barrier, ends: list[str]) -> None:
        self.spec = SimpleNamespace(kind=kind)
        self._together = together
        self._ends = ends
        self.patience = 0.0

    async def stop(self, patience: float) -> None:
        self.patience = patience
        await self._together.wait()
        self._ends.append(self.spec.kind)


def system(children: list[Any], grace: float) -> System:
    made = System(
        specs=[],
        engine=None,
        install_engine=False,
        console=Console(),
        grace=grace,
        rest="",
        grpc="",
        docker_urls=[],
        missing_told=False,
        may_install=False,
        reloader=Mock(),
        ready=lambda: None,
        go_on=AsyncMock(),
    )
    made._children = children
    return made


async def test_all_of_a_wave_end_at_once_and_the_waves_in_order() -> None:
    ends: list[str] = []
    children = []
    for wave in reversed(STOP_WAVES):
        kinds = [*wave, "runner"] if "runner" in wave else list(wave)
        together = asyncio.Barrier(len(kinds))
        children += [FakeChild(kind, together, ends) for kind in kinds]
    async with asyncio.timeout(10):
        await system(children, 15)._end()
    assert sorted(ends[:4]) == ["gateway", "runner", "runner", "scheduler"]
    assert ends[4:] == ["dispatcher", "store", "redis"]
    # Each may take what the others leave of the grace.
    assert all(13 < child.patience <= 15 for child in children)
