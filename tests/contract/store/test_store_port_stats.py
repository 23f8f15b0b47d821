"""The persistence port: statistics are added up, read by task and time, and deleted by age."""

from easyq_store.domain.stats import HOUR, MINUTE, Cell
from easyq_store.ports import Persistence
from tests.contract.store.conftest import Backend


def cell(at: int, task_id: str = "mail", span: int = MINUTE, **counts: int) -> Cell:
    return Cell(span=span, at=at * span, task_id=task_id, counts=counts)


async def test_cells_are_added_up(backend: Backend) -> None:
    async with backend() as store:
        await store.run(lambda steps: steps.add_stats([cell(1, j=1, e6_1=2, rm=5, rs=5), cell(2, j=7)]))
        await store.run(lambda steps: steps.add_stats([cell(1, j=1, e5_0=1, rm=3, rs=3), cell(1, "", j=9)]))
    async with backend() as store:
        await store.run(lambda steps: steps.add_stats([cell(1, c=1, wm=0)]))
        found = await store.reads.stats(MINUTE, "mail", MINUTE, 3 * MINUTE)
        assert [(each.at, dict(each.counts)) for each in found] == [
            (MINUTE, {"j": 2, "e6_1": 2, "e5_0": 1, "rm": 5, "rs": 8, "c": 1, "wm": 0}),
            (2 * MINUTE, {"j": 7}),
        ]
        assert await store.reads.stats(MINUTE, "", 0, 9 * MINUTE) == [cell(1, "", j=9)]
        await store.run(lambda steps: steps.add_stats([]))


async def test_a_range_is_of_one_span_and_one_task(store: Persistence) -> None:
    cells = [cell(at, task, j=1) for at in range(12) for task in ("", "a", "a:b", "ab", "b")]
    await store.run(lambda steps: steps.add_stats([*cells, cell(1, "a", HOUR, j=3)]))
    for task in ("", "a", "a:b", "ab"):
        found = await store.reads.stats(MINUTE, task, 2 * MINUTE, 11 * MINUTE)
        assert found == [cell(at, task, j=1) for at in range(2, 11)]
    assert await store.reads.stats(HOUR, "a", 0, 2 * HOUR) == [cell(1, "a", HOUR, j=3)]
    assert await store.reads.stats(HOUR, "a", 0, HOUR) == []
    assert await store.reads.stats(MINUTE, "none", 0, HOUR) == []


async def test_old_cells_are_deleted_in_parts(store: Persistence) -> None:
    cells = [cell(at, task, j=1) for at in range(6) for task in ("a", "b")]
    await store.run(lambda steps: steps.add_stats([*cells, cell(0, "a", HOUR, j=3)]))
    gone = [await store.run(lambda steps: steps.delete_stats(MINUTE, 4 * MINUTE, 5)) for _ in range(3)]
    assert gone == [5, 3, 0]
    assert await store.run(lambda steps: steps.delete_stats(MINUTE, 9 * MINUTE, 0)) == 0
    assert [each.at // MINUTE for each in await store.reads.stats(MINUTE, "b", 0, HOUR)] == [4, 5]
    assert len(await store.reads.stats(HOUR, "a", 0, HOUR)) == 1
