"""The running system: starts everything, keeps it alive, ends it in order."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from easyq_chassis import stacks
from easyq_supervisor import example
from easyq_supervisor.adapters.child import BadSettings, Child
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.adapters.health import wait_serving
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


class System:
    """All processes of one `easyq up`."""

    def __init__(
        self,
        *,
        specs: Sequence[ProcessSpec],
        engine: OwnEngine | None,
        install_engine: bool,
        console: Console,
        grace: float,
        rest: str,
        grpc: str,
        docker_urls: Sequence[str],
        missing_told: bool,
        may_install: bool,
        reloader: Reloader,
        ready: Callable[[], None],
        go_on: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`rest` and `grpc` are the gateway's addresses; `ready` is called once, when a job would be accepted;
        `go_on` runs from then on.
        `missing_told`: the user knows already which of `docker_urls` do not answer."""
        self._children = [Child(spec, console) for spec in specs]
        self._engine = engine
        self._install_engine = install_engine
        self._console = console
        self._grace = grace
        self._rest = rest
        self._grpc = grpc
        self._docker_urls = docker_urls
        self._missing_told = missing_told
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
        lives = [child.start() for child in self._children]
        helpers = [asyncio.create_task(work) for work in self._helpers()]
        failed = await self._until_stop([*lives, *helpers])
        for task in helpers:
            task.cancel()
        await self._end()
        await asyncio.gather(*helpers, *lives, return_exceptions=True)
        return FORCED if self._forced.is_set() else int(failed)

    async def _until_stop(self, tasks: list[asyncio.Task[None]]) -> bool:
        """Waits for the wish to stop, or for a task that fails; whether one failed."""
        stop = asyncio.create_task(self._stop.wait())
        pending: set[asyncio.Task[Any]] = {stop, *tasks}
        while not self._stop.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for error in (task.exception() for task in done):
                if error is not None:
                    told = str(error) if isinstance(error, BadSettings) else f"a fault of easyq up: {error!r}"
                    self._console.say(told)
                    stop.cancel()
                    return True
        return False

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._console.say("killing everything")
            self._forced.set()
            for child in self._children:
                child.kill()
        else:
            self._console.say(f"{number.name}: stopping; containers of jobs go on (once more: kills everything)")
            self._stop.set()

    def _on_stacks(self, path: str, _text: str, _tasks: int, _threads: int) -> None:
        """SIGUSR2. The services have to be asked themselves."""
        self._console.say(f"the stacks of easyq up are in {path}")

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

    def _helpers(self) -> list[Coroutine[Any, Any, None]]:
        helpers: list[Coroutine[Any, Any, None]] = [self._welcome(), self._reloader.watch()]
        if self._engine is not None:
            helpers.append(self._keep_engine(self._engine))
        return helpers

    async def _welcome(self) -> None:
        """Says `ready`, and then what can be tried, once the image for it is there."""
        images = [
            asyncio.create_task(
                example.provide(url, may_install=self._may_install, is_told=self._missing_told, say=self._console.say)
            )
            for url in self._docker_urls
        ]
        going_on: list[asyncio.Task[None]] = []
        try:
            await wait_serving(self._grpc)
            self._ready()
            going_on.append(asyncio.create_task(self._go_on()))
            await asyncio.wait(images, return_when=asyncio.FIRST_COMPLETED)
            program = example.called_as(sys.argv[0], shutil.which("easyq"))
            curl, after = example.invitation(self._rest, self._grpc, program=program)
            self._console.say("a first job, to be pasted as it stands:")
            self._console.raw(curl)
            for line in after:
                self._console.say(line)
            await asyncio.gather(*images, *going_on)
        finally:
            for task in (*images, *going_on):
                task.cancel()

    async def _keep_engine(self, engine: OwnEngine) -> None:
        """Starts the engine, and starts it again when it has gone."""
        delay: float | None = None
        while True:
            began = time.monotonic()
            try:
                await self._start_engine(engine)
                await engine.wait_gone()
                self._console.say("EasyQ's own Docker Engine has ended; it is started again")
            except (EngineError, InstallError) as error:
                self._console.say(f"no Docker Engine: {error}")
            delay = next_delay(delay, lived=time.monotonic() - began)
            await asyncio.sleep(delay)

    async def _start_engine(self, engine: OwnEngine) -> None:
        if self._install_engine:
            await install("docker.io", self._console.say)
            self._install_engine = False
        await engine.ensure()
