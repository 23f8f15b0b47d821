"""Puts the runner together and runs it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import uuid
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from easyq_chassis.channel import open_channel
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.server import GrpcServer
from easyq_runner.adapters.clock import BootClock
from easyq_runner.adapters.data_folder import DataFolder
from easyq_runner.adapters.docker_engine import DockerEngine
from easyq_runner.adapters.docker_http import DockerHttp, TlsFiles
from easyq_runner.adapters.journal_file import FileJournal, JournalDamaged
from easyq_runner.adapters.lease_file import FileLeaseNotes
from easyq_runner.adapters.link import GrpcLink
from easyq_runner.adapters.log_sink import GrpcLogSink
from easyq_runner.adapters.registry_auth import RegistryCredentials
from easyq_runner.config import RunnerSettings, find_docker, hostname
from easyq_runner.domain.container import HostRules
from easyq_runner.domain.identity import Identity, choose
from easyq_runner.errors import EngineError
from easyq_runner.ports import EngineInfo, Hello
from easyq_runner.usecases.agent import Agent
from easyq_runner.usecases.daemon import Daemon, DaemonTimes
from easyq_runner.usecases.images import Images
from easyq_runner.usecases.janitor import Janitor
from easyq_runner.usecases.lease import LeaseKeeper
from easyq_runner.usecases.link import LinkKeeper
from easyq_runner.usecases.outbox import Outbox
from easyq_runner.usecases.tools import Tools
from easyq_runner.usecases.waiting import first_of

# Seconds that a start waits for the engine to say who it is, and for its containers to be looked at.
_ENGINE_PATIENCE = 3.0
_SURVEY_PATIENCE = 5.0
_ASK_AGAIN = 0.25
# Between two looks at the lease: what is lost dies within two seconds.
_LEASE_EVERY = 1.0
# Shares of the time that a stop may take.
_GIVE_BACK_SHARE = 0.5
_PARK_SHARE = 0.3


class App:
    """One agent. Raises EasyQError, OSError, ValueError or JournalDamaged where the settings can't work."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._log = get_logger()
        self._folder = DataFolder(settings.data.expanduser())
        address = find_docker(settings)
        tls = TlsFiles(ca=address.tls[0], cert=address.tls[1], key=address.tls[2]) if address.tls else None
        self._engine_url = address.url
        self._engine = DockerEngine(
            DockerHttp(address.url, tls=tls),
            RegistryCredentials(settings.credentials(), config=settings.docker_config),
        )
        self._server = GrpcServer(settings.listen) if settings.listen else None
        # The engine at the address is not the one that this agent was made for.
        self.replaced = asyncio.Event()

    async def start(self) -> None:
        """Finds its containers again, and says hello."""
        self._folder.lock()
        self._identity = await self._choose_identity()
        self._assemble(FileJournal(self._folder.journal), BootClock())
        state = await self._journal.load()
        self._daemon.resume(state.daemon)
        self._agent = Agent(self._tools, state, engine_url=self._engine_url)
        self._daemon.on_listing = self._agent.compare
        self._daemon.on_reached = self._on_reached
        self._link_keeper = LinkKeeper(
            self._link,
            self._settings.dispatchers,
            agent=self._agent,
            outbox=self._tools.outbox,
            lease=self._tools.lease,
            clock=self._tools.clock,
            hello=self._hello,
            changes=(self._daemon.changes,),
        )
        self._daemon.start()
        # A hello before that would hold less than the host does, and be put right by the next beat.
        await first_of(self._agent.surveyed.wait(), timeout=_SURVEY_PATIENCE if self._reached else 0.0)
        self._lease_loop = Loop("lease", self._agent.check_lease, _LEASE_EVERY)
        self._lease_loop.start()
        self._link_task = asyncio.create_task(self._link_keeper.run(), name="link")
        self._link_task.add_done_callback(self._on_link_ended)
        if self._server is not None:
            await self._server.start()
            self._serving_task = asyncio.create_task(self._tell_serving(self._server))

    async def stop(self) -> None:
        """Gives back what has not begun, parks the session, and leaves the containers for the next start."""
        grace = self._settings.shutdown_grace
        if self._link_keeper.connected:
            await self._agent.leave(grace * _GIVE_BACK_SHARE)
            await self._link_keeper.park(grace * _PARK_SHARE)
        self._link_task.cancel()
        await asyncio.gather(self._link_task, return_exceptions=True)
        await self._lease_loop.stop()
        await self._agent.stop()
        await self._tools.janitor.stop()
        await self._daemon.stop()
        await self._sink.close()
        await asyncio.gather(self._link.close(), self._store_channel.close(), self._engine.close())
        await self._journal.close()
        if self._server is not None:
            self._serving_task.cancel()
            await self._server.stop(0)
        self._folder.unlock()

    # Assembly -----------------------------------------------------------------------------------------------------
    def _assemble(self, journal: FileJournal, clock: BootClock) -> None:
        settings = self._settings
        self._journal = journal
        self._store_channel = open_channel(settings.store)
        self._sink = GrpcLogSink(self._store_channel)
        self._link = GrpcLink()
        self._daemon = Daemon(
            self._engine,
            journal,
            clock,
            farm=settings.farm,
            agent_id=self._identity.agent_id,
            times=DaemonTimes(lost_after=settings.engine_lost_after),
        )
        self._tools = Tools(
            engine=self._engine,
            daemon=self._daemon,
            journal=journal,
            sink=self._sink,
            images=Images(self._engine, fallback=settings.pull_fallback),
            lease=LeaseKeeper(FileLeaseNotes(self._folder.lease), clock),
            outbox=Outbox(),
            janitor=Janitor(self._engine, self._daemon, journal),
            clock=clock,
            rules=self._rules,
            realpath=os.path.realpath,
        )

    def _rules(self) -> HostRules:
        settings = self._settings
        info = self._daemon.info
        usual = "bridge" if info is None or info.has_bridge else "none"
        return HostRules(
            farm=settings.farm,
            agent_id=self._identity.agent_id,
            default_network=settings.default_network or usual,
            log_driver=settings.log_driver,
            allow_host_network=settings.allow_host_network,
            allow_privileged=settings.allow_privileged,
            allow_devices=settings.allow_devices,
            allow_volumes=settings.allow_volumes,
            allowed_mounts=settings.allowed_mounts,
        )

    def _hello(self) -> Hello:
        return Hello(
            agent_id=self._identity.agent_id,
            daemon_id=self._identity.daemon_id,
            hostname=hostname(),
            pools=self._settings.pools,
            slots=self._settings.slots,
            labels=self._settings.labels,
            version=_own_version(),
            inventory=self._agent.inventory(),
            health=self._agent.health(),
        )

    # Identity -----------------------------------------------------------------------------------------------------
    async def _choose_identity(self) -> Identity:
        info = await self._ask_engine()
        self._reached = info is not None
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
        self._log.info("agent", agent=choice.identity.agent_id, engine=self._engine_url, reached=self._reached)
        return choice.identity

    async def _ask_engine(self) -> EngineInfo | None:
        until = asyncio.get_running_loop().time() + _ENGINE_PATIENCE
        while True:
            try:
                return await self._engine.info()
            except EngineError as error:
                if asyncio.get_running_loop().time() > until:
                    self._log.warning("engine_away", engine=self._engine_url, problem=str(error))
                    return None
            await asyncio.sleep(_ASK_AGAIN)

    def _on_reached(self, info: EngineInfo) -> None:
        if info.daemon_id == self._identity.daemon_id:
            return
        if self._identity.daemon_id:
            # Another agent by rights: the next start makes it.
            self._log.error("engine_is_another", known=self._identity.daemon_id, found=info.daemon_id)
            self.replaced.set()
            return
        self._identity = replace(self._identity, daemon_id=info.daemon_id)
        self._folder.write_identity(self._identity)
        self._link_keeper.say_hello_again()

    # Others' interest ---------------------------------------------------------------------------------------------
    async def _tell_serving(self, server: GrpcServer) -> None:
        """Healthy is an agent that takes work: connected, and its engine answers."""
        while True:
            await server.set_serving(self._link_keeper.connected and self._agent.health().healthy)
            await first_of(self._link_keeper.changes.wait(), self._daemon.changes.wait())

    def _on_link_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._log.error("link_failed", exc_info=task.exception())
            self.replaced.set()


async def serve(settings: RunnerSettings, stop: asyncio.Event) -> None:
    """Runs an agent until `stop` is set. Ends the process with status 1 where it can't go on."""
    try:
        app = App(settings)
        await app.start()
    except (EasyQError, OSError, ValueError, JournalDamaged) as error:
        get_logger().error("cannot_start", error=str(error))
        sys.exit(1)
    await first_of(stop.wait(), app.replaced.wait())
    await app.stop()
    if not stop.is_set():
        sys.exit(1)


def _fresh_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", hostname()).strip("-.") or "agent"
    return f"{host[:60]}-{uuid.uuid4().hex[:6]}"


def _own_version() -> str:
    try:
        return version("easyq-server")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
