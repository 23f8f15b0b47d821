"""Puts the use cases together over ports: real ones in `app`, fakes in tests."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from easyq_chassis.about import own_version
from easyq_chassis.error_reports import report_error
from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.redaction import Redactor
from easyq_chassis.tracing.tracer import OFF, Tracer
from easyq_runner.config import RunnerSettings
from easyq_runner.domain.container import HostRules
from easyq_runner.domain.identity import Identity
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.domain.records import Offer
from easyq_runner.ports import (
    AgentClock,
    Claims,
    ContainerEngine,
    Disks,
    EngineInfo,
    Hello,
    ImageNotes,
    Journal,
    LeaseNotes,
    Link,
    LogSink,
    Registries,
)
from easyq_runner.usecases.agent import Agent
from easyq_runner.usecases.daemon import Daemon, DaemonTimes
from easyq_runner.usecases.host import Host, HostTimes
from easyq_runner.usecases.image_cache import ImageCache
from easyq_runner.usecases.images import Images
from easyq_runner.usecases.janitor import Janitor
from easyq_runner.usecases.lease import LeaseKeeper
from easyq_runner.usecases.link import LinkKeeper
from easyq_runner.usecases.orphans import Orphans
from easyq_runner.usecases.outbox import Outbox
from easyq_runner.usecases.tools import Times, Tools
from easyq_runner.usecases.traces import Traces
from easyq_runner.usecases.waiting import first_of

# Between two looks at the lease, in seconds: what is lost dies within two.
_LEASE_EVERY = 1.0
# Shares of the time that a stop may take.
_GIVE_BACK_SHARE = 0.5
_PARK_SHARE = 0.3
_TIDY_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """The world."""

    engine: ContainerEngine
    # Its address, for people.
    engine_url: str
    journal: Journal
    notes: LeaseNotes
    link: Link
    sink: LogSink
    clock: AgentClock
    registries: Registries
    disks: Disks
    images: ImageNotes
    claims: Claims


class Assembly:
    """One agent of a known identity.

    `on_identity` is told when the daemon is reached for the first time ever; `failed` is set when the agent can't go
    on: the engine at its address is another one than it was made for. `drained` is set when an operator wanted it to
    end, and it is empty. `operations` is the address of its operations port.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        ports: Ports,
        identity: Identity,
        *,
        on_identity: Callable[[Identity], None],
        times: Times | None = None,
        daemon_times: DaemonTimes | None = None,
        host_times: HostTimes | None = None,
        tracer: Tracer = OFF,
        operations: str = "",
    ) -> None:
        self._settings = settings
        self._operations = operations
        self._ports = ports
        self._identity = identity
        self._on_identity = on_identity
        self._log = get_logger()
        self.failed = asyncio.Event()
        self.daemon = Daemon(
            ports.engine,
            ports.journal,
            ports.clock,
            farm=settings.farm,
            agent_id=identity.agent_id,
            times=daemon_times or DaemonTimes(lost_after=settings.engine_lost_after),
        )
        self.host = Host(
            ports.disks,
            ports.clock,
            least=settings.min_free_disk,
            engine_root=lambda: self.daemon.info.root if self.daemon.info else "",
            times=host_times or HostTimes(),
        )
        self._cache = ImageCache(ports.engine, ports.images, ports.clock, limit=settings.image_cache)
        self._offered = Offer()
        self.tools = Tools(
            engine=ports.engine,
            daemon=self.daemon,
            host=self.host,
            journal=ports.journal,
            sink=ports.sink,
            images=Images(ports.engine, ports.registries, self._cache, fallback=settings.pull_fallback),
            lease=LeaseKeeper(ports.notes, ports.clock),
            outbox=Outbox(),
            janitor=Janitor(ports.engine, self.daemon, ports.journal),
            clock=ports.clock,
            rules=self._rules,
            realpath=os.path.realpath,
            # Offsets count the same bytes only where the log keeps them as they are.
            attach=settings.log_driver == "local",
            redactor=Redactor.of(settings.redact_names),
            traces=Traces(tracer, agent_id=identity.agent_id),
            times=times
            or Times(monitor=Backoff(least=settings.monitor_backoff_min, most=settings.monitor_backoff_max)),
        )
        self._lease_loop = Loop("lease", self._check_lease, _LEASE_EVERY)

    async def start(self, *, survey_patience: float) -> None:
        """Reads the journal, looks for its containers (`survey_patience` seconds at most), and says hello."""
        state = await self._ports.journal.load()
        self.agent = Agent(self.tools, state, engine_url=self._ports.engine_url)
        self.link = LinkKeeper(
            self._ports.link,
            self._settings.dispatchers,
            agent=self.agent,
            outbox=self.tools.outbox,
            lease=self.tools.lease,
            clock=self._ports.clock,
            hello=self._hello,
            changes=(self.daemon.changes, self.host.changes, self.agent.upkeep_changes),
        )
        self.orphans = Orphans(
            self._ports.engine,
            self.daemon,
            self._ports.claims,
            self.tools.lease,
            self._ports.clock,
            farm=self._settings.farm,
            agent_id=self._identity.agent_id,
            after=self._settings.orphan_after,
            lost_after=lambda: self.link.lost_after,
            every=min(self.daemon.times.compare_every, self._settings.orphan_after / 4),
        )
        self.daemon.resume(state.daemon)
        self.daemon.on_listing = self.agent.compare
        self.daemon.on_reached = self._on_reached
        self.daemon.start()
        self.host.start()
        self._cache.start()
        self._lease_loop.start()
        # A hello before that would hold what the journal says, and be put right by the next beat.
        await first_of(self.agent.surveyed.wait(), timeout=survey_patience)
        self._link_task = asyncio.create_task(self.link.run(), name="link")
        self._link_task.add_done_callback(self._on_link_ended)
        self.orphans.start()

    @property
    def drained(self) -> asyncio.Event:
        """Set when an operator wanted the agent to end, and it is empty."""
        return self.link.drained

    async def stop(self, grace: float) -> None:
        """Gives back what has not begun, parks the session, and leaves the containers for the next start."""
        if self.link.connected:
            await self.agent.leave(grace * _GIVE_BACK_SHARE)
            await self.link.park(grace * _PARK_SHARE)
        if self.drained.is_set():
            # Nobody may come after it to tidy up.
            await first_of(self._until_tidy(), timeout=grace * _TIDY_SHARE)
        await self.halt()

    async def _until_tidy(self) -> None:
        await self.agent.until_quiet()
        await self.tools.janitor.until_idle()

    async def halt(self) -> None:
        """Stops where it stands."""
        self._link_task.cancel()
        await asyncio.gather(self._link_task, return_exceptions=True)
        await self._lease_loop.stop()
        await self.orphans.stop()
        await self.agent.stop()
        await self.tools.janitor.stop()
        await self._cache.stop()
        await self.host.stop()
        await self.daemon.stop()

    @property
    def healthy(self) -> bool:
        """Whether it takes work: it is connected, and its engine answers."""
        return self.link.connected and self.agent.health().healthy

    @property
    def problem(self) -> str:
        """Why it takes no work, or takes it only so far; empty where all is well."""
        if self.link.connected:
            return self.agent.health().message
        return f"it is connected to no dispatcher: {self.link.problem}"

    async def until_health_may_have_changed(self) -> None:
        """Returns when `healthy` is worth another look."""
        changes = (self.link.changes, self.daemon.changes, self.host.changes, self.agent.upkeep_changes)
        await first_of(*(one.wait() for one in changes))

    async def _check_lease(self) -> None:
        self.agent.check_lease()
        self.agent.check_drain()

    def _rules(self) -> HostRules:
        settings, info = self._settings, self.daemon.info
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

    def _offer(self) -> Offer:
        """What the settings say, else what the engine says that its machine has."""
        settings, info = self._settings, self.daemon.info
        cpus = (info.cpus if info else 0) if settings.cpus is None else settings.cpus
        memory = (info.memory if info else 0) if settings.memory is None else settings.memory
        return Offer(cpu_millis=round(cpus * 1000), memory=memory, gpus=settings.gpus)

    def _hello(self) -> Hello:
        self._offered = self._offer()
        return Hello(
            agent_id=self._identity.agent_id,
            daemon_id=self._identity.daemon_id,
            hostname=socket.gethostname(),
            pools=self._settings.pools,
            slots=self._settings.slots,
            labels=self._settings.labels,
            version=own_version(),
            inventory=self.agent.inventory(),
            health=self.agent.health(),
            offer=self._offered,
            operations=self._operations,
        )

    def _on_reached(self, info: EngineInfo) -> None:
        self.host.look()
        if info.daemon_id == self._identity.daemon_id:
            if self._offer() != self._offered:
                self.link.say_hello_again()
            return
        if self._identity.daemon_id:
            # Another agent by rights: the next start makes it.
            self._log.error("engine_is_another", known=self._identity.daemon_id, found=info.daemon_id)
            self.failed.set()
            return
        self._identity = replace(self._identity, daemon_id=info.daemon_id)
        self._on_identity(self._identity)
        self.link.say_hello_again()

    def _on_link_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            self._log.error("link_failed", exc_info=error)
            if error is not None:
                report_error(error, "link")
            self.failed.set()
