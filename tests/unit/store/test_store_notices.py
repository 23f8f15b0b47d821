"""Who is told of a job's end, and what becomes of each notification."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.notify_pb2 import Notify, Webhook, Webhooks
from easyq.v1.spec_pb2 import Backoff, JobSpec, ReportFailure
from easyq_chassis.errors import NotFound, Unavailable
from easyq_store.convert.notices import lane_of, targets_of
from easyq_store.convert.spec import serialized
from easyq_store.domain import notices
from easyq_store.domain.notices import Sent, Target
from easyq_store.domain.states import DeliveryState, ExecutionState, JobState, NoticeChannel, NoticeEvent, Outcome
from easyq_store.usecases import delete, deliveries, retry, stop, time
from easyq_store.usecases.deliveries import Wish
from tests.support.store_records import T0, delivery, execution
from tests.support.store_world import World, ended, exited

HOOKS = Webhooks(
    succeeds=[Webhook(url="http://hook.test/good")],
    fails=[Webhook(url="http://hook.test/bad")],
    finishes=[Webhook(url="https://hook.test/any")],
)
MAILS = Notify(succeeds=["good@example.org"], fails=["bad@example.org"], finishes=["any@example.org"])
SECOND = "00000000-0000-4000-8000-000000000002"
ALL = Wish(limit=100, lease=30_000, per_lane=100)


def said(world: World, job_id: str = "job") -> list[str]:
    """What is told, as `outcome event target`."""
    return [
        f"{d.outcome.name} {d.event.name} {target_of(d)}"
        for d in world.deliveries(job_id)
        if d.channel is NoticeChannel.WEBHOOK
    ]


def target_of(record: Any) -> str:
    is_webhook = record.channel is NoticeChannel.WEBHOOK
    return Webhook.FromString(record.target).url if is_webhook else record.target.decode()


async def run(world: World, job_id: str = "job", **spec: Any) -> str:
    if not world.sessions:
        await world.hello()
    id_ = await world.submit(job_id, webhooks=HOOKS, **spec)
    await world.run(id_)
    return id_


# ------------------------------------------------------------------------------------------------------ error handlers
def reported(world: World, job_id: str = "job") -> list[str]:
    """What error handlers are told, as `outcome attempt`."""
    return [
        f"{d.outcome.name} {world.execution(d.execution_id).attempt}"
        for d in world.deliveries(job_id)
        if d.channel is NoticeChannel.REPORT
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, []),
        (ReportFailure.NONE, []),
        (ReportFailure.FINAL, ["FAILED 2"]),
        (ReportFailure.ALL, ["FAILED 2", "RETRYING 1"]),
    ],
)
async def test_failures_are_reported_as_the_spec_asks(
    world: World, asked: ReportFailure.Mode.ValueType | None, told: list[str]
) -> None:
    await world.hello()
    first = await world.submit("job", report_failure=asked, retries=1, backoff=Backoff(min=Duration()))
    await world.run(first)
    await world.say(first, exited(3))
    second = world.attempts()[1].execution_id
    await world.run(second)
    await world.say(second, exited(3))
    assert sorted(reported(world)) == told
    # A repeat, as a sweep would, reports nothing twice.
    await world.say(second, exited(3))
    assert sorted(reported(world)) == told


@pytest.mark.parametrize("asked", [ReportFailure.FINAL, ReportFailure.ALL])
async def test_what_did_not_fail_is_not_reported(world: World, asked: ReportFailure.Mode.ValueType) -> None:
    await world.say(await run(world, "good", report_failure=asked), exited(0))
    await world.submit("waits", report_failure=asked, webhooks=HOOKS)
    await stop.stop_job(world.ctx, "", "waits")
    assert (reported(world, "good"), reported(world, "waits")) == ([], [])
    assert len(world.deliveries("good")) == 2
    assert len(world.deliveries("waits")) == 1


@pytest.mark.parametrize(
    ("setting", "asked", "told"),
    [
        (ReportFailure.NONE, None, None),
        (ReportFailure.FINAL, None, False),
        (ReportFailure.ALL, None, True),
        (ReportFailure.ALL, ReportFailure.NONE, None),
        (ReportFailure.ALL, ReportFailure.FINAL, False),
        (ReportFailure.NONE, ReportFailure.ALL, True),
        # Stored by somebody who knows no better.
        (ReportFailure.ALL, ReportFailure.UNSPECIFIED, True),
    ],
)
@pytest.mark.parametrize("more", [{}, {"envs": {"A": "x" * 5_000}}, {"notify": Notify(succeeds=["a@example.org"])}])
def test_the_setting_holds_for_specs_that_do_not_say(
    setting: ReportFailure.Mode.ValueType,
    asked: ReportFailure.Mode.ValueType | None,
    told: bool | None,
    more: dict[str, Any],
) -> None:
    spec = serialized(JobSpec(image="echo:1", report_failure=asked, **more))
    found = [one for one in targets_of(spec, report=setting) if one.channel is NoticeChannel.REPORT]
    assert [one.each for one in found] == ([] if told is None else [told])


def test_a_report_waits_for_output_as_a_mail_does() -> None:
    ran = replace(execution(), started_at=T0, outcome=Outcome.EXITED)
    assert notices.waits_for_output(delivery(channel=NoticeChannel.REPORT), ran, now=T0)
    assert not notices.waits_for_output(delivery(channel=NoticeChannel.WEBHOOK), ran, now=T0)


# --------------------------------------------------------------------------------------------------------- who is told


async def test_a_success_is_told_to_those_of_successes_and_of_ends(world: World) -> None:
    await world.say(await run(world), exited(0))
    assert said(world) == ["SUCCEEDED SUCCEEDS http://hook.test/good", "SUCCEEDED FINISHES https://hook.test/any"]
    made = world.deliveries()[0]
    assert (made.state, made.next_at, made.created_at) == (DeliveryState.PENDING, T0, T0)
    assert (made.lane, world.deliveries()[1].lane) == ("hook.test:80", "hook.test:443")


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (exited(3), "FAILED"),
        (ended(Outcome.TIMED_OUT), "TIMED_OUT"),
        (ended(Outcome.LOST), "FAILED"),
        (ended(Outcome.REJECTED), "FAILED"),
    ],
)
async def test_every_failure_is_told_to_those_of_failures(world: World, end: Any, outcome: str) -> None:
    await world.say(await run(world, infra_retries=0), end)
    assert said(world) == [f"{outcome} FAILS http://hook.test/bad", f"{outcome} FINISHES https://hook.test/any"]


async def test_only_the_last_attempt_is_an_end(world: World) -> None:
    first = await run(world, retries=1, backoff=Backoff(min=Duration()))
    await world.say(first, exited(1))
    assert said(world) == []
    second = world.attempts()[1].execution_id
    await world.run(second)
    await world.say(second, exited(1))
    assert said(world) == ["FAILED FAILS http://hook.test/bad", "FAILED FINISHES https://hook.test/any"]
    assert {d.execution_id for d in world.deliveries()} == {second}


async def test_a_stop_is_told_only_as_an_end(world: World) -> None:
    waits = await world.submit("waits", webhooks=HOOKS)
    await stop.stop_job(world.ctx, "", "waits")
    assert said(world, "waits") == ["STOPPED FINISHES https://hook.test/any"]
    runs = await run(world, "runs")
    await stop.stop_job(world.ctx, "", "runs")
    assert said(world, "runs") == []
    await world.say(runs, exited(143))
    assert said(world, "runs") == ["STOPPED FINISHES https://hook.test/any"]
    assert world.execution(waits).unsettled_since is None


async def test_a_job_that_never_started_in_time_is_told(world: World) -> None:
    await world.submit(webhooks=HOOKS, start_deadline=Duration(seconds=5))
    world.machine.pass_(6)
    await time.expire_waiting(world.ctx, 10)
    assert said(world) == ["EXPIRED FAILS http://hook.test/bad", "EXPIRED FINISHES https://hook.test/any"]


async def test_a_recurring_job_tells_the_end_of_each_fire(world: World) -> None:
    await world.hello()
    await world.submit(cron="* * * * *", webhooks=HOOKS, retries=1, backoff=Backoff(min=Duration()))
    await world.fire(60)
    (first,) = world.attempts()
    await world.run(first.execution_id)
    await world.say(first.execution_id, exited(1))
    assert said(world) == []
    second = world.attempts()[1].execution_id
    await world.run(second)
    await world.say(second, exited(0))
    assert len(said(world)) == 2
    await world.fire(120)
    third = world.attempts()[2].execution_id
    await world.run(third)
    await world.say(third, exited(0))
    assert [d.execution_id for d in world.deliveries()] == [second, second, third, third]


async def test_a_retry_by_hand_ends_anew(world: World) -> None:
    await world.say(await run(world), exited(1))
    await retry.retry_job(world.ctx, "", "job", SECOND)
    await world.run(SECOND)
    await world.say(SECOND, exited(0))
    assert [line.split()[0] for line in said(world)] == ["FAILED", "FAILED", "SUCCEEDED", "SUCCEEDED"]


async def test_the_spec_that_ran_says_who_is_told(world: World) -> None:
    id_ = await run(world)
    await world.put(webhooks=Webhooks(finishes=[Webhook(url="http://late.test/")]))
    await world.say(id_, exited(0))
    assert said(world) == ["SUCCEEDED SUCCEEDS http://hook.test/good", "SUCCEEDED FINISHES https://hook.test/any"]
    before = world.deliveries()
    # The agent says it again, as it does where the answer was lost.
    await world.say(id_, exited(0), epoch=1)
    assert world.deliveries() == before


async def test_a_job_that_is_deleted_tells_nobody_and_takes_its_deliveries_along(world: World) -> None:
    id_ = await run(world)
    await delete.delete_job(world.ctx, "", "job", force=True)
    await world.say(id_, exited(143))
    assert world.store.tables.deliveries == {}
    await world.say(await run(world, "told"), exited(0))
    assert len(said(world, "told")) == 2
    await delete.delete_job(world.ctx, "", "told", force=False)
    assert world.store.tables.deliveries == {}


async def test_an_address_gets_one_mail_for_an_end(world: World) -> None:
    await world.hello()
    twice = Notify(fails=["ops@example.org", "Ops@example.org"], finishes=["ops@EXAMPLE.org", "other@example.org"])
    id_ = await world.submit(notify=twice)
    await world.run(id_)
    await world.say(id_, exited(1))
    assert sorted((target_of(d), d.event.name, d.lane) for d in world.deliveries()) == [
        ("Ops@example.org", "FAILS", "email"),
        ("ops@example.org", "FAILS", "email"),
        ("other@example.org", "FINISHES", "email"),
    ]


def test_a_spec_without_receivers_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyq_store.convert.notices._remembered", None)
    assert targets_of(serialized(JobSpec(image="echo:1", envs={"A": "b"}, log_limit=7))) == ()


def test_every_receiver_of_a_spec_is_found_however_large_the_spec() -> None:
    for size in (1, 10_000):
        spec = JobSpec(image="echo:1", envs={"A": "b" * size}, webhooks=HOOKS, notify=MAILS)
        assert len(targets_of(serialized(spec))) == 6
    assert len(targets_of(serialized(JobSpec(webhooks=HOOKS)))) == 3
    assert len(targets_of(serialized(JobSpec(notify=MAILS)))) == 3
    # The two bytes may stand in anything.
    assert targets_of(serialized(JobSpec(envs={"A": "x"}, user="ß")) + b"") == ()


@pytest.mark.parametrize(
    ("url", "lane"),
    [
        ("http://A.test/x", "a.test:80"),
        ("https://u:p@a.test/x", "a.test:443"),
        ("HTTP://a.test:8080", "a.test:8080"),
        ("http://[::1]:9/", "::1:9"),
        ("http://a.test:99999/", "http://a.test:99999/"),
    ],
)
def test_a_lane_is_a_host_and_its_port(url: str, lane: str) -> None:
    assert lane_of(url) == lane


# --------------------------------------------------------------------------------------------------- what becomes of it


async def failed(world: World) -> str:
    await world.say(await run(world), exited(1))
    return world.deliveries()[0].delivery_id


async def test_a_claim_is_for_one_and_for_a_time(world: World) -> None:
    id_ = await failed(world)
    claims = await deliveries.claim(world.ctx, ALL)
    assert sorted(c.delivery.event.name for c in claims.items) == ["FAILS", "FINISHES"]
    assert claims.next_in_ms == 30_000
    first = next(c for c in claims.items if c.delivery.delivery_id == id_)
    assert (first.delivery.attempts, first.delivery.tries, first.age) == (1, 1, 0)
    assert first.execution.execution.exit_code == 1
    assert (await deliveries.claim(world.ctx, ALL)).items == ()
    # Who took them died.
    world.machine.pass_(30)
    again = {c.delivery.delivery_id: c for c in (await deliveries.claim(world.ctx, ALL)).items}
    assert again[id_].delivery.attempts == 2
    assert again[id_].age == 30_000


async def test_room_in_lanes_is_kept(world: World) -> None:
    for number in range(5):
        await world.say(await run(world, f"job-{number}"), exited(1))
    wish = Wish(limit=100, lease=1_000, per_lane=3, under_way={"hook.test:80": 1, "hook.test:443": 3})
    claims = await deliveries.claim(world.ctx, wish)
    assert [c.delivery.lane for c in claims.items] == ["hook.test:80"] * 2
    assert claims.next_in_ms == 0
    rest = await deliveries.claim(world.ctx, Wish(limit=1, lease=1_000, per_lane=9))
    assert (len(rest.items), rest.next_in_ms) == (1, 0)


async def test_a_database_that_takes_no_writes_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever claims would take it for done, and ask again at once."""
    await failed(world)

    async def away(plans: Sequence[object]) -> list[Unavailable]:
        return [Unavailable("there is no primary")] * len(plans)

    monkeypatch.setattr(world.store, "run_all", away)
    with pytest.raises(Unavailable):
        await deliveries.claim(world.ctx, Wish(limit=1, lease=1_000, per_lane=9))


