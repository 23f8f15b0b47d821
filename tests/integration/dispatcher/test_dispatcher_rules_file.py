"""A file of rules that changes under dispatchers that run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dispatcher import FakeFarm, FakeFarmServer
from tests.integration.dispatcher.scripted_agent import ScriptedAgent
from tests.support import RedisServer, eventually, process


def write(file: Path, most: int | str) -> None:
    """As a whole, as an editor does."""
    text = most if isinstance(most, str) else f'[[limit]]\npattern = "t"\nmax_running = {most}\n'
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


def raised(farm: FakeFarm, since: int) -> Callable[[], bool]:
    """Another filling was begun."""
    return lambda: farm.number > since


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    write(file, 1)
    return file


async def test_new_rules_hold_without_a_restart(farm: FakeFarm, dispatcher: Any, agents: Any, file: Path) -> None:
    it = await dispatcher(rules=str(file), limits=["t=9"])
    agent = await agents(it, slots=9)
    farm.submit("t", 20)
    await eventually(lambda: len(agent.running) == 1)
    write(file, 3)
    await eventually(lambda: len(agent.running) == 3)
    generation = farm.number
    # A wrong file changes nothing, and is told.
    write(file, "[[limit]]\npattern = '['\nmax_running = 3")

    async def problem() -> Any:
        return next((p for p in (await it.matching()).problems if p.subject == "rules"), None)

    told = await eventually(problem)
    assert "line 2: limit[0].pattern '[' is no regex" in told.message
    assert told.HasField("since")
    await agent.finish()
    await eventually(lambda: len(agent.started) == 6)
    assert farm.number == generation
    write(file, 2)
    await eventually(lambda: farm.number > generation)
    await eventually(it.assigns)
    assert await problem() is None
    assert (await it.matching()).limits[0].max_running == 2
    await agent.finish()
    await eventually(lambda: len(agent.started) == 8)
    assert farm.most_held["t"] == 3


async def test_two_dispatchers_take_new_rules_without_a_fight(
    farm: FakeFarm, dispatcher: Any, agents: Any, file: Path
) -> None:
    one, two = await dispatcher(rules=str(file)), await dispatcher(rules=str(file))
    first, second = await agents(one, "a", slots=9), await agents(two, "b", slots=9)
    farm.submit("t", 200)

    def running(count: int) -> Callable[[], bool]:
        return lambda: len(first.running) + len(second.running) == count

    await eventually(running(1))
    for most in (4, 2, 6):
        generation = farm.number
        write(file, most)
        await eventually(raised(farm, generation))
        for agent in (first, second):
            await agent.finish()
        await eventually(running(most))
        await eventually(one.assigns)
        await eventually(two.assigns)
        # Whoever is first fills it, and the other finds it filled.
        assert farm.number == generation + 1
    assert farm.most_held["t"] == 6


async def test_a_signal_has_the_file_read_again(
    farm: FakeFarm, store: FakeFarmServer, redis_server: RedisServer, file: Path, tmp_path: Path
) -> None:
    listen, log = f"unix:{tmp_path}/dh", tmp_path / "dispatcher.log"
    command = [
        *(sys.executable, "-m", "easyq_dispatcher", "--listen", listen, "--store", store.address),
        *("--redis", redis_server.url, "--rules", str(file)),
    ]
    running = process.spawn(command, log=log, env=dict(os.environ))
    agent = ScriptedAgent(listen, slots=9, reconnect=True)
    try:
        farm.submit("t", 20)

        async def connects() -> bool:
            try:
                await agent.connect()
            except Exception as error:
                raise AssertionError(str(error)) from error
            return True

        await eventually(connects, timeout=20)
        await eventually(lambda: len(agent.running) == 1)
        write(file, 4)
        running.send_signal(signal.SIGHUP)
        await eventually(lambda: len(agent.running) == 4)
        running.send_signal(signal.SIGHUP)
        write(file, "[[pools]]")
        running.send_signal(signal.SIGHUP)
        await eventually(lambda: "rules_refused" in log.read_text())
        assert running.poll() is None
        assert log.read_text().count("index_rebuild") == 2
    finally:
        await agent.close()
        process.end(running)
