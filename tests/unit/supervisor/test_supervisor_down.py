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
from easyq.v1.job_pb2 import Execution, Job
from easyq_supervisor import down
from easyq_supervisor.adapters.folder import DataFolder, Running
from easyq_supervisor.adapters.notes import NotesFile, NotesUnreadable
from easyq_supervisor.domain.resting import Note, Notes
from easyq_supervisor.down import OPEN_STATES, DownError, stop_jobs, stop_running_jobs, stop_system


class FakeFarm:
    """Plain jobs that end `rounds` looks after they were stopped; stands in for a Farm."""

    def __init__(self, rounds: dict[str, int]) -> None:
        self.left = dict(rounds)
        self.stopped: list[str] = []
        self.ended: set[str] = set()

    def jobs(self, *, states: Sequence[Any]) -> Iterator[Job]:
        assert tuple(states) == OPEN_STATES
        for job_id in list(self.left):
            if job_id in self.stopped:
                self.left[job_id] -= 1
            if self.left[job_id] < 0:
                del self.left[job_id]
                continue
            job = Job(job_id=job_id, state=Job.RUNNING)
            if job_id in self.stopped:
                job.stop_requested_at.GetCurrentTime()
            yield job

    def stop(self, job_id: str) -> None:
        if job_id in self.ended:
            raise (FailedPrecondition if job_id < "m" else NotFound)("it has ended")
        self.stopped.append(job_id)


class Recurring(FakeFarm):
    """Recurring jobs and their runs: a run that is stopped ends a look later, and the next that waits takes its place.

    A job fires at every look while it is ACTIVE.
    """

    def __init__(self, notes: NotesFile, states: dict[str, Any], runs: dict[str, list[str]]) -> None:
        super().__init__({})
        self.notes = notes
        self.states = states
        self.runs = runs
        self.stopped_runs: list[str] = []
        self.noted_at_pause: dict[str, Notes] = {}

    def jobs(self, *, states: Sequence[Any]) -> Iterator[Job]:
        yield from super().jobs(states=states)
        for job_id, state in self.states.items():
            yield self._job(job_id, state)

    def open_runs(self) -> Iterator[Execution]:
        for job_id, waiting in self.runs.items():
            if waiting and waiting[0] in self.stopped_runs:
                waiting.pop(0)
            if not waiting and self.states.get(job_id) == Job.ACTIVE:
                waiting.append(f"{job_id}-fire-{len(self.stopped_runs)}")
            if waiting:
                yield Execution(execution_id=waiting[0], job_id=job_id)

    def pause(self, job_id: str) -> Job:
        if job_id in self.ended:
            del self.states[job_id]
            raise FailedPrecondition("it has ended")
        self.noted_at_pause[job_id] = self.notes.read()
        self.states[job_id] = Job.PAUSED
        return self._job(job_id, Job.PAUSED)

    def stop_run(self, execution_id: str) -> None:
        self.stopped_runs.append(execution_id)

    def _job(self, job_id: str, state: Any) -> Job:
        job = Job(job_id=job_id, task_id="task", state=state)
        if state == Job.PAUSED:
            job.schedule.paused_at.FromMilliseconds(77)
        return job


@pytest.fixture
def notes(tmp_path: Path) -> NotesFile:
    return NotesFile(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(down, "_POLL", 0.001)


def test_each_job_is_stopped_once_and_waited_for(notes: NotesFile) -> None:
    farm, said = FakeFarm({"a": 0, "b": 3, "c": 1}), list[str]()
    stop_jobs(farm, notes, said.append)  # type: ignore[arg-type]
    assert sorted(farm.stopped) == ["a", "b", "c"]
    assert said == ["stopping jobs: 3 have not ended, 3 of them run"]


def test_active_recurring_jobs_are_noted_then_paused_and_their_runs_stopped(notes: NotesFile) -> None:
    farm, said = Recurring(notes, {"a": Job.ACTIVE, "b": Job.ACTIVE}, {"a": ["a1", "a2"], "b": []}), list[str]()
    farm.left = {"plain": 1}
    stop_jobs(farm, notes, said.append)  # type: ignore[arg-type]
    assert farm.stopped == ["plain"]
    assert farm.stopped_runs[0] == "a1"
    assert {"a1", "a2", "b-fire-0"} == set(farm.stopped_runs)
    assert farm.runs == {"a": [], "b": []}
    for job_id in "ab":
        assert job_id in {note.job_id for note in farm.noted_at_pause[job_id]}
    assert [(note.job_id, note.task_id, note.paused_at) for note in notes.read()] == [
        ("a", "task", 77),
        ("b", "task", 77),
    ]
    assert said[:2] == [
        "stopping jobs: 1 have not ended, 1 of them run; 2 runs of recurring ones have not ended",
        "recurring jobs paused until the next `easyq up`: 2",
    ]


def test_jobs_that_their_owner_paused_are_not_noted(notes: NotesFile) -> None:
    farm = Recurring(notes, {"a": Job.PAUSED}, {"a": ["a1"]})
    stop_jobs(farm, notes, lambda _text: None)  # type: ignore[arg-type]
    assert (farm.stopped, farm.stopped_runs, farm.noted_at_pause) == ([], ["a1"], {})
    assert not notes.path.exists()


def test_notes_of_a_down_before_stay_and_those_of_jobs_that_ended_do_not(notes: NotesFile) -> None:
    earlier = Note(job_id="z", task_id="task", noted_at=1, paused_at=77)
    notes.change(lambda _old: (earlier,))
    farm = Recurring(notes, {"a": Job.ACTIVE, "b": Job.ACTIVE, "z": Job.PAUSED}, {})
    farm.ended = {"b"}
    stop_jobs(farm, notes, lambda _text: None)  # type: ignore[arg-type]
    assert notes.read()[0] == earlier
    assert [note.job_id for note in notes.read()] == ["z", "a"]


def test_a_run_that_comes_up_after_a_quiet_look_is_stopped(notes: NotesFile) -> None:
    farm = Recurring(notes, {"a": Job.PAUSED}, {"a": []})
    looks = iter([[], [Execution(execution_id="late", job_id="a")], [], []])
    farm.open_runs = lambda: iter(next(looks))  # type: ignore[method-assign]
    stop_jobs(farm, notes, lambda _text: None)  # type: ignore[arg-type]
    assert farm.stopped_runs == ["late"]


def test_nothing_is_paused_that_can_not_be_noted(notes: NotesFile) -> None:
    notes.path.write_text("[1", encoding="ascii")
    farm = Recurring(notes, {"a": Job.ACTIVE}, {})
    with pytest.raises(NotesUnreadable, match=r"paused\.json"):
        stop_jobs(farm, notes, lambda _text: None)  # type: ignore[arg-type]
    assert farm.states == {"a": Job.ACTIVE}


def test_jobs_that_ended_meanwhile_are_no_error(notes: NotesFile) -> None:
    farm = FakeFarm({"a": 0, "z": 0, "b": 0})
    farm.ended = {"a", "z"}
    jobs = iter([[Job(job_id=name) for name in "azb"], []])
    farm.jobs = lambda *, states: iter(next(jobs))  # type: ignore[method-assign]
    stop_jobs(farm, notes, lambda _text: None)  # type: ignore[arg-type]
    assert farm.stopped == ["b"]


def test_nothing_to_stop_says_nothing(notes: NotesFile) -> None:
    said = list[str]()
    stop_jobs(FakeFarm({}), notes, said.append)  # type: ignore[arg-type]
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
