"""The services that the gateway asks."""

from __future__ import annotations

import asyncio

from easyq_chassis.channel import open_channel
from easyq_chassis.loops import Loop
from easyq_chassis.outages import neighbour
from easyq_chassis.server import GrpcServer
from easyq_gateway.adapters.admission import Schedulers
from easyq_gateway.adapters.deliveries import GrpcDeliveries
from easyq_gateway.adapters.dispatchers import DispatcherLink, GrpcDispatchers
from easyq_gateway.adapters.feed import GrpcFeedSource
from easyq_gateway.adapters.health import GrpcHealthChecks, Neighbour
from easyq_gateway.adapters.stats import GrpcStatsStore
from easyq_gateway.adapters.store import GrpcJobStore, GrpcLogStore
from easyq_gateway.config import GatewaySettings

# Seconds between two looks at whether the store is there, for gRPC's health service.
_WATCH_INTERVAL = 1.0
# Of the others nothing depends on these looks but since when the status says that one is away.
_OTHERS_INTERVAL = 5.0
_STORE = neighbour("store")


class Neighbours:
    """Clients of the stores, schedulers and dispatchers, over one channel to each address."""

    def __init__(self, settings: GatewaySettings) -> None:
        patience = settings.store_patience
        self._channels = channels = {
            address: open_channel(address)
            for address in (settings.store, *settings.watch_stores, *settings.schedulers, *settings.dispatchers)
        }
        # Of their own: how far a stream may run ahead of its reader is a channel's choice.
        self._log_channel = open_channel(settings.store, slow_readers=True)
        self.store = GrpcJobStore(channels[settings.store], patience=patience)
        self.logs = GrpcLogStore(self._log_channel)
        self.deliveries = GrpcDeliveries(channels[settings.store], patience=patience)
        self.statistics = GrpcStatsStore(channels[settings.store], patience=patience)
        #: By the address of the store that each of them tells of.
        self.feeds = {
            address: GrpcFeedSource(channels[address])
            for address in dict.fromkeys((settings.store, *settings.watch_stores))
        }
        self.schedulers = Schedulers([channels[address] for address in settings.schedulers], patience=patience)
        self.dispatchers = GrpcDispatchers(
            [
                DispatcherLink(address, channels[address], timeout=settings.explain_timeout, patience=settings.patience)
                for address in settings.dispatchers
            ]
        )
        self.health = self._health_checks(settings)

    def start(self) -> None:
        """Begins to hear dispatchers."""
        self.dispatchers.start()

    async def close(self) -> None:
        """Ends all calls."""
        await asyncio.gather(self.dispatchers.stop(), self.store.close(), self.schedulers.close())
        for channel in (self._log_channel, *self._channels.values()):
            await channel.close()

    def _health_checks(self, settings: GatewaySettings) -> GrpcHealthChecks:
        def asked(kind: str, address: str) -> Neighbour:
            return Neighbour(kind=kind, address=address, channel=self._channels[address])

        return GrpcHealthChecks(
            store=asked("store", settings.store),
            others=[
                *(asked("scheduler", address) for address in settings.schedulers),
                *(asked("dispatcher", address) for address in settings.dispatchers),
            ],
            timeout=settings.patience,
        )


class Watch:
    """Looks at the neighbours' health: the gateway's own to gRPC is the store's."""

    def __init__(self, health: GrpcHealthChecks, server: GrpcServer) -> None:
        self._health = health
        self._server = server
        self._loops = (
            Loop("watch_store", self._look_at_store, _WATCH_INTERVAL),
            Loop("watch_others", self._look_at_others, _OTHERS_INTERVAL),
        )

    def start(self) -> None:
        """Looks from now on."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Looks no longer."""
        for loop in self._loops:
            await loop.stop()

    async def _look_at_store(self) -> None:
        health = await self._health.store()
        if health.healthy:
            _STORE.answered()
        else:
            _STORE.failed(health.message)
        await self._server.set_serving(health.healthy, health.message and f"the store: {health.message}")

    async def _look_at_others(self) -> None:
        await self._health.others()
