"""The same request again, after what it was resolved and checked with has changed: it is known by what it asked for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format

from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_chassis.status import from_rpc_error
from easyq_gateway.adapters.admission import Schedulers
from easyq_gateway.domain.defaults import Defaults
from easyq_internal.store.v1.job_store_pb2 import NewJob, SubmitAccepted
from tests.integration.gateway.conftest import Client
from tests.support.waiting import eventually

PLAIN = {"image": "busybox:1", "command": ["true"], "envs": {"TOKEN": "t", "A": "1"}}
TIMED = {**PLAIN, "startIn": "60s"}
WINDOW = {**PLAIN, "cron": "@hourly", "endAt": "2030-03-17T20:00:00Z"}
AFTER = 1_931_000_000_000  # ms, the year 2031
OTHERS = Defaults(retries=7, backoff_min_ms=5_000, infra_retries=1, overlap="ALLOW", time_zone="Asia/Tokyo")
SPELLED_OUT = [
    {"pull": "MISSING"},
    {"priority": 0},
    {"privileged": False},
    {"stopGrace": "10s"},
    {"backoff": {"min": "1s"}},
    {"backoff": {}},
    {"resources": {}},
]

Told = dict[str, Any]
Post = Callable[[Client, Told], Awaitable[tuple[str, bool] | tuple[str, list[str]]]]


async def by_rest(gateway: Client, spec: Told) -> tuple[str, bool] | tuple[str, list[str]]:
    answer = await gateway.call("POST", "/tasks/mail", spec, Idempotency_Key="k")
    if answer.status != 200:
        return answer.error["reason"], list(answer.fields)
    return answer.json["jobId"], answer.json["replayed"]


async def by_grpc(gateway: Client, spec: Told) -> tuple[str, bool] | tuple[str, list[str]]:
    request = api.CreateJobRequest(task_id="mail", spec=message(spec), idempotency_key="k")
    try:
        answer = await JobServiceStub(gateway.channel).CreateJob(request)
    except grpc.aio.AioRpcError as error:
        told = from_rpc_error(error)
        return told.reason, [one.field for one in told.fields]
    return answer.job_id, answer.replayed


async def by_batch(gateway: Client, spec: Told) -> tuple[str, bool] | tuple[str, list[str]]:
    [result] = (await gateway.post("/batch", {"jobs": [item(spec)]}))["results"]
    if result["error"]:
        return result["error"]["reason"], [short(one["field"]) for one in result["error"]["fields"]]
    return result["job"]["jobId"], result["job"]["replayed"]


async def by_batch_of_grpc(gateway: Client, spec: Told) -> tuple[str, bool] | tuple[str, list[str]]:
    [result] = await batched(gateway, [batch_item(spec)])
    return of_result(result)


async def by_stream(gateway: Client, spec: Told) -> tuple[str, bool] | tuple[str, list[str]]:
    [result] = await streamed(gateway, [batch_item(spec)])
    return of_result(result)


async def batched(gateway: Client, items: list[api.BatchItem]) -> list[api.BatchResult]:
    answer = await JobServiceStub(gateway.channel).BatchCreateJobs(api.BatchCreateJobsRequest(jobs=items))
    return list(answer.results)


async def streamed(gateway: Client, items: list[api.BatchItem]) -> list[api.BatchResult]:
    async def requests() -> AsyncIterator[api.SubmitJobsRequest]:
        for each in items:
            yield api.SubmitJobsRequest(item=each)

    return [answer.result async for answer in JobServiceStub(gateway.channel).SubmitJobs(requests())]


def of_result(result: api.BatchResult) -> tuple[str, bool] | tuple[str, list[str]]:
    if result.HasField("error"):
        return result.error.reason, [short(one.field) for one in result.error.fields]
    return result.job.job_id, result.job.replayed


def short(field: str) -> str:
    return field.removeprefix("jobs[0].").removeprefix("item.")


def item(spec: Told, key: str = "k") -> Told:
    return {"taskId": "mail", "spec": spec, "idempotencyKey": key}


def message(spec: Told) -> JobSpec:
    return json_format.ParseDict(spec, JobSpec())


def batch_item(spec: Told, key: str = "k") -> api.BatchItem:
    return api.BatchItem(task_id="mail", spec=message(spec), idempotency_key=key)


ways = pytest.mark.parametrize("post", [by_rest, by_grpc, by_batch, by_batch_of_grpc, by_stream])


def change_defaults(gateway: Client, defaults: Defaults = OTHERS) -> None:
    gateway.app._use_cases.defaults.base = defaults
    gateway.app._use_cases.defaults.set_rules(())


def forget_asked(gateway: Client, job_id: str) -> None:
    """As if an older version had made the job."""
    gateway.store.first_asked[job_id] = gateway.store.asked[job_id] = b""


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the window's end pass."""
    return lambda: monkeypatch.setattr(SystemClock, "now_ms", lambda _: AFTER)


