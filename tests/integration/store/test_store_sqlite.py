"""What is special about SQLite: migrations, plans of queries, a full disk, permissions."""

import asyncio
import re
import sqlite3
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from easyq.v1.spec_pb2 import JobSpec, Resources
from easyq_chassis.errors import EasyQError, FailedPrecondition, Internal, Unavailable
from easyq_store.adapters.sqlite import SqlitePersistence, lists, lookups, reads
from easyq_store.adapters.sqlite.connect import connect
from easyq_store.adapters.sqlite.rows import AGENTS, EXECUTIONS, JOBS, RecordTable
from easyq_store.adapters.sqlite.schema import MIGRATIONS, bring_forward
from easyq_store.domain.records import Job, Needs, Planned
from easyq_store.domain.states import ExecutionState, FailureReason, JobState, Trigger
from easyq_store.ports import ExecutionFilter, Inserted, JobFilter, Place, Plan, Steps
from tests.support.store_records import T0, agent, execution, job

SECOND = "ALTER TABLE job ADD COLUMN note TEXT; UPDATE job SET note = 'from before';"


async def insert(store: SqlitePersistence, name: str) -> Inserted:
    return await store.run(lambda steps: steps.insert_job(job(name)))


async def test_an_older_database_comes_forward(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    older = SqlitePersistence(path)
    await older.open()
    await insert(older, "kept")
    await older.close()
    newer = SqlitePersistence(path, migrations=(*MIGRATIONS, SECOND))
    await newer.open()
    assert await newer.reads.get_job("kept") == job("kept")
    await newer.close()
    connection = connect(path, writes=False)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    assert connection.execute("SELECT note FROM job").fetchone() == ("from before",)
    with pytest.raises(FailedPrecondition, match=f"schema version {len(MIGRATIONS) + 1}"):
        await SqlitePersistence(path).open()
    again = SqlitePersistence(path, migrations=(*MIGRATIONS, SECOND))  # the refused one has let go of the lock
    await again.open()
    await again.close()


def first_version(path: Path) -> None:
    """A database as version 1 wrote it: a job whose next attempt is pending, and its executions."""
    pending = '["job-1-2",2,2,3,1700000000007,null,0,1,1,0,1700000000000]'
    made, queued = execution(attempt=1, state=ExecutionState.FAILED), execution("job-1-2", attempt=2)
    connection = connect(path, writes=True)
    bring_forward(connection, MIGRATIONS[:1])
    for table, row in (
        ("job", {**columns(JOBS, job()), "pending": pending, "unsettled_since": T0}),
        ("execution", {**columns(EXECUTIONS, made), "next": pending}),
        ("execution", columns(EXECUTIONS, queued)),
        ("agent", columns(AGENTS, agent())),
    ):
        insert_row(connection, table, row)
    connection.close()


def insert_row(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """As much of a row as the table has columns for."""
    known = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    names = ", ".join(f'"{name}"' for name in row if name in known)
    values = [value for name, value in row.items() if name in known]
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 - our own words


def columns(table: RecordTable[Any], record: Any) -> dict[str, Any]:
    return dict(zip(table.columns, table.row(record), strict=True))


async def test_a_database_of_version_1_comes_forward(tmp_path: Path) -> None:
    first_version(tmp_path / "store.db")
    store = SqlitePersistence(tmp_path / "store.db")
    await store.open()
    planned = Planned(
        execution_id="job-1-2",
        attempt=2,
        fence=2,
        trigger=Trigger.RETRY,
        due_at=T0 + 7,
        retries_used=1,
        series_due_at=T0,
    )
    assert await store.reads.get_job("job-1") == job(pending=(planned,), unsettled_since=T0)
    ended = execution(attempt=1, state=ExecutionState.FAILED, next=planned)
    assert await store.reads.get_execution("job-1-1") == ended
    (head,) = await store.reads.queued_after(0, 10)
    assert (head.execution_id, head.needs, head.image) == ("job-1-2", None, job().image)
    assert await store.reads.agents() == [agent()]
    assert await store.reads.due_schedules(T0, 10) == []
    await store.close()


async def test_what_waited_in_version_1_is_given_to_hosts_that_fit(tmp_path: Path) -> None:
    """Its needs come from its own revision's spec."""
    path = tmp_path / "store.db"
    first_version(path)
    small, large = JobSpec(resources=Resources(cpus=1.5)), JobSpec(agent_labels={"gpu": "a100"})
    connection = connect(path, writes=True)
    connection.execute("UPDATE job SET spec = ?, revision = 2", (large.SerializeToString(),))
    connection.execute("INSERT INTO old_spec VALUES ('job-1', 1, ?)", (small.SerializeToString(),))
    newest = execution("job-1-3", attempt=3, spec_revision=2, queue_seq=9)
    insert_row(connection, "execution", columns(EXECUTIONS, newest))
    connection.close()
    store = SqlitePersistence(path)
    await store.open()
    heads = {head.execution_id: head.needs for head in await store.reads.queued_after(0, 10)}
    assert heads == {"job-1-2": Needs(cpu_millis=1_500), "job-1-3": Needs(labels=(("gpu", "a100"),))}
    ended = await store.reads.get_execution("job-1-1")
    assert ended is not None
    assert ended.needs is None
    await store.close()


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.db", writes=True)
    bring_forward(connection)
    with pytest.raises(sqlite3.OperationalError):
        bring_forward(connection, (*MIGRATIONS, "CREATE TABLE half (x); CREATE TABLE half (x);"))
    connection.rollback()
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


async def test_commits_are_safe_and_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    store = SqlitePersistence(path)
    await store.open()
    await insert(store, "one")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    await store.close()
    connection = connect(path, writes=True)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


HOT = {
    "queued after": (reads._QUEUED_AFTER, (5, 10)),
    "task queue": (reads._TASK_QUEUE, ("t", 10)),
    "waiting": (reads._WAITING, ("t", 10)),
    "queued tasks": (reads._QUEUED_TASKS, ("t", 10)),
    "held": (reads._HELD, ("e", 10)),
    "held of": (reads._HELD_OF, ("e", "a", 10)),
    "due": (reads._DUE, (5, 10)),
    "next due": (reads._NEXT_DUE, (5,)),
    "due schedules": (reads._DUE_SCHEDULES, (5, 10)),
    "next schedule": (reads._NEXT_SCHEDULE, (5,)),
    "expired": (reads._EXPIRED, (5, 10)),
    "next expiry": (reads._NEXT_EXPIRY, (5,)),
    "unsettled jobs": (reads._UNSETTLED_JOBS, (5, 10)),
    "unsettled executions": (reads._UNSETTLED_EXECUTIONS, (5, 10)),
    "chunks": (reads._CHUNKS, ("e", 1, 5)),
}

PAGES: dict[str, JobFilter | ExecutionFilter] = {
    "jobs": JobFilter(),
    "jobs of a task": JobFilter(task_id="t"),
    "jobs in states": JobFilter(states=(JobState.QUEUED, JobState.FAILED)),
    "jobs by reason": JobFilter(reasons=(FailureReason.TIMEOUT,), states=(JobState.FAILED,)),
    "jobs of a task by reason": JobFilter(task_id="t", reasons=(FailureReason.TIMEOUT,)),
    "jobs of a task in a state": JobFilter(task_id="t", states=(JobState.FAILED,)),
    "jobs by label": JobFilter(labels=("a=1", "b=1"), states=(JobState.FAILED,), metadata=("m=1",)),
    "jobs by metadata": JobFilter(metadata=("m=1", "n=1"), image="echo"),
    "jobs by their end": JobFilter(ends=(ExecutionState.LOST,), task_id="t"),
    "jobs that succeeded": JobFilter(ends=(ExecutionState.SUCCEEDED,), task_id="t"),
    "jobs by image": JobFilter(image="echo", states=(JobState.FAILED,)),
    "jobs by when they ended": JobFilter(ended_from=T0, ended_before=T0 + 9, kept_only=True),
    "oldest jobs of a task in states": JobFilter(
        task_id="t", states=(JobState.QUEUED, JobState.FAILED), created_from=T0, oldest=True
    ),
    "oldest executions": ExecutionFilter(oldest=True),
    "executions": ExecutionFilter(created_from=T0),
    "executions of a task": ExecutionFilter(task_id="t"),
    "executions in states": ExecutionFilter(states=(ExecutionState.LOST,)),
    "executions by reason": ExecutionFilter(reasons=(FailureReason.TIMEOUT,)),
    "executions by exit code": ExecutionFilter(exit_codes=(1, 2), task_id="t", states=(ExecutionState.FAILED,)),
    "executions by all else": ExecutionFilter(agent_id="a", triggers=(Trigger.RETRY,), image="echo", ended_from=T0),
}


def statements(tmp_path: Path, where: JobFilter | ExecutionFilter, *, examine: int | None) -> list[Any]:
    """All that a page may run."""
    connection = connect(tmp_path / "store.db", writes=True)
    bring_forward(connection)
    connection.execute("INSERT INTO image VALUES ('echo:1', 'echo:1'), ('echo:2', 'echo:2')")
    asked = lists.Asked(after=Place(created_at=T0, id="x"), limit=10, examine=examine, oldest=where.oldest)
    is_job = isinstance(where, JobFilter)
    table: Any = JOBS if is_job else EXECUTIONS
    walks = lists.jobs(connection, where) if isinstance(where, JobFilter) else lists.executions(where)
    connection.close()
    return [made(table, walk, asked) for walk in walks for made in (lists.statement, lists.stop)]


@pytest.mark.parametrize("examine", [None, 1_000])
@pytest.mark.parametrize("where", PAGES.values(), ids=PAGES)
def test_pages_walk_an_index_and_sort_nothing(
    tmp_path: Path, where: JobFilter | ExecutionFilter, examine: int | None
) -> None:
    for statement, values in statements(tmp_path, where, examine=examine):
        require_searches(tmp_path, statement, values)


@pytest.mark.parametrize(("statement", "values"), HOT.values(), ids=HOT)
def test_polls_search_an_index_and_sort_nothing(tmp_path: Path, statement: str, values: Any) -> None:
    require_searches(tmp_path, statement, values)


def require_searches(tmp_path: Path, statement: str, values: Any) -> None:
    """Every table is searched by an index, and nothing is sorted."""
    connection = connect(tmp_path / "store.db", writes=True)
    bring_forward(connection)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    searched = [line for line in plan if " INDEX " in line or "PRIMARY KEY" in line]
    assert searched
    assert all(line.startswith("SEARCH") for line in searched), plan
    own = re.compile(r"SCAN (found|CONSTANT ROW|\(?subquery.*|\d+)")
    assert not [line for line in plan if line.startswith("SCAN") and not own.fullmatch(line)], plan
    assert not [line for line in plan if "TEMP B-TREE" in line], plan


def test_what_is_open_of_a_job_is_found_without_reading_what_has_ended(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.db", writes=True)
    bring_forward(connection)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {lookups._OPEN}", ("j",))]
    assert plan == ["SEARCH execution USING INDEX execution_open (job_id=?)"]


@pytest.mark.parametrize("name", ["queued after", "task queue", "queued tasks"])
def test_queues_are_read_from_their_index_alone(tmp_path: Path, name: str) -> None:
    connection = connect(tmp_path / "store.db", writes=True)
    bring_forward(connection)
    statement, values = HOT[name]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert all("COVERING INDEX" in line for line in plan if " INDEX " in line), plan


async def test_a_full_disk_fails_the_calls_and_nothing_else(tmp_path: Path) -> None:
    store = SqlitePersistence(tmp_path / "store.db")
    await store.open()
    await insert(store, "before")
    connection = store._connection
    connection.execute("PRAGMA max_page_count = 1")

    async def fill(steps: Steps) -> None:
        for number in range(200):
            await steps.insert_job(job(f"big-{number}", spec=bytes(100_000), task_id="big"))

    outcomes = await asyncio.gather(*(store.run_all([fill]) for _ in range(3)), return_exceptions=True)
    for outcome in outcomes:
        error = outcome[0] if isinstance(outcome, list) else outcome
        assert isinstance(error, Unavailable), outcome
    connection.execute("PRAGMA max_page_count = 1000000000")
    assert await insert(store, "after") is Inserted.DONE
    assert await store.reads.get_job("before") == job("before")
    assert await store.reads.get_job("big-0") is None
    assert await store.reads.get_task("big") is None
    assert await store.reads.count_jobs() == {JobState.QUEUED: 2}
    await store.close()


async def test_a_broken_plan_is_told_and_hurts_nobody(tmp_path: Path) -> None:
    store = SqlitePersistence(tmp_path / "store.db")
    await store.open()

    async def waits(steps: Steps) -> None:
        await steps.insert_job(job("undone"))
        await asyncio.sleep(0)

    async def breaks(steps: Steps) -> None:
        raise KeyError("a bug")

    async def good(steps: Steps) -> None:
        await steps.insert_execution(replace(execution("good-1"), task_id="t"))

    first, second, third = await store.run_all([waits, breaks, good])
    assert isinstance(first, Internal)
    assert isinstance(second, Internal)
    assert "a bug" not in second.message
    assert third is None
    assert await store.reads.get_job("undone") is None
    assert await store.reads.get_execution("good-1") is not None
    await store.close()


async def test_what_ran_beside_a_plan_that_failed_runs_again_and_counts_once(tmp_path: Path) -> None:
    store = SqlitePersistence(tmp_path / "store.db")
    await store.open()
    runs: list[str] = []

    def good(name: str) -> Plan[int]:
        async def plan(steps: Steps) -> int:
            runs.append(name)
            await steps.insert_job(job(name))
            return await steps.next_seq()

        return plan

    async def bad(steps: Steps) -> int:
        await steps.insert_job(job("bad", task_id="bad"))
        raise FailedPrecondition("no")

    places: list[int] = []
    # The first finds no savepoint to go back to, the second one does; long after them nobody expects one that fails.
    for number in range(61):
        fails = number in {0, 1, 60}
        results = await store.run_all([good(f"a-{number}"), *([bad] if fails else []), good(f"b-{number}")])
        assert [isinstance(result, FailedPrecondition) for result in results] == [False, True, False][
            :: 1 if fails else 2
        ]
        places += [result for result in results if isinstance(result, int)]
    assert [runs.count(f"a-{number}") for number in (0, 1, 59, 60)] == [2, 1, 1, 2]
    assert sorted(set(places)) == places
    assert len(places) == 122
    assert await store.reads.get_job("bad") is None
    assert await store.reads.count_jobs() == {JobState.QUEUED: 122}
    await store.close()


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    store = SqlitePersistence(tmp_path / "store.db")
    for call in (lambda: store.run(lambda steps: steps.generation()), lambda: store.run_all([])):
        with pytest.raises(EasyQError, match="not open"):
            await call()
    with pytest.raises(Unavailable):
        store.reads.close()
    await store.open()
    assert await store.run_all([]) == []
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await insert(store, "late")


async def test_a_page_is_of_one_moment(tmp_path: Path) -> None:
    """What is deleted while it is made lets none slip by between it and the next."""
    path = tmp_path / "store.db"
    store = SqlitePersistence(path)
    await store.open()
    for number in range(6):
        state = JobState.SUCCEEDED if number == 3 else JobState.QUEUED
        made = job(f"n{number}", created_at=T0 + number, state=state)
        assert (await store.run_all([partial(_insert, made)])) == [Inserted.DONE]
    other, connection = connect(path, writes=True), connect(path, writes=False)

    def between(statement: str) -> None:
        if "OFFSET" in statement:
            other.execute("DELETE FROM job WHERE job_id = 'n0'")

    connection.set_trace_callback(between)
    asked = lists.Asked(after=None, limit=2, examine=3, oldest=True)
    first = lists.job_page(connection, JobFilter(ended_from=T0, oldest=True), asked)
    connection.set_trace_callback(None)
    assert not first
    following = lists.job_page(connection, JobFilter(ended_from=T0, oldest=True), replace(asked, after=first.stopped))
    assert [found.job_id for found in following] == ["n3"]
    assert not connection.in_transaction
    other.close()
    connection.close()
    await store.close()


async def _insert(made: Job, steps: Steps) -> Inserted:
    return await steps.insert_job(made)
