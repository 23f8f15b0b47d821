"""Ledger, outbox and roster."""

from __future__ import annotations

import asyncio

import pytest

from easyq_chassis.errors import Aborted, Unavailable
from easyq_dispatcher.domain.agents import Agent
from easyq_dispatcher.domain.records import Head, Place, Released, Taking
from easyq_dispatcher.messages import Farewell, Orders, Outgoing, Results, Runs
from easyq_dispatcher.usecases import ledger as ledger_module
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_dispatcher.usecases.outbox import Outbox
from easyq_dispatcher.usecases.roster import AgentLink, Roster
from easyq_internal.store.v1.records_pb2 import Assignment, Directive, ReportResult


def head(number: int) -> Head:
    return Head(execution_id=f"x{number}", task_id="t", priority=0, queue_seq=number, epoch=1)


TAKING = Taking(head=head(1), token="1.1", agent_id="a", session=1, pool="default")
PLACE = Place(execution_id="x2", token="1.2", agent_id="a", confirmed=False)


# -------------------------------------------------------------------------------------------------------------- ledger
def test_a_ledger_hands_out_once_what_it_was_told() -> None:
    wakes: list[bool] = []
    ledger = Ledger(wake=lambda: wakes.append(True))
    assert not ledger
    ledger.ready([head(1)])
    ledger.released([Released(execution_id="x9", epoch=2)])
    ledger.dropped([TAKING])
    assert len(wakes) == 3
    ledger.confirmed([PLACE])
    assert len(wakes) == 3
    assert ledger
    changes = ledger.take()
    assert changes.dropped == [("x1", "1.1")]
    assert changes.confirmed == [("x2", "1.2")]
    assert changes.released == [Released(execution_id="x9", epoch=2)]
    assert changes.ready == [head(1)]
    assert not ledger
    assert not ledger.take()
    ledger.put_back(changes)
    assert ledger.take() == changes


def test_no_head_overtakes_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_AT_ONCE", 2)
    ledger = Ledger(wake=lambda: None)
    ledger.released([Released(execution_id=f"x{number}", epoch=2) for number in range(3)])
    ledger.ready([head(2)])
    assert ledger.take().ready == []
    last = ledger.take()
    assert (len(last.released), last.ready) == (1, [head(2)])


def test_heads_beyond_a_bound_are_dropped_and_missed() -> None:
    ledger = Ledger(wake=lambda: None)
    lost = []
    for count in (ledger_module.MOST_HEADS, 1):
        ledger.ready(head(number) for number in range(count))
        lost.append(ledger.lost_heads)
    assert lost == [False, True]
    taken = 0
    while changes := ledger.take():
        taken += len(changes.ready)
    assert taken == ledger_module.MOST_HEADS


# -------------------------------------------------------------------------------------------------------------- outbox
async def collect(outbox: Outbox) -> list[Outgoing]:
    return [message async for message in outbox.messages()]


async def test_an_outbox_joins_what_belongs_together_and_says_farewell_last() -> None:
    outbox = Outbox()
    outbox.put(Farewell())
    outbox.orders([Directive(execution_id="c")])
    outbox.results([ReportResult(execution_id="b")])
    outbox.runs([Assignment(execution_id="a1")])
    outbox.runs([Assignment(execution_id="a2")])
    outbox.close()
    runs, results, orders, farewell = await collect(outbox)
    assert isinstance(runs, Runs)
    assert [item.execution_id for item in runs.items] == ["a1", "a2"]
    assert isinstance(results, Results)
    assert isinstance(orders, Orders)
    assert isinstance(farewell, Farewell)


async def test_an_outbox_waits_for_more() -> None:
    outbox = Outbox()
    messages = outbox.messages()
    first = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    outbox.runs([Assignment()])
    assert isinstance(await first, Runs)
    second = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    assert not second.done()
    outbox.close()
    with pytest.raises(StopAsyncIteration):
        await second


async def test_an_outbox_closed_with_an_error_ends_with_the_first_one() -> None:
    outbox = Outbox()
    outbox.runs([Assignment()])
    outbox.close(Aborted("first"))
    outbox.close(Unavailable("second"))
    with pytest.raises(Aborted, match="first"):
        await collect(outbox)


async def test_what_comes_while_the_last_is_sent_is_sent_as_well() -> None:
    outbox = Outbox()
    messages = outbox.messages()
    outbox.runs([Assignment()])
    outbox.close()
    assert isinstance(await anext(messages), Runs)
    outbox.results([ReportResult()])
    assert isinstance(await anext(messages), Results)


# -------------------------------------------------------------------------------------------------------------- roster
def link(name: str = "a", *, session: int = 1, slots: int = 2, room: int | None = None) -> AgentLink:
    return AgentLink(
        Agent(
            agent_id=name,
            session=session,
            pools=("default",),
            slots=slots,
            healthy=True,
            message="",
            room=slots if room is None else room,
        )
    )


async def test_a_newer_link_of_an_agent_takes_the_place_of_the_older() -> None:
    roster = Roster(wake=lambda: None)
    old, new = link(session=1), link(session=2)
    roster.add(old)
    roster.add(new)
    with pytest.raises(Aborted):
        await collect(old.outbox)
    roster.remove(old)
    assert roster.get("a") is new
    assert roster.get("a", 1) is None
    roster.remove(new)
    assert roster.links() == []


def test_seats_are_those_with_room_the_most_first() -> None:
    roster = Roster(wake=lambda: None)
    for one in (link("full", room=0), link("some", slots=4, room=1), link("much", slots=4), link("away", slots=4)):
        roster.add(one)
    away = roster.get("away")
    assert away
    roster.update(away, away.agent.with_health(healthy=False, message=""))
    seats = roster.seats()
    assert [seat.agent_id for seat in seats] == ["much", "some"]
    roster.set_rooms(seats, [0, 0])
    assert roster.seats() == []
    roster.assume_room()
    assert [seat.agent_id for seat in roster.seats()] == ["some", "much", "full"]


def test_what_may_make_an_agent_free_for_work_wakes() -> None:
    wakes: list[bool] = []
    roster = Roster(wake=lambda: wakes.append(True))
    one = link(room=0)
    roster.add(one)
    roster.freed(one, 1)
    assert (len(wakes), one.agent.room) == (2, 1)
    roster.update(one, one.agent.with_health(healthy=False, message="x"))
    assert len(wakes) == 2
    roster.update(one, one.agent.with_health(healthy=True, message=""))
    assert len(wakes) == 3


def test_rooms_of_agents_that_left_meanwhile_are_ignored() -> None:
    roster = Roster(wake=lambda: None)
    one = link(session=1)
    roster.add(one)
    seats = roster.seats()
    roster.add(link(session=2))
    roster.set_rooms(seats, [0])
    assert len(roster.seats()) == 1


async def test_a_link_is_quiet_while_no_assign_is_under_way() -> None:
    one = link()
    assert one.quiet.is_set()
    one.count_assigns(2)
    one.count_assigns(-1)
    assert not one.quiet.is_set()
    one.count_assigns(-1)
    assert one.quiet.is_set()


async def test_dismissed_agents_look_elsewhere() -> None:
    roster = Roster(wake=lambda: None)
    one = link()
    roster.add(one)
    roster.dismiss()
    with pytest.raises(Unavailable):
        await collect(one.outbox)
