"""The persistence port: jobs, specs and tasks."""

from dataclasses import replace

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.records import Failure, Job, Needs, Planned, Schedule, Skip, Task, WaitingFire
from easyq_store.domain.states import ExecutionState, FailureReason, JobState, SkipReason, Trigger
from easyq_store.ports import MOST_SKIPS, Inserted, JobFilter, Persistence, Place, Steps
from tests.contract.store.conftest import Backend
from tests.support.store_records import T0, job

OOM, LATE = Failure(reason=FailureReason.OOM_KILLED), Failure(reason=FailureReason.TIMEOUT)
FULL = job(
    "full",
    state=JobState.RETRYING,
    revision=7,
    spec=bytes(range(256)),
    labels=("a=1", "b=ü=2"),
    metadata=("m.n=1", "ü=x y"),
    last_end=ExecutionState.LOST,
    idempotency_key="key",
    next_run_at=T0 + 5,
    stop_requested_at=T0 + 6,
    attempts=3,
    projected_attempt=3,
    projected_write=9,
    pending=(
        Planned(
            execution_id="next",
            attempt=4,
            fence=4,
            trigger=Trigger.INFRA_RETRY,
            due_at=T0 + 7,
            latest_start=T0 + 8,
            priority=-3,
            spec_revision=7,
            retries_used=2,
            infra_used=1,
            series_due_at=T0,
            fire_at=T0 - 1,
            needs=Needs(cpu_millis=1500, memory=2**40, gpus=-1, labels=(("gpu", "a100"), ("zone", "ü"))),
            image="echo:1",
        ),
        Planned(execution_id="other", attempt=5, fence=5, trigger=Trigger.MANUAL, due_at=T0, series_due_at=T0),
    ),
    unsettled_since=T0 + 9,
    failure=Failure(reason=FailureReason.REGISTRY_BUSY, message="come back later · ü"),
    delete_requested=True,
    schedule=Schedule(
        anchor=T0,
        cursor=T0 + 1,
        next_fire=T0 + 2,
        runs=3,
        skipped=4,
        paused_at=T0 + 5,
        waiting=WaitingFire(nominal=T0, due_at=T0 + 1, trigger=Trigger.MANUAL, execution_id="waits"),
        unkept=(
            Skip(first=T0, last=T0 + 9, count=3, reason=SkipReason.COALESCED, decided_at=T0 + 10),
            Skip(first=T0 + 10, last=T0 + 10, count=1, reason=SkipReason.OVERLAP, decided_at=T0 + 10),
        ),
    ),
    fire_at=T0 + 11,
)


async def put(store: Persistence, *jobs: Job) -> list[Inserted]:
    async def plan(steps: Steps) -> list[Inserted]:
        return [await steps.insert_job(made) for made in jobs]

    return await store.run(plan)


