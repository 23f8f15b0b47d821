"""Puts the store together and runs it."""

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from easyq.v1.spec_pb2 import ReportFailure as Report
from easyq_chassis import error_reports
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import EasyQError, Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.metrics.usage import Plugins
from easyq_chassis.ops.ops import Ops
from easyq_chassis.outages import asking, neighbour
from easyq_chassis.rules_file.watch import RulesFile
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import open_tracer
from easyq_internal.store.v1.delivery_store_pb2_grpc import add_DeliveryStoreServiceServicer_to_server
from easyq_internal.store.v1.farm_store_pb2_grpc import add_FarmStoreServiceServicer_to_server
from easyq_internal.store.v1.feed_pb2_grpc import add_FeedServiceServicer_to_server
from easyq_internal.store.v1.job_store_pb2_grpc import add_JobStoreServiceServicer_to_server
from easyq_internal.store.v1.log_store_pb2_grpc import add_LogStoreServiceServicer_to_server
from easyq_internal.store.v1.stats_pb2_grpc import add_StatsServiceServicer_to_server
from easyq_internal.store.v1.time_store_pb2_grpc import add_TimeStoreServiceServicer_to_server
from easyq_store.adapters.metrics import StoreMetrics
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.adapters.timed import TimedPersistence
from easyq_store.backends import persistence
from easyq_store.config import StoreSettings
from easyq_store.convert.notices import targets_of
from easyq_store.convert.spec import policy_of, same_request
from easyq_store.domain.changes import Note
from easyq_store.domain.clock import StoreClock
from easyq_store.domain.lost import LostWatch
from easyq_store.domain.retention import Retention
from easyq_store.domain.silence import SilenceWatch
from easyq_store.failures import DatabaseGone
from easyq_store.loops import ClockRound, LostRound
from easyq_store.retention_rules import parser
from easyq_store.servicer_deliveries import DeliveryStoreServicer
from easyq_store.servicer_feed import FeedServicer
from easyq_store.servicer_stats import StatsServicer
from easyq_store.servicers import FarmStoreServicer, JobStoreServicer, LogStoreServicer, TimeStoreServicer
from easyq_store.usecases import decisions
from easyq_store.usecases.context import Context
from easyq_store.usecases.feed import Feed
from easyq_store.usecases.news import News
from easyq_store.usecases.purge import finish_deletions
from easyq_store.usecases.read_logs import Pace
from easyq_store.usecases.retain import RetainPace, RetainRound
from easyq_store.usecases.stats import Statistics, forget_old
from easyq_store.usecases.sweep import sweep
from easyq_store.usecases.traces import NoTraces, TracedStore

_PACKAGE = "easyq_internal.store.v1"
# Seconds that error handlers get at such an end.
_LAST_WORDS = 2.0
# Status of a process whose database was taken away: a supervisor starts it again.
_GONE = 1
# Seconds that plugins of metrics get to take their last records.
_PLUGIN_PATIENCE = 1.0
# Seconds of statistics that a crash loses at most.
_STATS_INTERVAL = 1.0


