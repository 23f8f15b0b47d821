"""`easyq logs`."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from easyq.cli import completions, exits
from easyq.cli.frame import Server, fail, text_only, with_server
from easyq.cli.getting import is_uuid
from easyq.cli.stdio import BROKEN_PIPE, OutputGone, StdOutput, say

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream

_PATIENCE = 300.0
#: What `--tail` holds of an output at most; longer lines are cut at their beginning.
_MOST_HELD = 16 * 1024 * 1024


@click.command(short_help="Show the output of a job, or follow it.")
@click.argument("id_", metavar="ID", callback=text_only, shell_complete=completions.jobs)
@click.option("-f", "--follow", is_flag=True, help="Stay until it has ended, over further attempts too.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines of each attempt.")
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="Only the Nth attempt; not with --follow of a job."
)
@click.option("--stdout", "only_stdout", is_flag=True, help="Only stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only stderr.")
@with_server
def logs(
    *,
    server: Server,
    id_: str,
    follow: bool,
    tail: int | None,
    attempt: int | None,
    only_stdout: bool,
    only_stderr: bool,
) -> None:
    """Show the output of a job, attempt after attempt, or of one execution: byte for byte, stdout to stdout and stderr
    to stderr. Ctrl-C only ends the looking."""
    with server.calling() as client:
        from easyq.v1.log_service_pb2 import LogStream

        if only_stdout and only_stderr:
            fail("--stdout and --stderr exclude each other; without them both are shown", exits.USAGE)
        streams: tuple[LogStream.Name.ValueType, ...] = ()
        if only_stdout or only_stderr:
            streams = (LogStream.STDOUT if only_stdout else LogStream.STDERR,)
        output = StdOutput(only_stderr=False)
        try:
            for chunk in _chunks(client, id_, attempt=attempt, follow=follow, tail=tail, streams=streams):
                output.write(chunk)
        except OutputGone as gone:
            if gone.exit_code != BROKEN_PIPE:
                say(str(gone))
            sys.exit(gone.exit_code)


def _chunks(
    client: Client,
    id_: str,
    *,
    attempt: int | None,
    follow: bool,
    tail: int | None,
    streams: tuple[LogStream.Name.ValueType, ...],
) -> Iterator[LogChunk]:
    from easyq.v1.log_service_pb2 import LogChunk as Kind

    job_id, execution_id = _target(client, id_, attempt)
    passed: dict[tuple[str, int], int] = defaultdict(int)
    if tail is not None:
        events = client.logs(job_id, execution_id=execution_id, streams=streams)
        yield from last_lines(_counted(events, passed), tail)
        if not follow:
            return
    lost = False

    def on_break(error: Exception) -> None:
        nonlocal lost
        lost = True
        say(f"lost the connection, trying again: {error}")

    for event in client.logs(
        job_id, execution_id=execution_id, streams=streams, follow=follow, patience=_PATIENCE, on_break=on_break
    ):
        if lost:
            say("connected again")
            lost = False
        if not isinstance(event, Kind):
            continue
        skip = passed[event.execution_id, event.stream] - event.offset
        if skip < len(event.data):
            yield _without(event, max(skip, 0))


def _target(client: Client, id_: str, attempt: int | None) -> tuple[str, str]:
    """The job, or the execution, whose output it is."""
    from easyq.errors import NotFound

    try:
        job = client.get(id_)
    except NotFound:
        if not is_uuid(id_):
            raise
        return "", client.execution(id_).execution_id
    if attempt is None:
        return id_, ""
    found = next((one for one in job.executions if one.attempt == attempt), None)
    if found is None and job.execution_count > len(job.executions):
        found = next((one for one in client.executions(job_id=id_) if one.attempt == attempt), None)
    if found is None:
        fail(f"{id_} has no attempt {attempt}; it has had {job.execution_count}", exits.NOT_FOUND)
    return "", found.execution_id


def _counted(events: Iterable[LogChunk | LogEnd], passed: dict[tuple[str, int], int]) -> Iterator[LogChunk]:
    from easyq.v1.log_service_pb2 import LogChunk as Kind

    for event in events:
        if isinstance(event, Kind):
            passed[event.execution_id, event.stream] = event.offset + len(event.data)
            yield event


def last_lines(chunks: Iterable[LogChunk], count: int) -> Iterator[LogChunk]:
    """The last `count` lines of each stream of each execution. Holds no more than these, and 16 MiB of them at most."""
    order: list[tuple[str, int]] = []
    held: dict[tuple[str, int], deque[LogChunk]] = {}
    for chunk in chunks:
        key = (chunk.execution_id, chunk.stream)
        if order and order[-1][0] != chunk.execution_id:
            yield from _released(order, held)
        if key not in held:
            order.append(key)
            held[key] = deque()
        held[key].append(chunk)
        _trim(held[key], count)
    yield from _released(order, held)


def _released(order: list[tuple[str, int]], held: dict[tuple[str, int], deque[LogChunk]]) -> Iterator[LogChunk]:
    for key in order:
        yield from held.pop(key)
    order.clear()


def _trim(held: deque[LogChunk], count: int) -> None:
    """Drops what stands before the last `count` lines; a line feed at the very end begins no line."""
    feeds = sum(chunk.data.count(b"\n") for chunk in held)
    excess = feeds - count + (0 if held[-1].data.endswith(b"\n") else 1)
    while held and excess > 0:
        first = held[0]
        inside = first.data.count(b"\n")
        if inside < excess or count == 0:
            held.popleft()
            excess -= inside
            continue
        position = -1
        for _ in range(excess):
            position = first.data.index(b"\n", position + 1)
        held[0] = _without(first, position + 1)
        if not held[0].data:
            held.popleft()
        break
    size = sum(len(chunk.data) for chunk in held)
    while size > _MOST_HELD:
        size -= len(held.popleft().data)


def _without(chunk: LogChunk, skip: int) -> LogChunk:
    from easyq.v1.log_service_pb2 import LogChunk as Kind

    if not skip:
        return chunk
    return Kind(
        execution_id=chunk.execution_id, stream=chunk.stream, offset=chunk.offset + skip, data=chunk.data[skip:]
    )
