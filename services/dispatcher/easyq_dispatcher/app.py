"""Puts the dispatcher together and runs it."""

from __future__ import annotations

import asyncio
import uuid

from easyq_chassis.channel import open_channel
from easyq_chassis.clock import SystemClock
from easyq_chassis.loops import Loop
from easyq_chassis.ops.ops import Ops
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import open_tracer
from easyq_dispatcher.adapters.grpc_store import IDEMPOTENT, GrpcFarmStore
from easyq_dispatcher.adapters.metrics import DispatcherMetrics
from easyq_dispatcher.adapters.redis_index import RedisMatchIndex, connect
from easyq_dispatcher.config import DispatcherSettings
from easyq_dispatcher.servicer import AgentLinkServicer, DispatcherServicer
from easyq_dispatcher.usecases.conversation import Conversations
from easyq_dispatcher.usecases.feeder import Feeder
from easyq_dispatcher.usecases.gauging import Gauging
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_dispatcher.usecases.matcher import Matcher
from easyq_dispatcher.usecases.roster import Roster
from easyq_dispatcher.usecases.rulebook import Rulebook
from easyq_dispatcher.usecases.settler import Settler
from easyq_dispatcher.usecases.words import Words
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import (
    add_AgentLinkServiceServicer_to_server,
    add_DispatcherServiceServicer_to_server,
)

# Seconds that assigns under way get to reach an agent that says goodbye.
_PARK_PATIENCE = 2.0


