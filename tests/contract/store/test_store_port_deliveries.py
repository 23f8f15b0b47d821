"""The persistence port: notifications."""

from collections import Counter
from dataclasses import replace

from easyq_store.domain.records import Delivery
from easyq_store.domain.sites import Sites, site_of
from easyq_store.domain.states import DeliveryState, JobState, NoticeChannel, NoticeEvent
from easyq_store.ports import Persistence, Place, Steps
from tests.support.store_records import T0, delivery, execution, job


async def put(store: Persistence, *records: Delivery) -> None:
    async def plan(steps: Steps) -> None:
        for record in records:
            assert await steps.insert_delivery(record)

    await store.run(plan)


async def change(store: Persistence, delivery_id: str, **fields: object) -> Delivery | None:
    return await store.run(
        lambda steps: steps.change_delivery(delivery_id, lambda old: replace(old, **fields))  # type: ignore[arg-type]
    )


async def test_every_field_is_kept(store: Persistence) -> None:
    made = delivery(
        event=NoticeEvent.FINISHES,
        channel=NoticeChannel.EMAIL,
        target=b"ops@example.org",
        lane="email",
        state=DeliveryState.FAILED,
        outcome=JobState.TIMED_OUT,
        created_at=T0 + 1,
        armed_at=T0 + 2,
        attempts=3,
        tries=2,
        next_at=T0 + 3,
        claimed_until=T0 + 4,
        last_attempt_at=T0 + 5,
        delivered_at=T0 + 6,
        response_code=550,
        error="no such user ☹",
    )
    await put(store, made, delivery("d-2", next_at=None))
    assert await store.reads.get_delivery("d-1") == made
    assert await store.reads.get_delivery("d-2") == delivery("d-2", next_at=None)
    assert await store.reads.get_delivery("d-3") is None


async def test_every_channel_is_kept(store: Persistence) -> None:
    made = [delivery(f"d-{one.name}", channel=one, execution_id=f"e-{one.name}") for one in NoticeChannel]
    await put(store, *made)
    for one in made:
        assert await store.reads.get_delivery(one.delivery_id) == one


async def test_one_is_inserted_once(store: Persistence) -> None:
    await put(store, delivery())
    assert not await store.run(lambda steps: steps.insert_delivery(delivery(error="other")))
    assert await store.reads.get_delivery("d-1") == delivery()


async def test_what_is_not_finished_is_found(store: Persistence) -> None:
    await put(store, delivery("d-1"), delivery("d-2", execution_id="e-2", next_at=None))
    found = store.reads.has_unsent
    assert [await found("job-1"), await found("job-1", "job-1-1"), await found("job-1", "e-2")] == [True, True, False]
    assert [await found("job-2"), await found("job-2", "e-3")] == [False, False]
    await change(store, "d-1", next_at=None)
    assert not await store.run(lambda steps: steps.has_unsent("job-1"))
    assert not await store.run(lambda steps: steps.has_unsent("job-1", "job-1-1"))


async def test_a_change_is_counted_and_no_change_is_not(store: Persistence) -> None:
    await put(store, delivery())
    changed = await change(store, "d-1", attempts=1, next_at=None, state=DeliveryState.DELIVERED)
    wanted = delivery(attempts=1, next_at=None, state=DeliveryState.DELIVERED, write_no=2)
    assert changed == wanted == await store.reads.get_delivery("d-1")
    assert await store.run(lambda steps: steps.change_delivery("d-1", lambda old: old)) == wanted
    assert await store.run(lambda steps: steps.change_delivery("nobody", lambda old: old)) is None


async def test_a_plan_sees_its_own(store: Persistence) -> None:
    async def plan(steps: Steps) -> tuple[Delivery | None, Delivery | None]:
        await steps.insert_delivery(delivery())
        first = await steps.get_delivery("d-1")
        await steps.delete_delivery("d-1")
        await steps.delete_delivery("d-1")
        return first, await steps.get_delivery("d-1")

    assert await store.run(plan) == (delivery(), None)
    assert await store.reads.get_delivery("d-1") is None


