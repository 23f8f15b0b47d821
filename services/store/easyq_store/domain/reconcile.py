"""What an agent has to do so that its host and the store agree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState, Phase


class Order(Enum):
    """Kinds of directives. Numbers of `easyq_internal.store.v1.Directive.Order.Kind`."""

    RUN = 1
    ADOPT = 2
    STOP = 3
    KILL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One execution that an agent has on its host."""

    execution_id: str
    epoch: int
    phase: Phase | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Directive:
    """One order. Repeatable. `execution` is set for all but KILL."""

    order: Order
    execution_id: str
    epoch: int
    execution: Execution | None = None


def reconcile(inventory: Sequence[Item], held: Iterable[Execution], *, adopt_all: bool = False) -> list[Directive]:
    """Compares an agent's inventory with the executions that it holds by the store.

    `adopt_all`: it has just said hello, so that what it has and holds is told as well (ADOPT).
    """
    present = {(item.execution_id, item.epoch): item for item in inventory}
    orders: list[Directive] = []
    for execution in held:
        item = present.pop((execution.execution_id, execution.epoch), None)
        order = _order(execution, item, adopt_all=adopt_all)
        if order is not None:
            orders.append(
                Directive(
                    order=order,
                    execution_id=execution.execution_id,
                    epoch=execution.epoch,
                    execution=execution,
                )
            )
    orders += (Directive(order=Order.KILL, execution_id=id_, epoch=epoch) for id_, epoch in present)
    return orders


def _order(execution: Execution, item: Item | None, *, adopt_all: bool) -> Order | None:
    if execution.stop_requested_at is not None and (item is not None or execution.state is ExecutionState.ASSIGNED):
        return Order.STOP
    if item is None:
        return Order.RUN if execution.state is ExecutionState.ASSIGNED else Order.ADOPT
    return Order.ADOPT if adopt_all else None
