"""The commands of docs/operations/backup.md: a backup under load, and its restore, lose nothing but the tail."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.conftest import FarmMaker
from tests.support.farm import UpFarm, shell
from tests.support.farm.up import EASYQ, clean_environment
from tests.support.hosts import DockerHost
from tests.support.missing import require_program
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "backup.md").read_text(encoding="utf-8")
TASK = "backed-up"


def commands(title: str) -> str:
    """The first block of shell below a heading."""
    found = re.search(rf"^### {title}$.*?```sh\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def run(script: str, farm: UpFarm, host: DockerHost) -> None:
    """In a home whose `.easyq` is the farm's data folder, as the page has it."""
    home = farm.folder / "home"
    if not home.exists():
        home.mkdir()
        (home / ".easyq").symlink_to(farm.data)
    path = os.pathsep.join((str(Path(EASYQ).parent), os.environ["PATH"]))
    environment = {**clean_environment(), "HOME": str(home), "PATH": path, "DOCKER_HOST": host.url}
    done = subprocess.run(
        ["sh", "-euc", script], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done


class Load:
    """Enqueues one job after the other, each for later, until it is told to stop.

    `answered`: ids of jobs, with the time of their answer.
    """

    def __init__(self, farm: UpFarm) -> None:
        self.answered: dict[str, float] = {}
        self._rest = farm.rest
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.is_set():
            job = self._rest.enqueue(TASK, shell("true", startIn="1h"))["jobId"]
            self.answered[job] = time.monotonic()

    def wait_for(self, more: int) -> None:
        """Until so many further jobs were answered."""
        wanted = len(self.answered) + more
        wait_until(lambda: len(self.answered) >= wanted, 30)


@pytest.mark.timeout(180)
def test_a_backup_under_load_loses_nothing_but_the_tail(new_farm: FarmMaker, hosts: list[DockerHost]) -> None:
    require_program("docker", "apt-get install docker.io")
    host = hosts[0]
    farm = new_farm([host], slots=3)
    rest = farm.rest
    done = rest.run(TASK, shell("echo kept"))["jobId"]
    running = rest.enqueue(TASK, shell("sleep 300"))["jobId"]
    # The job is RUNNING a moment before its execution is, which then is only given to the agent once more.
    wait_until(lambda: rest.job(running)["executions"][0]["state"] == "RUNNING", 30)
    with Load(farm) as load:
        load.wait_for(30)
        begun = time.monotonic()
        run(commands("Back up"), farm, host)
        ended = time.monotonic()
        assert (farm.folder / "home" / "easyq-backup.db").stat().st_mode & 0o077 == 0
        load.wait_for(30)
    lost = rest.enqueue(TASK, shell("sleep 300"))["jobId"]
    wait_until(lambda: rest.job(lost)["state"] == "RUNNING", 30)

    run(commands("Restore"), farm, host)
    # `down` waits for the services; whoever started them sees their end a moment later.
    wait_until(lambda: not farm.running, 30)
    farm.start()

    known = {job["jobId"]: job["state"] for job in everything(farm)}
    before = [job for job, at in load.answered.items() if at < begun]
    assert len(before) >= 30
    assert {known.get(job) for job in before} == {"SCHEDULED"}
    assert rest.output(done, "stdout") == b"kept\n"
    # What is looked at is the backup, and not what was there before the restore.
    assert not known.keys() & {lost, *(job for job, at in load.answered.items() if at > ended)}
    # What was running then runs again, and not on the account of the program.
    again = wait_until(lambda: (job := rest.job(running))["executionCount"] == 2 and job, 30)
    assert again["executions"][0]["error"]["reason"] == "CONTAINER_VANISHED"
    wait_until(lambda: rest.job(running)["state"] == "RUNNING", 30)
    rest.stop(running)
    assert rest.run(TASK, shell("true"))["state"] == "SUCCEEDED"
    wait_until(lambda: rest.get("/status")["problems"] == [], 20, message="nothing is wrong")


def everything(farm: UpFarm) -> Iterator[Any]:
    path = f"/tasks/{TASK}/jobs?pageSize=1000"
    while path:
        page = farm.rest.get(path)
        yield from page["items"]
        path = page["nextUrl"]
