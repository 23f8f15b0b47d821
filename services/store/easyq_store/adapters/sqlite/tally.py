"""What is counted on the side: tasks, their jobs by state, and images; written once per commit."""

import sqlite3
from dataclasses import dataclass, field

from easyq_store.domain.images import short_name
from easyq_store.domain.states import JobState

_TASK = """
INSERT INTO task (task_id, created_at, last_job_at, job_count) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (task_id) DO UPDATE SET
    last_job_at = max(last_job_at, ?3), job_count = job_count + ?4, delete_requested = 0
"""
_FEWER = "UPDATE task SET job_count = job_count - ?2 WHERE task_id = ?1"
# Those of whose jobs some went: what is left tells.
_RECOUNT = """
UPDATE task SET last_job_at = coalesce(
    (SELECT max(created_at) FROM job INDEXED BY job_task WHERE task_id = ?1), created_at) WHERE task_id = ?1
"""
_DOOM = "UPDATE task SET delete_requested = 1 WHERE task_id = ?"
_GONE = "DELETE FROM task WHERE task_id = ? AND job_count <= 0 AND delete_requested = 1"
_NO_STATES = "DELETE FROM task_state WHERE task_id = ?1 AND NOT EXISTS (SELECT 1 FROM task WHERE task_id = ?1)"
_STATE = """
INSERT INTO task_state (task_id, state, jobs) VALUES (?1, ?2, ?3)
ON CONFLICT (task_id, state) DO UPDATE SET jobs = jobs + ?3
"""
_IMAGE = "INSERT OR IGNORE INTO image (image, short_name) VALUES (?, ?)"
_IMAGES_REMEMBERED = 10_000


@dataclass(slots=True)
class _TaskDelta:
    first: int
    last: int
    jobs: int = 0


@dataclass(slots=True)
class Tally:
    """Collects within a transaction. A plan that is undone takes its notes back with `undo`."""

    # (task, image, old state, new state, when it was made). No new state: a job went; neither: the task is to go.
    _notes: list[tuple[str, str, JobState | None, JobState | None, int]] = field(default_factory=list)
    _known_images: set[str] = field(default_factory=set)

    def job_inserted(self, task_id: str, image: str, state: JobState, at: int) -> None:
        """A job is new."""
        self._notes.append((task_id, image, None, state, at))

    def job_moved(self, task_id: str, image: str, old: JobState, new: JobState) -> None:
        """A job has another state, or another image, now."""
        self._notes.append((task_id, image, old, new, 0))

    def job_deleted(self, task_id: str, image: str, state: JobState) -> None:
        """A job is gone."""
        self._notes.append((task_id, image, state, None, 0))

    def task_deleted(self, task_id: str) -> None:
        """The task is to go once it has no jobs."""
        self._notes.append((task_id, "", None, None, 0))

    def mark(self) -> int:
        """Where the notes stand now."""
        return len(self._notes)

    def undo(self, mark: int) -> None:
        """Takes back what was noted since."""
        del self._notes[mark:]

    def clear(self) -> None:
        """Takes back everything."""
        self._notes.clear()

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes what was noted into the transaction under way."""
        if not self._notes:
            return
        tasks: dict[str, _TaskDelta] = {}
        states: dict[tuple[str, int], int] = {}
        images: set[str] = set()
        gone: dict[str, int] = {}
        doomed: set[str] = set()
        for task_id, image, old, new, at in self._notes:
            if old is None and new is None:
                doomed.add(task_id)
                continue
            if old is None:
                doomed.discard(task_id)
                delta = tasks.setdefault(task_id, _TaskDelta(first=at, last=at))
                delta.first, delta.last = min(delta.first, at), max(delta.last, at)
                delta.jobs += 1
            else:
                states[task_id, int(old)] = states.get((task_id, int(old)), 0) - 1
            if new is None:
                gone[task_id] = gone.get(task_id, 0) + 1
            else:
                images.add(image)
                states[task_id, int(new)] = states.get((task_id, int(new)), 0) + 1
        self._notes.clear()
        connection.executemany(_TASK, [(t, d.first, d.last, d.jobs) for t, d in tasks.items()])
        connection.executemany(_STATE, [(t, s, n) for (t, s), n in states.items() if n])
        self._write_images(connection, images)
        self._write_deletions(connection, gone, doomed)

    def _write_deletions(self, connection: sqlite3.Connection, gone: dict[str, int], doomed: set[str]) -> None:
        connection.executemany(_FEWER, list(gone.items()))
        connection.executemany(_DOOM, [(task_id,) for task_id in doomed])
        for statement in (_RECOUNT, _GONE, _NO_STATES):
            connection.executemany(statement, [(task_id,) for task_id in gone.keys() | doomed])

    def _write_images(self, connection: sqlite3.Connection, images: set[str]) -> None:
        new = images - self._known_images
        if not new:
            return
        connection.executemany(_IMAGE, [(image, short_name(image)) for image in new])
        if len(self._known_images) > _IMAGES_REMEMBERED:
            self._known_images.clear()
        # Should this commit fail, `forget_images` makes the next one write them.
        self._known_images |= new

    def forget_images(self) -> None:
        """After a commit that failed."""
        self._known_images.clear()