class App:
    """One dispatcher. All that it keeps can be had again from the store; any number may run, and any may die.

    Raises RulesError for a rules file that can't be used.
    """

    def __init__(self, settings: DispatcherSettings) -> None:
        self._grace = settings.shutdown_grace
        self._tracer = open_tracer("dispatcher", settings)
        clock = SystemClock()
        self._rules = rules = Rulebook(build=settings.matching, path=settings.rules, clock=clock)
        self._channel = open_channel(settings.store, idempotent=IDEMPOTENT)
        self._store = store = GrpcFarmStore(self._channel, clock=clock, timeout=settings.call_timeout)
        self._clock = clock
        self._index = index = RedisMatchIndex(
            connect(settings.redis, timeout=settings.redis_timeout),
            farm=settings.farm,
            dispatcher=uuid.uuid4().hex,
            matching=rules.matching,
            version=rules.version,
            used_for=max(3.0, 4 * settings.look_interval),
            reserve_after=settings.reserve_after,
            patience=settings.patience(),
        )
        self._ledger = ledger = Ledger(wake=self._wake_matcher)
        self._roster = roster = Roster(wake=self._wake_matcher)
        self._keeper = keeper = Keeper(
            index=index,
            store=store,
            rules=rules,
            clock=clock,
            on_adopt=self._start_over,
            interval=settings.look_interval,
        )
        self._feeder = Feeder(
            index=index,
            store=store,
            keeper=keeper,
            ledger=ledger,
            clock=clock,
            fed=self._wake_matcher,
            interval=settings.feed_interval,
            pass_interval=settings.pass_interval,
        )
        self._settler = Settler(
            index=index,
            store=store,
            keeper=keeper,
            ledger=ledger,
            clock=clock,
            interval=min(1.0, settings.orphan_after),
            orphan_after=settings.orphan_after,
            reconcile_interval=settings.reconcile_interval,
        )
        self._matcher = Matcher(
            index=index,
            store=store,
            keeper=keeper,
            ledger=ledger,
            roster=roster,
            clock=clock,
            refill=self._feeder.refill,
            suspect=self._settler.suspect,
            poll=settings.poll_interval,
            tracer=self._tracer,
        )
        self._gauging = Gauging(
            store=store,
            index=index,
            keeper=keeper,
            rules=rules,
            roster=roster,
            clock=clock,
            gauges=DispatcherMetrics(settings.task_labels),
            interval=settings.gauge_interval,
        )
        self._loops = self._make_loops(settings)
        self._server = self._make_server(settings)
        self._server.readiness.ask(lambda: self._rules.file.problem)
        self._ops = Ops(settings, "dispatcher", self._server.readiness)

    def _make_server(self, settings: DispatcherSettings) -> GrpcServer:
        conversations = Conversations(
            store=self._store,
            roster=self._roster,
            ledger=self._ledger,
            rules=self._rules,
            beat_every_ms=int(settings.beat_every * 1000),
            lease_ms=int(settings.lease * 1000),
            park_patience=_PARK_PATIENCE,
        )
        words = Words(
            index=self._index,
            store=self._store,
            keeper=self._keeper,
            roster=self._roster,
            rules=self._rules,
            clock=self._clock,
            silent_after=settings.lease,
        )
        tracing = TracingInterceptor(self._tracer, prefix="easyq_internal.dispatcher.v1.")
        server = GrpcServer(settings.listen, outer=(tracing,))
        server.add(
            add_AgentLinkServiceServicer_to_server,
            AgentLinkServicer(conversations),
            "easyq_internal.dispatcher.v1.AgentLinkService",
        )
        server.add(
            add_DispatcherServiceServicer_to_server,
            DispatcherServicer(
                ready=self._ledger.ready,
                wish=conversations.wish,
                wake=self._look_at_all,
                index=self._index,
                roster=self._roster,
                words=words,
            ),
            "easyq_internal.dispatcher.v1.DispatcherService",
        )
        return server

    @property
    def address(self) -> str:
        """Where it serves; with the real port once started."""
        return self._server.address

    async def start(self) -> None:
        """Serves, and starts the loops. Raises Unavailable if the address can't be bound."""
        await self._ops.start()
        await self._server.start()
        for loop in self._loops.values():
            loop.start()
        self._rules.file.start()

    async def stop(self) -> None:
        """Takes nothing more, lets what is under way reach its agents, and ends in order."""
        await self._rules.file.stop()
        await self._loops.pop("matcher").stop()
        await self._matcher.drain(self._grace)
        self._roster.dismiss()
        await self._server.stop(self._grace)
        await asyncio.gather(*(loop.stop() for loop in self._loops.values()))
        await asyncio.gather(self._store.close(), self._index.close())
        await self._channel.close()
        await asyncio.gather(self._tracer.close(), self._ops.stop())

    def _make_loops(self, settings: DispatcherSettings) -> dict[str, Loop]:
        loops = {
            "keeper": Loop("keeper", self._keep, settings.look_interval),
            "matcher": Loop("matcher", self._matcher.run_once, settings.poll_interval),
            "feeder": Loop("feeder", self._feeder.run_once, settings.feed_interval),
            "settler": Loop("settler", self._settler.run_once, 1.0),
            "gauges": Loop("gauges", self._gauging.run_once, settings.gauge_interval),
            "wakes": Loop("wakes", self._hear_wakes, settings.poll_interval),
        }
        for part, name in (
            (self._keeper, "keeper"),
            (self._matcher, "matcher"),
            (self._feeder, "feeder"),
            (self._settler, "settler"),
        ):
            part.wake = loops[name].wake
        self._rules.turned = loops["keeper"].wake
        return loops

    def _wake_matcher(self) -> None:
        self._matcher.wake()

    def _look_at_all(self) -> None:
        self._matcher.look_at_all()

    def _start_over(self) -> None:
        self._feeder.start_over()
        self._matcher.look_at_all()

    async def _keep(self) -> float | None:
        """Looks at the index; whether one holds says whether this dispatcher can do its work."""
        pause = await self._keeper.run_once()
        await self._server.set_serving(self._keeper.generation is not None, self._keeper.problem)
        return pause

    async def _hear_wakes(self) -> float | None:
        async for _ in self._index.wakes():
            self._matcher.look_at_all()
        return None


async def serve(settings: DispatcherSettings, stop: asyncio.Event) -> None:
    """Runs a dispatcher until `stop` is set."""
    app = App(settings)
    await app.start()
    await stop.wait()
    await app.stop()