async def test_what_became_of_it_is_told(world: World) -> None:
    id_ = await failed(world)
    (claimed, *_) = (await deliveries.claim(world.ctx, ALL)).items
    id_ = claimed.delivery.delivery_id
    await deliveries.record(
        world.ctx, id_, 1, Sent(delivered=False, response_code=500, error="e" * 900, retry_in=5_000)
    )
    known = world.store.tables.deliveries[id_]
    assert (known.state, known.next_at, known.response_code, len(known.error)) == (
        DeliveryState.PENDING,
        T0 + 5_000,
        500,
        500,
    )
    world.machine.pass_(5)
    assert [c.delivery.attempts for c in (await deliveries.claim(world.ctx, ALL)).items] == [2]
    # Late news of the first attempt changes nothing.
    await deliveries.record(world.ctx, id_, 1, Sent(delivered=False, error="late"))
    assert world.store.tables.deliveries[id_].claimed_until == T0 + 35_000
    await deliveries.record(world.ctx, id_, 2, Sent(delivered=True, response_code=204))
    known = world.store.tables.deliveries[id_]
    assert (known.state, known.next_at, known.delivered_at, known.error) == (
        DeliveryState.DELIVERED,
        None,
        T0 + 5_000,
        "",
    )
    await deliveries.record(world.ctx, id_, 2, Sent(delivered=False, error="no"))
    assert world.store.tables.deliveries[id_] == known
    await deliveries.record(world.ctx, "gone", 2, Sent(delivered=True))