class App:
    """One store process. It serves from the start, and is healthy once its database is open."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        clock = StoreClock(SystemClock())
        self._feed = Feed(now=clock.now, new_boot=_new_boot)
        self._statistics = Statistics(clock.now)
        self._database = neighbour("database")
        self._tracer = tracer = open_tracer("store", settings, rate=settings.trace_rate)
        self._traces = TracedStore(tracer, time.time_ns, ahead_ms=clock.behind_ms) if tracer.enabled else None
        self._plugins = Plugins(settings.metric_plugins, REGISTRY)
        self._metrics = StoreMetrics(settings.task_labels, self._plugins, clock.now)
        self._persistence = ObservedPersistence(
            persistence(settings.database),
            self._feed,
            count=self._count,
            stored=self._metrics.stored,
            count_all=bool(self._plugins),
        )
        self._context = Context(
            store=TimedPersistence(self._persistence, settings.database.partition(":")[0].partition("+")[0]),
            clock=clock,
            share=random.random,
            policy_of=policy_of,
            targets_of=partial(targets_of, report=Report.Mode.Value(settings.report_failures.upper())),
            same_request=same_request,
            silence=SilenceWatch(max(5.0, 3 * settings.lost_interval)),
            news=News(),
            traces=self._traces or NoTraces(),
        )
        self._server = GrpcServer(settings.listen, outer=(TracingInterceptor(tracer, prefix=f"{_PACKAGE}."),))
        self._ops = Ops(settings, "store", self._server.readiness)
        for register, servicer, name in self._servicers():
            self._server.add(register, servicer, f"{_PACKAGE}.{name}")
        self._loops = self._build_loops()
        self._rules = RulesFile(settings.rules, parser(settings.keep), self._set_retention)
        self._server.readiness.ask(lambda: self._rules.problem)
        self._log = get_logger()

    def _servicers(self) -> list[tuple[Any, object, str]]:
        ctx = self._context
        pace = Pace(poll=self._settings.log_poll, patience=self._settings.log_patience)
        return [
            (add_JobStoreServiceServicer_to_server, JobStoreServicer(ctx), "JobStoreService"),
            (add_FarmStoreServiceServicer_to_server, FarmStoreServicer(ctx), "FarmStoreService"),
            (add_LogStoreServiceServicer_to_server, LogStoreServicer(ctx, pace), "LogStoreService"),
            (add_TimeStoreServiceServicer_to_server, TimeStoreServicer(ctx), "TimeStoreService"),
            (add_StatsServiceServicer_to_server, StatsServicer(ctx), "StatsService"),
            (add_FeedServiceServicer_to_server, FeedServicer(self._feed, self._persistence.ready), "FeedService"),
            (add_DeliveryStoreServiceServicer_to_server, DeliveryStoreServicer(ctx), "DeliveryStoreService"),
        ]

    def _build_loops(self) -> list[Loop]:
        lost = LostRound(self._context, LostWatch(self._settings.lost_margin), self._metrics)
        self._clock = ClockRound(self._context)
        pace = RetainPace(batch=self._settings.retain_batch, pause=self._settings.retain_pause)
        self._retain = RetainRound(self._context, Retention(otherwise=self._settings.keep), pace)
        return [
            Loop("lost", lost.run_once, self._settings.lost_interval),
            Loop("sweep", self._sweep, self._settings.sweep_interval),
            Loop("delete", self._finish_deletions, self._settings.sweep_interval),
            Loop("retain", self._retain_once, self._settings.retain_interval),
            Loop("stats", self._flush_statistics, _STATS_INTERVAL),
            Loop("forget-stats", self._forget_statistics, self._settings.retain_interval),
            Loop("clock", self._keep_clock, self._settings.clock_interval),
        ]

    @property
    def address(self) -> str:
        """Where it serves; with the real port once started."""
        return self._server.address

    async def start(self) -> None:
        """Opens the database and serves.

        A database that can't be reached is tried again, while every call is answered UNAVAILABLE. Raises
        FailedPrecondition where trying again won't help (a newer schema, another process holds it), Unavailable if the
        address can't be bound, and RulesError.
        """
        self._rules.load()
        await self._ops.start()
        away = await self._open()
        await self._server.start()
        while away:
            await self._server.set_serving(False, away)
            await asyncio.sleep(self._settings.retry_interval)
            away = await self._open()
        await self._server.set_serving(True)
        self._rules.start()
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Takes in nothing more, and ends in order."""
        self._feed.close()
        await self._server.stop(self._settings.shutdown_grace)
        await self._rules.stop()
        for loop in self._loops:
            await loop.stop()
        with contextlib.suppress(EasyQError):
            await self._flush_statistics()
        await self._persistence.close()
        if self._plugins:
            await asyncio.to_thread(self._plugins.close, _PLUGIN_PATIENCE)
        await asyncio.gather(self._tracer.close(), self._ops.stop())

    async def _open(self) -> str:
        """Returns why the database can't be opened now, empty if it was."""
        try:
            with asking(self._database):
                await self._persistence.open()
                mark = await self._persistence.run(lambda steps: steps.raise_clock(0))
        except Unavailable as error:
            return error.message
        self._context.clock.raise_to(mark)
        return ""

    async def _sweep(self) -> None:
        settled = await sweep(self._context)
        if settled:
            self._log.info("swept", records=settled)

    async def _finish_deletions(self) -> None:
        gone = await finish_deletions(self._context, pause=self._settings.retain_pause)
        if gone:
            self._log.info("deleted", jobs=gone)

    def _set_retention(self, retention: Retention) -> None:
        self._retain.retention = retention

    async def _retain_once(self) -> None:
        removed = await self._retain.run_once()
        if removed.jobs or removed.logs or removed.executions:
            self._log.info("retention_removed", jobs=removed.jobs, logs=removed.logs, executions=removed.executions)

    def _count(self, notes: Sequence[Note]) -> None:
        self._statistics.take(notes)
        self._metrics.take(notes)
        decisions.tell(notes)
        if self._traces is not None:
            self._traces.take(notes)

    async def _flush_statistics(self) -> None:
        await self._statistics.flush(self._persistence)

    async def _forget_statistics(self) -> None:
        await forget_old(self._context)

    async def _keep_clock(self) -> None:
        """Keeps the clock; that this succeeds says whether the database is there."""
        try:
            await self._clock.run_once()
        except DatabaseGone as error:
            self._log.error("database_gone", error=error.message, status=_GONE)
            error_reports.report_error(error, "process", fatal=True)
            # Nothing else happens meanwhile: it holds up this thread.
            error_reports.close(_LAST_WORDS)
            # At once: closing it in order would remove the log of a database that may have taken its place.
            os._exit(_GONE)
        except Unavailable as error:
            self._database.failed(error.message)
            await self._server.set_serving(False, error.message)
            raise
        await self._server.set_serving(True)


def _new_boot() -> str:
    return secrets.token_hex(6)


async def serve(settings: StoreSettings, stop: asyncio.Event) -> None:
    """Runs a store until `stop` is set. Raises what kept it from starting."""
    app = App(settings)
    starting = asyncio.create_task(app.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await app.stop()