async def test_they_are_listed_newest_first_from_a_place_on(store: Persistence) -> None:
    made = [delivery(f"d-{n}", created_at=T0 + n // 2) for n in range(5)]
    await put(store, *made, delivery("other", job_id="job-2"))
    reads = store.reads
    assert await reads.deliveries_of("job-1", None, 9) == made[::-1]
    assert await reads.deliveries_of("job-1", None, 2) == [made[4], made[3]]
    assert await reads.deliveries_of("job-1", Place(created_at=T0 + 1, id="d-3"), 2) == [made[2], made[1]]
    assert await reads.deliveries_of("job-1", Place(created_at=T0, id="d-0"), 2) == []


async def test_due_ones_share_by_lanes_those_that_wait_longest_first(store: Persistence) -> None:
    slow = [delivery(f"slow-{n}", lane="slow:80", next_at=T0 + 10 + n) for n in range(5)]
    fast = [delivery(f"fast-{n}", lane="fast:80", next_at=T0 + 5 + n) for n in range(3)]
    late = delivery("late", lane="late:80", next_at=T0 + 100)
    done = delivery("done", lane="done:80", next_at=None)
    await put(store, *slow, *fast, late, done)

    async def due(now: int, per_lane: int, limit: int, full: set[str] | None = None) -> list[str]:
        found = await store.reads.due_deliveries(now, per_lane, limit, full=full or set())
        assert all(each.lane.partition(":")[0] == each.delivery_id.partition("-")[0] for each in found)
        return [each.delivery_id for each in found]

    assert await due(T0 + 4, 9, 9) == []
    assert await due(T0 + 5, 9, 9) == ["fast-0"]
    # Which of several lanes comes first is as it comes, but the longest wait is among the first.
    assert sorted(await due(T0 + 50, 2, 9)) == ["fast-0", "fast-1", "slow-0", "slow-1"]
    assert await due(T0 + 50, 2, 1) == ["fast-0"]
    assert await due(T0 + 50, 3, 9, {"fast:80"}) == ["slow-0", "slow-1", "slow-2"]
    assert await due(T0 + 50, 9, 9, {"fast:80", "slow:80"}) == []
    assert sorted(await due(T0 + 100, 1, 9)) == ["fast-0", "late", "slow-0"]
    assert await store.reads.next_delivery(T0 + 50) == T0 + 100
    assert await store.reads.next_delivery(T0 + 100) is None
    assert await change(store, "late", next_at=None) is not None
    assert await store.reads.next_delivery(T0 + 50) is None


async def test_hosts_below_one_domain_share_a_bound(store: Persistence) -> None:
    hosts = [f"h{n}.example.org" for n in range(40)] + [f"10.1.2.{n}" for n in range(40)]
    await put(store, *(delivery(f"slow-{host}", lane=f"{host}:80", next_at=T0 + n) for n, host in enumerate(hosts)))
    late = ["example.org:443", "other.org:80", "10.1.3.1:80", "notexample.org:80", "email"]
    await put(store, *(delivery(lane, lane=lane, next_at=T0 + 100) for lane in late))
    sites = Sites(3, {"h0.example.org:80": 1, "other.org:80": 2})
    found = await store.reads.due_deliveries(T0 + 200, 2, 50, full={"h1.example.org:80"}, sites=sites)
    per_site = Counter(site_of(each.lane) for each in found)
    assert per_site == {
        "*.example.org": 2, "10.1.2.*": 3, "*.other.org": 1, "10.1.3.*": 1, "*.notexample.org": 1, "email": 1
    }  # fmt: skip
    assert sites.full == ["*.example.org", "*.other.org", "10.1.2.*"]


async def test_a_long_lane_hides_no_other(store: Persistence) -> None:
    await put(store, *(delivery(f"slow-{n:04}", lane="slow:80", next_at=T0 + n) for n in range(520)))
    await put(store, delivery("fast", lane="fast:80", next_at=T0 + 5_000))
    found = await store.reads.due_deliveries(T0 + 9_000, 3, 50, full=set())
    assert sorted(each.delivery_id for each in found) == ["fast", "slow-0000", "slow-0001", "slow-0002"]
    many = await store.reads.due_deliveries(T0 + 9_000, 1_000, 1_000, full=set())
    assert len({each.delivery_id for each in many}) == 521


async def test_they_go_with_their_execution(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        await steps.insert_job(job())
        await steps.insert_execution(execution())
        await steps.insert_delivery(delivery())
        await steps.insert_delivery(delivery("d-2", execution_id="job-1-2"))

    await store.run(plan)
    stored = await store.reads.get_execution("job-1-1")
    assert stored is not None
    assert await store.run(lambda steps: steps.delete_execution(stored))
    assert await store.reads.get_delivery("d-1") is None
    assert await store.reads.get_delivery("d-2") is not None