# --------------------------------------------------------------------------------------------------- idempotency keys


@ways
@pytest.mark.parametrize("spec", [PLAIN, TIMED, WINDOW], ids=["plain", "timed", "recurring"])
async def test_a_repeat_is_answered_although_the_defaults_are_others(gateway: Client, post: Post, spec: Told) -> None:
    job_id, replayed = await post(gateway, spec)
    assert (replayed, list(gateway.store.jobs)) == (False, [job_id])
    change_defaults(gateway)
    for again in (by_rest, by_grpc, by_batch, by_batch_of_grpc, by_stream):
        assert await again(gateway, spec) == (job_id, True)
    assert list(gateway.store.jobs) == [job_id]


@ways
async def test_a_repeat_is_answered_although_its_window_is_over(
    gateway: Client, post: Post, pass_time: Callable[[], None]
) -> None:
    job_id, _ = await post(gateway, WINDOW)
    pass_time()
    change_defaults(gateway)
    assert await post(gateway, WINDOW) == (job_id, True)
    assert await post(gateway, {**WINDOW, "image": "busybox:2"}) == ("INVALID_FIELDS", ["spec.endAt"])
    assert list(gateway.store.jobs) == [job_id]
    dry = await gateway.call("POST", "/tasks/mail?validateOnly=true", WINDOW, Idempotency_Key="k")
    assert (dry.status, list(dry.fields)) == (400, ["spec.endAt"])
    other_key = await gateway.call("POST", "/tasks/mail", WINDOW, Idempotency_Key="other")
    assert (other_key.status, list(other_key.fields)) == (400, ["spec.endAt"])


@ways
async def test_a_repeat_is_answered_although_only_the_scheduler_would_refuse_it(gateway: Client, post: Post) -> None:
    job_id, _ = await post(gateway, WINDOW)
    # Its last hour has begun.
    gateway.behind.schedulers[0].now_ms = 1_900_000_000_000 + 3 * 3_600_000
    assert await post(gateway, WINDOW) == (job_id, True)
    assert await post(gateway, {**WINDOW, "priority": 3}) == ("INVALID_FIELDS", ["spec.endAt"])
    assert list(gateway.store.jobs) == [job_id]


@ways
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"retries": 7}, "retries"),
        ({"envs": {"TOKEN": "u", "A": "1"}}, 'envs["TOKEN"]'),
        ({"backoff": {"factor": 3}}, "backoff.factor"),
        ({"resources": {"cpus": 2}}, "resources.cpus"),
    ],
)
async def test_another_request_is_told_what_differs_and_not_what_the_defaults_do(
    gateway: Client, post: Post, change: Told, field: str
) -> None:
    job_id, _ = await post(gateway, PLAIN)
    change_defaults(gateway)
    assert await post(gateway, {**PLAIN, **change}) == ("IDEMPOTENCY_CONFLICT", [f"spec.{field}"])
    assert list(gateway.store.jobs) == [job_id]


@ways
async def test_a_default_that_is_spelled_out_is_the_same(gateway: Client, post: Post) -> None:
    job_id, _ = await post(gateway, PLAIN)
    assert await post(gateway, {**PLAIN, "retries": 0, "stopGrace": "10s"}) == (job_id, True)
    assert await post(gateway, {**PLAIN, "resources": {}}) == (job_id, True)
    change_defaults(gateway)
    assert await post(gateway, {**PLAIN, "resources": {}}) == (job_id, True)


@ways
async def test_a_job_of_an_older_version_is_compared_with_its_defaults(gateway: Client, post: Post) -> None:
    job_id, _ = await post(gateway, PLAIN)
    forget_asked(gateway, job_id)
    assert await post(gateway, {**PLAIN, "retries": 2}) == ("IDEMPOTENCY_CONFLICT", ["spec.retries"])
    was = gateway.app._use_cases.defaults.base
    change_defaults(gateway)
    reason, fields = await post(gateway, PLAIN)
    assert reason == "IDEMPOTENCY_CONFLICT"
    assert isinstance(fields, list)
    assert "spec.retries" in fields
    # A repeat that is seen while it comes to the same is learnt from.
    change_defaults(gateway, was)
    assert await post(gateway, PLAIN) == (job_id, True)
    change_defaults(gateway)
    assert await post(gateway, PLAIN) == (job_id, True)


