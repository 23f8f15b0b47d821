"""Puts the gateway together and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from easyq_chassis.metrics import REGISTRY
from easyq_chassis.ops.ops import Ops
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import Tracer, open_tracer
from easyq_gateway.config import GatewaySettings
from easyq_gateway.domain.hosts import OriginRules
from easyq_gateway.gate import Gate
from easyq_gateway.http_rules import all_bindings
from easyq_gateway.interceptor import EdgeInterceptor
from easyq_gateway.pages.site import Site
from easyq_gateway.ports import Health
from easyq_gateway.rest.byhand import ByHand
from easyq_gateway.rest.documentation import Documentation
from easyq_gateway.rest.events import Events
from easyq_gateway.rest.large import Large
from easyq_gateway.rest.live import Live
from easyq_gateway.rest.routes import Route
from easyq_gateway.rest.server import RestServer
from easyq_gateway.rest.transcoder import Transcoder
from easyq_gateway.wiring import usecases
from easyq_gateway.wiring.methods import PACKAGE, add_servicers, transcoded
from easyq_gateway.wiring.neighbours import Neighbours, Watch

_BATCH = "JobService.BatchCreateJobs"


class App:
    """One gateway. It keeps nothing: any number of them may run."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._tracer = open_tracer("gateway", settings, rate=settings.trace_rate)
        self._neighbours = Neighbours(settings)
        self._requests = Gate(settings.max_requests, "requests")
        self._streams = Gate(settings.max_streams, "streams")
        self._bodies = Gate(settings.max_bodies, "bodies")
        self._watch_gates()
        self._grpc = self._grpc_server(self._tracer)
        self._ops = Ops(settings, "gateway", self._grpc.readiness)
        self._use_cases = usecases.build(
            settings,
            self._neighbours,
            own_health=self._own_health,
            requests=self._requests,
            streams=self._streams,
        )
        add_servicers(self._grpc, self._use_cases)
        self._rules = self._use_cases.rules
        self._grpc.readiness.ask(lambda: self._rules.problem)
        self._site = Site(self._use_cases.sources())
        self._warming: asyncio.Task[None] | None = None
        self._rest = self._rest_server()
        self._watch = Watch(self._neighbours.health, self._grpc)

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
        self._neighbours.start()
        self._watch.start()
        self._rules.start()
        self._warming = asyncio.create_task(self._site.warm())

    async def stop(self) -> None:
        """Takes in nothing more, and ends in order."""
        if self._warming is not None:
            self._warming.cancel()
        await self._rules.stop()
        await self._watch.stop()
        self._use_cases.feed.close()
        grace = self._settings.shutdown_grace
        await asyncio.gather(self._grpc.stop(grace), self._rest.stop(grace))
        await self._use_cases.feed.stop()
        await self._neighbours.close()
        await asyncio.gather(self._tracer.close(), self._ops.stop())

    def _watch_gates(self) -> None:
        gates = (self._requests, self._streams, self._bodies)
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

    def _grpc_server(self, tracer: Tracer) -> GrpcServer:
        edge = EdgeInterceptor(
            prefix=PACKAGE,
            requests=self._requests,
            streams=self._streams,
            bodies=self._bodies,
            timeout=self._settings.request_timeout,
        )
        tracing = TracingInterceptor(tracer, prefix=PACKAGE, edge=True)
        return GrpcServer(self._settings.grpc_listen, interceptors=(edge,), outer=(tracing,))

    def _rest_server(self) -> RestServer:
        settings, use_cases, site = self._settings, self._use_cases, self._site
        live = Live(logs=use_cases.logs, following=use_cases.following)
        byhand = ByHand(
            logs=use_cases.logs,
            live=live,
            farm=use_cases.farm,
            exports=self._ops.exports,
            version=use_cases.version,
        )
        bound = settings.rest_listen.rpartition(":")[0]
        api = [
            *self._transcoded(),
            *byhand.routes(),
            *Events(watching=use_cases.watching).routes(),
            *Documentation(version=use_cases.version).routes(),
        ]
        return RestServer(
            settings.rest_listen,
            [*map(site.for_browsers, api), *site.routes()],
            rules=OriginRules.of(hosts=settings.allowed_hosts, origins=settings.allowed_origins, bound=bound),
            requests=self._requests,
            streams=self._streams,
            timeout=settings.request_timeout,
            keepalive=settings.keepalive,
            head_timeout=settings.head_timeout,
            error_page=site.error,
            tracer=self._tracer,
        )

    def _transcoded(self) -> Iterator[Route]:
        calls, large = transcoded(self._use_cases), Large(self._settings.max_large_bodies)
        for binding in all_bindings():
            name = f"{binding.method.containing_service.name}.{binding.method.name}"
            transcoder = Transcoder(
                binding,
                calls[name],
                max_body=self._settings.max_batch_body if name == _BATCH else self._settings.max_body,
                large=large,
                requests=self._requests,
                bodies=self._bodies,
            )
            yield Route(verb=binding.verb, segments=binding.segments, handler=transcoder.handle)


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Runs a gateway until `stop` is set."""
    app = App(settings)
    await app.start()
    await stop.wait()
    await app.stop()
