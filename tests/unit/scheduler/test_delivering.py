"""The round that sends notifications: bounds, results, outages."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from easyq_chassis.errors import Unavailable
from easyq_internal.store.v1.delivery_store_pb2 import (
    ClaimDeliveriesResponse,
    ClaimedDelivery,
    RecordDeliveryRequest,
)
from easyq_scheduler.domain.hook import Answer
from easyq_scheduler.domain.tries import Tries
from easyq_scheduler.usecases.delivering import Bounds, DeliveryRound
from tests.support.waiting import eventually


def item(name: str = "d-1", lane: str = "a:80", **fields: Any) -> ClaimedDelivery:
    made = ClaimedDelivery(delivery_id=name, lane=lane, attempt=1, tries=1, **fields)
    made.webhook.url = "http://a/"
    return made


class Store:
    """Gives out what is put in, and notes what was asked and told."""

    def __init__(self) -> None:
        self.due: list[ClaimedDelivery] = []
        self.asked: list[tuple[int, dict[str, int]]] = []
        self.told: list[RecordDeliveryRequest] = []
        self.away = 0

    async def claim(
        self, *, limit: int, lease: float, per_lane: int, per_site: int, under_way: Mapping[str, int]
    ) -> ClaimDeliveriesResponse:
        self.asked.append((limit, dict(under_way)))
        items, self.due = self.due[:limit], self.due[limit:]
        response = ClaimDeliveriesResponse(items=items)
        if self.due:
            response.next_in.FromMilliseconds(0)
        return response

    async def record(self, request: RecordDeliveryRequest) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.told.append(request)


class Sender:
    """Answers as told, once it is let."""

    def __init__(self) -> None:
        self.answer: Answer | Exception = Answer(delivered=True, code=200)
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = self.most = 0

    async def send(self, item: ClaimedDelivery) -> Answer:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Rig:
    """A round over these."""

    def __init__(self, workers: int = 2, lease: float = 30.0) -> None:
        self.store, self.sender = Store(), Sender()
        self.ended = 0
        self.round = DeliveryRound(
            store=self.store,
            senders={"webhook": self.sender},
            tries=Tries(first=4, longest=100, age=1_000),
            bounds=Bounds(workers=workers, per_lane=2, per_site=2, lease=lease),
            share=lambda: 0.0,
            longest=0.5,
            room=self._ended,
        )

    def _ended(self) -> None:
        self.ended += 1

    async def send(self, *items: ClaimedDelivery) -> list[RecordDeliveryRequest]:
        wanted = self.ended + len(items)
        self.store.due += items
        await self.round.run_once()
        await eventually(lambda: self.ended == wanted)
        return self.store.told


async def test_what_was_taken_is_recorded() -> None:
    (told,) = await Rig().send(item())
    assert (told.delivery_id, told.attempt, told.delivered.response_code) == ("d-1", 1, 200)


async def test_what_was_not_taken_is_tried_again_later() -> None:
    rig = Rig()
    rig.sender.answer = Answer(code=500, error="no")
    (told,) = await rig.send(item())
    assert (told.failed.response_code, told.failed.error, told.failed.retry_in.seconds) == (500, "no", 4)
    old = item("d-2")
    old.age.FromSeconds(999)
    await rig.send(old)
    assert not rig.store.told[1].failed.HasField("retry_in")


async def test_what_no_further_try_would_change_is_given_up() -> None:
    rig = Rig()
    rig.sender.answer = Answer(code=410, error="gone", final=True)
    (told,) = await rig.send(item())
    assert not told.failed.HasField("retry_in")
    unknown = ClaimedDelivery(delivery_id="d-9", attempt=1, tries=1)
    await rig.send(unknown)
    assert "version" in rig.store.told[1].failed.error


async def test_a_fault_of_ours_harms_nobody_else() -> None:
    rig = Rig()
    rig.sender.answer = RuntimeError("secret words")
    told = await rig.send(item(), item("d-2"))
    assert len(told) == 2
    assert told[0].failed.error == "EasyQ failed to send it: RuntimeError"
    assert told[0].failed.HasField("retry_in")


async def test_no_more_than_there_is_room_for() -> None:
    rig = Rig(workers=3)
    rig.sender.open.clear()
    rig.store.due = [item(f"d-{n}", lane=f"{n % 2}:80") for n in range(5)]
    await rig.round.run_once()
    assert rig.store.asked == [(3, {})]
    await asyncio.sleep(0)
    assert await rig.round.run_once() == 0.5
    assert len(rig.store.asked) == 1
    rig.sender.open.set()
    await eventually(lambda: rig.ended == 3)
    rig.sender.open.clear()
    await rig.round.run_once()
    assert rig.store.asked[1] == (3, {})
    await asyncio.sleep(0)
    await rig.round.run_once()
    assert rig.store.asked[2] == (1, {"1:80": 1, "0:80": 1})
    rig.sender.open.set()
    await eventually(lambda: rig.ended == 5)
    assert rig.sender.most == 3


async def test_an_outage_of_the_store_is_outlived() -> None:
    rig = Rig()
    rig.store.away = 2
    (told,) = await rig.send(item())
    assert told.HasField("delivered")


async def test_a_result_that_comes_too_late_is_left_to_who_claims_it_next() -> None:
    rig = Rig(lease=0.1)
    rig.store.away = 99
    assert await rig.send(item()) == []
    assert rig.store.away == 98


@pytest.mark.parametrize(("grace", "told"), [(5.0, 1), (0.0, 0)])
async def test_those_under_way_get_a_grace(grace: float, told: int) -> None:
    rig = Rig()
    rig.sender.open.clear()
    rig.store.due = [item()]
    await rig.round.run_once()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, rig.sender.open.set)
    await rig.round.close(grace)
    assert len(rig.store.told) == told


async def test_nothing_to_do() -> None:
    rig = Rig()
    assert await rig.round.run_once() == 0.5
    await rig.round.close(1)
