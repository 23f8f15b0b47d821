"""The match index in Redis. `lua/common.lua` documents every key; all changes are Lua scripts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from easyq_chassis.errors import Unavailable
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.metrics.databases import databases
from easyq_chassis.outages import asking, neighbour
from easyq_dispatcher.adapters.scripts import Script
from easyq_dispatcher.domain.breakers import Breaker, Kind, Omen, Patience
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.needs import Needs, Offer
from easyq_dispatcher.domain.records import Head, HeldExecution, Place, Seat, Taking
from easyq_dispatcher.ports import (
    Changes,
    Filling,
    LowTask,
    Question,
    StaleIndex,
    Survey,
    Takings,
    TaskCount,
    TaskHeads,
    Waiter,
)

T = TypeVar("T")

# One call stays short, since Redis does nothing else meanwhile, and so does the assign of what it took.
MOST_TAKINGS = 32
MOST_LOOKED_AT = 2_000
MOST_AT_ONCE = 500
# Below this a task of which the store has more is refilled.
LOW_WATER = 150
_NO_GENERATION = 0
# Answer of `take.lua`.
_NEEDS_OFFERS = 2
# Place of the agent in a record of what counts.
_AGENT = 7
_MOST_ROUTES = 100_000
_DURATIONS = databases(REGISTRY)
_REDIS = neighbour("redis")


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
    """`MatchIndex` for one farm. `dispatcher` tells dispatchers apart.

    `used_for`: seconds for which others take the rules to be in use, from each look. `reserve_after`: seconds for which
    what finds no room is passed over before a host is kept free for it.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        farm: str,
        dispatcher: str,
        matching: Matching,
        version: int = 0,
        used_for: float = 3.0,
        reserve_after: float = 30.0,
        patience: Patience | None = None,
    ) -> None:
        self._client = client
        self._prefix = f"{{{farm}}}:v1:"
        self._dispatcher = dispatcher
        self._used_ms = int(used_for * 1000)
        self._reserve_ms = int(reserve_after * 1000)
        patience = patience or Patience()
        self._patience = {
            "failures": patience.failures,
            "wait": patience.wait_ms,
            "longest": patience.longest_ms,
            "quiet": patience.quiet_ms,
        }
        self._scripts: dict[str, Script] = {}
        # Offers are sent only while there are heads that ask for something.
        self._offers = False
        self.use(matching, version)

    def use(self, matching: Matching, version: int) -> None:
        self._matching, self._version = matching, version
        self._rules = _dump(
            {
                "pools": {pool.name: pool.max_running for pool in matching.pools},
                "limits": [limit.max_running for limit in matching.limits],
            }
        )
        self._routes: dict[str, tuple[str, str, str]] = {}

    async def look(self) -> Filling:
        answer = await self._run("look", _NO_GENERATION, {"used": self._used_ms})
        _, generation, config, same, rebuilder, policy, version, used = answer
        return Filling(
            generation=int(generation) if generation and same else None,
            ours=config == self._matching.fingerprint,
            rebuilder="" if rebuilder == self._dispatcher else rebuilder,
            evicts=bool(policy) and policy != "noeviction",
            version=int(version),
            in_use=bool(used),
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
        await self._run("publish", generation, {"version": str(self._version), "used": self._used_ms})

    async def sweep(self, generation: int) -> None:
        await self._remove(lambda of: of < generation)

    async def take(self, generation: int, seats: Sequence[Seat]) -> Takings:
        answer = await self._take(generation, seats)
        if answer[0] == _NEEDS_OFFERS:
            self._offers = True
            answer = await self._take(generation, seats)
        _, more, rooms, flat, low, troubled, demanding = answer
        self._offers = bool(demanding)
        items = []
        for seat, execution, value, score, task, pool, token in _groups(flat, 7):
            epoch, _, detail = value.partition("\n")
            image, _, needs = detail.partition("\n")
            head = Head.from_score(
                int(score),
                execution_id=execution,
                task_id=task,
                epoch=int(epoch),
                needs=Needs.from_signature(needs),
                image=image,
            )
            agent = seats[int(seat) - 1]
            items.append(Taking(head=head, token=token, agent_id=agent.agent_id, session=agent.session, pool=pool))
        return Takings(
            items=items,
            rooms=[int(room) for room in rooms],
            more=bool(more),
            low=_low(low),
            troubled=bool(troubled),
        )

    async def _take(self, generation: int, seats: Sequence[Seat]) -> Any:
        payload = {
            "seats": [self._seat(seat) for seat in seats],
            "offers": self._offers,
            "most": MOST_TAKINGS,
            "budget": MOST_LOOKED_AT,
            "low": LOW_WATER,
            "reserve": self._reserve_ms,
        }
        return await self._run("take", generation, payload)

    def _seat(self, seat: Seat) -> dict[str, object]:
        item: dict[str, object] = {
            "agent": seat.agent_id,
            "session": str(seat.session),
            "slots": seat.slots,
            "pools": seat.pools,
        }
        if self._offers:
            item["offer"] = (seat.offer.cpu_millis, seat.offer.memory, seat.offer.gpus)
            item["labels"] = dict(seat.labels)
        return item

    async def settle(self, generation: int, changes: Changes) -> Sequence[LowTask]:
        payload: dict[str, object] = {
            "drop": changes.dropped,
            "released": [(item.execution_id, str(item.epoch)) for item in changes.released],
            "confirm": changes.confirmed,
            "gone": [
                (item.execution_id, item.task_id, self._route(item.task_id)[0], str(item.epoch))
                for item in changes.gone
            ],
            "ready": [
                (head.execution_id, head.task_id, str(head.score), str(head.epoch), _detail(head))
                for head in changes.ready
            ],
            "routes": {task: self._route(task) for task in {head.task_id for head in changes.ready}},
            "omens": [_omen(item) for item in changes.omens],
            "low": LOW_WATER,
            "repair": changes.repair,
        }
        if changes.omens or changes.repair:
            payload["breakers"] = self._patience
        _, low = await self._run("settle", generation, payload)
        return _low(low)

    async def refill(self, generation: int, tasks: Sequence[TaskHeads]) -> None:
        payload = [
            {
                "task": task.task_id,
                "route": self._route(task.task_id),
                "complete": task.complete,
                "version": task.version,
                "heads": [(head.execution_id, str(head.score), str(head.epoch), _detail(head)) for head in task.heads],
            }
            for task in tasks
        ]
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
            "positions": [(execution, task, self._route(task)[0]) for execution, task in question.positions],
            "tasks": question.tasks,
            "low": LOW_WATER if question.low else 0,
            "fronts": question.fronts,
            "breakers": question.breakers,
            "heads": question.heads,
        }
        answer = await self._run("survey", generation, payload)
        _, running, ready, limits, agents, used, positions, tasks, low, fronts, breakers, heads = answer
        return Survey(
            running=dict(zip(pools, running, strict=True)),
            ready=dict(zip(pools, ready, strict=True)),
            limits=limits,
            agents=dict(zip(question.agents, agents, strict=True)),
            used=dict(zip(question.agents, map(_used, _groups(used, 4)), strict=True)),
            positions={
                item[0]: _waiter(rank, detail, since)
                for item, (rank, detail, since) in zip(question.positions, _groups(positions, 3), strict=True)
                if rank >= 0
            },
            tasks={
                task: TaskCount(heads=int(heads), aside=int(aside), version=version)
                for task, (heads, aside, version) in zip(question.tasks, _groups(tasks, 3), strict=True)
            },
            low=_low(low),
            fronts={pool: pair for pool, pair in zip(question.fronts, _groups(fronts, 2), strict=True) if pair[0]},
            breakers=[_breaker(*pair) for pair in _groups(breakers, 2)],
            heads={
                task: {execution: int(value.partition("\n")[0]) for execution, value in _groups(flat, 2)}
                for task, flat in zip(question.heads, heads, strict=True)
            },
        )

    async def tasks(self, generation: int) -> Sequence[str]:
        with _translated():
            lanes = [
                lane
                async for lane, _ in self._client.hscan_iter(f"{self._prefix}{generation}:tasks", count=MOST_AT_ONCE)
            ]
        return list(dict.fromkeys(lane.partition("\n")[0] for lane in lanes))

    async def reset_breaker(self, kind: Kind, subject: str) -> None:
        with _translated():
            await self._client.hdel(f"{self._prefix}breakers", f"{kind.value} {subject}")
            await self._client.publish(f"{self._prefix}wake", self._dispatcher)

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

    def _route(self, task_id: str) -> tuple[str, str, str]:
        """Pool, limits, and what the index keeps of the route."""
        known = self._routes.get(task_id)
        if known is None:
            route = self._matching.route(task_id)
            limits = ",".join(str(number) for number in route.limits)
            info = f"{route.pool}\n{limits}" + (f"\n{route.weight}" if route.weight != 1 else "")
            known = (route.pool, limits, info)
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[task_id] = known
        return known

    async def _load(self, generation: int, held: Sequence[HeldExecution], *, repair: bool) -> None:
        items = []
        for item in held:
            limits = self._route(item.task_id)[1]
            pool = self._matching.counted_pool(item.pool, item.task_id)
            before, needs = str(item.epoch - 1), item.needs.signature
            detail = f"\n{needs}" if needs else ""
            session = str(item.session)
            items.append((item.execution_id, before, session, pool, limits, item.task_id, item.agent_id, detail))
        await self._run("load", generation, {"repair": repair, "items": items})

    async def _places(self, generation: int, payload: dict[str, int]) -> Sequence[Place]:
        _, flat, unconfirmed = await self._run("places", generation, payload)
        open_takes = set(unconfirmed)
        found = []
        for execution, record in _groups(flat, 2):
            parts = record.split("\n")
            place = Place(
                execution_id=execution,
                token=parts[0],
                agent_id=parts[_AGENT],
                confirmed=execution not in open_takes,
            )
            found.append(place)
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
        began, problem = time.perf_counter(), ""
        try:
            with _translated():
                answer = await script(self._client, f"{self._prefix}state", arguments)
        except BaseException as error:
            problem = type(error).__name__
            raise
        finally:
            _DURATIONS.record(time.perf_counter() - began, "redis", name, problem)
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
    with asking(_REDIS):
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(f"Redis: {str(error) or type(error).__name__}") from error


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(iter(flat),) * size, strict=True)


