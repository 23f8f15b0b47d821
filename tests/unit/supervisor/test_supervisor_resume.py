"""Recurring jobs between a `down --stop-jobs` and the next `up`: the decisions, the file, the resuming."""

from pathlib import Path
from typing import Any

import pytest

from easyq.errors import EasyQError, FailedPrecondition, NotFound, Unavailable
from easyq.v1.job_pb2 import Job
from easyq_supervisor import resume
from easyq_supervisor.adapters.notes import NotesFile, NotesUnreadable
from easyq_supervisor.domain.resting import (
    Kind,
    Note,
    OpenJob,
    OpenRun,
    Round,
    confirmed,
    goes_on,
    merged,
    next_round,
    told_resumed,
    without,
)
from easyq_supervisor.resume import go_on, resume_noted


def note(job_id: str, noted_at: int = 1, paused_at: int | None = None) -> Note:
    return Note(job_id=job_id, task_id="task", noted_at=noted_at, paused_at=paused_at)


# ------------------------------------------------------------------------------------------------------- the next round
def test_plain_jobs_are_stopped_active_ones_paused_and_runs_of_recurring_ones_stopped() -> None:
    active, paused = (OpenJob(job_id=kind.value, kind=kind) for kind in (Kind.ACTIVE, Kind.PAUSED))
    runs = [
        OpenRun(execution_id=f"{owner}-run", job_id=owner, is_stopping=owner == "stopping")
        for owner in ("plain", "active", "paused", "ending", "unknown")
    ]
    asked = OpenRun(execution_id="asked", job_id="paused", is_stopping=True)
    jobs = [
        OpenJob(job_id="plain"),
        OpenJob(job_id="asked", is_stopping=True),
        active,
        paused,
        OpenJob(job_id="ending", kind=Kind.ACTIVE, is_stopping=True),
    ]
    assert next_round(jobs, [*runs, asked]) == Round(
        stop_jobs=("plain",), pause=(active,), stop_runs=("active-run", "paused-run"), is_quiet=False
    )


@pytest.mark.parametrize(
    ("jobs", "runs", "is_quiet"),
    [
        ([], [], True),
        ([OpenJob(job_id="a", kind=Kind.PAUSED)], [], True),
        ([OpenJob(job_id="a", kind=Kind.PAUSED)], [OpenRun(execution_id="r", job_id="other")], True),
        ([OpenJob(job_id="a", kind=Kind.PAUSED)], [OpenRun(execution_id="r", job_id="a", is_stopping=True)], False),
        ([OpenJob(job_id="a", kind=Kind.PAUSED, is_stopping=True)], [], False),
        ([OpenJob(job_id="a", kind=Kind.ACTIVE)], [], False),
        ([OpenJob(job_id="a", is_stopping=True)], [], False),
    ],
)
def test_it_is_quiet_once_only_paused_jobs_without_runs_are_left(
    jobs: list[OpenJob], runs: list[OpenRun], is_quiet: bool
) -> None:
    assert next_round(jobs, runs).is_quiet == is_quiet


# ------------------------------------------------------------------------------------------------------------ the notes
def test_a_new_note_takes_the_place_of_an_earlier_one_of_its_job() -> None:
    old = (note("a", 1, 5), note("b", 1, 5))
    assert merged(old, [note("b", 2), note("c", 2)]) == (note("a", 1, 5), note("b", 2), note("c", 2))


def test_notes_learn_when_their_jobs_were_paused_and_go_where_they_were_not() -> None:
    mine = [note("a", 2), note("b", 2)]
    notes = (note("z", 1, 5), *mine, note("y", 3))
    assert confirmed(notes, mine, {"a": 7, "y": 8}) == (note("z", 1, 5), note("a", 2, 7), note("y", 3))


def test_only_the_very_notes_that_are_done_with_are_taken_away() -> None:
    assert without((note("a", 2), note("b", 1)), [note("a", 1), note("b", 1)]) == (note("a", 2),)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, True),
        ({"paused_at": 6}, False),
        ({"is_paused": False}, False),
        ({"is_stopping": True}, False),
    ],
)
def test_a_job_goes_on_unless_somebody_had_it_in_hand_meanwhile(state: dict[str, Any], expected: bool) -> None:
    now = {"is_paused": True, "is_stopping": False, "paused_at": 5, **state}
    assert goes_on(note("a", paused_at=5), **now) == expected


def test_a_job_whose_pause_was_not_confirmed_goes_on() -> None:
    assert goes_on(note("a"), is_paused=True, is_stopping=False, paused_at=5)


