"""Notifications of an end are as durable as the end: the process dies between any two steps of any plan."""

from typing import Any

import pytest

from easyq.v1.notify_pb2 import Notify, Webhook, Webhooks
from tests.fakes.store import FakePersistence
from tests.support.store_world import Crash, World
from tests.unit.store.test_store_crashes import FLOWS, Flow, again, settled

HOOK = Webhook(url="http://hook.test/x")
WISH: dict[str, Any] = {
    "webhooks": Webhooks(succeeds=[HOOK], fails=[HOOK], finishes=[HOOK, HOOK]),
    "notify": Notify(succeeds=["a@example.org"], finishes=["a@EXAMPLE.org", "b@example.org"]),
}


def told(world: World) -> object:
    deliveries = world.store.tables.deliveries.values()
    return sorted((d.delivery_id, d.execution_id, d.event, d.channel, d.outcome, d.state) for d in deliveries)


async def prepared(flow: Flow) -> World:
    world = World(store=FakePersistence(atomic=False), extra=WISH)
    await flow.prepare(world)
    return world


def ends(world: World) -> set[str]:
    """Executions with which a job ended."""
    return {e.execution_id for e in world.store.tables.executions.values() if e.ended and e.next is None}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: str(flow.name))
async def test_no_end_goes_untold_and_none_is_told_twice(flow: Flow) -> None:
    undisturbed = await prepared(flow)
    total = 0

    async def count(_: str) -> None:
        nonlocal total
        total += 1

    undisturbed.store.between = count
    await flow.act(undisturbed)
    steps = total
    await settled(undisturbed)
    assert {d.execution_id for d in undisturbed.store.tables.deliveries.values()} == ends(undisturbed)
    for number in range(steps):
        world = await prepared(flow)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await settled(world)
        # Nobody has called again: whatever end is written is told.
        assert {d.execution_id for d in world.store.tables.deliveries.values()} == ends(world)
        await again(flow, world)
        await settled(world)
        assert told(world) == told(undisturbed), f"after a crash before write {number} of {steps}"
