"""MongoDB that goes away and comes back, its schema over time, and what nobody may read in a message."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable

import pytest
import structlog

from easyq.v1.spec_pb2 import JobSpec, Resources
from easyq_chassis.errors import EasyQError, FailedPrecondition, Internal, Unavailable
from easyq_store.adapters.mongo import MongoPersistence
from easyq_store.adapters.mongo_documents import EXECUTIONS, JOBS
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_schema import INDEXES, MIGRATIONS, Database, bring_forward
from easyq_store.domain.records import Job, Needs, Planned
from easyq_store.domain.states import ExecutionState, JobState, Trigger
from easyq_store.ports import JobFilter, Steps
from tests.support.ferretdb import FerretDB
from tests.support.store_records import T0, execution, job
from tests.support.waiting import eventually, free_port

SECRET = "s3cr3t-pass"
# Seconds; the driver's own patience is 30.
QUICKLY = 20


@pytest.fixture
async def opened(mongo_url: str) -> AsyncIterator[MongoPersistence]:
    persistence = MongoPersistence(mongo_url)
    await persistence.open()
    yield persistence
    await persistence.close()


def raw(persistence: MongoPersistence) -> Database:
    """The database underneath."""
    return persistence._database()


async def refusal(call: Awaitable[object]) -> tuple[EasyQError, float]:
    """The error that a call ends with, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(EasyQError) as caught:
        await call
    return caught.value, time.monotonic() - begun


async def insert(persistence: MongoPersistence, job_id: str) -> object:
    return await persistence.run(lambda steps: steps.insert_job(job(job_id)))


# ------------------------------------------------------------------------------------------------------ away and back
async def test_a_server_that_is_away_is_told_of_quickly_and_found_again(
    opened: MongoPersistence, ferretdb: FerretDB
) -> None:
    await insert(opened, "before")
    ferretdb.kill()
    calls = [insert(opened, "during"), opened.reads.get_job("before"), opened.reads.count_jobs()]
    for error, seconds in await asyncio.gather(*(refusal(call) for call in calls)):
        assert isinstance(error, Unavailable)
        assert error.__cause__ is not None
        assert seconds < QUICKLY
    told = await opened.run_all([lambda steps: steps.get_job("before")] * 2)
    assert [type(answer) for answer in told] == [Unavailable, Unavailable]
    ferretdb.start()

    async def found() -> Job | None:
        try:
            return await opened.reads.get_job("before")
        except Unavailable:
            return None

    assert await eventually(found, 15) == job("before")
    await insert(opened, "after")
    assert [made.job_id for made in await opened.reads.list_jobs(JobFilter(), None, 10)] == ["before", "after"]


async def test_a_server_that_does_not_answer_is_given_up_after_the_urls_time(
    mongo_url: str, ferretdb: FerretDB
) -> None:
    # What takes longest, the making of its indexes, is none of the short time's business.
    made = MongoPersistence(mongo_url)
    await made.open()
    await made.close()
    persistence = MongoPersistence(mongo_url + "?socketTimeoutMS=1500&serverselectiontimeoutms=1600")
    await persistence.open()
    ferretdb.freeze()
    try:
        error, seconds = await refusal(insert(persistence, "unknown"))
        assert isinstance(error, Unavailable)
        assert "isn't known" in error.message
        assert seconds < 10, "which is the store's own time"
    finally:
        ferretdb.thaw()
    await persistence.close()


async def test_opening_is_tried_again_once_the_server_is_there(mongo_url: str, ferretdb: FerretDB) -> None:
    ferretdb.kill()
    persistence = MongoPersistence(mongo_url)
    error, seconds = await refusal(persistence.open())
    assert isinstance(error, Unavailable)
    assert seconds < QUICKLY
    error, _ = await refusal(persistence.reads.get_job("any"))
    assert isinstance(error, Unavailable)
    ferretdb.start()
    await persistence.open()
    await insert(persistence, "after")
    await persistence.close()


async def test_closing_waits_for_plans_under_way_and_refuses_new_ones(opened: MongoPersistence) -> None:
    begun, may_go = asyncio.Event(), asyncio.Event()

    async def plan(steps: Steps) -> Job | None:
        await steps.insert_job(job())
        begun.set()
        await may_go.wait()
        return await steps.get_job("job-1")

    running = asyncio.create_task(opened.run(plan))
    await begun.wait()
    closing = asyncio.create_task(opened.close())
    # It has run up to its wait.
    await asyncio.sleep(0)
    error, _ = await refusal(insert(opened, "late"))
    assert isinstance(error, Unavailable)
    assert not closing.done()
    may_go.set()
    assert await running == job()
    await closing
    error, _ = await refusal(opened.reads.get_job("job-1"))
    assert isinstance(error, Unavailable)