def test_how_many_go_on_is_told() -> None:
    assert [told_resumed(count) for count in (1, 2)] == ["1 recurring job goes on", "2 recurring jobs go on"]


# ------------------------------------------------------------------------------------------------------------- the file
def test_the_file_is_there_only_while_something_is_noted(tmp_path: Path) -> None:
    file = NotesFile(tmp_path)
    assert file.read() == ()
    file.change(lambda old: old)
    assert not file.path.exists()
    file.change(lambda old: (*old, note("a", 1, 2), note("b")))
    assert NotesFile(tmp_path).read() == (note("a", 1, 2), note("b"))
    file.change(lambda old: without(old, old))
    assert not file.path.exists()


@pytest.mark.parametrize("text", ["", "[1", "[1]", "3", '[{"job_id": "a"}]', '[{"x": 1}]', "\xff"])
def test_a_file_that_is_not_understood_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = NotesFile(tmp_path)
    file.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(NotesUnreadable, match=r"paused\.json can't be understood"):
        file.change(lambda _old: ())
    assert file.path.read_bytes() == text.encode("latin-1")


# --------------------------------------------------------------------------------------------------------- the resuming
class FakeJobs:
    """Stands in for an AsyncClient. An error among `answers` is raised once."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.resumed: list[str] = []

    async def get(self, job_id: str) -> Job:
        found = self.answers.get(job_id, NotFound("no such job"))
        if isinstance(found, Exception):
            self.answers[job_id] = paused(5)
            raise found
        assert isinstance(found, Job)
        return found

    async def resume(self, job_id: str) -> Job:
        if self.answers[job_id].task_id == "ends":
            raise FailedPrecondition("it has ended")
        self.resumed.append(job_id)
        return Job()


def paused(at: int, **fields: Any) -> Job:
    job = Job(state=Job.PAUSED, **fields)
    job.schedule.paused_at.FromMilliseconds(at)
    return job


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_AGAIN", 0)


async def test_exactly_the_noted_jobs_that_nobody_touched_are_resumed(tmp_path: Path) -> None:
    file, said = NotesFile(tmp_path), list[str]()
    stopping = paused(5)
    stopping.stop_requested_at.GetCurrentTime()
    jobs = FakeJobs(
        a=paused(5),
        b=paused(5),
        by_hand=Job(state=Job.ACTIVE),
        stopped=Job(state=Job.STOPPED),
        stopping=stopping,
        again=paused(6),
        ends=paused(5, task_id="ends"),
        not_noted=paused(5),
    )
    noted = ("a", "b", "by_hand", "stopped", "stopping", "again", "ends", "gone")
    file.change(lambda _old: tuple(note(job_id, paused_at=5) for job_id in noted))
    await resume_noted(file, file.read(), jobs, said.append)
    assert jobs.resumed == ["a", "b"]
    assert said == ["2 recurring jobs go on"]
    assert not file.path.exists()


@pytest.mark.parametrize("error", [Unavailable("away"), EasyQError("odd")])
async def test_what_can_not_be_asked_now_is_asked_again(tmp_path: Path, error: Exception) -> None:
    file, said = NotesFile(tmp_path), list[str]()
    file.change(lambda _old: (note("a", paused_at=5), note("b", paused_at=5)))
    jobs = FakeJobs(a=error, b=paused(5))
    await resume_noted(file, file.read(), jobs, said.append)
    assert jobs.resumed == ["b", "a"]
    assert said == [f"recurring jobs that can't be resumed yet: 1 ({error})", "2 recurring jobs go on"]
    assert not file.path.exists()


async def test_a_note_that_came_meanwhile_stays(tmp_path: Path) -> None:
    file = NotesFile(tmp_path)
    file.change(lambda _old: (note("a", 1, 5),))
    found = file.read()
    file.change(lambda _old: (note("a", 2),))
    await resume_noted(file, found, FakeJobs(a=paused(5)), lambda _text: None)
    assert file.read() == (note("a", 2),)


async def test_without_notes_nothing_is_asked_and_a_broken_file_is_told(tmp_path: Path) -> None:
    file, said = NotesFile(tmp_path), list[str]()
    await go_on(file, "127.0.0.1:1", said.append)
    assert said == []
    file.path.write_text("[", encoding="ascii")
    await go_on(file, "127.0.0.1:1", said.append)
    [line] = said
    assert line.startswith("recurring jobs that `easyq down --stop-jobs` paused may stay so: ")
