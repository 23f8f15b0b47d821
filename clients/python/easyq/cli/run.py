"""`easyq run`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.errors import EasyQError
    from easyq.v1.log_service_pb2 import LogChunk
    from easyq.v1.spec_pb2 import JobSpec

OWN_FAILURE = 125
_NO_OPTION = (click.NoSuchOption, click.BadOptionUsage)
# As a shell shows a program that wrote into a closed pipe.
_BROKEN_PIPE = 141


class _UsageError(click.UsageError):
    exit_code = OWN_FAILURE


class RunCommand(click.Command):
    """Usage errors end with 125, as `docker run`'s do, so that they are told from the container's own 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            hint = " Options of the container's command come after `--`." if isinstance(error, _NO_OPTION) else ""
            raise _UsageError(error.format_message() + hint, ctx) from error


def _duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    from easyq.durations import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from error


@click.command(cls=RunCommand, short_help="Run a container and follow its output, as `docker run` does.")
@click.argument("image")
@click.argument("command", metavar="[--] [COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--task", default="run", show_default=True, help="Task to enqueue under.")
@click.option("-e", "--env", "env", multiple=True, metavar="K=V", help="Set a variable; K alone takes it from here.")
@click.option(
    "--env-file",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read variables from a file.",
)
@click.option("--timeout", metavar="DURATION", callback=_duration, help="Longest run time: 90s, 2h30m, or seconds.")
@click.option("--retries", type=click.IntRange(0, 1000), help="Further attempts after a failure.  [default: 0]")
@click.option("--entrypoint", help="Replace the image's ENTRYPOINT (one word, as for docker).")
@click.option("-w", "--workdir", default="", help="Working directory in the container.")
@click.option("-u", "--user", default="", help="User: name or uid, optionally :group.")
@click.option("--network", default="", help="Network to join.")
@click.option(
    "--server",
    envvar="EASYQ_SERVER",
    default="127.0.0.1:10001",
    show_default=True,
    show_envvar=True,
    help="EasyQ's gRPC address.",
)
@click.option("-d", "--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; the output goes to stderr.")
def run(
    *,
    image: str,
    command: tuple[str, ...],
    task: str,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    timeout: int | None,
    retries: int | None,
    entrypoint: str | None,
    workdir: str,
    user: str,
    network: str,
    server: str,
    detach: bool,
    as_json: bool,
) -> None:
    """Run a container through EasyQ and follow its output: stdout to stdout, stderr to stderr, byte for byte.

    Exits with the container's exit code. 124: it ran longer than --timeout. 125: EasyQ itself failed, or the container
    never ran. 130 or 143: it was stopped. Ctrl-C stops the job; a second one leaves at once.

    With --json one object is printed at the end: taskId, jobId, executionId, state, exitCode, error, attempts,
    stdoutBytes, stderrBytes, stdoutTruncated, stderrTruncated, startedAt, finishedAt. With --detach as well it is the
    answer to the enqueue.
    """
    # gRPC's own lines on stderr would be taken for the container's.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from easyq.cli.env import EnvError, collect
    from easyq.client import Client
    from easyq.errors import EasyQError
    from easyq.spec import job_spec

    if entrypoint == "":
        _fail("--entrypoint must not be empty")
    try:
        files = [(str(path), path.read_text(encoding="utf-8")) for path in env_file]
        envs = collect(files, env, os.environ)
    except (EnvError, OSError, UnicodeDecodeError) as error:
        _fail(str(error))
    spec = job_spec(
        image,
        command,
        entrypoint=[entrypoint] if entrypoint else [],
        envs=envs,
        retries=retries,
        workdir=workdir,
        user=user,
        network=network,
    )
    if timeout is not None:
        spec.timeout.FromMilliseconds(timeout)
    with Client(server) as client:
        try:
            code = _detach(client, spec, task, as_json) if detach else _follow(client, spec, task, as_json)
        except EasyQError as error:
            _fail(_sentence(error))
    sys.exit(code)


def _detach(client: Client, spec: JobSpec, task: str, as_json: bool) -> int:
    from easyq.cli.outcome import submitted_json

    answer = client.submit(spec, task=task)
    click.echo(json.dumps(submitted_json(answer)) if as_json else answer.job_id)
    return 0


def _follow(client: Client, spec: JobSpec, task: str, as_json: bool) -> int:
    from easyq.cli.outcome import exit_code, remarks, result_json
    from easyq.cli.session import OutputGone, RunSession
    from easyq.errors import EasyQError

    session = RunSession(
        client=client,
        submit=lambda: client.submit(spec, task=task),
        output=StdOutput(only_stderr=as_json),
        say=_say,
        notice_after=(0.5, 2.0, 5.0, 15.0) if sys.stderr.isatty() else (2.0, 5.0, 15.0),
    )
    try:
        result = session.run()
    except OutputGone:
        _say(f"nobody reads the output any more; job {session.job_id} goes on")
        _drop_stdout()
        return _BROKEN_PIPE
    except EasyQError as error:
        if not session.job_id:
            raise
        _fail(f"{_sentence(error)} (job {session.job_id} may still run)")
    for line in remarks(result):
        _say(line)
    if as_json:
        click.echo(json.dumps(result_json(result)))
    return exit_code(result, session.signalled)


class StdOutput:
    """This process's own stdout and stderr."""

    def __init__(self, *, only_stderr: bool) -> None:
        self._only_stderr = only_stderr

    def write(self, chunk: LogChunk) -> None:
        from easyq.v1.log_service_pb2 import LogStream

        to_stderr = self._only_stderr or chunk.stream == LogStream.STDERR
        target: Any = sys.stderr if to_stderr else sys.stdout
        target.buffer.write(chunk.data)
        target.buffer.flush()


def _drop_stdout() -> None:
    """Leads stdout nowhere, since the interpreter flushes it once more at its end, and would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _sentence(error: EasyQError) -> str:
    """An error in one line, with its fields, and with what to do where nothing answers."""
    told = [f"{problem.field}: {problem.message}" for problem in error.fields]
    fields = "; ".join(one for one in told if one not in error.message)
    text = f"{error.message} ({fields})" if fields else error.message
    if error.code == "UNAVAILABLE" and not error.reason:
        text += " (`easyq up` starts an EasyQ on this machine)"
    return " ".join(text.split())


def _say(text: str) -> None:
    click.echo(f"easyq: {text}", err=True)


def _fail(text: str) -> NoReturn:
    _say(text)
    sys.exit(OWN_FAILURE)
