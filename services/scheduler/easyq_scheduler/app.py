"""Puts the scheduler together and runs it."""

from __future__ import annotations

import asyncio
import random
import ssl
from importlib.metadata import version

from easyq_chassis.channel import open_channel
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import EasyQError
from easyq_chassis.loops import Loop
from easyq_chassis.ops.ops import Ops
from easyq_chassis.redaction import Redactor
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import open_tracer
from easyq_internal.scheduler.v1.scheduler_pb2_grpc import add_SchedulerServiceServicer_to_server
from easyq_scheduler.adapters.deliveries import GrpcDeliveries
from easyq_scheduler.adapters.dispatchers import GrpcReadyNews
from easyq_scheduler.adapters.reports import ReportSender
from easyq_scheduler.adapters.secrets_file import SecretsFile
from easyq_scheduler.adapters.smtp import MailSender, MailServer
from easyq_scheduler.adapters.store import IDEMPOTENT, GrpcJobSink, GrpcTimeStore
from easyq_scheduler.adapters.webhooks import WebhookSender
from easyq_scheduler.config import SchedulerSettings
from easyq_scheduler.domain.tries import Tries
from easyq_scheduler.servicer import SchedulerServicer
from easyq_scheduler.usecases.admitting import Admission
from easyq_scheduler.usecases.delivering import Bounds, DeliveryRound
from easyq_scheduler.usecases.recurring import Planner, ScheduleRound
from easyq_scheduler.usecases.rounds import DueRound, ExpiryRound
from easyq_scheduler.usecases.starting import StoreWait

# A round that could change nothing pauses for this many seconds at least.
_SHORTEST_PAUSE = 0.02
# Seconds, beyond those of an attempt, in which its result can be recorded before somebody else takes it up.
_TO_RECORD = 10.0
# Seconds between two looks at whether the store is there yet.
_START_PAUSE = 0.25


