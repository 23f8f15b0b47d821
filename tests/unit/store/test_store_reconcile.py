"""What an agent is told so that its host and the store agree."""

import pytest

from easyq_store.domain.reconcile import Item, Order, reconcile
from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState, Phase
from tests.support.store_records import T0, execution

ASSIGNED = execution("a-1", state=ExecutionState.ASSIGNED, epoch=2)
RUNNING = execution("r-1", state=ExecutionState.RUNNING, epoch=3)
STOPPING = execution("s-1", state=ExecutionState.RUNNING, epoch=4, stop_requested_at=T0)
EARLY = execution("t-1", state=ExecutionState.ASSIGNED, epoch=5, stop_requested_at=T0)


def told(inventory: list[Item], *held: Execution, hello: bool = False) -> list[tuple[str, str, int]]:
    orders = reconcile(inventory, held, adopt_all=hello)
    for order in orders:
        assert (order.execution is None) is (order.order is Order.KILL)
    return [(order.order.name, order.execution_id, order.epoch) for order in orders]


def has(made: Execution, epoch: int | None = None) -> Item:
    return Item(execution_id=made.execution_id, epoch=epoch or made.epoch, phase=Phase.RUNNING)


def test_nothing_to_tell() -> None:
    assert told([]) == []
    assert told([has(ASSIGNED), has(RUNNING)], ASSIGNED, RUNNING) == []


def test_what_it_does_not_have() -> None:
    assert told([], ASSIGNED, RUNNING) == [("RUN", "a-1", 2), ("ADOPT", "r-1", 3)]


@pytest.mark.parametrize("hello", [True, False])
def test_what_is_to_be_stopped(hello: bool) -> None:
    assert told([has(STOPPING), has(EARLY)], STOPPING, EARLY, hello=hello) == [
        ("STOP", "s-1", 4),
        ("STOP", "t-1", 5),
    ]
    assert told([], STOPPING, EARLY, hello=hello) == [("ADOPT", "s-1", 4), ("STOP", "t-1", 5)]


def test_what_is_not_its_own_any_more() -> None:
    stranger = Item(execution_id="x-1", epoch=9)
    assert told([stranger, has(RUNNING, epoch=2)], RUNNING) == [
        ("ADOPT", "r-1", 3),
        ("KILL", "x-1", 9),
        ("KILL", "r-1", 2),
    ]


def test_at_hello_everything_is_told() -> None:
    assert told([has(ASSIGNED), has(RUNNING)], ASSIGNED, RUNNING, hello=True) == [
        ("ADOPT", "a-1", 2),
        ("ADOPT", "r-1", 3),
    ]
