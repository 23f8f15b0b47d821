"""The match index in Redis. `lua/common.lua` documents every key; all changes are Lua scripts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from easyq_chassis.errors import Unavailable
from easyq_dispatcher.adapters.scripts import Script
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.records import Head, HeldExecution, Place, Seat, Taking
from easyq_dispatcher.ports import (
    Changes,
    Filling,
    LowTask,
    Question,
    StaleIndex,
    Survey,
    Takings,
    TaskHeads,
)

T = TypeVar("T")

# One call stays short, since Redis does nothing else meanwhile.
MOST_TAKINGS = 200
MOST_LOOKED_AT = 2_000
MOST_AT_ONCE = 500
# Below this a task of which the store has more is refilled.
LOW_WATER = 250
_NO_GENERATION = 0


def connect(url: str, *, timeout: float) -> redis.asyncio.Redis:
    """A client for `redis://`, `rediss://` or `unix://`. Nothing is repeated: the loops above know what may be."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        # Half-open connections: commands and the subscription ping first after this many idle seconds.
        health_check_interval=10,
    )
    return client


class RedisMatchIndex:
    """`MatchIndex` for one farm, under one set of pools and limits. `dispatcher` tells dispatchers apart."""

    def __init__(self, client: redis.asyncio.Redis, *, farm: str, dispatcher: str, matching: Matching) -> None:
        self._client = client
        self._prefix = f"{{{farm}}}:v1:"
        self._dispatcher = dispatcher
        self._matching = matching
        self._rules = _dump(
            {
                "pools": {pool.name: pool.max_running for pool in matching.pools},
                "limits": [limit.max_running for limit in matching.limits],
            }
        )
        self._scripts: dict[str, Script] = {}

    async def look(self) -> Filling:
        _, generation, config, same, rebuilder, policy = await self._run("look", _NO_GENERATION, {})
        return Filling(
            generation=int(generation) if generation and same else None,
            ours=config == self._matching.fingerprint,
            rebuilder="" if rebuilder == self._dispatcher else rebuilder,
            evicts=bool(policy) and policy != "noeviction",
        )

    async def claim_rebuild(self, seconds: float) -> bool:
        key, milliseconds = f"{self._prefix}rebuilder", int(seconds * 1000)
        with _translated():
            if await self._client.set(key, self._dispatcher, nx=True, px=milliseconds):
                return True
            if await self._client.get(key) != self._dispatcher:
                return False
            await self._client.pexpire(key, milliseconds)
            return True

    async def begin(self, generation: int) -> None:
        await self._remove(lambda of: of == generation)
        await self._run("begin", generation, {})

    async def load(self, generation: int, held: Sequence[HeldExecution]) -> None:
        await self._load(generation, held, repair=False)

    async def publish(self, generation: int) -> None:
        await self._run("publish", generation, {})

    async def sweep(self, generation: int) -> None:
        await self._remove(lambda of: of < generation)

    async def take(self, generation: int, seats: Sequence[Seat]) -> Takings:
        _, more, rooms, flat, low = await self._run(
            "take",
            generation,
            {
                "seats": [
                    {"agent": s.agent_id, "session": str(s.session), "slots": s.slots, "pools": s.pools} for s in seats
                ],
                "most": MOST_TAKINGS,
                "budget": MOST_LOOKED_AT,
                "low": LOW_WATER,
            },
        )
        items = []
        for seat, execution, epoch, score, task, pool, token in _groups(flat, 7):
            head = Head.from_score(int(score), execution_id=execution, task_id=task, epoch=int(epoch))
            agent = seats[int(seat) - 1]
            items.append(Taking(head=head, token=token, agent_id=agent.agent_id, session=agent.session, pool=pool))
        return Takings(items=items, rooms=[int(room) for room in rooms], more=bool(more), low=_low(low))

    async def settle(self, generation: int, changes: Changes) -> Sequence[LowTask]:
        payload = {
            "drop": changes.dropped,
            "released": [(item.execution_id, str(item.epoch)) for item in changes.released],
            "confirm": changes.confirmed,
            "ready": [
                (head.execution_id, head.task_id, *self._route(head.task_id), str(head.score), str(head.epoch))
                for head in changes.ready
            ],
            "low": LOW_WATER,
            "repair": changes.repair,
        }
        _, low = await self._run("settle", generation, payload)
        return _low(low)

    async def refill(self, generation: int, tasks: Sequence[TaskHeads]) -> None:
        payload = []
        for task in tasks:
            pool, limits = self._route(task.task_id)
            payload.append(
                {
                    "task": task.task_id,
                    "pool": pool,
                    "limits": limits,
                    "complete": task.complete,
                    "version": task.version,
                    "heads": [(head.execution_id, str(head.score), str(head.epoch)) for head in task.heads],
                }
            )
        await self._run("refill", generation, payload)

    async def adopt(self, generation: int, held: Sequence[HeldExecution]) -> None:
        await self._load(generation, held, repair=True)

    async def places(self, generation: int) -> Sequence[Place]:
        return await self._places(generation, {})

    async def overdue(self, generation: int, older_than_ms: int) -> Sequence[Place]:
        return await self._places(generation, {"overdue": older_than_ms, "most": MOST_AT_ONCE})

    async def survey(self, generation: int, question: Question) -> Survey:
        pools = [pool.name for pool in self._matching.pools]
        payload = {
            "pools": pools,
            "limits": len(self._matching.limits),
            "agents": question.agents,
            "positions": question.positions,
            "tasks": question.tasks,
            "low": LOW_WATER if question.low else 0,
        }
        _, running, ready, limits, agents, positions, tasks, low = await self._run("survey", generation, payload)
        return Survey(
            running=dict(zip(pools, running, strict=True)),
            ready=dict(zip(pools, ready, strict=True)),
            limits=limits,
            agents=dict(zip(question.agents, agents, strict=True)),
            positions={
                item[0]: rank + 1 for item, rank in zip(question.positions, positions, strict=True) if rank >= 0
            },
            tasks={
                task: (int(heads), version)
                for task, (heads, version) in zip(question.tasks, _groups(tasks, 2), strict=True)
            },
            low=_low(low),
        )

    async def wakes(self) -> AsyncIterator[None]:
        with _translated():
            async with self._client.pubsub() as channel:
                await channel.subscribe(f"{self._prefix}wake")
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=5.0)
                    if message and message["data"] != self._dispatcher:
                        yield

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _route(self, task_id: str) -> tuple[str, str]:
        route = self._matching.route(task_id)
        return route.pool, ",".join(str(number) for number in route.limits)

    async def _load(self, generation: int, held: Sequence[HeldExecution], *, repair: bool) -> None:
        items = []
        for item in held:
            _, limits = self._route(item.task_id)
            pool = self._matching.counted_pool(item.pool, item.task_id)
            before = str(item.epoch - 1)
            items.append((item.execution_id, before, str(item.session), pool, limits, item.task_id, item.agent_id))
        await self._run("load", generation, {"repair": repair, "items": items})

    async def _places(self, generation: int, payload: dict[str, int]) -> Sequence[Place]:
        _, flat, unconfirmed = await self._run("places", generation, payload)
        open_takes = set(unconfirmed)
        found = []
        for execution, record in _groups(flat, 2):
            token, *_, agent = record.split("\n")
            found.append(
                Place(execution_id=execution, token=token, agent_id=agent, confirmed=execution not in open_takes)
            )
        return found

    async def _run(self, name: str, generation: int, payload: object) -> Any:
        script = self._scripts.get(name) or self._scripts.setdefault(name, Script(name))
        arguments = [
            self._prefix,
            str(generation),
            self._matching.fingerprint,
            self._rules,
            self._dispatcher,
            _dump(payload),
        ]
        with _translated():
            answer = await script(self._client, f"{self._prefix}state", arguments)
        if not answer[0]:
            raise StaleIndex(f"generation {generation} of the index does not hold")
        return answer

    async def _remove(self, gone: Callable[[int], bool]) -> None:
        """Removes the key spaces of the generations for which `gone` is true."""
        batch: list[str] = []
        with _translated():
            async for key in self._client.scan_iter(match=f"{self._prefix}[0-9]*:*", count=MOST_AT_ONCE):
                generation = key.removeprefix(self._prefix).partition(":")[0]
                if generation.isdigit() and gone(int(generation)):
                    batch.append(key)
                if len(batch) >= MOST_AT_ONCE:
                    await self._client.unlink(*batch)
                    batch.clear()
            if batch:
                await self._client.unlink(*batch)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis: {str(error) or type(error).__name__}") from error


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(iter(flat),) * size, strict=True)


def _low(flat: Sequence[str]) -> list[LowTask]:
    return [LowTask(task_id=task, version=version) for task, version in _groups(flat, 2)]
