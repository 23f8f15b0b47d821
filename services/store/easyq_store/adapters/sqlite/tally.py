"""What is counted on the side: tasks, their jobs by state, and images; written once per commit."""

import sqlite3
from dataclasses import dataclass, field

from easyq_store.domain.images import short_name
from easyq_store.domain.states import JobState

_TASK = """
INSERT INTO task (task_id, created_at, last_job_at, job_count) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (task_id) DO UPDATE SET last_job_at = max(last_job_at, ?3), job_count = job_count + ?4
"""
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

    _notes: list[tuple[str, str, JobState | None, JobState | None, int]] = field(default_factory=list)
    _known_images: set[str] = field(default_factory=set)

    def job_inserted(self, task_id: str, image: str, state: JobState, at: int) -> None:
        """A job is new."""
        self._notes.append((task_id, image, None, state, at))

    def job_moved(self, task_id: str, image: str, old: JobState, new: JobState) -> None:
        """A job has another state, or another image, now."""
        self._notes.append((task_id, image, old, new, 0))

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
        for task_id, image, old, new, at in self._notes:
            images.add(image)
            if old is None:
                delta = tasks.setdefault(task_id, _TaskDelta(first=at, last=at))
                delta.first, delta.last = min(delta.first, at), max(delta.last, at)
                delta.jobs += 1
            else:
                states[task_id, int(old)] = states.get((task_id, int(old)), 0) - 1
            if new is not None:
                states[task_id, int(new)] = states.get((task_id, int(new)), 0) + 1
        self._notes.clear()
        connection.executemany(_TASK, [(t, d.first, d.last, d.jobs) for t, d in tasks.items()])
        connection.executemany(_STATE, [(t, s, n) for (t, s), n in states.items() if n])
        self._write_images(connection, images)

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
