"""Append: log bytes of executions, stored once each and in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from easyq_chassis.errors import EasyQError
from easyq_store.domain.logs import Piece, Taken, fit
from easyq_store.domain.moves import LogSizes
from easyq_store.domain.records import Execution
from easyq_store.domain.states import Stream
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context

# More chunks than come late.
_MANY = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Appended:
    """How a piece was taken, and the stored end of its stream."""

    taken: Taken
    stored: int


async def append(ctx: Context, pieces: Sequence[Piece]) -> list[Appended]:
    """Stores pieces, in their order per stream; durable on return. Errors: UNAVAILABLE (the result isn't known)."""
    order: dict[str, list[int]] = {}
    for index, piece in enumerate(pieces):
        order.setdefault(piece.execution_id, []).append(index)
    plans = [_appending(ctx, [pieces[i] for i in indices]) for indices in order.values()]
    answers: dict[int, Appended] = {}
    for indices, result in zip(order.values(), await ctx.store.run_all(plans), strict=True):
        if isinstance(result, EasyQError):
            raise result
        answers.update(zip(indices, result, strict=True))
    ctx.news.tell(*order)
    return [answers[index] for index in range(len(pieces))]


def _appending(ctx: Context, pieces: Sequence[Piece]) -> Plan[list[Appended]]:
    async def plan(steps: Steps) -> list[Appended]:
        now = ctx.clock.now()
        execution = await steps.get_execution(pieces[0].execution_id)
        answers = [await _store(steps, execution, piece, at=now) for piece in pieces]
        if execution is not None and execution.ended:
            await complete(steps, execution)
        return answers

    return plan


async def _store(steps: Steps, execution: Execution | None, piece: Piece, *, at: int) -> Appended:
    end = await steps.log_end(piece.execution_id, piece.stream)
    taken, chunk = fit(piece, execution, end, at=at)
    if chunk is None:
        return Appended(taken=taken, stored=end)
    if await steps.insert_chunk(chunk):
        if execution is not None and execution.ended and not steps.atomic and await _is_deleted(steps, execution):
            return Appended(taken=Taken.STALE, stored=0)
        return Appended(taken=taken, stored=chunk.end)
    # Another sending of the same bytes was quicker; what it did not bring is found missing by the next answer.
    return Appended(taken=taken, stored=await steps.log_end(piece.execution_id, piece.stream))


async def _is_deleted(steps: Steps, execution: Execution) -> bool:
    """Whether an execution was deleted while a chunk of it was stored; that chunk goes too."""
    stored = await steps.get_execution(execution.execution_id)
    if stored is None or stored.logs_removed_at is not None:
        await steps.delete_chunks(execution.execution_id, _MANY)
        return True
    return False


async def store_pieces(
    steps: Steps, execution: Execution, pieces: Sequence[Piece], *, at: int, sizes: LogSizes | None = None
) -> tuple[int, int]:
    """Stores pieces that came with a finish; returns the stored ends (stdout, stderr).

    `sizes` are the final ones of an execution whose record does not have them yet.
    """
    bounded = execution
    if sizes is not None:
        bounded = replace(execution, stdout_size=sizes.stdout, stderr_size=sizes.stderr)
    for piece in pieces:
        await _store(steps, bounded, piece, at=at)
    return await _end(steps, execution, Stream.STDOUT), await _end(steps, execution, Stream.STDERR)


def covers(ends: tuple[int, int], stdout_size: int | None, stderr_size: int | None) -> bool:
    """Whether the stored ends reach the final sizes, as far as those are known."""
    if stdout_size is None or stderr_size is None:
        return False
    return ends[0] >= stdout_size and ends[1] >= stderr_size


async def complete(steps: Steps, execution: Execution) -> Execution | None:
    """Marks an ended execution's logs as complete, if they are; returns it as it stands."""
    if execution.logs_complete:
        return execution
    ends = await _end(steps, execution, Stream.STDOUT), await _end(steps, execution, Stream.STDERR)
    if not covers(ends, execution.stdout_size, execution.stderr_size):
        return execution
    return await steps.change_execution(
        execution.execution_id,
        lambda old: old if old.logs_complete else replace(old, logs_complete=True),
    )


async def _end(steps: Steps, execution: Execution, stream: Stream) -> int:
    return await steps.log_end(execution.execution_id, stream)
