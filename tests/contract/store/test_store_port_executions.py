"""The persistence port: executions, and the reads that queues, schedulers and sweeps live on."""

from dataclasses import replace

import pytest

from easyq_store.domain.records import DueHead, Execution, Failure, Head, HeldHead, Needs, Planned
from easyq_store.domain.states import ENDED, ExecutionState, FailureReason, Outcome, Trigger
from easyq_store.ports import ExecutionFilter, Persistence, Place, Steps
from tests.contract.store.conftest import Backend
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, execution, job

FULL = execution(
    "full-1",
    attempt=3,
    fence=4,
    trigger=Trigger.RETRY,
    state=ExecutionState.FAILED,
    epoch=5,
    priority=-100,
    queue_seq=2**40,
    spec_revision=2,
    latest_start=T0 + 1,
    retries_used=1,
    infra_used=2,
    queued_at=T0 + 2,
    assigned_at=T0 + 3,
    started_at=T0 + 4,
    finished_at=T0 + 5,
    stop_requested_at=T0 + 6,
    agent_id="host-a",
    session=9,
    pool="default",
    container_id="c0ffee",
    image_digest="sha256:1",
    outcome=Outcome.EXITED,
    exit_code=75,
    failure=Failure(reason=FailureReason.NONZERO_EXIT, message="exit code 75 · ü"),
    stdout_size=0,
    stderr_size=2**33,
    stdout_truncated=True,
    stderr_truncated=True,
    logs_complete=True,
    ran_ms=1234,
    next=Planned(
        execution_id="full-2",
        attempt=4,
        fence=5,
        trigger=Trigger.RETRY,
        due_at=T0 + 7,
        series_due_at=T0,
        needs=Needs(memory=5, labels=(("gpu", "a100"),)),
    ),
    unsettled_since=T0 + 8,
    fire_at=T0 - 1,
    needs=Needs(cpu_millis=1500, memory=2**40, gpus=-1, labels=(("gpu", "a100"), ("zone", "ü"))),
    image="registry.example:5000/team/echo@sha256:1",
)


async def put(store: Persistence, *executions: Execution) -> list[bool]:
    async def plan(steps: Steps) -> list[bool]:
        return [await steps.insert_execution(made) for made in executions]

    return await store.run(plan)


