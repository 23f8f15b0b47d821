"""Statistics: counted in memory as plans commit, written once a second, read in points."""

from collections.abc import Callable, Sequence
from functools import partial

from easyq_chassis.errors import InvalidArgument
from easyq_store.domain import stats
from easyq_store.domain.changes import Note
from easyq_store.domain.stats import HOUR, KEPT, MINUTE, Cell
from easyq_store.ports import Persistence, Steps
from easyq_store.usecases.context import Context

# Tasks that have cells of their own within one minute, and within one hour: the first that come. With how long cells
# are kept these bound the rows: 0.7 and 2.2 million at most. What others do counts for the farm alone.
MOST_TASKS = {MINUTE: 250, HOUR: 1_000}
# Points of one answer.
MOST_POINTS = 1_500
# Cells deleted, and written, in one go.
_AT_ONCE = 500


class Statistics:
    """Counts what this process writes. Whatever is not written yet when it dies, or fails to be written, is lost."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        # By the beginning of the minute and the task; the farm's without a task.
        self._counts: dict[tuple[int, str], dict[str, int]] = {}
        self._seen: dict[int, tuple[int, set[str]]] = {span: (0, set()) for span in MOST_TASKS}

    def take(self, notes: Sequence[Note]) -> None:
        """Counts what was written, once it is durable."""
        minute = 0
        for note in notes:
            counted = stats.of_note(note)
            if counted is None:
                continue
            minute = minute or _begin(self._now(), MINUTE)
            task_id, counts = counted
            stats.add(self._counts.setdefault((minute, task_id), {}), counts)

    async def flush(self, store: Persistence) -> None:
        """Writes what was counted. Errors: `Unavailable` (the database can't be reached: it is lost)."""
        cells = self._take_cells()
        for begin in range(0, len(cells), _AT_ONCE):
            some = cells[begin : begin + _AT_ONCE]
            await store.run(partial(_add, some))

    def _take_cells(self) -> list[Cell]:
        taken, self._counts = self._counts, {}
        added: dict[tuple[int, int, str], dict[str, int]] = {}
        for (minute, task_id), counts in taken.items():
            for span in (MINUTE, HOUR):
                at = _begin(minute, span)
                stats.add(added.setdefault((span, at, ""), {}), counts)
                if self._has_own(span, at, task_id):
                    stats.add(added.setdefault((span, at, task_id), {}), counts)
        return [Cell(span=span, at=at, task_id=task_id, counts=counts) for (span, at, task_id), counts in added.items()]

    def _has_own(self, span: int, at: int, task_id: str) -> bool:
        """Whether the task is among the first of the minute, or hour."""
        begin, tasks = self._seen[span]
        if begin != at:
            tasks = set()
            self._seen[span] = at, tasks
        if task_id not in tasks and len(tasks) < MOST_TASKS[span]:
            tasks.add(task_id)
        return task_id in tasks


def _begin(at: int, span: int) -> int:
    return at - at % span


async def query(ctx: Context, task_id: str, *, start: int, end: int, step: int) -> stats.Stats:
    """What a task, or (with an empty one) the farm did from `start` to `end`, widened to whole steps, all in ms.

    A step of whole hours reads the hours' cells, another one those of the minutes. Errors: INVALID_ARGUMENT.
    """
    if step <= 0 or step % MINUTE or start < 0 or end <= start:
        raise InvalidArgument("a step is whole minutes, and the end after the start")
    start = _begin(start, step)
    if (end - start - 1) // step >= MOST_POINTS:
        raise InvalidArgument(f"these are more than {MOST_POINTS} points: take a longer step")
    end = start + ((end - start - 1) // step + 1) * step
    span = MINUTE if step % HOUR else HOUR
    cells = await ctx.store.reads.stats(span, task_id, start, end)
    return stats.summary(cells, start=start, end=end, step=step)


async def forget_old(ctx: Context) -> int:
    """Deletes cells that are kept no longer; how many. Errors: `Unavailable`."""
    gone = 0
    for span, kept in KEPT.items():
        before = ctx.clock.now() - kept
        while some := await ctx.store.run(partial(_delete, span, before)):
            gone += some
    return gone


async def _add(cells: Sequence[Cell], steps: Steps) -> None:
    await steps.add_stats(cells)


async def _delete(span: int, before: int, steps: Steps) -> int:
    return await steps.delete_stats(span, before, _AT_ONCE)
