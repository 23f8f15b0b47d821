"""`easyq down`: stopping every job, and the process that holds a folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from easyq.errors import FailedPrecondition, NotFound, Unavailable
from easyq.v1.job_pb2 import Job
from easyq_supervisor import down
from easyq_supervisor.adapters.folder import DataFolder, Running
from easyq_supervisor.down import OPEN_STATES, DownError, stop_jobs, stop_running_jobs, stop_system


class Farm:
    """Jobs that end `rounds` looks after they were stopped; stands in for a Client."""

    def __init__(self, rounds: dict[str, int]) -> None:
        self.left = dict(rounds)
        self.stopped: list[str] = []
        self.ended: set[str] = set()
        self.state = Job.RUNNING

    def jobs(self, *, states: Sequence[Any]) -> Iterator[Job]:
        assert tuple(states) == OPEN_STATES
        for job_id in list(self.left):
            if job_id in self.stopped:
                self.left[job_id] -= 1
            if self.left[job_id] < 0:
                del self.left[job_id]
                continue
            job = Job(job_id=job_id, state=self.state)
            if job_id in self.stopped:
                job.stop_requested_at.GetCurrentTime()
            yield job

    def stop(self, job_id: str) -> None:
        if job_id in self.ended:
            raise (FailedPrecondition if job_id < "m" else NotFound)("it has ended")
        self.stopped.append(job_id)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(down, "_POLL", 0.001)


def test_each_job_is_stopped_once_and_waited_for() -> None:
    farm, said = Farm({"a": 0, "b": 3, "c": 1}), list[str]()
    stop_jobs(farm, said.append)  # type: ignore[arg-type]
    assert sorted(farm.stopped) == ["a", "b", "c"]
    assert said == ["stopping jobs: 3 have not ended, 3 of them run"]


def test_recurring_jobs_are_stopped_as_well() -> None:
    farm, said = Farm({"a": 2}), list[str]()
    farm.state = Job.ACTIVE
    stop_jobs(farm, said.append)  # type: ignore[arg-type]
    assert farm.stopped == ["a"]
    assert said == ["stopping jobs: 1 have not ended, 0 of them run, 1 recur"]
    assert {Job.ACTIVE, Job.PAUSED} < set(OPEN_STATES)


def test_jobs_that_ended_meanwhile_are_no_error() -> None:
    farm = Farm({"a": 0, "z": 0, "b": 0})
    farm.ended = {"a", "z"}
    jobs = iter([[Job(job_id=name) for name in "azb"], []])
    farm.jobs = lambda *, states: iter(next(jobs))  # type: ignore[method-assign]
    stop_jobs(farm, lambda _text: None)  # type: ignore[arg-type]
    assert farm.stopped == ["b"]


def test_nothing_to_stop_says_nothing() -> None:
    said = list[str]()
    stop_jobs(Farm({}), said.append)  # type: ignore[arg-type]
    assert said == []


def test_a_farm_that_can_not_be_asked_is_left_alone(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(DownError, match="has only begun to start"):
        stop_running_jobs(folder, lambda _text: None)
    folder.announce(Running(pid=1, grpc="127.0.0.1:1", rest=""))
    with pytest.raises(DownError, match="nothing else was stopped") as caught:
        stop_running_jobs(folder, lambda _text: None)
    assert isinstance(caught.value.__cause__, Unavailable)


HOLD = """
import signal, sys, time
from pathlib import Path
from easyq_supervisor.adapters.folder import DataFolder
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
DataFolder(Path(sys.argv[1])).hold()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(manner: str) -> tuple[DataFolder, int]:
        command = [sys.executable, "-c", HOLD, str(tmp_path), manner]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "held\n"
        return DataFolder(tmp_path), started[-1].pid

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_the_holder_is_ended_and_waited_for(holder: Any) -> None:
    folder, pid = holder("polite")
    assert folder.holder() == pid
    stop_system(folder, pid, 10)
    assert folder.holder() is None


def test_a_holder_that_does_not_end_is_told(holder: Any) -> None:
    folder, pid = holder("deaf")
    with pytest.raises(DownError, match=f"pid {pid} has not ended within"):
        stop_system(folder, pid, 0.1)


def test_a_holder_that_has_gone_is_fine(holder: Any) -> None:
    folder, pid = holder("polite")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    stop_system(folder, pid, 0.1)