@ways
@pytest.mark.parametrize("spelled", SPELLED_OUT, ids=str)
async def test_a_default_that_is_spelled_out_is_the_same_although_another_is_not(
    gateway: Client, post: Post, spelled: Told
) -> None:
    job_id, _ = await post(gateway, PLAIN)
    change_defaults(gateway, Defaults(retries=7))
    assert await post(gateway, {**PLAIN, **spelled}) == (job_id, True)
    assert await post(gateway, {**PLAIN, **spelled, "retries": 7}) == ("IDEMPOTENCY_CONFLICT", ["spec.retries"])


async def test_a_default_that_is_not_spelled_out_any_more_is_the_same_although_the_window_is_over(
    gateway: Client, pass_time: Callable[[], None]
) -> None:
    spelled = {**WINDOW, "priority": 0, "stopGrace": "10s", "timeZone": "UTC", "backoff": {"min": "1s"}}
    job_id, _ = await by_rest(gateway, spelled)
    await put(gateway, spelled)
    gateway.store.jobs["nightly"].state = Job.EXPIRED
    change_defaults(gateway, Defaults(retries=7))
    pass_time()
    for post in (by_rest, by_grpc, by_batch, by_batch_of_grpc, by_stream):
        assert await post(gateway, WINDOW) == (job_id, True)
    assert (await put(gateway, WINDOW))["job"]["revision"] == 1


@ways
@pytest.mark.parametrize("spelled", [*SPELLED_OUT, {"timeZone": "UTC"}, {"overlap": "SKIP"}], ids=str)
async def test_a_repeat_with_a_default_spelled_out_is_answered_although_its_window_is_over(
    gateway: Client, post: Post, spelled: Told, pass_time: Callable[[], None]
) -> None:
    job_id, _ = await post(gateway, WINDOW)
    # Its last hour has begun.
    gateway.behind.schedulers[0].now_ms = 1_900_000_000_000 + 3 * 3_600_000
    assert await post(gateway, {**WINDOW, **spelled}) == (job_id, True)
    pass_time()
    assert await post(gateway, {**WINDOW, **spelled}) == (job_id, True)
    assert await post(gateway, {**WINDOW, **spelled, "retries": 1}) == ("INVALID_FIELDS", ["spec.endAt"])


async def test_a_repeat_of_what_never_was_an_image_is_refused(gateway: Client) -> None:
    for method, path in (("POST", "/tasks/mail"), ("PUT", "/tasks/mail/jobs/nightly")):
        answer = await gateway.call(method, path, {**WINDOW, "image": "Not:an:image"}, Idempotency_Key="k")
        assert (answer.status, list(answer.fields)) == (400, ["spec.image"])
    assert gateway.store.calls == []


async def test_what_never_fitted_asks_nobody(gateway: Client) -> None:
    answer = await gateway.call("POST", "/tasks/mail", {**PLAIN, "retries": -1}, Idempotency_Key="k")
    assert (answer.status, list(answer.fields)) == (400, ["spec.retries"])
    answer = await gateway.call("POST", "/tasks/mail", {**PLAIN, "colour": 1}, Idempotency_Key="k")
    assert (answer.status, list(answer.fields)) == (400, ["spec.colour"])
    assert gateway.store.calls == []


