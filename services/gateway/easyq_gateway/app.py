"""Puts the gateway together and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from importlib.metadata import version

import grpc.aio

from easyq.v1 import (
    event_service_pb2_grpc,
    execution_service_pb2_grpc,
    farm_service_pb2_grpc,
    job_service_pb2_grpc,
    log_service_pb2_grpc,
    notification_service_pb2_grpc,
    task_service_pb2_grpc,
)
from easyq_chassis import ids
from easyq_chassis.channel import open_channel
from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.loops import Loop
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.ops.ops import Ops
from easyq_chassis.outages import neighbour
from easyq_chassis.rules_file.watch import RulesFile
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import open_tracer
from easyq_gateway.adapters.admission import Schedulers
from easyq_gateway.adapters.deliveries import GrpcDeliveries
from easyq_gateway.adapters.dispatchers import DispatcherLink, GrpcDispatchers
from easyq_gateway.adapters.feed import GrpcFeedSource
from easyq_gateway.adapters.health import GrpcHealthChecks, Neighbour
from easyq_gateway.adapters.stats import GrpcStatsStore
from easyq_gateway.adapters.store import GrpcJobStore, GrpcLogStore
from easyq_gateway.config import GatewaySettings
from easyq_gateway.default_rules import parser
from easyq_gateway.domain.defaults import Defaults
from easyq_gateway.domain.hosts import OriginRules
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.gate import Gate
from easyq_gateway.http_rules import Links, all_bindings
from easyq_gateway.interceptor import EdgeInterceptor
from easyq_gateway.pages.figures import StatisticsFigures
from easyq_gateway.pages.site import Site
from easyq_gateway.pages.sources import Sources
from easyq_gateway.ports import Health
from easyq_gateway.rest.byhand import ByHand
from easyq_gateway.rest.documentation import Documentation
from easyq_gateway.rest.events import Events
from easyq_gateway.rest.large import Large
from easyq_gateway.rest.live import Live
from easyq_gateway.rest.routes import Route
from easyq_gateway.rest.server import RestServer
from easyq_gateway.rest.transcoder import Call, Transcoder
from easyq_gateway.servicer import ExecutionServicer, FarmServicer, JobServicer, LogServicer, TaskServicer
from easyq_gateway.servicer_events import EventServicer
from easyq_gateway.servicer_notifications import NotificationServicer
from easyq_gateway.usecases.admitting import Admitting
from easyq_gateway.usecases.again import Again
from easyq_gateway.usecases.awaiting import Awaiting
from easyq_gateway.usecases.batching import Batching
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.creating import Creating
from easyq_gateway.usecases.defaults import TaskDefaults
from easyq_gateway.usecases.deleting import Deleting
from easyq_gateway.usecases.excerpts import Excerpts
from easyq_gateway.usecases.explaining import Explaining
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.feed import Feed
from easyq_gateway.usecases.following import Following
from easyq_gateway.usecases.logs import Logs
from easyq_gateway.usecases.many import Many
from easyq_gateway.usecases.matching import Matchings
from easyq_gateway.usecases.notifications import Notifications
from easyq_gateway.usecases.presenting import Presenter
from easyq_gateway.usecases.queues import Queues
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.recurring import Recurring
from easyq_gateway.usecases.replacing import Replacing
from easyq_gateway.usecases.schedules import Schedules
from easyq_gateway.usecases.stats import Statistics
from easyq_gateway.usecases.steering import Steering
from easyq_gateway.usecases.upkeep import Upkeep
from easyq_gateway.usecases.watching import Watching

# Seconds between two looks at whether the store is there, for gRPC's health service.
_WATCH_INTERVAL = 1.0
# Of the others nothing depends on these looks but since when the status says that one is away.
_OTHERS_INTERVAL = 5.0
_STORE = neighbour("store")
_PACKAGE = "easyq.v1."
_BATCH = "JobService.BatchCreateJobs"


class App:
    """One gateway. It keeps nothing: any number of them may run."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._tracer = open_tracer("gateway", settings, rate=settings.trace_rate)
        self._channels = {
            address: open_channel(address)
            for address in (settings.store, *settings.watch_stores, *settings.schedulers, *settings.dispatchers)
        }
        # Of their own: how far a stream may run ahead of its reader is a channel's choice.
        self._log_channel = open_channel(settings.store, slow_readers=True)
        self._store = GrpcJobStore(self._channels[settings.store], patience=settings.store_patience)
        self._schedulers = Schedulers(
            [self._channels[address] for address in settings.schedulers], patience=settings.store_patience
        )
        self._dispatchers = GrpcDispatchers(
            [
                DispatcherLink(
                    address,
                    self._channels[address],
                    timeout=settings.explain_timeout,
                    patience=settings.patience,
                )
                for address in settings.dispatchers
            ]
        )
        self._health = self._health_checks()
        self._version = version("easyq-server")
        requests, streams = Gate(settings.max_requests, "requests"), Gate(settings.max_streams, "streams")
        self._build_use_cases(requests, streams)
        bodies = Gate(settings.max_bodies, "bodies")
        self._grpc = self._grpc_server(requests, streams, bodies)
        self._grpc.readiness.ask(lambda: self._rules.problem)
        self._ops = Ops(settings, "gateway", self._grpc.readiness)
        self._site = self._make_site()
        self._warming: asyncio.Task[None] | None = None
        self._rest = self._rest_server(requests, streams, bodies)
        self._watch_gates(requests, streams, bodies)
        self._watch = Loop("watch_store", self._watch_store, _WATCH_INTERVAL)
        self._watch_others = Loop("watch_others", self._look_at_others, _OTHERS_INTERVAL)

    @property
    def rest_address(self) -> str:
        """Where REST is served; with the real port once started."""
        return self._rest.address

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served; with the real port once started."""
        return self._grpc.address

    async def start(self) -> None:
        """Serves. Raises `Unavailable` if an address can't be bound, `RulesError` for a wrong rules file."""
        self._rules.load()
        await self._ops.start()
        await self._grpc.start()
        await self._rest.start()
        self._dispatchers.start()
        self._watch.start()
        self._watch_others.start()
        self._rules.start()
        self._warming = asyncio.create_task(self._site.warm())

    async def stop(self) -> None:
        """Takes in nothing more, and ends in order."""
        if self._warming is not None:
            self._warming.cancel()
        await self._rules.stop()
        await self._watch.stop()
        await self._watch_others.stop()
        self._feed.close()
        grace = self._settings.shutdown_grace
        await asyncio.gather(self._grpc.stop(grace), self._rest.stop(grace))
        await self._feed.stop()
        await asyncio.gather(self._dispatchers.stop(), self._store.close(), self._schedulers.close())
        for channel in (self._log_channel, *self._channels.values()):
            await channel.close()
        await asyncio.gather(self._tracer.close(), self._ops.stop())

    @staticmethod
    def _watch_gates(*gates: Gate) -> None:
        REGISTRY.gauge(
            "easyq.gateway.under_way",
            "What is under way at the gateway, of what it bounds (`max_requests`, `max_streams`, `max_bodies`).",
            labels=("kind",),
        ).watch(lambda: {(gate.what,): float(gate.inside) for gate in gates})

    def _own_health(self) -> Health:
        readiness = self._grpc.readiness
        return Health(
            kind="gateway",
            address=self.grpc_address,
            healthy=readiness.ready,
            answers=True,
            message=readiness.why,
            operations=readiness.operations,
        )

    def _health_checks(self) -> GrpcHealthChecks:
        settings = self._settings

        def neighbour(kind: str, address: str) -> Neighbour:
            return Neighbour(kind=kind, address=address, channel=self._channels[address])

        return GrpcHealthChecks(
            store=neighbour("store", settings.store),
            others=[
                *(neighbour("scheduler", address) for address in settings.schedulers),
                *(neighbour("dispatcher", address) for address in settings.dispatchers),
            ],
            timeout=settings.patience,
        )

    def _build_use_cases(self, requests: Gate, streams: Gate) -> None:
        settings, store, dispatchers = self._settings, self._store, self._dispatchers
        clock, links = SystemClock(), Links()
        redactor = Redactor.of(settings.redact_names)
        self._defaults = TaskDefaults(_defaults(settings))
        self._rules = RulesFile(settings.rules, parser(self._defaults.base), self._defaults.set_rules)
        self._checker = checker = Checker(clock=clock, redactor=redactor, defaults=self._defaults)
        schedules = Schedules(checker=checker, scheduler=self._schedulers)
        presenter = Presenter(dispatchers=dispatchers, redactor=redactor)
        admitting = Admitting(store=store, scheduler=self._schedulers, dispatchers=dispatchers)
        new_execution_id = ids.new_execution_id
        self._creating = Creating(
            checker=checker,
            schedules=schedules,
            store=store,
            admitting=admitting,
            redactor=redactor,
            links=links,
            new_job_id=ids.new_job_id,
            new_execution_id=new_execution_id,
        )
        self._replacing = Replacing(
            checker=checker,
            schedules=schedules,
            store=store,
            admitting=admitting,
            presenter=presenter,
            redactor=redactor,
            new_execution_id=new_execution_id,
        )
        self._batching = Batching(
            checker=checker, schedules=schedules, creating=self._creating, in_flight=settings.stream_in_flight
        )
        self._reading = Reading(checker=checker, store=store, presenter=presenter, links=links)
        self._steering = Steering(
            checker=checker,
            store=store,
            dispatchers=dispatchers,
            presenter=presenter,
            links=links,
            new_execution_id=new_execution_id,
        )
        self._recurring = Recurring(
            checker=checker,
            store=store,
            scheduler=self._schedulers,
            dispatchers=dispatchers,
            presenter=presenter,
            links=links,
            clock=clock,
            new_execution_id=new_execution_id,
        )
        self._notifications = Notifications(
            checker=checker,
            deliveries=GrpcDeliveries(self._channels[settings.store], patience=settings.store_patience),
            redactor=redactor,
            links=links,
        )
        self._deleting = Deleting(checker=checker, store=store, dispatchers=dispatchers)
        self._many = Many(checker=checker, store=store, dispatchers=dispatchers, presenter=presenter, links=links)
        self._queues = Queues(checker=checker, store=store, dispatchers=dispatchers, presenter=presenter, links=links)
        self._upkeep = Upkeep(checker=checker, agents=store, dispatchers=dispatchers)
        self._matchings = Matchings(checker=checker, dispatchers=dispatchers)
        self._explaining = Explaining(
            checker=checker, store=store, agents=store, dispatchers=dispatchers, presenter=presenter
        )
        self._build_views(checker, clock)
        self._build_watches(checker, requests, streams)

    def _build_watches(self, checker: Checker, requests: Gate, streams: Gate) -> None:
        settings = self._settings
        stores = dict.fromkeys((settings.store, *settings.watch_stores))
        sources = [GrpcFeedSource(self._channels[address]) for address in stores]
        self._feed = Feed(sources, patience=settings.store_patience, names=list(stores))
        self._watching = Watching(
            checker=checker, store=self._store, feed=self._feed, patience=settings.stream_patience
        )
        self._awaiting = Awaiting(
            checker=checker,
            reading=self._reading,
            store=self._store,
            feed=self._feed,
            requests=requests,
            streams=streams,
        )

    def _build_views(self, checker: Checker, clock: Clock) -> None:
        settings = self._settings
        logs = GrpcLogStore(self._log_channel)
        self._logs = Logs(checker=checker, jobs=self._store, logs=logs, clock=clock, patience=settings.stream_patience)
        self._following = Following(checker=checker, logs=logs, clock=clock, patience=settings.stream_patience)
        self._statistics = Statistics(
            checker=checker,
            stats=GrpcStatsStore(self._channels[settings.store], patience=settings.store_patience),
            store=self._store,
            clock=clock,
        )
        self._farm = Farm(
            checker=checker,
            store=self._store,
            agents=self._store,
            dispatchers=self._dispatchers,
            health=self._health,
            own_health=self._own_health,
            own_problem=lambda: (self._rules.problem, self._rules.problem_since_ms),
            version=self._version,
            patience=settings.patience,
            clock=clock,
        )

    def _calls(self) -> Mapping[str, Call]:
        """The use case behind each method that REST may have a binding for."""
        return {
            "JobService.CreateJob": self._creating.create,
            "JobService.PutJob": self._replacing.put,
            "JobService.GetJob": self._awaiting.get_job,
            "JobService.ListJobs": self._reading.list_jobs,
            "JobService.StopJob": self._steering.stop_job,
            "JobService.RetryJob": self._steering.retry_job,
            "JobService.PauseJob": self._recurring.pause_job,
            "JobService.ResumeJob": self._recurring.resume_job,
            "JobService.TriggerJob": self._recurring.trigger_job,
            "JobService.GetSchedule": self._recurring.get_schedule,
            "JobService.ExplainJob": self._explaining.job,
            "JobService.DeleteJob": self._deleting.delete_job,
            "JobService.StopJobs": self._many.stop_jobs,
            "JobService.ListErrors": self._many.list_errors,
            "JobService.RetryErrors": self._many.retry_errors,
            "JobService.DiscardErrors": self._many.discard_errors,
            "JobService.BatchCreateJobs": self._batching.batch,
            "ExecutionService.GetExecution": self._reading.get_execution,
            "ExecutionService.ListExecutions": self._reading.list_executions,
            "ExecutionService.StopExecution": self._steering.stop_execution,
            "TaskService.GetTask": self._reading.get_task,
            "TaskService.ExplainTask": self._explaining.task,
            "TaskService.GetTaskStats": self._statistics.of_task,
            "TaskService.DeleteTask": self._deleting.delete_task,
            "TaskService.ListTasks": self._reading.list_tasks,
            "TaskService.ListQueues": self._queues.list_queues,
            "FarmService.GetStatus": self._farm.status,
            "FarmService.ListAgents": self._farm.list_agents,
            "FarmService.GetAgent": self._farm.get_agent,
            "FarmService.CordonAgent": self._upkeep.cordon,
            "FarmService.UncordonAgent": self._upkeep.uncordon,
            "FarmService.DrainAgent": self._upkeep.drain,
            "FarmService.DeclareAgentDead": self._upkeep.declare_dead,
            "FarmService.ListPools": self._matchings.list_pools,
            "FarmService.ExplainPool": self._explaining.pool,
            "FarmService.ListLimits": self._matchings.list_limits,
            "FarmService.ListBreakers": self._matchings.list_breakers,
            "FarmService.ResetBreaker": self._matchings.reset_breaker,
            "FarmService.GetStats": self._statistics.of_farm,
            "FarmService.Search": self._reading.search,
            "NotificationService.ListDeliveries": self._notifications.list_deliveries,
            "NotificationService.ResendDelivery": self._notifications.resend,
        }

    def _grpc_server(self, requests: Gate, streams: Gate, bodies: Gate) -> GrpcServer:
        interceptor = EdgeInterceptor(
            prefix=_PACKAGE,
            requests=requests,
            streams=streams,
            bodies=bodies,
            timeout=self._settings.request_timeout,
        )
        interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (interceptor,)
        tracing = TracingInterceptor(self._tracer, prefix=_PACKAGE, edge=True)
        server = GrpcServer(self._settings.grpc_listen, interceptors=interceptors, outer=(tracing,))
        job = JobServicer(
            creating=self._creating,
            replacing=self._replacing,
            batching=self._batching,
            awaiting=self._awaiting,
            reading=self._reading,
            steering=self._steering,
            recurring=self._recurring,
            explaining=self._explaining,
            deleting=self._deleting,
            many=self._many,
        )
        execution = ExecutionServicer(reading=self._reading, steering=self._steering)
        task = TaskServicer(
            reading=self._reading,
            statistics=self._statistics,
            explaining=self._explaining,
            deleting=self._deleting,
            queues=self._queues,
        )
        farm = FarmServicer(
            farm=self._farm,
            reading=self._reading,
            statistics=self._statistics,
            upkeep=self._upkeep,
            matchings=self._matchings,
            explaining=self._explaining,
        )
        logs = LogServicer(logs=self._logs, following=self._following)
        events = EventServicer(watching=self._watching)
        notifications = NotificationServicer(notifications=self._notifications)
        for register, servicer, name in (
            (job_service_pb2_grpc.add_JobServiceServicer_to_server, job, "JobService"),
            (execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server, execution, "ExecutionService"),
            (task_service_pb2_grpc.add_TaskServiceServicer_to_server, task, "TaskService"),
            (farm_service_pb2_grpc.add_FarmServiceServicer_to_server, farm, "FarmService"),
            (log_service_pb2_grpc.add_LogServiceServicer_to_server, logs, "LogService"),
            (event_service_pb2_grpc.add_EventServiceServicer_to_server, events, "EventService"),
            (
                notification_service_pb2_grpc.add_NotificationServiceServicer_to_server,
                notifications,
                "NotificationService",
            ),
        ):
            server.add(register, servicer, f"{_PACKAGE}{name}")
        return server

    def _rest_server(self, requests: Gate, streams: Gate, bodies: Gate) -> RestServer:
        settings = self._settings
        live = Live(logs=self._logs, following=self._following)
        byhand = ByHand(logs=self._logs, live=live, farm=self._farm, exports=self._ops.exports, version=self._version)
        bound = settings.rest_listen.rpartition(":")[0]
        site = self._site
        api = [
            *self._transcoded(requests, bodies),
            *byhand.routes(),
            *Events(watching=self._watching).routes(),
            *Documentation(version=self._version).routes(),
        ]
        return RestServer(
            settings.rest_listen,
            [*map(site.for_browsers, api), *site.routes()],
            rules=OriginRules.of(hosts=settings.allowed_hosts, origins=settings.allowed_origins, bound=bound),
            requests=requests,
            streams=streams,
            timeout=settings.request_timeout,
            keepalive=settings.keepalive,
            head_timeout=settings.head_timeout,
            error_page=site.error,
            tracer=self._tracer,
        )

    def _make_site(self) -> Site:
        redactor = Redactor.of(self._settings.redact_names)
        sources = Sources(
            reading=self._reading,
            steering=self._steering,
            recurring=self._recurring,
            explaining=self._explaining,
            deleting=self._deleting,
            many=self._many,
            notifications=self._notifications,
            queues=self._queues,
            again=Again(checker=self._checker, store=self._store, creating=self._creating, redactor=redactor),
            farm=self._farm,
            upkeep=self._upkeep,
            matchings=self._matchings,
            logs=self._logs,
            excerpts=Excerpts(logs=self._logs, following=self._following),
            feed=self._feed,
            figures=StatisticsFigures(self._statistics),
            redactor=redactor,
            clock=SystemClock(),
            version=self._version,
        )
        return Site(sources)

    def _transcoded(self, requests: Gate, bodies: Gate) -> Iterator[Route]:
        calls, large = self._calls(), Large(self._settings.max_large_bodies)
        for binding in all_bindings():
            name = f"{binding.method.containing_service.name}.{binding.method.name}"
            most = self._settings.max_batch_body if name == _BATCH else self._settings.max_body
            transcoder = Transcoder(binding, calls[name], max_body=most, large=large, requests=requests, bodies=bodies)
            yield Route(verb=binding.verb, segments=binding.segments, handler=transcoder.handle)

    async def _watch_store(self) -> None:
        health = await self._health.store()
        if health.healthy:
            _STORE.answered()
        else:
            _STORE.failed(health.message)
        await self._grpc.set_serving(health.healthy, health.message and f"the store: {health.message}")

    async def _look_at_others(self) -> None:
        await self._health.others()


def _defaults(settings: GatewaySettings) -> Defaults:
    return Defaults(
        retries=settings.default_retries,
        infra_retries=settings.default_infra_retries,
        stop_grace_ms=round(settings.default_stop_grace * 1000),
        log_limit=settings.default_log_limit,
        on_lost=settings.default_on_lost,
        backoff_min_ms=round(settings.default_backoff_min * 1000),
        backoff_factor=settings.default_backoff_factor,
        backoff_max_ms=round(settings.default_backoff_max * 1000),
        backoff_jitter=settings.default_backoff_jitter,
        timeout_ms=round(settings.default_timeout * 1000) or None,
    )


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Runs a gateway until `stop` is set."""
    app = App(settings)
    await app.start()
    await stop.wait()
    await app.stop()
