"""The random interleavings of the unit tests on the real scripts: few examples, each on an empty server."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyq_chassis.errors import Unavailable
from easyq_dispatcher.adapters.redis_index import RedisMatchIndex, connect
from easyq_dispatcher.domain.breakers import Patience
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.ports import MatchIndex
from tests.support import RedisServer
from tests.unit.dispatcher.rig import Rig
from tests.unit.dispatcher.world import HARM, HARMLESS, LIMITS, World, play


class RedisTrouble:
    """What may happen to Redis; its absence is played at the clients."""

    def __init__(self, url: str) -> None:
        self.away = False
        self._client = connect(url, timeout=2)
        self._opened: list[RedisMatchIndex] = []

    async def flush(self) -> None:
        await self._client.flushall()

    async def restart(self) -> None:
        """To the dispatchers it is the same whether the server has another id or the filling is of another server."""
        if await self._client.exists("{test}:v1:state"):
            await self._client.hset("{test}:v1:state", "run_id", "another")

    def index(self, name: str, matching: Matching) -> MatchIndex:
        # Breakers run on Redis's own clock: they half-open at once.
        patience = Patience(failures=2, wait_ms=1, longest_ms=2)
        index = SometimesAway(self, self._client, farm="test", dispatcher=name, matching=matching, patience=patience)
        self._opened.append(index)
        return index

    async def close(self) -> None:
        await self._client.aclose()


class SometimesAway(RedisMatchIndex):
    """Every call fails while it is away."""

    def __init__(self, trouble: RedisTrouble, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._trouble = trouble

    async def _run(self, name: str, generation: int, payload: object) -> Any:
        if self._trouble.away:
            raise Unavailable("Redis: connection refused")
        return await super()._run(name, generation, payload)


step = st.tuples(st.sampled_from(HARMLESS + HARM), st.integers(0, 1))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(step, min_size=40, max_size=80))
def test_limits_hold_and_everything_runs_on_redis(redis_server: RedisServer, steps: list[tuple[str, int]]) -> None:
    redis_server.flush()
    asyncio.run(one(redis_server.url, steps))


async def one(url: str, steps: list[tuple[str, int]]) -> None:
    trouble = RedisTrouble(url)
    # Every unconfirmed take counts as orphaned at once: the harshest, and no waiting for Redis's own clock.
    rig = Rig(limits=LIMITS, make_index=trouble.index, orphan_after=0.0)
    try:
        await play(World(rig, trouble), steps)
    finally:
        await trouble.close()