async def test_a_refusal_after_an_answer_that_was_lost_is_none(
    gateway: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt made the job; while it is tried again the last moment for it passes."""
    stored = Schedulers.submit

    async def submit(schedulers: Schedulers, job: NewJob) -> SubmitAccepted:
        await stored(schedulers, job)
        raise InvalidArgument("too late", fields=[FieldProblem(field="spec.endAt", message="is over")])

    monkeypatch.setattr(Schedulers, "submit", submit)
    answer = await gateway.enqueue(cron="@hourly", endAt="2030-03-17T20:00:00Z")
    assert (answer["replayed"], list(gateway.store.jobs)) == (False, [answer["jobId"]])


# ----------------------------------------------------------------------------------------------- one key in one call


@pytest.mark.parametrize("count", [2, 70])
async def test_a_key_twice_in_a_batch_is_the_firsts(gateway: Client, count: int) -> None:
    items = [item(PLAIN) for _ in range(count)]
    results = (await gateway.post("/batch", {"jobs": items}))["results"]
    assert [result["job"]["replayed"] for result in results] == [False, *[True] * (count - 1)]
    assert len(gateway.store.jobs) == 1
    answers = await batched(gateway, [batch_item(PLAIN, "other")] * count)
    assert [result.job.replayed for result in answers] == [False, *[True] * (count - 1)]
    assert len(gateway.store.jobs) == 2


async def test_a_key_twice_in_a_stream_is_the_firsts(gateway: Client) -> None:
    results = await streamed(gateway, [batch_item(PLAIN)] * 40)
    assert [result.job.replayed for result in results] == [False, *[True] * 39]
    assert len(gateway.store.jobs) == 1


@pytest.mark.parametrize("by_stream", [False, True])
async def test_the_first_of_a_key_holds_whoever_would_be_quicker(gateway: Client, by_stream: bool) -> None:
    """The first goes by the scheduler, which takes its time; the second would be in the store before it."""
    items = [batch_item(TIMED), batch_item(PLAIN), batch_item(PLAIN, "")]
    gateway.behind.schedulers[0].answering.clear()
    if by_stream:
        asking = asyncio.create_task(streamed(gateway, items))
    else:
        asking = asyncio.create_task(batched(gateway, items))
    await eventually(lambda: [new.idempotency_key for new in gateway.store.submits] == [""])
    gateway.behind.schedulers[0].answering.set()
    first, second, _ = await asking
    assert of_result(first) == (first.job.job_id, False)
    assert of_result(second)[0] == "IDEMPOTENCY_CONFLICT"
    assert len(gateway.store.jobs) == 2


async def test_keys_of_other_tasks_and_items_without_one_go_side_by_side(gateway: Client) -> None:
    items = [item(PLAIN), {**item(PLAIN), "taskId": "other"}, item(PLAIN, ""), item(PLAIN, "")]
    results = (await gateway.post("/batch", {"jobs": items}))["results"]
    assert [result["job"]["replayed"] for result in results] == [False] * 4
    assert len(gateway.store.jobs) == 4


# ----------------------------------------------------------------------------------------------------------------- put


async def put(gateway: Client, spec: Told, query: str = "") -> Any:
    answer = await gateway.call("PUT", f"/tasks/mail/jobs/nightly{query}", spec)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.parametrize("spec", [PLAIN, TIMED, WINDOW], ids=["plain", "timed", "recurring"])
async def test_a_put_again_changes_nothing_although_the_defaults_are_others(gateway: Client, spec: Told) -> None:
    made = await put(gateway, spec)
    change_defaults(gateway)
    again = await put(gateway, spec)
    assert (again["created"], again["job"]["revision"], again["job"]["spec"]) == (False, 1, made["job"]["spec"])
    by_grpc = await JobServiceStub(gateway.channel).PutJob(
        api.PutJobRequest(task_id="mail", job_id="nightly", spec=message(spec))
    )
    assert (by_grpc.created, by_grpc.job.revision) == (False, 1)
    # What is shown can be put as it is, and what is wanted otherwise is a change.
    assert (await put(gateway, made["job"]["spec"]))["job"]["revision"] == 1
    newer = await put(gateway, {**spec, "priority": 1})
    assert (newer["job"]["revision"], newer["job"]["spec"]["retries"]) == (2, 7)


async def test_a_put_again_is_answered_although_its_window_is_over(
    gateway: Client, pass_time: Callable[[], None]
) -> None:
    await put(gateway, WINDOW)
    gateway.store.jobs["nightly"].state = Job.EXPIRED
    pass_time()
    change_defaults(gateway)
    for query in ("", "?revision=1"):
        again = await put(gateway, WINDOW, query)
        assert (again["created"], again["job"]["revision"]) == (False, 1)
    stale = await gateway.call("PUT", "/tasks/mail/jobs/nightly?revision=2", WINDOW)
    assert (stale.status, stale.error["reason"]) == (409, "REVISION_MISMATCH")
    for path, spec in (
        ("/tasks/mail/jobs/nightly", {**WINDOW, "priority": 1}),
        ("/tasks/mail/jobs/other", WINDOW),
        ("/tasks/other/jobs/nightly", WINDOW),
    ):
        answer = await gateway.call("PUT", path, spec)
        assert (answer.status, list(answer.fields)) == (400, ["spec.endAt"])
    assert list(gateway.store.jobs) == ["nightly"]


@pytest.mark.parametrize("spelled", SPELLED_OUT, ids=str)
async def test_a_put_with_a_default_spelled_out_changes_nothing_although_another_is_not(
    gateway: Client, spelled: Told, pass_time: Callable[[], None]
) -> None:
    await put(gateway, WINDOW)
    change_defaults(gateway, Defaults(retries=7))
    for more in (spelled, {**spelled, "timeZone": "UTC"}):
        assert (await put(gateway, {**WINDOW, **more}))["job"]["revision"] == 1
        by_grpc = await JobServiceStub(gateway.channel).PutJob(
            api.PutJobRequest(task_id="mail", job_id="nightly", spec=message({**WINDOW, **more}))
        )
        assert (by_grpc.created, by_grpc.job.revision) == (False, 1)
    # It has ended, so that only the same is answered.
    gateway.store.jobs["nightly"].state = Job.EXPIRED
    pass_time()
    for more in (spelled, {"timeZone": "UTC"}):
        assert (await put(gateway, {**WINDOW, **more}))["job"]["revision"] == 1
    answer = await gateway.call("PUT", "/tasks/mail/jobs/nightly", {**WINDOW, **spelled, "retries": 7})
    assert (answer.status, list(answer.fields)) == (400, ["spec.endAt"])


async def test_a_put_of_a_job_of_an_older_version_is_learnt_from(gateway: Client) -> None:
    await put(gateway, PLAIN)
    forget_asked(gateway, "nightly")
    await put(gateway, PLAIN)
    change_defaults(gateway)
    assert (await put(gateway, PLAIN))["job"]["revision"] == 1


async def test_a_put_with_kept_secrets_is_known_again(gateway: Client) -> None:
    await put(gateway, PLAIN)
    change_defaults(gateway)
    again = await put(gateway, {**PLAIN, "envs": {"TOKEN": "[redacted]", "A": "1"}})
    assert (again["created"], again["job"]["revision"]) == (False, 1)


# ------------------------------------------------------------------------------------------------------------- windows


async def test_a_window_without_a_fire_is_refused_everywhere(gateway: Client) -> None:
    empty = {**WINDOW, "startAfter": "2030-03-17T20:00:01Z", "endAt": "2030-03-17T20:59:59Z"}
    for post in (by_rest, by_grpc, by_batch, by_batch_of_grpc, by_stream):
        assert await post(gateway, empty) == ("INVALID_FIELDS", ["spec.endAt"])
    for method, path in (("POST", "/tasks/mail?validateOnly=true"), ("PUT", "/tasks/mail/jobs/nightly")):
        answer = await gateway.call(method, path, empty)
        assert (answer.status, list(answer.fields)) == (400, ["spec.endAt"])
    assert gateway.store.jobs == {}


@pytest.mark.parametrize("state", [Job.ACTIVE, Job.PAUSED])
async def test_a_put_that_keeps_the_times_is_not_refused_for_them(
    gateway: Client, state: Job.State.ValueType, pass_time: Callable[[], None]
) -> None:
    scheduler = gateway.behind.schedulers[0]
    await put(gateway, WINDOW)
    job = gateway.store.jobs["nightly"]
    job.state = state
    gateway.store.calls.clear()
    await put(gateway, {**WINDOW, "retries": 1})
    assert "GetJob" not in gateway.store.calls
    # It has had its last fire, and then its window is over; the run goes on.
    scheduler.now_ms = 1_900_000_000_000 + 3 * 3_600_000
    assert (await put(gateway, {**WINDOW, "retries": 2}))["job"]["revision"] == 3
    assert scheduler.previews[-1].anchor == job.schedule.anchor.ToMilliseconds() > 0
    pass_time()
    by_grpc = await JobServiceStub(gateway.channel).PutJob(
        api.PutJobRequest(task_id="mail", job_id="nightly", spec=message({**WINDOW, "retries": 3}))
    )
    assert (by_grpc.job.revision, by_grpc.job.spec.retries) == (4, 3)
    for change, fields in (
        ({"cron": "@daily"}, ["spec.endAt"]),
        ({"endAt": "2030-03-17T20:30:00Z"}, ["spec.endAt"]),
        ({"timeZone": "Asia/Tokyo"}, ["spec.endAt"]),
        ({"retries": -1}, ["spec.retries", "spec.endAt"]),
        ({"image": "a b"}, ["spec.image", "spec.endAt"]),
        ({"envs": {"EASYQ_A": "1"}}, ["spec.envs"]),
    ):
        answer = await gateway.call("PUT", "/tasks/mail/jobs/nightly", {**WINDOW, **change})
        assert answer.status == 400
        assert [field.partition("[")[0] for field in answer.fields] == fields
    change_defaults(gateway)  # another time zone
    answer = await gateway.call("PUT", "/tasks/mail/jobs/nightly", {**WINDOW, "retries": 5})
    assert (answer.status, list(answer.fields)) == (400, ["spec.endAt"])
    assert job.revision == 4
