"""Builds the adapters and runs the runner on them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import uuid

import structlog

from easyq_chassis.channel import open_channel
from easyq_chassis.errors import EasyQError, FailedPrecondition
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.ops.ops import Ops
from easyq_chassis.ops.readiness import Readiness
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.tracer import open_tracer
from easyq_runner.adapters.claims import StoreClaims
from easyq_runner.adapters.clock import BootClock
from easyq_runner.adapters.data_folder import DataFolder
from easyq_runner.adapters.docker_engine import DockerEngine
from easyq_runner.adapters.docker_http import DockerHttp, TlsFiles
from easyq_runner.adapters.image_file import FileImageNotes
from easyq_runner.adapters.journal_file import FileJournal, JournalDamaged
from easyq_runner.adapters.link import GrpcLink
from easyq_runner.adapters.local_disks import LocalDisks
from easyq_runner.adapters.log_sink import GrpcLogSink
from easyq_runner.adapters.metrics import watch_agent
from easyq_runner.adapters.past_lives import tell_killed, watch_restarts
from easyq_runner.adapters.registry_auth import RegistryCredentials
from easyq_runner.adapters.registry_client import RegistryClient
from easyq_runner.adapters.watch_pipe import Teller, ToldLeaseNotes
from easyq_runner.assembly import Assembly, Ports
from easyq_runner.config import RunnerSettings, find_docker
from easyq_runner.domain.identity import Identity, choose
from easyq_runner.domain.lives import PastLives
from easyq_runner.domain.watch import Ward
from easyq_runner.errors import EngineError
from easyq_runner.ports import EngineInfo
from easyq_runner.usecases.waiting import first_of

# Seconds that a start waits for the engine to say who it is, and for its containers to be looked at. One that refuses
# may be starting; the farm is to know soon all the same what is wrong, and another hello follows.
_ENGINE_PATIENCE = 3.0
_REFUSED_PATIENCE = 1.0
_SURVEY_PATIENCE = 5.0
# The same until another agent on the data folder is believed to live.
_LOCK_PATIENCE = 2.0
_ASK_AGAIN = 0.25
# An agent shares its host with programs that may take all of its memory: spans of one that is killed are lost. It has
# few of them, so that small batches cost little.
_SPANS_WITHIN_MS = 500.0


class App:
    """One agent. Raises EasyQError, OSError, ValueError or JournalDamaged where the settings can't work."""

    def __init__(self, settings: RunnerSettings, watchdog: Teller, lives: PastLives) -> None:
        self._settings = settings
        self._watchdog = watchdog
        self._lives = lives
        self._log = get_logger()
        self._folder = DataFolder(settings.data.expanduser().absolute())
        address = find_docker(settings)
        tls = TlsFiles(ca=address.tls[0], cert=address.tls[1], key=address.tls[2]) if address.tls else None
        self._engine_url, self._engine_tls = address.url, address.tls
        self._credentials = RegistryCredentials(settings.credentials(), config=settings.docker_config)
        self._engine = DockerEngine(DockerHttp(address.url, tls=tls), self._credentials)
        self._journal = FileJournal(self._folder.journal)
        self._store_channel = open_channel(settings.store)
        self._sink = GrpcLogSink(self._store_channel)
        self._link = GrpcLink()
        self._server = GrpcServer(settings.listen) if settings.listen else None
        self._readiness = self._server.readiness if self._server else Readiness()
        self._tracer = open_tracer("runner", settings, within_ms=_SPANS_WITHIN_MS)

    async def start(self) -> None:
        """Finds its containers again, and says hello."""
        await self._lock_folder()
        known = self._folder.read_identity()
        tell_killed(self._lives, known.agent_id if known else "")
        if known is not None:
            # Before anything else can fail: its containers may run.
            self._tell_watchdog(known)
        info = await self._ask_engine()
        ports = Ports(
            engine=self._engine,
            engine_url=self._engine_url,
            journal=self._journal,
            notes=ToldLeaseNotes(self._folder.lease, self._watchdog),
            link=self._link,
            sink=self._sink,
            clock=BootClock(),
            registries=RegistryClient(self._credentials.login),
            disks=LocalDisks(self._folder.path, engine_is_here=self._engine_url.startswith("unix://")),
            images=FileImageNotes(self._folder.images),
            claims=StoreClaims(self._store_channel),
        )
        identity = self._choose_identity(info)
        self._tell_watchdog(identity)
        self._ops = Ops(self._settings, "runner", self._readiness, instance=identity.agent_id)
        await self._ops.start()
        self._assembly = Assembly(
            self._settings,
            ports,
            identity,
            on_identity=self._folder.write_identity,
            tracer=self._tracer,
            operations=self._ops.address,
        )
        self._unwatch = (
            watch_agent(identity.agent_id, self._settings.slots, self._assembly),
            watch_restarts(identity.agent_id, self._lives, REGISTRY),
        )
        await self._assembly.start(survey_patience=_SURVEY_PATIENCE if info else 0.0)
        if self._server is not None:
            await self._server.start()
        self._serving_task = asyncio.create_task(self._tell_serving())

    async def until_over(self) -> None:
        """Returns when the agent can't go on, or is drained."""
        await first_of(self._assembly.failed.wait(), self._assembly.drained.wait())

    @property
    def drained(self) -> bool:
        """Whether an operator wanted it to end, and it is empty."""
        return self._assembly.drained.is_set()

    async def stop(self) -> None:
        """Parks the session; containers stay for the next start."""
        await self._assembly.stop(self._settings.shutdown_grace)
        await self._sink.close()
        await asyncio.gather(self._link.close(), self._store_channel.close(), self._engine.close())
        await self._journal.close()
        self._serving_task.cancel()
        for end in self._unwatch:
            end()
        if self._server is not None:
            await self._server.stop(0)
        await asyncio.gather(self._tracer.close(), self._ops.stop())
        self._folder.unlock()

    async def _lock_folder(self) -> None:
        """Waits for an agent that has been killed a moment ago. Raises FailedPrecondition if another one runs."""
        until = asyncio.get_running_loop().time() + _LOCK_PATIENCE
        while True:
            try:
                self._folder.lock(os.getppid())
                return
            except FailedPrecondition:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(_ASK_AGAIN)

    def _tell_watchdog(self, identity: Identity) -> None:
        form = self._settings.log_format
        self._watchdog.tell(
            Ward(
                farm=self._settings.farm,
                agent_id=identity.agent_id,
                engine=self._engine_url,
                tls=self._engine_tls,
                lease=str(self._folder.lease),
                console=form == "console" or (form == "auto" and sys.stderr.isatty()),
            )
        )

    def _choose_identity(self, info: EngineInfo | None) -> Identity:
        choice = choose(
            self._folder.read_identity(),
            configured=self._settings.agent_id,
            daemon_id=info.daemon_id if info else "",
            fresh=_fresh_name(),
        )
        if choice.set_journal_aside:
            self._log.warning("engine_or_name_changed", agent=choice.identity.agent_id)
            self._folder.set_journal_aside()
        self._folder.write_identity(choice.identity)
        # All that is begun from here on is this agent's.
        structlog.contextvars.bind_contextvars(agent=choice.identity.agent_id)
        self._log.info("agent", agent=choice.identity.agent_id, engine=self._engine_url, reached=info is not None)
        return choice.identity

    async def _ask_engine(self) -> EngineInfo | None:
        refused_until = asyncio.get_running_loop().time() + _REFUSED_PATIENCE
        try:
            async with asyncio.timeout(_ENGINE_PATIENCE):
                while True:
                    try:
                        return await self._engine.info()
                    except EngineError:
                        if asyncio.get_running_loop().time() > refused_until:
                            break
                    await asyncio.sleep(_ASK_AGAIN)
        except TimeoutError:
            pass
        # What is wrong is told by who watches it from now on.
        return None

    async def _tell_serving(self) -> None:
        while True:
            ready, why = self._assembly.healthy, self._assembly.problem
            if self._server is None:
                self._readiness.set(ready, why)
            else:
                await self._server.set_serving(ready, why)
            await self._assembly.until_health_may_have_changed()


async def serve(settings: RunnerSettings, watchdog: Teller, lives: PastLives, stop: asyncio.Event) -> None:
    """Runs an agent until `stop` is set. Ends the process with status 1 where it can't go on."""
    try:
        app = App(settings, watchdog, lives)
        await app.start()
    except (EasyQError, OSError, ValueError, JournalDamaged) as error:
        get_logger().error("cannot_start", error=str(error))
        sys.exit(1)
    await first_of(stop.wait(), app.until_over())
    if app.drained:
        get_logger().info("drained")
    await app.stop()
    if not stop.is_set() and not app.drained:
        sys.exit(1)


def _fresh_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.") or "agent"
    return f"{host[:60]}-{uuid.uuid4().hex[:6]}"