async def change(store: Persistence, execution_id: str, **fields: object) -> Execution | None:
    return await store.run(
        lambda steps: steps.change_execution(execution_id, lambda old: replace(old, **fields))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("made", [execution(), FULL], ids=["plain", "full"])
async def test_an_execution_comes_back_as_it_was_put(backend: Backend, made: Execution) -> None:
    async with backend() as store:
        assert await put(store, made) == [True]
    async with backend() as store:
        assert await store.reads.get_execution(made.execution_id) == made
        assert await store.run(lambda steps: steps.get_execution(made.execution_id)) == made


async def test_unknown_executions_are_none(store: Persistence) -> None:
    assert await store.reads.get_execution("nobody") is None
    assert await change(store, "nobody", epoch=2) is None
    assert await store.reads.newest_execution("nobody") is None
    assert await store.reads.next_attempt("nobody", 0) is None


async def test_neither_an_id_nor_an_attempt_is_inserted_twice(store: Persistence) -> None:
    other = execution("job-1-2", state=ExecutionState.SCHEDULED)
    assert await put(store, execution(), execution(epoch=3), other) == [True, False, False]
    assert await put(store, execution("job-2-1")) == [True]
    assert await store.reads.get_execution("job-1-1") == execution()
    assert await store.reads.get_execution("job-1-2") is None


async def test_every_field_of_an_execution_can_be_changed(store: Persistence) -> None:
    await put(store, execution("full-1"))
    kept = {"execution_id", "job_id", "task_id", "write_no", "attempt", "created_at"}
    fields = {name: getattr(FULL, name) for name in Execution.__dataclass_fields__ if name not in kept}
    changed = await change(store, "full-1", **fields)
    assert changed == replace(FULL, attempt=1, write_no=2)
    assert await store.reads.get_execution("full-1") == changed
    assert await store.run(lambda steps: steps.change_execution("full-1", lambda old: old)) == changed
    assert await change(store, "full-1", failure=None, next=None, exit_code=None, outcome=None) == replace(
        changed, failure=None, next=None, exit_code=None, outcome=None, write_no=3
    )


async def test_executions_of_a_job(store: Persistence) -> None:
    first = execution("job-1-1", state=ExecutionState.LOST)
    second = execution("job-1-2", attempt=2, state=ExecutionState.RUNNING)
    third = execution("job-1-3", attempt=3, state=ExecutionState.SCHEDULED)
    await put(store, third, first, second, execution("job-2-1"))
    assert await store.reads.newest_execution("job-1") == third
    assert await store.reads.executions_of("job-1", 2) == [third, second]
    assert await store.reads.open_executions("job-1") == [second, third]
    assert await store.reads.next_attempt("job-1", 0) == first
    assert await store.reads.next_attempt("job-1", 1) == second
    assert await store.reads.next_attempt("job-1", 3) is None


async def test_a_series_is_open_until_its_successor_is_there(store: Persistence) -> None:
    async def is_atomic(steps: Steps) -> bool:
        return steps.atomic

    ended = execution("job-1-1", state=ExecutionState.FAILED, next=FULL.next, unsettled_since=T0)
    waiting = execution("job-1-2", attempt=2)
    followed = execution("job-1-3", attempt=3, state=ExecutionState.FAILED, next=FULL.next)
    final = execution("job-1-4", attempt=4, state=ExecutionState.FAILED, unsettled_since=T0)
    await put(store, final, followed, waiting, ended, execution("job-2-1"))
    expected = [waiting] if await store.run(is_atomic) and not isinstance(store, FakePersistence) else [ended, waiting]
    assert await store.reads.open_series("job-1") == expected
    assert await store.run(lambda steps: steps.open_series("job-1")) == expected
    assert await store.reads.open_executions("job-1") == [waiting]
    await change(store, "job-1-1", unsettled_since=None)
    await change(store, "job-1-2", state=ExecutionState.STOPPED)
    assert await store.reads.open_series("job-1") == []


async def test_places_in_line_only_grow_even_over_a_restart(backend: Backend) -> None:
    async def three(steps: Steps) -> list[int]:
        return [await steps.next_seq() for _ in range(3)]

    async with backend() as store:
        assert await store.reads.last_seq() == 0
        given = await store.run(three)
        assert given[0] >= 1
        assert given == sorted(set(given))
        assert await store.reads.last_seq() >= given[-1]
    async with backend() as store:
        assert await store.reads.last_seq() >= given[-1]
        again = await store.run(three)
        assert again[0] > given[-1]


def head(made: Execution) -> Head:
    return Head(
        execution_id=made.execution_id,
        task_id=made.task_id,
        priority=made.priority,
        queue_seq=made.queue_seq,
        epoch=made.epoch,
        needs=made.needs,
        image=made.image,
    )


async def test_queues(store: Persistence) -> None:
    low = execution("a-1", queue_seq=1, priority=-5)
    first = execution("b-1", queue_seq=2, epoch=3, needs=FULL.needs, image="echo:1")
    second = execution("c-1", queue_seq=7)
    high = execution("d-1", queue_seq=9, priority=100)
    other = execution("e-1", queue_seq=4, task_id="alpha")
    await put(store, high, low, second, other, first)
    await put(store, *(execution(f"{s.name}-1", state=s, queue_seq=5) for s in ENDED))
    await put(store, execution("f-1", queue_seq=6), execution("g-1", state=ExecutionState.SCHEDULED))
    await change(store, "f-1", state=ExecutionState.ASSIGNED)

    reads = store.reads
    assert await reads.queued_after(0, 100) == [head(e) for e in (low, first, other, second, high)]
    assert await reads.queued_after(2, 2) == [head(other), head(second)]
    assert await reads.queued_after(9, 2) == []
    assert await reads.task_queue("mail", 100) == [head(e) for e in (high, first, second, low)]
    assert await reads.task_queue("mail", 2) == [head(high), head(first)]
    assert await reads.task_queue("nobody", 2) == []
    assert await reads.waiting("mail", 100) == [high, first, second, low]
    assert await reads.waiting("mail", 2) == [high, first]
    assert await reads.waiting("nobody", 2) == []
    assert await reads.queued_tasks("", 10) == ["alpha", "mail"]
    assert await reads.queued_tasks("alpha", 10) == ["mail"]
    assert await reads.queued_tasks("", 1) == ["alpha"]
    await change(store, "e-1", state=ExecutionState.STOPPED)
    assert await reads.queued_tasks("", 10) == ["mail"]
    await change(store, "f-1", state=ExecutionState.QUEUED)
    assert [h.queue_seq for h in await reads.task_queue("mail", 3)] == [9, 2, 6]


async def test_the_list_of_queued_tasks_is_complete_however_many_wait(store: Persistence) -> None:
    names = [f"task-{n:03}" for n in range(120)]
    await put(store, *(execution(f"{n}{i}-1", task_id=n, queue_seq=i + 1) for n in names for i in range(3)))
    found: list[str] = []
    while page := await store.reads.queued_tasks(found[-1] if found else "", 50):
        found += page
    assert found == names


async def test_held_ones(store: Persistence) -> None:
    def held(made: Execution) -> HeldHead:
        return HeldHead(
            execution_id=made.execution_id,
            task_id=made.task_id,
            agent_id=made.agent_id,
            session=made.session,
            pool=made.pool,
            epoch=made.epoch,
            needs=made.needs,
        )

    where = {"agent_id": "host-a", "session": 2, "pool": "p", "epoch": 4, "needs": FULL.needs}
    assigned = execution("a-1", state=ExecutionState.ASSIGNED, **where)
    running = execution("b-1", state=ExecutionState.RUNNING, **where)
    elsewhere = execution("c-1", state=ExecutionState.RUNNING, agent_id="host-b")
    ended = execution("d-1", state=ExecutionState.SUCCEEDED, **where)
    await put(store, ended, elsewhere, running, assigned, execution("e-1"))
    reads = store.reads
    assert await reads.held("", 10) == [held(assigned), held(running), held(elsewhere)]
    assert await reads.held("a-1", 1) == [held(running)]
    assert await reads.held("", 10, "host-a") == [held(assigned), held(running)]
    assert await reads.held("a-1", 10, "host-b") == [held(elsewhere)]
    assert await reads.held("", 10, "nobody") == []
    assert await reads.held_by("host-a") == [assigned, running]
    assert await store.run(lambda steps: steps.held_by("host-b")) == [elsewhere]
    await change(store, "b-1", state=ExecutionState.LOST)
    assert await reads.held_by("host-a") == [assigned]


async def test_what_is_due(store: Persistence) -> None:
    planned = [
        execution(f"{name}-1", state=ExecutionState.SCHEDULED, due_at=T0 + at, epoch=at)
        for name, at in (("a", 30), ("b", 10), ("c", 20))
    ]
    await put(store, *planned, execution("q-1", due_at=T0), execution("r-1", state=ExecutionState.STOPPED))
    b, c = (DueHead(execution_id=f"{n}-1", epoch=at, due_at=T0 + at) for n, at in (("b", 10), ("c", 20)))
    assert await store.reads.due(T0 + 9, 10) == []
    assert await store.reads.due(T0 + 20, 10) == [b, c]
    assert await store.reads.due(T0 + 99, 1) == [b]
    assert await store.reads.next_due(0) == T0 + 10
    assert await store.reads.next_due(T0 + 10) == T0 + 20
    for name in ("a-1", "b-1", "c-1"):
        await change(store, name, state=ExecutionState.QUEUED)
    assert await store.reads.next_due(0) is None


async def test_what_has_expired(store: Persistence) -> None:
    await put(
        store,
        execution("a-1", state=ExecutionState.SCHEDULED, latest_start=T0 + 20),
        execution("b-1", latest_start=T0 + 10),
        execution("c-1"),
        execution("d-1", latest_start=T0, state=ExecutionState.ASSIGNED),
        execution("e-1", latest_start=T0, state=ExecutionState.EXPIRED),
    )
    assert await store.reads.next_expiry(0) == T0 + 10
    assert await store.reads.next_expiry(T0 + 10) == T0 + 20
    assert await store.reads.expired(T0 + 10, 10) == []
    assert await store.reads.expired(T0 + 21, 10) == ["b-1", "a-1"]
    assert await store.reads.expired(T0 + 21, 1) == ["b-1"]
    for name in ("a-1", "b-1"):
        await change(store, name, state=ExecutionState.EXPIRED)
    assert await store.reads.next_expiry(0) is None


async def test_what_is_not_settled(store: Persistence) -> None:
    async def jobs(steps: Steps) -> None:
        for name, since in (("x", T0 + 2), ("y", T0 + 1), ("z", None)):
            await steps.insert_job(job(name, unsettled_since=since))

    await store.run(jobs)
    await put(
        store,
        execution("a-1", unsettled_since=T0 + 2),
        execution("b-1", unsettled_since=T0 + 1),
        execution("c-1"),
    )
    reads = store.reads
    assert await reads.unsettled_jobs(T0 + 1, 10) == []
    assert await reads.unsettled_jobs(T0 + 3, 10) == ["y", "x"]
    assert await reads.unsettled_jobs(T0 + 3, 1) == ["y"]
    assert await reads.unsettled_executions(T0 + 2, 10) == ["b-1"]
    await change(store, "b-1", unsettled_since=None)
    assert await reads.unsettled_executions(T0 + 9, 10) == ["a-1"]


@pytest.fixture
async def listed(store: Persistence) -> Persistence:
    oom = Failure(reason=FailureReason.OOM_KILLED)
    lost = Failure(reason=FailureReason.HOST_LOST)
    failed = ExecutionState.FAILED
    await put(
        store,
        execution(
            "j1-1",
            created_at=T0 + 1,
            state=failed,
            failure=oom,
            exit_code=137,
            agent_id="host-a",
            image="echo:1",
            finished_at=T0 + 9,
        ),
        execution(
            "j1-2",
            attempt=2,
            created_at=T0 + 2,
            state=ExecutionState.LOST,
            failure=lost,
            trigger=Trigger.RETRY,
            agent_id="host-b",
            image="echo",
            finished_at=T0 + 8,
        ),
        execution("j1-3", attempt=3, created_at=T0 + 3, trigger=Trigger.INFRA_RETRY, image="echo2"),
        execution(
            "j2-1",
            created_at=T0 + 3,
            task_id="other",
            state=failed,
            failure=oom,
            exit_code=3,
            agent_id="host-a",
            finished_at=T0 + 7,
        ),
        execution("j3-1", created_at=T0 + 4, state=ExecutionState.RUNNING, agent_id="host-a", exit_code=0),
    )
    return store


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (ExecutionFilter(), ["j3-1", "j2-1", "j1-3", "j1-2", "j1-1"]),
        (ExecutionFilter(task_id="mail"), ["j3-1", "j1-3", "j1-2", "j1-1"]),
        (ExecutionFilter(job_id="j1"), ["j1-3", "j1-2", "j1-1"]),
        (ExecutionFilter(job_id="j1", task_id="other"), []),
        (ExecutionFilter(states=(ExecutionState.FAILED,)), ["j2-1", "j1-1"]),
        (ExecutionFilter(states=(ExecutionState.FAILED, ExecutionState.RUNNING)), ["j3-1", "j2-1", "j1-1"]),
        (ExecutionFilter(task_id="mail", states=(ExecutionState.FAILED, ExecutionState.LOST)), ["j1-2", "j1-1"]),
        (ExecutionFilter(job_id="j1", states=(ExecutionState.LOST,)), ["j1-2"]),
        (ExecutionFilter(reasons=(FailureReason.OOM_KILLED,)), ["j2-1", "j1-1"]),
        (ExecutionFilter(reasons=(FailureReason.OOM_KILLED, FailureReason.HOST_LOST)), ["j2-1", "j1-2", "j1-1"]),
        (ExecutionFilter(reasons=(FailureReason.OOM_KILLED,), task_id="mail"), ["j1-1"]),
        (ExecutionFilter(created_from=T0 + 2, created_before=T0 + 4), ["j2-1", "j1-3", "j1-2"]),
        (ExecutionFilter(job_id="j1", created_from=T0 + 2), ["j1-3", "j1-2"]),
        (ExecutionFilter(exit_codes=(137,)), ["j1-1"]),
        (ExecutionFilter(exit_codes=(3, 137)), ["j2-1", "j1-1"]),
        (ExecutionFilter(exit_codes=(0, 137)), ["j3-1", "j1-1"]),
        (ExecutionFilter(exit_codes=(3,), task_id="mail"), []),
        (ExecutionFilter(exit_codes=(3,), reasons=(FailureReason.OOM_KILLED,), task_id="other"), ["j2-1"]),
        (ExecutionFilter(agent_id="host-a"), ["j3-1", "j2-1", "j1-1"]),
        (ExecutionFilter(agent_id="host-a", states=(ExecutionState.FAILED,), task_id="mail"), ["j1-1"]),
        (ExecutionFilter(triggers=(Trigger.RETRY, Trigger.INFRA_RETRY)), ["j1-3", "j1-2"]),
        (ExecutionFilter(image="echo"), ["j1-2", "j1-1"]),
        (ExecutionFilter(image="echo:1", job_id="j1"), ["j1-1"]),
        (ExecutionFilter(ended_from=T0 + 8), ["j1-2", "j1-1"]),
        (ExecutionFilter(ended_from=T0 + 7, ended_before=T0 + 9), ["j2-1", "j1-2"]),
    ],
)
async def test_lists_of_executions_in_whole_and_in_pages(
    listed: Persistence, where: ExecutionFilter, expected: list[str]
) -> None:
    found = await listed.reads.list_executions(where, None, 100)
    assert [made.execution_id for made in found] == expected
    paged: list[Execution] = []
    place: Place | None = None
    while page := await listed.reads.list_executions(where, place, 2):
        assert len(page) <= 2
        paged += page
        place = Place(created_at=page[-1].created_at, id=page[-1].execution_id)
    assert paged == found