async def test_a_fault_of_a_plan_is_not_taken_for_an_answer(opened: MongoPersistence) -> None:
    async def faulty(_: Steps) -> None:
        raise ZeroDivisionError

    ended: list[str] = []

    async def good(steps: Steps) -> None:
        await steps.insert_job(job())
        ended.append("good")

    with pytest.raises(ZeroDivisionError):
        await opened.run_all([faulty, good])
    assert ended == ["good"]


# ------------------------------------------------------------------------------------------------------------ secrets
async def told(call: Awaitable[object]) -> str:
    """All that a log could hold of a failing call: the message, and the traceback with all causes."""
    with structlog.testing.capture_logs() as logged:
        error, _ = await refusal(call)
    return "".join([error.message, *traceback.format_exception(error), *map(str, logged)])


@pytest.mark.parametrize("options", ["", "?authMechanism=PLAIN"])
async def test_the_password_is_in_no_message_when_the_server_is_away(options: str) -> None:
    url = f"mongodb://user:{SECRET}@127.0.0.1:{free_port()}/easyq{options}"
    persistence = MongoPersistence(url)
    text = await told(persistence.open())
    assert "Unavailable" in text
    assert SECRET not in text
    assert SECRET not in repr(persistence)


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://user:{SECRET}:more@127.0.0.1:1/easyq",
        f"mongodb://user:{SECRET}/easyq",
        f"mongodb://[{SECRET}",
        "mongodb://",
    ],
)
async def test_a_url_that_is_not_valid_is_refused_without_being_quoted(url: str) -> None:
    text = await told(MongoPersistence(url).open())
    assert "the MongoDB URL is not valid" in text
    assert SECRET not in text


async def test_what_the_server_refuses_is_our_fault_and_keeps_its_cause(opened: MongoPersistence) -> None:
    with pytest.raises(Internal, match="MongoDB refused a command") as caught, translated():
        await raw(opened).command("noSuchCommand")
    assert caught.value.__cause__ is not None
    with pytest.raises(Internal, match="InvalidDocument"), translated():
        await raw(opened).jobs.insert_one({"_id": "x", "value": object()})


# ------------------------------------------------------------------------------------------------------------- schema
async def test_all_indexes_are_made_and_kept_over_a_restart(opened: MongoPersistence) -> None:
    async def there(collection: str) -> dict[str, bool]:
        indexes = await raw(opened)[collection].list_indexes()
        return {index["name"]: index.get("unique", False) async for index in indexes}

    for _ in range(2):
        for collection, indexes in INDEXES.items():
            wanted = {index.document["name"]: index.document.get("unique", False) for index in indexes}
            assert await there(collection) == {"_id_": False, **wanted}
        await opened.open()


async def test_one_missing_index_is_made_at_the_next_start(opened: MongoPersistence) -> None:
    await raw(opened).jobs.drop_index("idempotency")
    await opened.open()
    assert "idempotency" in await raw(opened).jobs.index_information()


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(opened: MongoPersistence) -> None:
    await raw(opened).meta.update_one({"_id": "schema"}, {"$set": {"version": 99}})
    error, _ = await refusal(opened.open())
    assert isinstance(error, FailedPrecondition)
    assert "version 99" in error.message


async def test_migrations_run_once_each_in_order_and_go_on_after_a_crash(opened: MongoPersistence) -> None:
    database = raw(opened)
    await database.meta.update_one({"_id": "schema"}, {"$set": {"version": 1}})
    await insert(opened, "old")
    ran: list[str] = []

    async def second(db: Database) -> None:
        ran.append("second")
        await db.jobs.update_many({}, {"$set": {"isNew": True}})

    async def third(_: Database) -> None:
        ran.append("third")
        if ran.count("third") == 1:
            raise Unavailable("it died here")

    with pytest.raises(Unavailable):
        await bring_forward(database, (second, third))
    assert await database.meta.find_one({"_id": "schema"}) == {"_id": "schema", "version": 2}
    await bring_forward(database, (second, third))
    await bring_forward(database, (second, third))
    assert ran == ["second", "third", "third"]
    assert await database.meta.find_one({"_id": "schema"}) == {"_id": "schema", "version": 3}
    assert await database.jobs.count_documents({"isNew": True}) == 1

    async def later(_: Database) -> None: ...

    await bring_forward(database, (second, third, *[later] * len(MIGRATIONS)))
    error, _ = await refusal(opened.open())
    assert isinstance(error, FailedPrecondition)


