"""`easyq run`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from easyq.cli import interrupts
from easyq.cli.contexts import ContextError
from easyq.cli.env import EnvError, collect, is_text
from easyq.cli.frame import Server, told, with_server
from easyq.cli.sentences import sentence
from easyq.cli.stdio import OWN_FAILURE, OutputGone, StdOutput, is_terminal, print_line, say

if TYPE_CHECKING:
    from easyq.client import Client
    from easyq.errors import EasyQError
    from easyq.v1.spec_pb2 import JobSpec

_NO_OPTION = (click.NoSuchOption, click.BadOptionUsage)


class _UsageError(click.UsageError):
    exit_code = OWN_FAILURE


class RunCommand(click.Command):
    """Usage errors end with 125, as `docker run`'s do, so that they are told from the container's own 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
            self._check_text(ctx)
            return rest
        except click.UsageError as error:
            hint = " Options of the container's command come after `--`." if isinstance(error, _NO_OPTION) else ""
            raise _UsageError(error.format_message() + hint, ctx) from error

    def _check_text(self, ctx: click.Context) -> None:
        """Whatever goes to the server is text, unlike a shell's words. Names of files are left as they are."""
        for parameter in self.get_params(ctx):
            value = ctx.params.get(parameter.name or "")
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, str) and not is_text(one):
                    # Not the value itself where it may be a secret.
                    shown = f"{one.partition('=')[0]!r}" if parameter.name == "env" else f"{one!r}"
                    raise click.BadParameter(f"{shown} is not valid UTF-8.", ctx, parameter)


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
@click.option("-d", "--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; the output goes to stderr.")
@with_server
def run(
    *,
    server: Server,
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
    detach: bool,
    as_json: bool,
) -> None:
    """Run a container through EasyQ and follow its output: stdout to stdout, stderr to stderr, byte for byte.

    Exits with the container's exit code. 124: it ran longer than --timeout. 125: EasyQ itself failed, or the container
    never ran. 126: its program can't be executed. 127: there is no such program. 130 or 143: it was stopped. Ctrl-C (or
    SIGTERM) stops the job; a second one leaves at once.

    As with docker run, the job outlives this command, which then tells its id on stderr: where the terminal is closed
    (SIGHUP: 129; nohup prevents it), where nobody reads the output any more (`| head -1`: 141), and where the output
    can't be written (a full disk, a closed stdout: 125).

    With --json one object is printed at the end: taskId, jobId, executionId, state, exitCode, error, attempts,
    stdoutBytes, stderrBytes, stdoutTruncated, stderrTruncated, startedAt, finishedAt. With --detach as well it is the
    answer to the enqueue.
    """
    # gRPC's own lines on stderr would be taken for the container's.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from easyq.client import Client
    from easyq.errors import EasyQError
    from easyq.spec import job_spec

    if entrypoint == "":
        _fail("--entrypoint must not be empty")
    try:
        envs = collect([(str(path), _read(path)) for path in env_file], env, os.environ)
    except EnvError as error:
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
    try:
        address = server.find().server
    except ContextError as error:
        _fail(str(error))
    with Client(address) as client:
        try:
            code = _detach(client, spec, task, as_json) if detach else _follow(client, spec, task, as_json)
        except EasyQError as error:
            _fail(told(error, address) + _doubt(error, task))
    sys.exit(code)


def _doubt(error: EasyQError, task: str) -> str:
    """What is to be said of a job whose enqueue has no answer. Without a reason EasyQ itself was not reached."""
    if error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and error.reason and error.reason != "OVERLOADED":
        return f"; whether the job was enqueued is not known: easyq ps -a --task {task}"
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"{path}: {error.strerror}")


def _detach(client: Client, spec: JobSpec, task: str, as_json: bool) -> int:
    from easyq.cli.outcome import submitted_json

    with interrupts.leaving_with(lambda: say("left before an answer came; the job may have been accepted")):
        answer = client.submit(spec, task=task)
    try:
        print_line(json.dumps(submitted_json(answer)) if as_json else answer.job_id)
    except OutputGone as gone:
        say(f"{gone}; job {answer.job_id} goes on")
        return gone.exit_code
    return 0


def _follow(client: Client, spec: JobSpec, task: str, as_json: bool) -> int:
    from easyq.cli.outcome import exit_code, remarks, result_json
    from easyq.cli.session import RunSession
    from easyq.errors import EasyQError

    session = RunSession(
        client=client,
        submit=lambda: client.submit(spec, task=task),
        output=StdOutput(only_stderr=as_json),
        say=say,
        notice_after=(0.5, 2.0, 5.0, 15.0) if is_terminal() else (2.0, 5.0, 15.0),
    )
    try:
        result = session.run()
    except OutputGone as gone:
        fate = "goes on" if session.signalled is None else "is being stopped"
        say(f"{gone}; job {session.job_id} {fate}")
        return gone.exit_code
    except EasyQError as error:
        if not session.job_id:
            if session.signalled is None:
                raise
            say(sentence(error))
            return 128 + session.signalled
        _fail(f"{sentence(error)} (job {session.job_id} may still run)")
    for line in remarks(result):
        say(line)
    if as_json:
        try:
            print_line(json.dumps(result_json(result)))
        except OutputGone as gone:
            say(f"{gone}; job {session.job_id} has ended")
            return gone.exit_code
    return exit_code(result, session.signalled)


def _fail(text: str) -> NoReturn:
    say(text)
    sys.exit(OWN_FAILURE)
