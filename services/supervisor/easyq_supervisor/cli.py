"""`easyq up` and `easyq down`, as commands. The only reader of flags, files and environment."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from easyq_supervisor.domain.hosts import MOST_GPUS, MOST_SLOTS
from easyq_supervisor.domain.options import (
    DEFAULT_DATA,
    ENGINES,
    LOG_FORMATS,
    LOG_LEVELS,
    MOST_METRICS_PORT,
    REPORTS,
    OptionError,
    Options,
)

if TYPE_CHECKING:
    from easyq_supervisor.adapters.config_file import ConfigFile

_BAD_USAGE = 2
_DOWN_PATIENCE = 120.0


@click.command(short_help="Run the whole system on this machine.")
@click.option("--data", metavar="DIR", help=f"Folder of everything that is kept.  [default: {DEFAULT_DATA}]")
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), help="Port of REST and the pages; 0: a free one.  [default: 10000]"
)
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Port of gRPC; 0: a free one.  [default: 10001]")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, MOST_METRICS_PORT),
    help="First of the ports of metrics and health: gateway, scheduler, store, dispatcher, each agent; 0: free ones.  "
    "[default: 10020 and the next, or free ones where those are taken]",
)
@click.option(
    "--docker-host",
    multiple=True,
    metavar="[POOL=]URL",
    help="A Docker Engine to run jobs on; repeat it for more, each gets an agent. [default: what the docker command "
    "uses]",
)
@click.option("--slots", type=click.IntRange(1, MOST_SLOTS), help="Containers at once, per agent.  [default: 4]")
@click.option(
    "--label",
    multiple=True,
    metavar="KEY=VALUE",
    help="A label of each agent, for jobs with `agentLabels`. Repeatable.",
)
@click.option(
    "--cpus", type=float, metavar="N", help="Processors for jobs that ask for some, per agent.  [default: its host's]"
)
@click.option(
    "--memory", metavar="SIZE", help="Memory for jobs that ask for some, such as 14g, per agent.  [default: its host's]"
)
@click.option(
    "--gpus", type=click.IntRange(0, MOST_GPUS), help="GPUs for jobs that ask for some, per agent.  [default: 0]"
)
@click.option(
    "--image-cache",
    metavar="SIZE",
    help="Room for images that EasyQ pulled, such as 20g, per agent.  [default: 0, all are kept]",
)
@click.option("--redis", metavar="URL", help="A Redis to use instead of the bundled one.")
@click.option("--mongo", metavar="URL", help="A MongoDB to use instead of SQLite.")
@click.option(
    "--pool",
    multiple=True,
    metavar="NAME=REGEX[:MAX]",
    help="A pool of agents for the tasks whose whole name REGEX matches (`gpu` is the task gpu alone, `gpu-.*` each "
    "that begins so), at most MAX containers at once. Its agents are those of --docker-host NAME=URL. Repeatable.",
)
@click.option(
    "--limit",
    multiple=True,
    metavar="REGEX=N",
    help="At most N containers at once of the tasks whose whole name REGEX matches; 0 holds them back. Repeatable.",
)
@click.option(
    "--weight",
    multiple=True,
    metavar="REGEX=N",
    help="A task whose whole name REGEX matches takes N jobs when it is its turn, others take 1. Repeatable.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Where no Docker Engine answers: `auto` starts one of EasyQ's own (root only; on Debian it is installed), "
    "`none` never does.  [default: auto]",
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    help="Least level that services log; left out, EASYQ_STORE_LOG_LEVEL and its like hold for one each.  "
    "[default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="How `easyq up` and its services log: `json` is one object a line, `console` lines for people, `auto` console "
    "where stderr is a terminal.  [default: auto]",
)
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    help="Where services send their traces, by OTLP over gRPC, such as http://127.0.0.1:4317.  [default: nowhere]",
)
@click.option(
    "--trace-ratio",
    type=float,
    metavar="SHARE",
    help="Share of the traces begun here that are recorded, from 0 to 1.  [default: 1]",
)
@click.option(
    "--trace-rate",
    type=float,
    metavar="NUMBER",
    help="Most traces that requests begin, and most that fires begin, that are recorded a second; 0: all.  "
    "[default: 100]",
)
@click.option("--grace", type=float, metavar="SECONDS", help="Most seconds for an orderly end.  [default: 15]")
@click.option(
    "--error-handler",
    multiple=True,
    metavar="NAME",
    help="Who is told of errors: `sentry`, or the name of an installed package's. Repeatable.  [default: sentry, with "
    "--sentry-dsn]",
)
@click.option(
    "--sentry-dsn",
    metavar="URL",
    help="Sentry's URL of a project (DSN); rather by the config file, since `ps` shows flags.",
)
@click.option(
    "--sentry-environment",
    metavar="NAME",
    help="What this farm is to who reads the reports.  [default: production]",
)
@click.option(
    "--report-failures",
    type=click.Choice(REPORTS),
    help="Failed executions that are told to error handlers, of jobs that don't say: the one with which a job fails "
    "(final), all, or none.  [default: none]",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with any of these settings, under the flags' names; flags win. It is read again when it changes: "
    "pools, limits, weights, [[default]] and [[retention]] hold at once, the rest from the next start on.",
)
def up(*, config: Path | None, **flags: Any) -> None:
    """Run the whole system on this machine: five services, a store, a Redis, and an agent for each Docker Engine.

    Prints `ready URL` on stdout once jobs are accepted and the example image can be run, or it was said which Docker
    Engine does not answer; everything else goes to stderr. SIGTERM or Ctrl-C ends it in order, a second one at once;
    SIGHUP has the config file read again, and starts agents again that were drained. Containers of jobs go on running
    and are found again by the next `easyq up`; `easyq down --stop-jobs` ends them, and recurring jobs that it paused go
    on.
    """
    from easyq_supervisor.adapters.config_file import ConfigFile

    file = ConfigFile(flags, config)
    try:
        options = file.options(file.read())
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    if options.error_handlers:
        from easyq_chassis.error_reports.handlers import unknown

        if problem := unknown(options.error_handlers):
            raise click.UsageError(f"error-handler: {problem}")
    sys.exit(_run(options, file))


@click.command(short_help="Stop the system that `easyq up` runs.")
@click.option("--data", metavar="DIR", default=DEFAULT_DATA, show_default=True, help="The folder that it runs on.")
@click.option(
    "--stop-jobs",
    is_flag=True,
    help="Stop every job first, for good; recurring ones are paused instead, and go on with the next `easyq up`. Then "
    "also EasyQ's own Docker Engine, if any.",
)
def down(*, data: str, stop_jobs: bool) -> None:
    """Stop the system that `easyq up` runs on a data folder. Containers of jobs go on running without --stop-jobs."""
    from easyq_supervisor.adapters.console import Console
    from easyq_supervisor.adapters.folder import DataFolder, Held
    from easyq_supervisor.app import own_engine
    from easyq_supervisor.down import DownError, stop_running_jobs, stop_system

    folder = DataFolder(Path(data).expanduser().absolute())
    try:
        pid = folder.holder()
    except OSError as error:
        _fail(f"{folder.path} can't be looked at: {error.strerror}")
    if pid is None:
        _say(f"no EasyQ runs on {folder.path}")
        if stop_jobs:
            _fail("jobs can only be stopped while it runs: easyq up, then easyq down --stop-jobs")
        return
    try:
        if stop_jobs:
            stop_running_jobs(folder, _say)
        stop_system(folder, pid, _DOWN_PATIENCE)
    except DownError as error:
        _fail(str(error))
    if stop_jobs:
        try:
            # So that nobody starts the engine meanwhile.
            folder.hold()
        except Held as held:
            _fail(f"stopped (pid {pid}), but {held}, which goes on with the Docker Engine if it is EasyQ's own")
        except OSError as error:
            _say(f"the data folder {folder.path} can't be used: {error.strerror}")
        try:
            asyncio.run(own_engine(folder.path, Console()).stop())
        finally:
            folder.release()
    _say(f"stopped (pid {pid})")


def _run(options: Options, file: ConfigFile) -> int:
    from easyq_supervisor.adapters.console import Console
    from easyq_supervisor.adapters.folder import DataFolder, Held
    from easyq_supervisor.app import up as run_up
    from easyq_supervisor.domain.space import space_warning
    from easyq_supervisor.errors import StartError

    console = Console(form=options.log_format)
    console.take_logs()
    folder = DataFolder(Path(options.data).expanduser().absolute())
    try:
        folder.hold()
        folder.probe()
    except Held as held:
        console.fail(f"{held}; `easyq down` stops it, --data takes another folder")
        return 1
    except OSError as error:
        console.fail(f"the data folder {folder.path} can't be used: {error.strerror}; --data takes another")
        return _BAD_USAGE
    try:
        if warning := space_warning(str(folder.path), folder.free()):
            console.say(warning, event="disk_nearly_full", level="warning")
        return asyncio.run(run_up(options, folder, console, file))
    except StartError as error:
        console.fail(str(error))
        return 1
    except OSError as error:
        console.fail(f"can't start: {error}")
        return 1
    finally:
        folder.release()


def _say(text: str) -> None:
    click.echo(f"easyq: {text}", err=True)


def _fail(text: str, status: int = 1) -> NoReturn:
    _say(text)
    sys.exit(status)
