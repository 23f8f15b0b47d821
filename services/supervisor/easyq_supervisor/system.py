"""The running system: starts everything, keeps it alive, ends it in order."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyq_chassis import stacks
from easyq_supervisor import example
from easyq_supervisor.adapters.child import BadSettings, Child
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.adapters.health import wait_agents, wait_serving
from easyq_supervisor.adapters.own_engine import EngineError, OwnEngine
from easyq_supervisor.adapters.packages import InstallError, install
from easyq_supervisor.adapters.terminal import Terminal
from easyq_supervisor.domain.backoff import next_delay
from easyq_supervisor.domain.plan import STOP_WAVES, ProcessSpec
from easyq_supervisor.reload import Reloader

FORCED = 130

# Within which a terminal that hangs up has surely gone.
_HANG_UP = 0.1

# What every wave that is still to be ended is left of the grace.
_LEAST_PATIENCE = 0.5


# Seconds that `ready` waits for the example image once jobs are accepted: an installation may take minutes.
_IMAGE_PATIENCE = 45.0
# The same for agents to say how their engines are, as the first look at the status then tells; on a small or busy
# machine they take some seconds to start.
_AGENTS_PATIENCE = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """What jobs run on: the agents' processes and names, EasyQ's own Docker Engine where there is to be one, and by the
    address of each engine what to say where it does not answer."""

    specs: Sequence[ProcessSpec]
    agents: Sequence[str]
    engine: OwnEngine | None
    install_engine: bool
    missing: Mapping[str, str]


class System:
    """All processes of one `easyq up`."""

    def __init__(
        self,
        *,
        specs: Sequence[ProcessSpec],
        hosts: Callable[[], Coroutine[Any, Any, Hosts]],
        console: Console,
        grace: float,
        rest: str,
        grpc: str,
        may_install: bool,
        reloader: Reloader,
        ready: Callable[[], None],
        go_on: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`specs` are the services that need no Docker Engine: they start before `hosts` says what there is.

        `rest` and `grpc` are the gateway's addresses; `go_on` runs once jobs are accepted; `ready` is called once, when
        the example image is there as well, or was said to be missing.
        """
        self._children = [Child(spec, console) for spec in specs]
        self._lives: list[asyncio.Task[None]] = []
        self._find_hosts = hosts
        self._install_engine = False
        # Its start has failed once.
        self._engine_failed = asyncio.Event()
        self._console = console
        self._grace = grace
        self._rest = rest
        self._grpc = grpc
        self._may_install = may_install
        self._reloader = reloader
        self._ready = ready
        self._go_on = go_on
        self._terminal = Terminal()
        self._stop = asyncio.Event()
        self._forced = asyncio.Event()

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT (0), a second one of them (130), or until a service can't ever start (1)."""
        loop = asyncio.get_running_loop()
        # Under nohup the end of the terminal is ignored, and stays so.
        outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        stacks.on_signal("up", self._on_stacks, loop)
        loop.add_signal_handler(signal.SIGHUP, loop.call_later, _HANG_UP, self._on_hang_up, outlives_terminal)
        self._lives += [child.start() for child in self._children]
        hosts = asyncio.create_task(self._find_hosts())
        work = (self._run_hosts(hosts), self._welcome(hosts), self._reloader.watch())
        helpers: list[asyncio.Task[Any]] = [hosts, *(asyncio.create_task(one) for one in work)]
        failed = await self._until_stop([*self._lives, *helpers])
        for task in helpers:
            task.cancel()
        await self._end()
        await asyncio.gather(*helpers, *self._lives, return_exceptions=True)
        return FORCED if self._forced.is_set() else int(failed)

    async def _until_stop(self, tasks: list[asyncio.Task[Any]]) -> bool:
        """Waits for the wish to stop, or for a task that fails; whether one failed."""
        stop = asyncio.create_task(self._stop.wait())
        pending: set[asyncio.Task[Any]] = {stop, *tasks}
        while not self._stop.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for error in (task.exception() for task in done):
                if error is not None:
                    told = str(error) if isinstance(error, BadSettings) else f"a fault of easyq up: {error!r}"
                    self._console.say(told, event="cannot_start", level="error")
                    stop.cancel()
                    return True
        return False

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._console.say("killing everything", event="killing", level="warning")
            self._forced.set()
            for child in self._children:
                child.kill()
        else:
            told = f"{number.name}: stopping; containers of jobs go on (once more: kills everything)"
            self._console.say(told, event="stopping")
            self._stop.set()

    def _on_stacks(self, path: str, _text: str, _tasks: int, _threads: int) -> None:
        """SIGUSR2. The services have to be asked themselves."""
        self._console.say(f"the stacks of easyq up are in {path}", event="stacks", level="warning")

    def _on_hang_up(self, outlives_terminal: bool) -> None:
        """SIGHUP: the end of the terminal, which ends this too, or the wish that the config be read again."""
        if self._stop.is_set():
            return
        if self._terminal.gone and not outlives_terminal:
            self._on_signal(signal.SIGHUP)
            return
        self._reloader.read_again()
        for child in self._children:
            child.start_again()

    async def _end(self) -> None:
        """Ends wave after wave of STOP_WAVES, all within the grace."""
        deadline = time.monotonic() + self._grace
        for index, wave in enumerate(STOP_WAVES):
            reserve = _LEAST_PATIENCE * (len(STOP_WAVES) - index - 1)
            patience = max(_LEAST_PATIENCE, deadline - time.monotonic() - reserve)
            if self._forced.is_set():
                patience = 0.0
            await asyncio.gather(*(child.stop(patience) for child in self._children if child.spec.kind in wave))

    async def _run_hosts(self, found: asyncio.Task[Hosts]) -> None:
        """Starts the agents once it is known for which engines, and ends as they do."""
        hosts = await found
        self._install_engine = hosts.install_engine
        agents = [Child(spec, self._console) for spec in hosts.specs]
        lives = [child.start() for child in agents]
        self._children += agents
        self._lives += lives
        keeping = [asyncio.create_task(self._keep_engine(hosts.engine))] if hosts.engine else []
        try:
            # Agents end in their own wave, and not with this.
            done, _ = await asyncio.wait([*lives, *keeping], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _welcome(self, found: asyncio.Task[Hosts]) -> None:
        """Says `ready` once the image of a first job is there, and then what can be tried."""
        hosts = await found
        settled = {url: asyncio.Event() for url in hosts.missing}
        images = [
            asyncio.create_task(
                example.provide(
                    url,
                    may_install=self._may_install,
                    missing=words,
                    is_starting=hosts.engine is not None,
                    settled=settled[url],
                    say=self._console.say,
                )
            )
            for url, words in hosts.missing.items()
        ]
        others: list[asyncio.Task[None]] = []
        try:
            await wait_serving(self._grpc)
            others.append(asyncio.create_task(self._go_on()))
            await asyncio.gather(
                self._until_settled(list(settled.values())),
                wait_agents(self._grpc, hosts.agents, _AGENTS_PATIENCE),
            )
            self._ready()
            if self._console.form == "json":
                self._console.say(f"ready {self._rest}", event="ready")
            await asyncio.wait(images, return_when=asyncio.FIRST_COMPLETED)
            program = example.called_as(sys.argv[0], shutil.which("easyq"))
            curl, after = example.invitation(self._rest, self._grpc, program=program)
            self._console.offer("a first job, to be pasted as it stands:", curl)
            for line in after:
                self._console.say(line)
            await asyncio.gather(*images, *others)
        finally:
            for task in (*images, *others):
                task.cancel()

    async def _until_settled(self, images: Sequence[asyncio.Event]) -> None:
        """Returns when it is known of each image whether it is there, or when that takes too long, which is told."""
        if all(image.is_set() for image in images):
            return
        self._console.say(f"jobs are accepted at {self._rest}; ready once the example image is there")
        waits = [asyncio.create_task(image.wait()) for image in images]
        failed = asyncio.create_task(self._engine_failed.wait())
        everything = asyncio.gather(*waits)
        try:
            awaited: set[asyncio.Future[Any]] = {everything, failed}
            done, _ = await asyncio.wait(awaited, timeout=_IMAGE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._console.say(f"the example image {example.IMAGE} is not there yet; ready without it")
        finally:
            failed.cancel()
            everything.cancel()

    async def _keep_engine(self, engine: OwnEngine) -> None:
        """Starts the engine, and starts it again when it has gone."""
        delay: float | None = None
        while True:
            began = time.monotonic()
            try:
                await self._start_engine(engine)
                await engine.wait_gone()
                told = "EasyQ's own Docker Engine has ended; it is started again"
                self._console.say(told, event="engine_ended", level="warning")
            except (EngineError, InstallError) as error:
                self._console.say(f"no Docker Engine: {error}", event="engine_away", level="warning")
                self._engine_failed.set()
            delay = next_delay(delay, lived=time.monotonic() - began)
            await asyncio.sleep(delay)

    async def _start_engine(self, engine: OwnEngine) -> None:
        if self._install_engine:
            await install("docker.io", self._console.say)
            self._install_engine = False
        await engine.ensure()
