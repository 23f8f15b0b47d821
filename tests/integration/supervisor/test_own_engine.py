"""A Docker Engine of EasyQ's own: started, found again, started again, ended; and the example image in it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docker
import pytest

from easyq_supervisor import example
from easyq_supervisor.adapters import docker_engine, own_engine, remains
from easyq_supervisor.adapters.own_engine import EngineError, OwnEngine
from tests.support import process
from tests.support.hosts import DockerHost, dockerd_binary
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.docker


class Workbench:
    """A folder for engines, and what they said."""

    def __init__(self) -> None:
        dockerd_binary()
        self.folder = process.make_folder("own")
        self.said: list[str] = []

    def engine(self) -> OwnEngine:
        return OwnEngine(self.folder / "engine", self.said.append)


@pytest.fixture
async def bench() -> AsyncIterator[Workbench]:
    made = Workbench()
    yield made
    await made.engine().stop()
    process.remove_folder(made.folder)


async def provide(
    url: str, said: list[str], settled: asyncio.Event | None = None, *, is_starting: bool = False
) -> None:
    async with asyncio.timeout(60):
        await example.provide(
            url,
            may_install=False,
            missing=f"nobody is at {url}",
            is_starting=is_starting,
            settled=settled or asyncio.Event(),
            say=said.append,
        )


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def run(url: str, network: str | None = None) -> bytes:
    with contextlib.closing(docker.DockerClient(base_url=url)) as client:
        output: bytes = client.containers.run(example.IMAGE, ["echo", "hi"], remove=True, network=network)
        return output


async def test_it_outlives_who_started_it_and_is_found_again(bench: Workbench) -> None:
    await bench.engine().ensure()
    later = bench.engine()
    pid = later.pid()
    assert pid is not None
    await later.ensure()
    assert later.pid() == pid
    assert later._bridge in interfaces()
    assert os.getsid(pid) == pid
    await provide(later.url, bench.said)
    assert await asyncio.to_thread(run, later.url) == b"hi\n"
    assert await later.stop()
    assert not process.alive(pid)
    assert later.pid() is None
    assert not await later.stop()
    assert later._bridge not in interfaces()


def leave_containerd(folder: Path) -> subprocess.Popen[bytes]:
    """What looks like the containerd of an engine that was killed; a zombie after its end, until the test reaps it."""
    folder.mkdir(parents=True, exist_ok=True)
    left = subprocess.Popen(
        # It waits by itself: children would be taken for containers, which are ended first.
        ["containerd", "-c", "read forever", "--config", f"{folder}/containerd.toml"],
        executable="/bin/sh",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    (folder / "containerd.pid").write_text(str(left.pid), encoding="ascii")
    # Popen returns as soon as the new program's memory is there, and its arguments come later.
    wait_until(Path(f"/proc/{left.pid}/cmdline").read_bytes, 20)
    return left


async def test_a_containerd_that_was_left_alive_leaves_no_pid_that_the_next_would_wait_for(bench: Workbench) -> None:
    engine = bench.engine()
    await engine.ensure()
    await engine.stop()
    left = leave_containerd(bench.folder / "engine/exec/containerd")
    await engine.ensure()
    assert left.wait(10) == -signal.SIGKILL


async def test_one_whose_containerd_came_too_late_is_started_once_more(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.engine()
    started, modes = engine._start, []

    async def start(mode: str) -> bool:
        modes.append(mode)
        if len(modes) > 1:
            return await started(mode)
        engine.log.write_text("failed to start containerd: timeout waiting for containerd to start\n")
        return False

    monkeypatch.setattr(engine, "_start", start)
    await engine.ensure()
    assert modes == [modes[0]] * 2
    assert await docker_engine.answers(engine.url)


async def test_one_that_was_killed_is_seen_and_started_again(bench: Workbench) -> None:
    engine = bench.engine()
    await engine.ensure()
    first = engine.pid()
    assert first is not None
    gone = asyncio.create_task(engine.wait_gone())
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        await gone
    await engine.ensure()
    second = engine.pid()
    assert second not in {None, first}
    assert await docker_engine.answers(engine.url)
    # A stop cleans up after one that was killed as well.
    os.kill(second or 0, signal.SIGKILL)
    await engine.wait_gone()
    assert not await engine.stop()
    assert engine._bridge not in interfaces()


def start_sleeper(url: str, **options: Any) -> tuple[str, int]:
    """A container that goes on running: its id, and the pid of its process."""
    with contextlib.closing(docker.DockerClient(base_url=url)) as client:
        made = client.containers.run(example.IMAGE, ["sleep", "600"], detach=True, network="none", **options)
        made.reload()
        return str(made.id), int(made.attrs["State"]["Pid"])


async def kill(engine: OwnEngine) -> None:
    pid = engine.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await engine.wait_gone()


def mounts_below(folder: Path) -> list[str]:
    return [mount.point for mount in remains.mounts() if mount.point.startswith(f"{folder}/")]


async def test_a_stop_ends_what_a_killed_one_left_and_nothing_else(bench: Workbench, docker_host: DockerHost) -> None:
    docker_host.load_example_image(example.IMAGE)
    _, foreign = await asyncio.to_thread(start_sleeper, docker_host.url)
    engine = bench.engine()
    await engine.ensure()
    await provide(engine.url, bench.said)
    _, first = await asyncio.to_thread(start_sleeper, engine.url)
    _, second = await asyncio.to_thread(start_sleeper, engine.url, pid_mode="host")
    await kill(engine)
    assert process.alive(first)
    assert process.alive(second)
    assert mounts_below(bench.folder)
    others = mounts_below(docker_host.folder)
    assert not await bench.engine().stop()
    assert any(line.startswith("ended what was left of EasyQ's own Docker Engine") for line in bench.said)
    await eventually(lambda: not process.processes_naming(bench.folder))
    assert not process.alive(first)
    assert not process.alive(second)
    assert mounts_below(bench.folder) == []
    assert process.alive(foreign)
    assert mounts_below(docker_host.folder) == others
    # It can be used again.
    await engine.ensure()
    assert await asyncio.to_thread(run, engine.url, "none") == b"hi\n"
    assert await engine.stop()
    assert mounts_below(bench.folder) == []


async def test_a_start_ends_what_the_engine_would_not_find_again(bench: Workbench) -> None:
    engine = bench.engine()
    # Those that it finds again go on.
    (bench.folder / "engine").mkdir()
    (bench.folder / "engine/daemon.json").write_text('{"live-restore": true}', encoding="ascii")
    await engine.ensure()
    await provide(engine.url, bench.said)
    known, known_pid = await asyncio.to_thread(start_sleeper, engine.url)
    forgotten, forgotten_pid = await asyncio.to_thread(start_sleeper, engine.url)
    await kill(engine)
    shutil.rmtree(bench.folder / "engine/data/containers" / forgotten)
    assert process.alive(forgotten_pid)
    await bench.engine().ensure()
    await eventually(lambda: not process.alive(forgotten_pid))
    assert process.alive(known_pid)
    with contextlib.closing(docker.DockerClient(base_url=engine.url)) as client:
        assert [(one.id, one.status) for one in client.containers.list(all=True)] == [(known, "running")]
    # A stop ends everything, whatever the engine is told to leave alone.
    assert await bench.engine().stop()
    await eventually(lambda: not process.alive(known_pid))
    await eventually(lambda: not process.processes_naming(bench.folder))
    assert mounts_below(bench.folder) == []


async def test_where_there_can_be_no_bridge_it_runs_without_a_network(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise OSError("no bridges here")

    monkeypatch.setattr(own_engine, "ensure_bridge", refuse)
    engine = bench.engine()
    await engine.ensure()
    assert any("without" in line for line in bench.said)
    await provide(engine.url, bench.said)
    assert await asyncio.to_thread(run, engine.url, "none") == b"hi\n"
    # It stays with what worked.
    await engine.stop()
    bench.said.clear()
    await bench.engine().ensure()
    assert bench.said == []


async def test_one_that_can_not_start_says_why(bench: Workbench) -> None:
    engine = bench.engine()
    (bench.folder / "engine").mkdir()
    (bench.folder / "engine/daemon.json").write_text('{"no-such-setting": 1}', encoding="ascii")
    with pytest.raises(EngineError, match="no-such-setting"):
        await engine.ensure()
    assert engine.pid() is None


async def test_the_example_image_is_made_once_and_waits_for_its_engine(docker_host: DockerHost) -> None:
    said: list[str] = []
    with contextlib.closing(docker_host.client()) as client:
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.remove(example.IMAGE, force=True)
        docker_host.stop()
        away, starting = asyncio.Event(), asyncio.Event()
        waiting = [
            asyncio.create_task(provide(docker_host.url, said, away)),
            asyncio.create_task(provide(docker_host.url, [], starting, is_starting=True)),
        ]
        # Nobody waits for an engine that is away; one that is being started is worth it.
        await eventually(away.is_set)
        assert said == [f"nobody is at {docker_host.url}"]
        assert not starting.is_set()
        await asyncio.to_thread(docker_host.start)
        await asyncio.gather(*waiting)
        assert starting.is_set()
        made = client.images.get(example.IMAGE).id
        await provide(docker_host.url, said)
        assert client.images.get(example.IMAGE).id == made
    assert await asyncio.to_thread(run, docker_host.url, "none") == b"hi\n"