@pytest.mark.parametrize(
    "where",
    [
        ExecutionFilter(),
        ExecutionFilter(job_id="j1"),
        ExecutionFilter(task_id="mail", states=(ExecutionState.FAILED, ExecutionState.LOST)),
        ExecutionFilter(reasons=(FailureReason.OOM_KILLED, FailureReason.HOST_LOST)),
        ExecutionFilter(created_from=T0 + 2, created_before=T0 + 4),
    ],
)
async def test_oldest_first_is_newest_first_backwards(listed: Persistence, where: ExecutionFilter) -> None:
    newest = await listed.reads.list_executions(where, None, 100)
    assert newest
    oldest = replace(where, oldest=True)
    found: list[Execution] = []
    place: Place | None = None
    while page := await listed.reads.list_executions(oldest, place, 2):
        found += page
        place = Place(created_at=page[-1].created_at, id=page[-1].execution_id)
    assert found == newest[::-1]


@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        ExecutionFilter(agent_id="host-a"),
        ExecutionFilter(task_id="mail", exit_codes=(0,)),
        ExecutionFilter(job_id="j1", triggers=(Trigger.RETRY,)),
        ExecutionFilter(states=(ExecutionState.FAILED, ExecutionState.RUNNING), exit_codes=(0, 3)),
    ],
)
async def test_a_page_looks_at_so_many(listed: Persistence, where: ExecutionFilter, *, oldest: bool) -> None:
    where = replace(where, oldest=oldest)
    expected = await listed.reads.list_executions(where, None, 9)
    found: list[Execution] = []
    after: Place | None = None
    for _ in range(20):
        page = await listed.reads.list_executions(where, after, 2, examine=1)
        found += page
        after = Place(created_at=page[-1].created_at, id=page[-1].execution_id) if len(page) == 2 else page.stopped
        if after is None:
            break
    assert found == expected


async def test_executions_by_beginning(listed: Persistence) -> None:
    found = await listed.reads.executions_beginning("j1-", 2)
    assert [made.execution_id for made in found] == ["j1-1", "j1-2"]
