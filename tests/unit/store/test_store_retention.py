"""What is kept no longer goes: by age, by number, by task; logs apart from records; old executions of schedules."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from easyq.v1.notify_pb2 import Webhook, Webhooks
from easyq.v1.spec_pb2 import Overlap
from easyq_chassis.patterns import Pattern
from easyq_chassis.rules_file import contract
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.config import StoreSettings
from easyq_store.domain.logs import Piece, Taken
from easyq_store.domain.notices import Sent
from easyq_store.domain.retention import Keep, Retention, RetentionRule
from easyq_store.domain.states import JobState, Stream
from easyq_store.retention_rules import AGES, COUNTS, parser
from easyq_store.usecases import decisions, delete, deliveries, look, read_logs, retry, trigger
from easyq_store.usecases.append import append
from easyq_store.usecases.feed import Feed
from easyq_store.usecases.purge import AT_ONCE
from easyq_store.usecases.retain import Removed, RetainPace, RetainRound
from tests.fakes.store import FakePersistence
from tests.support.store_records import chunk
from tests.support.store_world import Crash, World, exited

DAY = 86_400
DAY_MS = DAY * 1000
AT_REST = RetainPace(batch=2, pause=0.0)
GIVEN_UP = Sent(delivered=False)


def round_of(world: World, *rules: RetentionRule, **keep: Any) -> RetainRound:
    return RetainRound(world.ctx, Retention(rules=rules, otherwise=Keep(**keep)), AT_REST)


async def ended(world: World, job_id: str, code: int = 0, **fields: Any) -> str:
    if "host-a" not in world.sessions:
        await world.hello()
    execution_id = await world.submit(job_id, **fields)
    await world.run(execution_id)
    await world.say(execution_id, exited(code, b"hello", execution_id=execution_id))
    return execution_id


def jobs(world: World) -> list[str]:
    return sorted(world.store.tables.jobs)


def settings(**fields: Any) -> StoreSettings:
    return StoreSettings(**fields)


# --------------------------------------------------------------------------------------------------------------- rules
def test_settings_and_rules() -> None:
    base = settings(retain_succeeded="7d", retain_failed="30d", retain_failed_count=9, retain_logs=str(DAY)).keep
    assert base == Keep(
        ages={"succeeded": 7 * DAY_MS, "failed": 30 * DAY_MS}, counts={"failed": 9}, logs=DAY_MS, executions=1_000
    )
    retention = parser(base)(
        {
            "retention": [
                {"pattern": "mail.*", "succeeded": "1h", "failed": "", "failed_count": 0, "executions": 5},
                {"pattern": "mail", "logs": 60, "stopped_count": 3},
            ]
        }
    )
    assert retention.of("print") == base
    assert retention.of("mail") == Keep(ages={"succeeded": 3_600_000}, logs=DAY_MS, executions=5)
    assert not retention.everything


def test_by_default_all_jobs_and_logs_are_kept() -> None:
    retention = parser(settings().keep)({})
    assert retention == Retention(otherwise=Keep(executions=1_000))
    assert retention.everything


def test_a_rule_may_say_what_the_file_may() -> None:
    assert set(contract.TABLES["retention"].fields) == {"pattern", *AGES, *COUNTS}


def test_no_pattern_holds_the_store() -> None:
    retention = parser(Keep())({"retention": [{"pattern": "([a-z]+-?)+", "executions": 5}]})
    assert [retention.of("a" * 127 + end).executions for end in ("", ".")] == [5, None]


@pytest.mark.parametrize("fields", [{"retain_logs": "soon"}, {"retain_failed": "-1d"}, {"retain_expired_count": -1}])
def test_a_wrong_setting_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**fields)


# ---------------------------------------------------------------------------------------------------------------- jobs
async def test_what_ended_long_ago_goes_by_outcome(world: World) -> None:
    for number in range(5):
        await ended(world, f"good-{number}")
    await ended(world, "bad", 1)
    await world.submit("open")
    keep = round_of(world, ages={"succeeded": DAY_MS})
    world.machine.pass_(DAY)
    assert await keep.run_once() == Removed()
    await ended(world, "late")
    world.machine.pass_(0.001)
    assert await keep.run_once() == Removed(jobs=5)
    assert jobs(world) == ["bad", "late", "open"]
    assert not world.attempts("good-0")
    assert await keep.run_once() == Removed()


async def test_the_error_queue_is_kept_as_long_as_failures_are(world: World) -> None:
    await ended(world, "bad", 1)
    keep = round_of(world, ages={"succeeded": 1, "failed": DAY_MS, "stopped": 1, "expired": 1})
    world.machine.pass_(DAY - 1)
    assert await keep.run_once() == Removed()
    # Tried again by hand, it counts from its newest end.
    await retry.retry_job(world.ctx, "", "bad", "again")
    await world.run("again")
    await world.say("again", exited(1))
    world.machine.pass_(2)
    assert await keep.run_once() == Removed()
    world.machine.pass_(DAY)
    assert await keep.run_once() == Removed(jobs=1)


async def test_of_a_task_the_newest_are_kept(world: World) -> None:
    for number in range(7):
        await ended(world, f"a-{number}", number % 2)
        await ended(world, f"b-{number}", task="other")
        world.machine.pass_(1)
    keep = round_of(world, counts={"succeeded": 2})
    assert await keep.run_once() == Removed(jobs=2 + 5)
    assert jobs(world) == ["a-1", "a-3", "a-4", "a-5", "a-6", "b-5", "b-6"]


async def test_a_rule_for_a_task_comes_first(world: World) -> None:
    for task in ("mail", "mail.eu", "print"):
        await ended(world, task, task=task)
    world.machine.pass_(DAY)
    long = RetentionRule(pattern=Pattern(r"mail"), keep=Keep(ages={"succeeded": 9 * DAY_MS}))
    ever = RetentionRule(pattern=Pattern(r"mail\..*"), keep=Keep())
    keep = round_of(world, long, ever, ages={"succeeded": 1000})
    assert await keep.run_once() == Removed(jobs=1)
    assert jobs(world) == ["mail", "mail.eu"]
    world.machine.pass_(9 * DAY)
    assert await keep.run_once() == Removed(jobs=1)
    assert jobs(world) == ["mail.eu"]
    # Rules that are read again hold from the next look on.
    keep.retention = Retention(otherwise=Keep(ages={"succeeded": 1000}))
    assert await keep.run_once() == Removed(jobs=1)


@pytest.mark.parametrize("again", ["open", "ended"])
async def test_a_job_that_is_revived_meanwhile_stays(again: str) -> None:
    world = World(store=FakePersistence(atomic=False))
    await ended(world, "job")
    world.machine.pass_(DAY)

    async def between(step: str) -> None:
        if step == "change_job":
            world.store.between = nothing
            await retry.retry_job(world.ctx, "", "job", "again")
            if again == "ended":
                await world.run("again")
                await world.say("again", exited(0))

    world.store.between = between
    assert await round_of(world, ages={"succeeded": 1000}).run_once() == Removed()
    assert len(world.attempts("job")) == 2
    assert not world.job("job").delete_requested


async def nothing(_: str) -> None:
    return None


async def test_a_notification_that_is_not_finished_outlives_its_retention(world: World) -> None:
    """However many of them come before those that may go."""
    hook = Webhooks(finishes=[Webhook(url="http://receiver.example/")])
    for number in range(3):
        await ended(world, f"told-{number}", webhooks=hook)
    await ended(world, "plain")
    keep = RetainRound(world.ctx, Retention(otherwise=Keep(ages={"succeeded": 1000})), RetainPace(batch=1, pause=0.0))
    world.machine.pass_(DAY)
    assert await keep.run_once() == Removed(jobs=1)
    assert await keep.run_once() == Removed()
    assert jobs(world) == ["told-0", "told-1", "told-2"]
    await deliveries.claim(world.ctx, deliveries.Wish(limit=9, lease=1000, per_lane=9))
    for job_id, sent in (("told-1", Sent(delivered=True)), ("told-2", GIVEN_UP)):
        await deliveries.record(world.ctx, world.deliveries(job_id)[0].delivery_id, 1, sent)
    assert await keep.run_once() == Removed(jobs=2)
    # By number it goes no sooner; by hand it goes at once, and tells nobody.
    few = round_of(world, counts={"succeeded": 0})
    assert await few.run_once() == Removed()
    await delete.delete_job(world.ctx, "", "told-0", force=False)
    assert (jobs(world), world.deliveries("told-0")) == ([], [])


async def test_of_a_recurring_job_a_run_that_is_not_told_yet_stays(world: World) -> None:
    hook = Webhooks(finishes=[Webhook(url="http://receiver.example/")])
    await world.hello()
    await world.submit(cron="@every 60s", webhooks=hook)
    for number in range(4):
        await world.fire(60 * (number + 1))
        execution_id = world.attempts()[-1].execution_id
        await world.run(execution_id)
        await world.say(execution_id, exited(0))
    first, *_ = world.deliveries()
    await deliveries.claim(world.ctx, deliveries.Wish(limit=9, lease=1000, per_lane=9))
    await deliveries.record(world.ctx, first.delivery_id, 1, Sent(delivered=True))
    keep = round_of(world, executions=1)
    assert await keep.run_once() == Removed(executions=1)
    assert [e.attempt for e in world.attempts()] == [2, 3, 4]


# ---------------------------------------------------------------------------------------------------------------- logs
async def test_logs_go_before_their_records(world: World) -> None:
    first = await ended(world, "old")
    world.machine.pass_(DAY)
    second = await ended(world, "new")
    keep = round_of(world, logs=DAY_MS - 1)
    assert await keep.run_once() == Removed(logs=1)
    assert await keep.run_once() == Removed()
    removed = world.execution(first)
    assert removed.logs_removed_at == world.ctx.clock.now()
    assert removed.logs_complete
    assert removed.stdout_size == 5
    view = await look.get_execution(world.ctx, "", "", first)
    assert (view.stdout_bytes, view.stderr_bytes) == (0, 0)
    # Whoever reads them is told the end at once, also one that follows.
    for follow in (True, False):
        wanted = read_logs.Wanted(execution_id=first, follow=follow)
        events = [event async for event in read_logs.read_logs(world.ctx, wanted, read_logs.Pace())]
        assert [type(event).__name__ for event in events] == ["Ended"]
    # What comes late is refused, and leaves nothing.
    late = Piece(execution_id=first, epoch=1, stream=Stream.STDOUT, offset=0, data=b"hello")
    (appended,) = await append(world.ctx, [late])
    assert appended.taken is Taken.STALE
    assert not world.store.tables.chunks[first, Stream.STDOUT]
    assert world.store.tables.chunks[second, Stream.STDOUT]
    assert world.states("old") == "SUCCEEDED SUCCEEDED"


async def test_large_logs_go_in_many_plans(world: World) -> None:
    execution_id = await ended(world, "job")
    for offset in range(5, 5 + 2 * AT_ONCE):
        world.store.tables.chunks[execution_id, Stream.STDOUT].append(chunk(b"x", offset, execution_id=execution_id))
    world.machine.pass_(DAY)
    assert await round_of(world, logs=1000).run_once() == Removed(logs=1)
    assert not world.store.tables.chunks[execution_id, Stream.STDOUT]


@pytest.mark.parametrize("number", range(4))
async def test_a_crash_amid_retention_is_made_good_by_the_next_look(number: int) -> None:
    world = World(store=FakePersistence(atomic=False))
    execution_id = await ended(world, "job")
    world.machine.pass_(DAY)
    world.crash_at(number)
    keep = round_of(world, logs=1000)
    with pytest.raises(Crash) if number < 3 else contextlib.nullcontext():
        await keep.run_once()
    world.recover()
    await round_of(world, logs=1000).run_once()
    assert world.execution(execution_id).logs_removed_at is not None
    assert not world.store.tables.chunks[execution_id, Stream.STDOUT]
    await round_of(world, ages={"succeeded": 1000}).run_once()
    assert not jobs(world)


# ------------------------------------------------------------------------------------------------------ recurring jobs
async def test_of_a_recurring_job_the_newest_executions_are_kept(world: World) -> None:
    await world.hello()
    await world.put(cron="* * * * *")
    keep = round_of(world, executions=3)
    assert await keep.run_once() == Removed()
    for number in range(20):
        await trigger.trigger_job(world.ctx, "", "job", f"run-{number}")
        await world.run(f"run-{number}")
        await world.say(f"run-{number}", exited(0, b"hello", execution_id=f"run-{number}"))
    assert world.ctx.overdue == {"job"}
    assert (await keep.run_once()).executions > 0
    assert [e.attempt for e in world.attempts()] == [18, 19, 20]
    assert sum(bool(chunks) for chunks in world.store.tables.chunks.values()) == 3
    assert world.job().state is JobState.ACTIVE
    # The next one goes on from there.
    await trigger.trigger_job(world.ctx, "", "job", "next")
    assert world.attempts()[-1].attempt == 21
    # Another process, which has seen none of them run, finds it at its first look.
    world.restart()
    await world.run("next")
    await world.say("next", exited(0))
    await round_of(world, executions=1).run_once()
    assert [e.attempt for e in world.attempts()] == [21]


async def test_what_is_open_of_a_recurring_job_stays(world: World) -> None:
    await world.hello()
    await world.put(cron="* * * * *", overlap=Overlap.ALLOW)
    for number in range(4):
        await trigger.trigger_job(world.ctx, "", "job", f"run-{number}")
    await world.run("run-0")
    await world.run("run-1")
    await world.say("run-1", exited(0))
    await round_of(world, executions=1).run_once()
    assert [e.execution_id for e in world.attempts()] == ["run-0", "run-2", "run-3"]


async def test_plain_jobs_keep_all_their_attempts(world: World) -> None:
    await ended(world, "job", 1, retries=0)
    await retry.retry_job(world.ctx, "", "job", "again")
    world.ctx.overdue.add("job")
    assert await round_of(world, executions=1).run_once() == Removed()
    assert len(world.attempts("job")) == 2


async def test_what_it_deletes_looks_like_no_wish_of_a_person(world: World) -> None:
    await ended(world, "old")
    observed = ObservedPersistence(world.store, Feed(now=lambda: 0, new_boot=lambda: "b"), count=decisions.tell)
    world.ctx = replace(world.ctx, store=observed)
    world.machine.pass_(DAY)
    with capture_logs() as lines:
        removed = await round_of(world, ages={"succeeded": DAY_MS // 2}).run_once()
    assert removed.jobs == 1
    assert {(line["log_level"], line["by"]) for line in lines if line["event"] == "delete_requested"} == {
        ("debug", "retention")
    }
