"""How the processes of a system are ended: wave after wave, each at once."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

from easyq_supervisor.adapters.console import Console
from easyq_supervisor.domain.plan import STOP_WAVES, ProcessSpec
from easyq_supervisor.system import Hosts, System
from tests.support.waiting import eventually


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


def system(children: list[Any], grace: float, **others: Any) -> System:
    made = System(
        specs=others.pop("specs", []),
        hosts=others.pop("hosts", AsyncMock()),
        console=Console(),
        grace=grace,
        rest="",
        grpc="",
        may_install=False,
        reloader=Mock(),
        ready=lambda: None,
        go_on=AsyncMock(),
    )
    made._children += children
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


async def test_services_start_while_nobody_knows_yet_which_docker_engine_answers(tmp_path: Path) -> None:
    """And an end in that time ends them."""
    asked = asyncio.Event()

    async def hosts() -> Hosts:
        asked.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    program = f"import pathlib, time; pathlib.Path({str(tmp_path / 'here')!r}).touch(); time.sleep(60)"
    spec = ProcessSpec(name="gateway", kind="gateway", argv=(sys.executable, "-c", program), env={})
    one = system([], 15, specs=[spec], hosts=hosts)
    one._reloader.watch = AsyncMock()  # type: ignore[method-assign]
    running = asyncio.create_task(one.run())
    await eventually(lambda: asked.is_set() and (tmp_path / "here").exists())
    one._stop.set()
    assert await running == 0