def _detail(head: Head) -> str:
    """Image and needs as the scripts have them."""
    # A line's end would end the image; no reference that Docker takes has one.
    image = head.image if head.image.isprintable() else ""
    needs = head.needs.signature
    return f"{image}\n{needs}" if needs else image


def _omen(item: Omen) -> tuple[str, str, str, str, int]:
    return item.execution_id, str(item.epoch), item.sign.value, item.cause, item.ms


def _used(values: tuple[str, ...]) -> Offer:
    cpu, memory, gpus, whole = map(int, values)
    return Offer(cpu_millis=cpu, memory=memory, gpus=gpus, whole_gpus=whole)


def _waiter(rank: int, detail: str, since: str) -> Waiter:
    image, _, needs = detail.partition("\n")
    return Waiter(
        position=rank + 1,
        needs=Needs.from_signature(needs),
        image=image,
        no_room_since_ms=int(since) if since else None,
    )


def _breaker(name: str, text: str) -> Breaker:
    kind, _, subject = name.partition(" ")
    found = json.loads(text)
    return Breaker(
        kind=Kind(kind),
        subject=subject,
        failures=int(found["failures"]),
        since_ms=int(found["since"]),
        wait_ms=int(found["wait"]),
        until_ms=int(found["until"]),
        probe=found["probe"],
        cause=found["cause"],
    )


def _low(flat: Sequence[Any]) -> list[LowTask]:
    return [LowTask(task_id=task, version=version, aside=int(aside)) for task, version, aside in _groups(flat, 3)]
