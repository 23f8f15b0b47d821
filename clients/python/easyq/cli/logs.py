"""`easyq logs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

import click

from easyq.cli import completions, exits
from easyq.cli.frame import Server, fail, moment, named, with_server
from easyq.cli.getting import is_uuid
from easyq.cli.stdio import BROKEN_PIPE, OutputGone, StdOutput, say

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.cursor import Since
    from easyq.v1.log_service_pb2 import LogChunk, LogStream

_PATIENCE = 300.0


class Part(TypedDict):
    """Which part of the output, as `Client.logs` takes it."""

    tail: int | None
    since: Since | None
    timestamps: bool
    streams: tuple[LogStream.Name.ValueType, ...]


class Stamps:
    """Times before lines; each stream by itself, as each has a descriptor of its own."""

    def __init__(self) -> None:
        # The execution that has begun a line, by stream.
        self._begun: dict[int, str] = {}

    def put_before(self, chunk: LogChunk) -> LogChunk:
        """The chunk with the time of its bytes before each line that begins in it."""
        from easyq.cli.words import to_the_millisecond
        from easyq.v1.log_service_pb2 import LogChunk as Kind

        prefix = f"{to_the_millisecond(chunk.at)} ".encode()
        begun = self._begun.pop(chunk.stream, "")
        first = b"" if begun == chunk.execution_id else b"\n" + prefix if begun else prefix
        if not chunk.data.endswith(b"\n"):
            self._begun[chunk.stream] = chunk.execution_id
        lines = chunk.data[:-1].replace(b"\n", b"\n" + prefix) + chunk.data[-1:]
        return Kind(execution_id=chunk.execution_id, stream=chunk.stream, data=first + lines)


@click.command(short_help="Show the output of a job, or follow it.")
@click.argument("id_", metavar="ID", callback=named, shell_complete=completions.jobs)
@click.option("-f", "--follow", is_flag=True, help="Stay until it has ended, over further attempts too.")
@click.option("-n", "--tail", type=click.IntRange(0, 100_000), metavar="LINES", help="Only the last lines.")
@click.option(
    "--since", metavar="TIME", callback=moment, help="Only what was written since: 10m ago, or 2030-01-31T08:00:00Z."
)
@click.option("-t", "--timestamps", is_flag=True, help="Show before each line when it was written.")
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
    since: Since | None,
    timestamps: bool,
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
        part = Part(tail=tail, since=since, timestamps=timestamps, streams=streams)
        output, stamps = StdOutput(only_stderr=False), Stamps()
        try:
            for chunk in _chunks(client, id_, attempt=attempt, follow=follow, part=part):
                output.write(stamps.put_before(chunk) if timestamps else chunk)
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
    part: Part,
) -> Iterator[LogChunk]:
    from easyq.v1.log_service_pb2 import LogChunk as Kind

    job_id, execution_id = _target(client, id_, attempt)
    lost = False

    def on_break(error: Exception) -> None:
        nonlocal lost
        lost = True
        say(f"lost the connection, trying again: {error}")

    for event in client.logs(
        job_id, execution_id=execution_id, follow=follow, patience=_PATIENCE, on_break=on_break, **part
    ):
        if lost:
            say("connected again")
            lost = False
        if isinstance(event, Kind):
            yield event


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
