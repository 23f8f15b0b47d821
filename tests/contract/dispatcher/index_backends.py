"""The kinds of servers that the suites of MatchIndex run on: the fake, Redis, Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from easyq_dispatcher.adapters.redis_index import RedisMatchIndex, connect
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer
from easyq_dispatcher.domain.records import Head, HeldExecution, Seat, Taking
from easyq_dispatcher.domain.rules import build_matching
from easyq_dispatcher.ports import Changes, MatchIndex, Takings
from tests.fakes.dispatcher_index import FakeIndexServer, FakeMatchIndex
from tests.support import RedisServer


def rules(pools: Sequence[str] = (), limits: Sequence[str] = (), weights: Sequence[str] = ()) -> Matching:
    return build_matching(pools, limits, weights=weights, lost_after_ms=120_000, lost_after_by_pool={})


class Backend:
    """One kind of server; `index` makes a dispatcher's client of it."""

    def __init__(
        self,
        make: Callable[..., MatchIndex],
        flush: Callable[[], None],
        restart: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self.make, self.flush, self.restart, self.stop = make, flush, restart, stop

    def index(self, matching: Matching | None = None, *, dispatcher: str = "d1", **settings: Any) -> MatchIndex:
        return self.make(dispatcher, matching or rules(), **settings)

    async def filled(
        self,
        matching: Matching | None = None,
        *,
        generation: int = 1,
        held: Sequence[HeldExecution] = (),
        **settings: Any,
    ) -> MatchIndex:
        """An index with a filling that holds."""
        index = self.index(matching, **settings)
        await fill(index, generation, held)
        return index


@pytest.fixture(params=["fake", "redis", "valkey"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "fake":
        fake = FakeIndexServer()
        yield Backend(
            lambda name, matching, **settings: FakeMatchIndex(fake, dispatcher=name, matching=matching, **settings),
            fake.flush,
            fake.restart,
            lambda: setattr(fake, "away", True),
        )
        return
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    made: list[RedisMatchIndex] = []

    def make(name: str, matching: Matching, **settings: Any) -> MatchIndex:
        client = connect(server.url, timeout=2.0)
        made.append(RedisMatchIndex(client, farm="test", dispatcher=name, matching=matching, **settings))
        return made[-1]

    yield Backend(make, server.flush, lambda: restart_with_data(server), server.kill)
    for index in made:
        await index.close()


def restart_with_data(server: RedisServer) -> None:
    """A server that comes back with what it had, as from a file: only its run id is another."""
    with server.client() as client:
        dumped = {key: client.dump(key) for key in client.keys("*")}
    server.restart()
    with server.client() as client:
        for key, value in dumped.items():
            client.restore(key, 0, value)


async def fill(index: MatchIndex, generation: int, held: Sequence[HeldExecution] = ()) -> None:
    await index.begin(generation)
    await index.load(generation, held)
    await index.publish(generation)


def head(
    number: int, task: str = "t", *, priority: int = 0, epoch: int = 1, needs: Needs = NOTHING, image: str = ""
) -> Head:
    return Head(
        execution_id=f"{task}-{number}",
        task_id=task,
        priority=priority,
        queue_seq=number,
        epoch=epoch,
        needs=needs,
        image=image,
    )


def heads(count: int, task: str = "t", first: int = 1, *, needs: Needs = NOTHING, image: str = "") -> list[Head]:
    return [head(number, task, needs=needs, image=image) for number in range(first, first + count)]


def held(
    number: int,
    task: str = "t",
    *,
    agent: str = "a",
    pool: str = "default",
    epoch: int = 2,
    needs: Needs = NOTHING,
) -> HeldExecution:
    return HeldExecution(
        execution_id=f"{task}-{number}",
        task_id=task,
        agent_id=agent,
        session=1,
        pool=pool,
        epoch=epoch,
        needs=needs,
    )


def seat(
    slots: int = 1,
    agent: str = "a",
    *,
    pools: tuple[str, ...] = ("default",),
    offer: Offer = UNKNOWN,
    labels: tuple[tuple[str, str], ...] = (),
) -> Seat:
    return Seat(agent_id=agent, session=7, slots=slots, pools=pools, offer=offer, labels=labels)


def ids(takings: Takings | Sequence[Taking]) -> list[str]:
    items = takings.items if isinstance(takings, Takings) else takings
    return [item.head.execution_id for item in items]


async def ready(index: MatchIndex, *items: Head, generation: int = 1) -> None:
    await index.settle(generation, Changes(ready=items))