async def change(store: Persistence, job_id: str, **fields: object) -> Job | None:
    return await store.run(lambda steps: steps.change_job(job_id, lambda old: replace(old, **fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize("made", [job(), FULL], ids=["plain", "full"])
async def test_a_job_comes_back_as_it_was_put(backend: Backend, made: Job) -> None:
    async with backend() as store:
        assert await put(store, made) == [Inserted.DONE]
        assert await store.reads.get_job(made.job_id) == made
    async with backend() as store:
        assert await store.reads.get_job(made.job_id) == made
        assert await store.run(lambda steps: steps.get_job(made.job_id)) == made


@pytest.mark.parametrize("schedule", [Schedule(anchor=T0), FULL.schedule])
async def test_a_schedule_that_is_bare_again(store: Persistence, schedule: Schedule) -> None:
    await put(store, job(schedule=schedule, fire_at=T0))
    assert await change(store, "job-1", schedule=Schedule(anchor=T0 + 1), fire_at=None) == job(
        schedule=Schedule(anchor=T0 + 1), write_no=2
    )
    assert await store.reads.get_job("job-1") == job(schedule=Schedule(anchor=T0 + 1), write_no=2)


async def test_schedules_that_are_due(store: Persistence) -> None:
    bare = Schedule(anchor=T0)
    a, b, c = (job(n, fire_at=T0 + at, schedule=bare) for n, at in (("a", 30), ("b", 10), ("c", 20)))
    await put(store, a, b, c, job("d"), job("paused", schedule=bare))
    assert await store.reads.due_schedules(T0 + 9, 10) == []
    assert await store.reads.due_schedules(T0 + 20, 10) == [b, c]
    assert await store.reads.due_schedules(T0 + 99, 1) == [b]
    assert await store.reads.due_schedules(T0 + 99, 0) == []
    assert await store.reads.next_schedule(0) == T0 + 10
    assert await store.reads.next_schedule(T0 + 10) == T0 + 20
    for name in ("a", "b", "c"):
        await change(store, name, fire_at=None)
    assert await store.reads.next_schedule(0) is None


async def test_skips_are_kept_once_and_the_newest_of_each_job(backend: Backend) -> None:
    def skip(first: int, reason: SkipReason = SkipReason.MISFIRED, count: int = 1) -> Skip:
        return Skip(first=T0 + first, last=T0 + first + count, count=count, reason=reason, decided_at=T0)

    async def keep(store: Persistence, *skips: Skip, job_id: str = "job-1") -> None:
        await store.run(lambda steps: steps.keep_skips(job_id, skips))

    async with backend() as store:
        await keep(store)
        await keep(store, skip(1), skip(3, count=7))
        await keep(store, skip(1, count=99), skip(3, SkipReason.OVERLAP))
        await keep(store, skip(2), job_id="job-1x")
    async with backend() as store:
        kept = [skip(3, SkipReason.OVERLAP), skip(3, count=7), skip(1)]
        assert await store.reads.skips("job-1", 10) == kept
        assert await store.reads.skips("job-1", 2) == kept[:2]
        assert await store.reads.skips("job-1", 0) == []
        assert await store.reads.skips("nobody", 10) == []
        await keep(store, *(skip(10 + n) for n in range(MOST_SKIPS)))
        await keep(store, skip(10 + MOST_SKIPS))
        newest = [skip(10 + n) for n in range(MOST_SKIPS, 0, -1)]
        assert await store.reads.skips("job-1", 2 * MOST_SKIPS) == newest
        assert await store.reads.skips("job-1x", 10) == [skip(2)]


async def test_unknown_jobs_are_none(store: Persistence) -> None:
    assert await store.reads.get_job("nobody") is None
    assert await change(store, "nobody", revision=2) is None
    assert await store.reads.get_spec("nobody", 1) is None
    assert await store.reads.get_task("nobody") is None


async def test_a_taken_id_changes_nothing(store: Persistence) -> None:
    await put(store, job(idempotency_key="k"))
    again = await put(store, job(image="other"), job(idempotency_key="k"))
    assert again == [Inserted.ID_TAKEN, Inserted.ID_TAKEN]
    assert await store.reads.get_job("job-1") == job(idempotency_key="k")
    assert await store.reads.get_task("mail") == Task(task_id="mail", created_at=T0, last_job_at=T0, job_count=1)


async def test_idempotency_keys_are_unique_within_their_task_only(store: Persistence) -> None:
    inserted = await put(
        store,
        job("j1", idempotency_key="k"),
        job("j2", idempotency_key="k"),
        job("j3", idempotency_key="k", task_id="other"),
        job("j4"),
        job("j5"),
    )
    assert inserted == [Inserted.DONE, Inserted.KEY_TAKEN, Inserted.DONE, Inserted.DONE, Inserted.DONE]
    assert await store.reads.job_by_key("mail", "k") == job("j1", idempotency_key="k")
    assert await store.reads.job_by_key("mail", "unknown") is None
    assert await store.reads.get_job("j2") is None


async def test_a_change_raises_write_no_and_no_change_does_not(store: Persistence) -> None:
    await put(store, job())
    changed = await change(store, "job-1", state=JobState.RUNNING, pending=FULL.pending)
    assert changed == replace(job(), state=JobState.RUNNING, pending=FULL.pending, write_no=2)
    assert await store.reads.get_job("job-1") == changed
    assert await store.run(lambda steps: steps.change_job("job-1", lambda old: old)) == changed
    assert await store.reads.get_job("job-1") == changed


async def test_every_field_of_a_job_can_be_changed(store: Persistence) -> None:
    await put(store, job("full"))
    kept = {"job_id", "task_id", "write_no", "created_at", "first_execution_id", "idempotency_key"}
    fields = {name: getattr(FULL, name) for name in Job.__dataclass_fields__ if name not in kept}
    changed = await change(store, "full", **fields)
    assert changed == replace(FULL, idempotency_key="", write_no=2)
    assert await store.reads.get_job("full") == changed


async def test_a_plan_sees_its_own_writes(store: Persistence) -> None:
    async def plan(steps: Steps) -> list[Job | None]:
        await steps.insert_job(job())
        first = await steps.get_job("job-1")
        await steps.change_job("job-1", lambda old: replace(old, revision=2))
        return [first, await steps.get_job("job-1")]

    assert await store.run(plan) == [job(), replace(job(), revision=2, write_no=2)]


async def test_plans_of_one_run_fail_each_on_its_own(store: Persistence) -> None:
    async def good(steps: Steps) -> str:
        await steps.insert_job(job("good"))
        return "good"

    async def bad(steps: Steps) -> str:
        await steps.insert_job(job("bad", task_id="bad"))
        raise FailedPrecondition("no")

    async def late(steps: Steps) -> str:
        await steps.insert_job(job("late"))
        return "late"

    first, refused, last = await store.run_all([good, bad, late])
    assert (first, last) == ("good", "late")
    assert isinstance(refused, FailedPrecondition)
    assert refused.message == "no"
    task = await store.reads.get_task("mail")
    assert task is not None
    assert task.job_count == 2
    with pytest.raises(FailedPrecondition, match="no"):
        await store.run(bad)


async def test_a_plan_that_fails_on_an_atomic_backend_is_undone(store: Persistence) -> None:
    async def bad(steps: Steps) -> None:
        await steps.insert_job(job("bad", task_id="bad"))
        await steps.change_job("job-1", lambda old: replace(old, state=JobState.STOPPED))
        raise FailedPrecondition("no")

    async def is_atomic(steps: Steps) -> bool:
        return steps.atomic

    await put(store, job())
    await store.run_all([bad])
    if await store.run(is_atomic):
        assert await store.reads.get_job("bad") is None
        assert await store.reads.get_task("bad") is None
        assert await store.reads.get_job("job-1") == job()
        assert await store.reads.count_jobs() == {JobState.QUEUED: 1}


async def test_changes_beside_each_other_all_count(store: Persistence) -> None:
    async def one(steps: Steps) -> Job | None:
        return await steps.change_job("job-1", lambda old: replace(old, attempts=old.attempts + 1))

    await put(store, job(attempts=0))
    await store.run_all([one] * 20)
    changed = await store.reads.get_job("job-1")
    assert changed is not None
    assert (changed.attempts, changed.write_no) == (20, 21)


async def test_what_was_asked_for_stays_with_its_spec(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        await steps.insert_job(job(spec=b"one", asked=b"a"))
        assert await steps.get_asked("job-1", 1) == b"a"
        await steps.keep_spec("job-1", 1, b"one", b"a")
        await steps.change_job("job-1", lambda old: replace(old, spec=b"two", asked=b"b", revision=2))
        await steps.keep_spec("job-1", 2, b"two", b"b")
        await steps.change_job("job-1", lambda old: replace(old, spec=b"three", asked=None, revision=3))

    await store.run(plan)
    assert [await store.reads.get_asked("job-1", revision) for revision in (1, 2, 3, 4)] == [b"a", b"b", None, None]
    assert await store.reads.get_asked("nobody", 1) is None
    kept = await store.reads.get_job("job-1")
    assert kept is not None
    assert kept.asked is None


async def test_old_specs_stay_where_they_were_kept(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        await steps.insert_job(job(spec=b"one"))
        await steps.keep_spec("job-1", 1, b"one")
        await steps.keep_spec("job-1", 1, b"something else")
        await steps.change_job("job-1", lambda old: replace(old, spec=b"two", revision=2))

    await store.run(plan)
    assert await store.reads.get_spec("job-1", 1) == b"one"
    assert await store.reads.get_spec("job-1", 2) == b"two"
    assert await store.reads.get_spec("job-1", 3) is None
    assert await store.reads.get_asked("job-1", 1) is None
    wanted = [("job-1", 1), ("job-1", 2), ("job-1", 3), ("nobody", 1)]
    assert await store.reads.specs(wanted) == {("job-1", 1): b"one", ("job-1", 2): b"two"}
    assert await store.reads.specs([]) == {}


async def test_tasks_know_their_first_and_last_job(store: Persistence) -> None:
    await put(
        store,
        job("a", task_id="t2", created_at=T0 + 1),
        job("b", task_id="t2", created_at=T0 + 9),
        job("c", task_id="t2", created_at=T0 + 5),
        job("d", task_id="t1", created_at=T0),
        job("e", task_id="t10", created_at=T0),
    )
    t1 = Task(task_id="t1", created_at=T0, last_job_at=T0, job_count=1)
    t10 = replace(t1, task_id="t10")
    t2 = Task(task_id="t2", created_at=T0 + 1, last_job_at=T0 + 9, job_count=3)
    assert await store.reads.get_task("t2") == t2
    assert await store.reads.list_tasks("", 10) == [t1, t10, t2]
    assert await store.reads.list_tasks("t1", 1) == [t10]
    assert await store.reads.tasks_beginning("t1", 10) == [t1, t10]
    assert await store.reads.tasks_beginning("t", 2) == [t1, t10]
    assert await store.reads.tasks_beginning("T", 2) == []


async def test_counts_follow_the_states(store: Persistence) -> None:
    await put(store, job("a"), job("b"), job("c", task_id="other"), job("d", state=JobState.SCHEDULED))
    await change(store, "a", state=JobState.RUNNING)
    await change(store, "a", next_run_at=None)
    assert await store.reads.count_jobs() == {
        JobState.QUEUED: 2,
        JobState.RUNNING: 1,
        JobState.SCHEDULED: 1,
    }
    assert await store.reads.count_jobs("other") == {JobState.QUEUED: 1}
    await change(store, "c", state=JobState.SUCCEEDED)
    assert await store.reads.count_jobs("other") == {JobState.SUCCEEDED: 1}
    assert await store.reads.count_jobs("nobody") == {}


@pytest.fixture
async def listed(store: Persistence) -> Persistence:
    echo, order = "r.example:5000/echo", "order.id=42"
    failed = ExecutionState.FAILED
    await put(
        store,
        job(
            "j1",
            created_at=T0 + 1,
            last_modified_at=T0 + 30,
            labels=("a=1", "b=2"),
            metadata=(order,),
            state=JobState.SUCCEEDED,
            last_end=ExecutionState.SUCCEEDED,
        ),
        job("j2", created_at=T0 + 2, task_id="other", labels=("a=1",), failure=OOM, last_end=failed, image=f"{echo}:1"),
        job("j3", created_at=T0 + 3, state=JobState.RUNNING, metadata=("by=x=y", order)),
        job(
            "j4",
            created_at=T0 + 3,
            last_modified_at=T0 + 40,
            labels=("b=2", "c=3"),
            state=JobState.FAILED,
            failure=OOM,
            last_end=failed,
            image=f"{echo}:1@sha256:00",
        ),
        job(
            "j5",
            created_at=T0 + 4,
            labels=("a=1",),
            state=JobState.RUNNING,
            failure=LATE,
            last_end=ExecutionState.TIMED_OUT,
            image=echo,
        ),
    )
    return store


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (JobFilter(), ["j5", "j4", "j3", "j2", "j1"]),
        (JobFilter(task_id="mail"), ["j5", "j4", "j3", "j1"]),
        (JobFilter(task_id="nobody"), []),
        (JobFilter(states=(JobState.RUNNING,)), ["j5", "j3"]),
        (JobFilter(states=(JobState.FAILED, JobState.QUEUED)), ["j4", "j2"]),
        (JobFilter(task_id="mail", states=(JobState.FAILED, JobState.SUCCEEDED)), ["j4", "j1"]),
        (JobFilter(labels=("a=1",)), ["j5", "j2", "j1"]),
        (JobFilter(labels=("a=1", "b=2")), ["j1"]),
        (JobFilter(labels=("a=1",), task_id="mail", states=(JobState.RUNNING,)), ["j5"]),
        (JobFilter(labels=("a=2",)), []),
        (JobFilter(created_from=T0 + 2, created_before=T0 + 4), ["j4", "j3", "j2"]),
        (JobFilter(task_id="other", created_from=T0 + 2), ["j2"]),
        (JobFilter(states=(JobState.RUNNING, JobState.FAILED), created_before=T0 + 4), ["j4", "j3"]),
        (JobFilter(labels=("a=1",), created_before=T0 + 4), ["j2", "j1"]),
        (JobFilter(reasons=(FailureReason.OOM_KILLED,)), ["j4", "j2"]),
        (JobFilter(reasons=(FailureReason.TIMEOUT, FailureReason.OOM_KILLED), task_id="mail"), ["j5", "j4"]),
        (JobFilter(reasons=(FailureReason.OOM_KILLED,), states=(JobState.FAILED,)), ["j4"]),
        (JobFilter(reasons=(FailureReason.OOM_KILLED,), labels=("a=1",)), ["j2"]),
        (JobFilter(reasons=(FailureReason.OOM_KILLED,), created_before=T0 + 3, kept_only=True), ["j2"]),
        (JobFilter(reasons=(FailureReason.HOST_LOST,)), []),
        (JobFilter(metadata=("order.id=42",)), ["j3", "j1"]),
        (JobFilter(metadata=("order.id=42", "by=x=y")), ["j3"]),
        (JobFilter(metadata=("order.id=42",), labels=("a=1", "b=2")), ["j1"]),
        (JobFilter(metadata=("order.id=42",), states=(JobState.RUNNING,)), ["j3"]),
        (JobFilter(metadata=("order.id=4",)), []),
        (JobFilter(ends=(ExecutionState.FAILED,)), ["j4", "j2"]),
        (JobFilter(ends=(ExecutionState.FAILED, ExecutionState.TIMED_OUT), task_id="mail"), ["j5", "j4"]),
        (JobFilter(ends=(ExecutionState.SUCCEEDED,)), ["j1"]),
        (JobFilter(ends=(ExecutionState.SUCCEEDED, ExecutionState.FAILED)), ["j4", "j2", "j1"]),
        (JobFilter(ends=(ExecutionState.LOST,)), []),
        (JobFilter(image="r.example:5000/echo"), ["j5", "j4", "j2"]),
        (JobFilter(image="r.example:5000/echo:1"), ["j4", "j2"]),
        (JobFilter(image="r.example:5000/echo", states=(JobState.RUNNING,)), ["j5"]),
        (JobFilter(image="r.example:5000/echo", labels=("b=2",)), ["j4"]),
        (JobFilter(image="r.example"), []),
        (JobFilter(image="r.example:5000/ech"), []),
        (JobFilter(image="registry.example:5000/team/echo:1", task_id="mail"), ["j3", "j1"]),
        (JobFilter(ended_from=T0 + 30), ["j4", "j1"]),
        (JobFilter(ended_from=T0 + 30, ended_before=T0 + 40), ["j1"]),
        (JobFilter(ended_before=T0 + 4), []),
        (JobFilter(ended_before=T0 + 41, reasons=(FailureReason.OOM_KILLED,)), ["j4"]),
    ],
)
async def test_lists_of_jobs_in_whole_and_in_pages(listed: Persistence, where: JobFilter, expected: list[str]) -> None:
    found = await listed.reads.list_jobs(where, None, 100)
    assert [made.job_id for made in found] == expected
    assert await listed.reads.count_listed(where) == len(expected)
    paged: list[Job] = []
    place: Place | None = None
    while page := await listed.reads.list_jobs(where, place, 2):
        assert len(page) <= 2
        paged += page
        place = Place(created_at=page[-1].created_at, id=page[-1].job_id)
    assert paged == found


async def _pages(store: Persistence, where: JobFilter, size: int) -> list[str]:
    ids: list[str] = []
    place: Place | None = None
    while page := await store.reads.list_jobs(where, place, size):
        ids += [made.job_id for made in page]
        place = Place(created_at=page[-1].created_at, id=page[-1].job_id)
    return ids


@pytest.mark.parametrize(
    "where",
    [
        JobFilter(),
        JobFilter(task_id="mail"),
        JobFilter(states=(JobState.RUNNING, JobState.FAILED)),
        JobFilter(labels=("a=1",)),
        JobFilter(labels=("a=1", "b=2"), task_id="mail"),
        JobFilter(reasons=(FailureReason.OOM_KILLED, FailureReason.TIMEOUT)),
        JobFilter(created_from=T0 + 2, created_before=T0 + 4),
    ],
)
async def test_oldest_first_is_newest_first_backwards(listed: Persistence, where: JobFilter) -> None:
    newest = [made.job_id for made in await listed.reads.list_jobs(where, None, 100)]
    assert newest
    oldest = replace(where, oldest=True)
    assert [made.job_id for made in await listed.reads.list_jobs(oldest, None, 100)] == newest[::-1]
    assert await _pages(listed, oldest, 2) == newest[::-1]


@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (JobFilter(metadata=("m=1",), states=(JobState.RUNNING,)), ["n3", "n9"]),
        (JobFilter(labels=("l=1",), states=(JobState.RUNNING,)), ["n3", "n9"]),
        (JobFilter(task_id="mail", metadata=("m=1",), states=(JobState.RUNNING, JobState.FAILED)), ["n3", "n6"]),
        (JobFilter(states=(JobState.RUNNING, JobState.QUEUED), ended_from=T0), []),
        (JobFilter(states=(JobState.RUNNING, JobState.FAILED), kept_only=True), ["n3", "n6", "n9"]),
        (JobFilter(image="many", ended_from=T0), ["n6"]),
        (JobFilter(task_id="other", ends=(ExecutionState.SUCCEEDED,)), []),
    ],
)
async def test_a_page_looks_at_so_many(
    store: Persistence, where: JobFilter, expected: list[str], *, oldest: bool
) -> None:
    """It may be short, and goes on where it ended: nothing is missed, nothing told twice, nothing out of order."""
    states = {3: JobState.RUNNING, 6: JobState.FAILED, 9: JobState.RUNNING}
    for number in range(12):
        made = job(
            f"n{number:x}",
            created_at=T0 + number // 2,
            task_id="other" if number == 9 else "mail",
            state=states.get(number, JobState.QUEUED),
            metadata=("m=1",),
            labels=("l=1",),
            image=f"many:{number % 2}",
        )
        await put(store, made)
    where = replace(where, oldest=oldest)
    found: list[str] = []
    after: Place | None = None
    for _ in range(40):
        page = await store.reads.list_jobs(where, after, 2, examine=3)
        found += [made.job_id for made in page]
        if len(page) == 2:
            after = Place(created_at=page[-1].created_at, id=page[-1].job_id)
        elif page.stopped is not None:
            assert page.stopped != after
            after = page.stopped
        else:
            break
    assert found == (expected if oldest else expected[::-1])


async def test_pages_stay_while_jobs_arrive(listed: Persistence) -> None:
    """Newest first, what arrives is before the first page; oldest first, it comes at the end."""
    [first, second] = await listed.reads.list_jobs(JobFilter(), None, 2)
    await put(listed, job("j6", created_at=T0 + 5))
    place = Place(created_at=second.created_at, id=second.job_id)
    rest = await listed.reads.list_jobs(JobFilter(), place, 9)
    assert [made.job_id for made in (first, second, *rest)] == ["j5", "j4", "j3", "j2", "j1"]
    assert (await _pages(listed, JobFilter(oldest=True), 4))[-2:] == ["j5", "j6"]


async def test_jobs_by_beginning_and_by_image(store: Persistence) -> None:
    await put(
        store,
        job("ab1", image="redis:7", created_at=T0),
        job("ab2", image="registry.example/redis:6", created_at=T0 + 1),
        job("b3", image="registry.example/team/echo:1", created_at=T0 + 2),
    )

    async def by_image(prefix: str) -> list[str]:
        return [made.job_id for made in await store.reads.jobs_by_image(prefix, 10)]

    assert [made.job_id for made in await store.reads.jobs_beginning("ab", 10)] == ["ab1", "ab2"]
    assert [made.job_id for made in await store.reads.jobs_beginning("ab", 1)] == ["ab1"]
    assert await by_image("redis") == ["ab2", "ab1"]
    assert await by_image("registry.example/") == ["b3", "ab2"]
    assert await by_image("echo:1") == ["b3"]
    assert await by_image("e%") == []
    assert len(await store.reads.jobs_by_image("r", 1)) == 1


async def test_jobs_by_label(store: Persistence) -> None:
    await put(
        store,
        job("j1", labels=("team=mail", "zone=a")),
        job("j2", labels=("team=mailing",), created_at=T0 + 1),
        job("j3", labels=("zone=team=mail",)),
        job("j4", labels=("team=mail",), created_at=T0 + 2),
        job("j5", labels=("a.b=(x*",)),
    )

    async def by_label(prefix: str) -> list[str]:
        return sorted(made.job_id for made in await store.reads.jobs_by_label(prefix, 10))

    assert await by_label("team=mail") == ["j1", "j2", "j4"]
    assert await by_label("team=maili") == ["j2"]
    assert await by_label("a.b=(x*") == ["j5"]
    assert await by_label("a?b") == []
    assert await by_label("zone") == ["j1", "j3"]
    assert await by_label("mail") == []
    assert len(await store.reads.jobs_by_label("team", 2)) == 2


async def test_plans_read_the_job_that_those_before_them_wrote_and_nothing_undone(store: Persistence) -> None:
    async def read(steps: Steps) -> tuple[int, int] | None:
        known = await steps.get_job("one")
        return None if known is None else (known.attempts, known.write_no)

    async def move(steps: Steps) -> tuple[int, int] | None:
        await steps.change_job("one", lambda old: replace(old, attempts=old.attempts + 1))
        await steps.get_job("other")
        return await read(steps)

    async def fail(steps: Steps) -> None:
        await move(steps)
        raise FailedPrecondition("no")

    async def delete(steps: Steps) -> tuple[int, int] | None:
        known = await steps.get_job("one")
        assert known is not None
        await steps.delete_job(known)
        return await read(steps)

    async def is_atomic(steps: Steps) -> bool:
        return steps.atomic

    await store.run(lambda steps: steps.insert_job(job("one", attempts=1)))
    await store.run(lambda steps: steps.insert_job(job("other")))
    if await store.run(is_atomic):
        results = await store.run_all([read, move, fail, read, delete, read])
        assert [*results[:2], *results[3:]] == [(1, 1), (2, 2), (2, 2), None, None]
    else:
        # Plans go beside each other there, and what a failed one wrote stays.
        assert await store.run(move) == (2, 2)
        assert await store.run(delete) is None
    assert await store.run(read) is None