class App:
    """One scheduler. It keeps nothing: any number of them may run, and any may die at any moment."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._grace = settings.shutdown_grace
        self._tracer = open_tracer("scheduler", settings)
        self._store_channel = open_channel(settings.store, idempotent=IDEMPOTENT)
        self._dispatcher_channels = {address: open_channel(address) for address in settings.dispatchers}
        self._sink = GrpcJobSink(self._store_channel, timeout=settings.call_timeout)
        self._news = GrpcReadyNews(self._dispatcher_channels)
        clock = SystemClock()
        store = GrpcTimeStore(self._store_channel, timeout=settings.call_timeout)
        self._due = DueRound(
            store=store,
            news=self._news,
            clock=clock,
            page=settings.page,
            longest=settings.poll_interval,
            shortest=_SHORTEST_PAUSE,
        )
        planner = Planner(store=store, news=self._news)
        schedules = ScheduleRound(
            store=store,
            planner=planner,
            clock=clock,
            page=settings.page,
            longest=settings.poll_interval,
            shortest=_SHORTEST_PAUSE,
        )
        expiry = ExpiryRound(
            store=store, page=settings.page, longest=settings.expiry_interval, shortest=_SHORTEST_PAUSE
        )
        self._wait = StoreWait(store=store, address=settings.store, clock=clock, pause=_START_PAUSE)
        self._beginning: asyncio.Task[None] | None = None
        self._due_loop = Loop("due", self._due_round, settings.poll_interval)
        self._schedule_loop = Loop("schedules", schedules.run_once, settings.poll_interval)
        self._expiry_loop = Loop("expiry", expiry.run_once, settings.expiry_interval)
        secrets = SecretsFile(settings.webhook_secrets)
        self._webhooks = _webhooks(settings, clock, secrets)
        self._deliveries = self._build_deliveries(settings)
        self._delivery_loop = Loop("deliveries", self._deliveries.run_once, settings.notify_interval)
        admission = Admission(
            sink=self._sink,
            planner=planner,
            clock=clock,
            longest=settings.poll_interval,
            hurry=self._hurry,
            tracer=self._tracer,
        )
        tracing = TracingInterceptor(self._tracer, prefix="easyq_internal.scheduler.v1.")
        self._server = GrpcServer(settings.listen, outer=(tracing,))
        self._server.readiness.ask(lambda: secrets.problem)
        self._ops = Ops(settings, "scheduler", self._server.readiness)
        self._server.add(
            add_SchedulerServiceServicer_to_server,
            SchedulerServicer(admission=admission, wake=self._wake, clock=clock, call_timeout=settings.call_timeout),
            "easyq_internal.scheduler.v1.SchedulerService",
        )

    def _build_deliveries(self, settings: SchedulerSettings) -> DeliveryRound:
        return DeliveryRound(
            store=GrpcDeliveries(self._store_channel, timeout=settings.call_timeout),
            senders={"webhook": self._webhooks, "address": _mails(settings), "error_handlers": _reports(settings)},
            tries=Tries(
                first=settings.notify_first_retry, longest=settings.notify_longest_retry, age=settings.notify_max_age
            ),
            bounds=Bounds(
                workers=settings.notify_workers,
                per_lane=settings.notify_per_host,
                # Who has all hosts of a domain can't hang all of them.
                per_site=max(settings.notify_per_host, settings.notify_workers // 2),
                lease=2 * settings.notify_timeout + _TO_RECORD,
            ),
            share=random.random,
            longest=settings.notify_interval,
            room=self._wake_deliveries,
        )

    @property
    def address(self) -> str:
        """Where it serves; with the real port once started."""
        return self._server.address

    async def start(self) -> None:
        """Serves; the loops start once the store is there. Raises Unavailable if the address can't be bound."""
        await self._ops.start()
        await self._server.start()
        self._beginning = asyncio.create_task(self._begin(), name="begin")

    async def stop(self) -> None:
        """Takes in nothing more, and ends in order."""
        await self._server.stop(self._grace)
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)
        loops = (self._due_loop, self._schedule_loop, self._expiry_loop, self._delivery_loop)
        await asyncio.gather(*(loop.stop() for loop in loops))
        await self._deliveries.close(self._grace)
        await self._webhooks.close()
        await asyncio.gather(self._sink.close(), self._news.close())
        for channel in (self._store_channel, *self._dispatcher_channels.values()):
            await channel.close()
        await asyncio.gather(self._tracer.close(), self._ops.stop())

    async def _begin(self) -> None:
        await self._wait.until_there()
        self._due_loop.start()
        self._schedule_loop.start()
        self._expiry_loop.start()
        self._delivery_loop.start()

    def _wake_deliveries(self) -> None:
        self._delivery_loop.wake()

    def _hurry(self) -> None:
        self._due_loop.wake()
        self._schedule_loop.wake()

    def _wake(self) -> None:
        self._hurry()
        self._expiry_loop.wake()

    async def _due_round(self) -> float:
        """One round; its success says whether this scheduler can do its work."""
        try:
            pause = await self._due.run_once()
        except EasyQError as error:
            await self._server.set_serving(False, f"the store: {error.message}")
            raise
        await self._server.set_serving(True)
        return pause


def _webhooks(settings: SchedulerSettings, clock: SystemClock, secrets: SecretsFile) -> WebhookSender:
    return WebhookSender(
        guard=settings.guard,
        redirects=settings.webhook_redirects,
        timeout=settings.notify_timeout,
        tls=ssl.create_default_context(cafile=settings.webhook_ca or None),
        secrets=secrets,
        public_url=settings.public_url,
        redactor=Redactor.of(settings.redact_names),
        clock=clock,
        agent=f"EasyQ/{version('easyq-server')}",
    )


def _mails(settings: SchedulerSettings) -> MailSender:
    server = MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        tls=settings.smtp_tls,
        user=settings.smtp_user,
        password=settings.mail_password,
        sender=settings.smtp_from,
    )
    return MailSender(
        server,
        timeout=settings.notify_timeout,
        tls=ssl.create_default_context(cafile=settings.smtp_ca or None),
        public_url=settings.public_url,
        farm=settings.farm,
        redactor=Redactor.of(settings.redact_names),
    )


def _reports(settings: SchedulerSettings) -> ReportSender:
    return ReportSender(
        timeout=settings.notify_timeout,
        public_url=settings.public_url,
        redactor=Redactor.of(settings.redact_names),
    )


async def serve(settings: SchedulerSettings, stop: asyncio.Event) -> None:
    """Runs a scheduler until `stop` is set."""
    app = App(settings)
    await app.start()
    await stop.wait()
    await app.stop()