def test_a_late_success_counts() -> None:
    claimed = notices.claim(delivery(), now=T0, lease=10)
    again = notices.claim(claimed, now=T0 + 10, lease=10)
    told = notices.record(again, 1, Sent(delivered=True, response_code=200), now=T0 + 11)
    assert told.state is DeliveryState.DELIVERED


def test_giving_up_is_final_until_it_is_sent_again() -> None:
    claimed = notices.claim(delivery(), now=T0, lease=10)
    gone = notices.record(claimed, 1, Sent(delivered=False, error="no"), now=T0 + 1)
    assert (gone.state, gone.next_at) == (DeliveryState.FAILED, None)
    assert notices.claim(gone, now=T0 + 99, lease=10) is gone
    again = notices.resend(gone, now=T0 + 100)
    assert (again.state, again.next_at, again.tries, again.armed_at, again.attempts) == (
        DeliveryState.PENDING,
        T0 + 100,
        0,
        T0 + 100,
        1,
    )


async def test_sending_again(world: World) -> None:
    id_ = await failed(world)
    await deliveries.claim(world.ctx, ALL)
    # Somebody sends it just now.
    assert (await deliveries.resend(world.ctx, "mail", "job", id_)).claimed_until is not None
    await deliveries.record(world.ctx, id_, 1, Sent(delivered=True))
    world.machine.pass_(100)
    again = await deliveries.resend(world.ctx, "", "job", id_)
    assert (again.state, again.next_at, again.delivered_at) == (DeliveryState.PENDING, T0 + 100_000, None)
    for task, job, delivery_id in (("x", "job", id_), ("", "x", id_), ("", "job", "x")):
        with pytest.raises(NotFound):
            await deliveries.resend(world.ctx, task, job, delivery_id)
    await world.submit("other")
    with pytest.raises(NotFound, match="no delivery"):
        await deliveries.resend(world.ctx, "", "other", id_)


