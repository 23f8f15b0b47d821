"""100 × `echo hi` through EasyQ, against a bare loop over the Docker SDK on the same daemon."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker

from bench.report import Figure, Goal
from tests.support.farm import Rest, UpFarm
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.waiting import wait_until

COUNT = 100
SLOTS = 4
COMMAND = ["echo", "hi"]


def measure(host: DockerHost, runs: int) -> list[Figure]:
    """Runs of both in turn, so that a slow moment of the machine meets both."""
    with UpFarm([host], slots=SLOTS) as farm:
        rest = farm.rest
        _seconds(lambda: _by_easyq(rest, 8))
        _seconds(lambda: _bare(host, 8))
        pairs = [(_seconds(lambda: _bare(host, COUNT)), _seconds(lambda: _by_easyq(rest, COUNT))) for _ in range(runs)]
    return [
        Figure(
            name=f"{COUNT} x `echo hi`, {SLOTS} slots: part of the bare SDK loop's speed",
            unit="ratio",
            runs=[bare / ours for bare, ours in pairs],
            goal=Goal(at_least=0.8),
        ),
        Figure(name="  by EasyQ", unit="s", runs=[ours for _, ours in pairs]),
        Figure(name=f"  by a loop over the Docker SDK in {SLOTS} threads", unit="s", runs=[bare for bare, _ in pairs]),
    ]


def _seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _by_easyq(rest: Rest, count: int) -> None:
    """From the first POST to the end of the last job, each posted by itself, outputs stored."""
    spec = {"image": EXAMPLE_IMAGE, "command": COMMAND}
    task = f"bench-{uuid.uuid4().hex[:8]}"
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(lambda _: rest.enqueue(task, spec), range(count)))
    wanted = [{"state": "SUCCEEDED", "count": count}]
    wait_until(lambda: rest.get(f"/tasks/{task}")["states"] == wanted, 120, interval=0.05)


def _bare(host: DockerHost, count: int) -> None:
    """What one would write without EasyQ: create, start, wait, read the output, remove."""
    clients = [docker.DockerClient(base_url=host.url) for _ in range(SLOTS)]

    def work(client: docker.DockerClient) -> None:
        for _ in range(count // SLOTS):
            output = client.containers.run(EXAMPLE_IMAGE, COMMAND, network="none", remove=True)
            assert output == b"hi\n"

    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(work, clients))
    for client in clients:
        client.close()