async def test_a_database_of_version_1_comes_forward(opened: MongoPersistence) -> None:
    database = raw(opened)
    planned = Planned(
        execution_id="job-1-2", attempt=2, fence=2, trigger=Trigger.RETRY, due_at=T0 + 7, series_due_at=T0
    )
    pending = job(pending=(planned,), unsettled_since=T0)
    ended = execution(state=ExecutionState.FAILED, next=planned)
    for collection, document in (
        ("jobs", JOBS.encode(pending) | {"pending": JOBS.encode(pending)["pending"][0]}),
        ("jobs", JOBS.encode(job("plain"))),
        ("executions", EXECUTIONS.encode(ended)),
        ("executions", EXECUTIONS.encode(execution("job-1-2", attempt=2))),
        ("executions", EXECUTIONS.encode(execution("gone-1"))),
    ):
        for newer in ("image", "deleteRequested") if collection == "executions" else ("deleteRequested",):
            document.pop(newer, None)
        await database[collection].insert_one({**document, "schemaVersion": 1})
    await database.meta.update_one({"_id": "schema"}, {"$set": {"version": 1}})
    for _ in range(2):
        # Also where a crash came before the new version was noted.
        await MIGRATIONS[0](raw(opened))
        await opened.open()
    assert await opened.reads.get_job("job-1") == pending
    assert await opened.reads.get_job("plain") == job("plain")
    assert await opened.reads.get_execution("job-1-1") == ended
    heads = await opened.reads.queued_after(0, 10)
    assert {head.execution_id: head.image for head in heads} == {"job-1-2": job().image, "gone-1": ""}


async def test_what_waited_in_version_1_is_given_to_hosts_that_fit(opened: MongoPersistence) -> None:
    database = raw(opened)
    small, large = JobSpec(resources=Resources(cpus=1.5)), JobSpec(agent_labels={"gpu": "a100"})
    await database.jobs.insert_one(JOBS.encode(job("old", revision=2, spec=large.SerializeToString())))
    await database.specs.insert_one({"_id": "old:1", "spec": small.SerializeToString(), "schemaVersion": 1})
    for record in (
        execution("old-1", queue_seq=1),
        execution("old-2", queue_seq=2, attempt=2, spec_revision=2),
        execution("gone-1", queue_seq=3),
        execution("old-3", attempt=3, state=ExecutionState.FAILED),
    ):
        await database.executions.insert_one({**EXECUTIONS.encode(record), "schemaVersion": 1})
    await database.meta.update_one({"_id": "schema"}, {"$set": {"version": 1}})
    for _ in range(2):
        await opened.open()
        await MIGRATIONS[1](raw(opened))
    heads = {head.execution_id: head.needs for head in await opened.reads.queued_after(0, 10)}
    assert heads == {"old-1": Needs(cpu_millis=1_500), "old-2": Needs(labels=(("gpu", "a100"),)), "gone-1": None}


async def test_what_had_ended_in_version_1_is_found_by_retention(opened: MongoPersistence) -> None:
    database = raw(opened)
    ended = execution("old-1", state=ExecutionState.SUCCEEDED, finished_at=T0)
    silent = execution("quiet-1", state=ExecutionState.FAILED, finished_at=T0, stdout_size=0, stderr_size=0)
    later = ("endedOf", "endedAt", "logsOf", "logsSince")
    for collection, document in [
        ("jobs", JOBS.encode(job("old", state=JobState.SUCCEEDED))),
        ("jobs", JOBS.encode(job("open"))),
        ("executions", EXECUTIONS.encode(ended)),
        ("executions", EXECUTIONS.encode(silent)),
        ("executions", EXECUTIONS.encode(execution("open-1"))),
    ]:
        kept = {key: value for key, value in document.items() if key not in later}
        await database[collection].insert_one({**kept, "schemaVersion": 1})
    await MIGRATIONS[0](database)
    assert await opened.reads.ended_jobs("mail", list(JobState), T0 + 1, 9) == ["old"]
    assert await opened.reads.with_logs("mail", T0 + 1, 9) == ["old-1"]


async def test_a_new_database_begins_at_the_newest_version(mongo_url: str, opened: MongoPersistence) -> None:
    async def never(_: Database) -> None:
        raise AssertionError

    other = opened._client.get_database(f"{raw(opened).name}_new") if opened._client else None
    assert other is not None
    await bring_forward(other, (never, never))
    assert await other.meta.find_one({"_id": "schema"}) == {"_id": "schema", "version": 3}
    await opened._client.drop_database(other.name)  # type: ignore[union-attr]