async def test_pages(world: World) -> None:
    await failed(world)
    page, token = await deliveries.list_deliveries(world.ctx, "mail", "job", "", 1)
    rest, end = await deliveries.list_deliveries(world.ctx, "", "job", token, 1)
    assert (len(page), len(rest), end) == (1, 1, "")
    assert page[0].delivery_id > rest[0].delivery_id
    with pytest.raises(NotFound):
        await deliveries.list_deliveries(world.ctx, "other", "job", "", 1)


async def test_a_mail_waits_for_the_rest_of_the_output(world: World) -> None:
    await world.hello()
    id_ = await world.submit(notify=MAILS)
    await world.run(id_)
    await world.say(id_, ended(Outcome.EXITED, exit_code=1, stdout=5))
    assert not world.execution(id_).logs_complete
    claims = await deliveries.claim(world.ctx, ALL)
    assert (claims.items, claims.next_in_ms) == ((), notices.LOG_LOOK_MS)
    world.machine.pass_(notices.LOG_PATIENCE_MS / 1000)
    claims = await deliveries.claim(world.ctx, ALL)
    assert [c.delivery.attempts for c in claims.items] == [1, 1]


async def test_a_mail_has_the_tail_of_the_output(world: World) -> None:
    await world.hello()
    id_ = await world.submit(notify=MAILS)
    await world.run(id_)
    output = b"0123456789" * 2_000
    await world.say(id_, exited(1, output, execution_id=id_))
    claims = await deliveries.claim(world.ctx, ALL)
    assert {c.stdout_tail for c in claims.items} == {output[-deliveries.MOST_TAIL :]}
    assert {c.stderr_tail for c in claims.items} == {b""}


async def test_one_whose_execution_is_gone_goes_too(world: World) -> None:
    id_ = await failed(world)
    world.store.tables.executions.clear()
    assert (await deliveries.claim(world.ctx, ALL)).items == ()
    assert id_ not in world.store.tables.deliveries


def test_what_was_never_run_waits_for_no_output() -> None:
    mail = delivery(channel=NoticeChannel.EMAIL)
    never = execution(state=ExecutionState.EXPIRED)
    assert not notices.waits_for_output(mail, never, now=T0)
    assert notices.postpone(delivery(next_at=None), now=T0, by=5).next_at is None


def test_an_end_without_a_time_has_the_present_one() -> None:
    target = Target(event=NoticeEvent.FINISHES, channel=NoticeChannel.WEBHOOK, name="0", value=b"", lane="hook.test:80")
    (made,) = notices.deliveries_of(execution(), JobState.STOPPED, [target], now=T0 + 7)
    assert made.created_at == T0 + 7
    (same,) = notices.deliveries_of(replace(execution(), finished_at=T0 + 1), JobState.STOPPED, [target], now=T0 + 7)
    assert (same.created_at, same.delivery_id) == (T0 + 1, made.delivery_id)
