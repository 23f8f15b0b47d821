"""Recurring jobs, over both protocols: enqueued, checked, shown, paused, resumed, triggered, explained."""

from typing import Any

import pytest

from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_pb2 import Execution, Job, Skip, Trigger, Waiting
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec, Misfire, Overlap
from tests.fakes.gateway_operators import HOUR_MS
from tests.integration.gateway.conftest import SOON_GIVES_UP, SPEC, Client, Starter
from tests.support.waiting import eventually

FIRST = 1_900_000_800_000  # the first full hour after the fake scheduler's now
EXECUTION = "77cfabbb-1864-4073-afe7-0efe01014754"
OTHER = "88cfabbb-1864-4073-afe7-0efe01014754"


async def recurring(gateway: Client, **spec: Any) -> str:
    """A recurring job's id."""
    job_id: str = (await gateway.enqueue("mail", cron="@hourly", **spec))["jobId"]
    return job_id


async def refused(gateway: Client, method: str, path: str, reason: str, status: int = 409) -> None:
    answer = await gateway.call(method, path)
    assert (answer.status, answer.error["reason"]) == (status, reason)


# ------------------------------------------------------------------------------------------------------------ enqueue


async def test_the_answer_names_no_execution(gateway: Client) -> None:
    answer = await gateway.enqueue("mail", cron="@hourly")
    assert [answer[name] for name in ("queueJobId", "executionId", "executionUrl")] == ["", "", ""]
    assert answer["jobUrl"] == f"/tasks/mail/jobs/{answer['jobId']}"
    assert gateway.behind.schedulers[0].admitted == [answer["jobId"]]
    by_grpc = await JobServiceStub(gateway.channel).CreateJob(
        api.CreateJobRequest(task_id="mail", spec=JobSpec(image="a", cron="@daily"))
    )
    assert (by_grpc.job_id != "", by_grpc.execution_id, by_grpc.execution_url) == (True, "", "")


async def test_every_field_reaches_the_store_resolved(gateway: Client) -> None:
    await gateway.enqueue("mail", cron="0 4 * * mon", agentLabels={"gpu": "a100"})
    [new] = gateway.store.submits
    spec = new.spec
    assert (spec.cron, spec.time_zone, spec.overlap, spec.misfire) == ("0 4 * * mon", "UTC", Overlap.SKIP, Misfire.ONCE)
    assert spec.HasField("jitter")
    assert (spec.jitter.seconds, spec.misfire_deadline.seconds, dict(spec.agent_labels)) == (0, 60, {"gpu": "a100"})
    told = {
        "cron": "H 4 * * *",
        "timeZone": "Europe/Berlin",
        "overlap": "queue",
        "misfire": "all",
        "jitter": "1m30s",
        "misfireDeadline": "2h",
        "startAfter": "2035-01-01T00:00:00Z",
        "endAt": "2036-01-01T00:00:00+01:00",
        "maxRuns": 7,
    }
    answer = await gateway.enqueue("mail", **told)
    shown = (await gateway.get(answer["jobUrl"]))["spec"]
    assert {name: shown[name] for name in told} == {
        "cron": "H 4 * * *",
        "timeZone": "Europe/Berlin",
        "overlap": "QUEUE",
        "misfire": "ALL",
        "jitter": "90s",
        "misfireDeadline": "7200s",
        "startAfter": "2035-01-01T00:00:00.000Z",
        "endAt": "2035-12-31T23:00:00.000Z",
        "maxRuns": 7,
    }


async def test_a_check_tells_the_next_fires_and_stores_nothing(gateway: Client) -> None:
    body = {**SPEC, "cron": "@hourly", "timeZone": "Asia/Tokyo", "envs": {"TOKEN": "x"}}
    answer = await gateway.post("/tasks/mail?validateOnly=true", body)
    assert len(answer["nextFires"]) == 10
    assert answer["nextFires"][:2] == ["2030-03-17T18:00:00.000Z", "2030-03-17T19:00:00.000Z"]
    assert (answer["spec"]["jitter"], answer["spec"]["envs"], answer["jobId"]) == ("0s", {"TOKEN": "[redacted]"}, "")
    assert (gateway.store.jobs, gateway.store.submits) == ({}, [])
    # The scheduler gets no more than it looks at.
    [asked] = gateway.behind.schedulers[0].previews
    assert (asked.count, asked.spec.image, dict(asked.spec.envs)) == (10, "", {})
    by_grpc = await JobServiceStub(gateway.channel).CreateJob(
        api.CreateJobRequest(task_id="mail", spec=JobSpec(image="a", cron="@daily"), validate_only=True)
    )
    assert [fire.ToMilliseconds() for fire in by_grpc.next_fires] == [FIRST + i * HOUR_MS for i in range(10)]
    plain = await gateway.post("/tasks/mail?validateOnly=true", {**SPEC, "startIn": "2h30m50s"})
    assert (plain["nextFires"], plain["spec"]["startIn"]) == ([], "9050s")
    assert len(gateway.behind.schedulers[0].previews) == 2


async def test_only_recurring_jobs_need_their_schedule_checked(gateway: Client) -> None:
    await gateway.enqueue()
    await gateway.enqueue(startIn=5)
    assert gateway.behind.schedulers[0].previews == []


@SOON_GIVES_UP
async def test_without_a_scheduler_recurring_jobs_are_refused(gateway: Client) -> None:
    await gateway.behind.stop("scheduler0")
    for method, path in (
        ("POST", "/tasks/mail"),
        ("PUT", "/tasks/mail/jobs/x"),
        ("POST", "/tasks/mail?validateOnly=true"),
    ):
        answer = await gateway.call(method, path, {**SPEC, "cron": "@hourly"})
        assert (answer.status, answer.error["reason"]) == (503, "UNAVAILABLE")
    assert gateway.store.jobs == {}
    assert (await gateway.call("POST", "/tasks/mail", SPEC)).status == 200


async def test_another_scheduler_answers(start_gateway: Starter) -> None:
    gateway = await start_gateway(schedulers=2)
    await gateway.behind.stop("scheduler0")
    job_id = await recurring(gateway)
    assert gateway.behind.schedulers[1].admitted == [job_id]


async def test_put(gateway: Client) -> None:
    url = "/tasks/mail/jobs/nightly"
    made = (await gateway.call("PUT", url, {**SPEC, "cron": "@daily", "jitter": 5})).json
    assert (made["created"], made["job"]["state"], made["job"]["executions"]) == (True, "ACTIVE", [])
    assert gateway.behind.schedulers[0].previews[0].job_id == "nightly"
    # What is shown can be put as it is.
    again = (await gateway.call("PUT", url, made["job"]["spec"])).json
    assert (again["created"], again["job"]["revision"]) == (False, 1)
    by_grpc = await JobServiceStub(gateway.channel).PutJob(
        api.PutJobRequest(task_id="mail", job_id="nightly", spec=JobSpec(image="a", cron="@hourly"))
    )
    assert (by_grpc.job.revision, by_grpc.job.spec.cron) == (2, "@hourly")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "@daily"}, "cron"),
        ({"timeZone": "Asia/Tokyo"}, "timeZone"),
        ({"overlap": "ALLOW"}, "overlap"),
        ({"misfire": "SKIP"}, "misfire"),
        ({"jitter": 5}, "jitter"),
        ({"misfireDeadline": 5}, "misfireDeadline"),
        ({"startAfter": "2035-01-01T00:00:00Z"}, "startAfter"),
        ({"endAt": "2035-01-01T00:00:00Z"}, "endAt"),
        ({"maxRuns": 5}, "maxRuns"),
        ({"agentLabels": {"gpu": "a100"}}, 'agentLabels["gpu"]'),
    ],
)
async def test_an_idempotency_key_tells_which_field_differs(gateway: Client, change: Any, field: str) -> None:
    body = {**SPEC, "cron": "@hourly"}
    first = await gateway.post("/tasks/mail", body, Idempotency_Key="k")
    again = await gateway.post("/tasks/mail", {**body, "timeZone": "UTC", "jitter": 0}, Idempotency_Key="k")
    assert (again["jobId"], again["replayed"], again["executionId"]) == (first["jobId"], True, "")
    other = await gateway.call("POST", "/tasks/mail", {**body, **change}, Idempotency_Key="k")
    assert (other.status, other.error["reason"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert list(other.fields) == [f"spec.{field}"]


# --------------------------------------------------------------------------------------------------------------- shown


async def test_a_job_tells_its_schedule(gateway: Client) -> None:
    plain = await gateway.get((await gateway.enqueue())["jobUrl"])
    assert (plain["schedule"], plain["error"], plain["executions"][0]["fireAt"]) == (None, None, None)
    job_id = await recurring(gateway)
    shown = await gateway.get(f"/jobs/{job_id}")
    assert (shown["state"], shown["waiting"], shown["schedule"]["nextFireAt"]) == ("ACTIVE", None, None)
    gateway.store.plan(job_id, FIRST, runs=3)
    skip = gateway.store.jobs[job_id].schedule.skips.add(reason=Skip.COALESCED, count=2)
    skip.first.FromMilliseconds(FIRST - 3 * HOUR_MS)
    gateway.store.fire(job_id, EXECUTION)
    shown = await gateway.get(f"/jobs/{job_id}")
    assert (shown["schedule"]["nextFireAt"], shown["schedule"]["runs"]) == ("2030-03-17T18:00:00.000Z", 3)
    assert shown["schedule"]["skips"][0]["reason"] == "COALESCED"
    assert shown["executions"][0]["fireAt"] is not None
    assert shown["waiting"]["reason"] == "NOT_DUE"
    assert shown["waiting"]["nextLookAt"] == "2030-03-17T18:00:00.000Z"
    assert "next fire is due at 2030-03-17 18:00:00 UTC" in shown["waiting"]["message"]
    [listed, _] = (await gateway.get("/jobs"))["items"]
    assert listed["waiting"] == shown["waiting"]


@pytest.mark.parametrize(("query", "count"), [("", 10), ("?next=3", 3), ("?next=0", 0)])
async def test_the_coming_fires(gateway: Client, query: str, count: int) -> None:
    job_id = await recurring(gateway, timeZone="Asia/Tokyo")
    gateway.store.plan(job_id, FIRST + HOUR_MS)
    answer = await gateway.get(f"/tasks/mail/jobs/{job_id}/schedule{query}")
    assert (answer["cron"], answer["timeZone"], answer["state"]) == ("@hourly", "Asia/Tokyo", "ACTIVE")
    assert answer["schedule"]["decidedUntil"] == "2030-03-17T18:00:00.000Z"
    assert len(answer["nextFires"]) == count
    assert answer["nextFires"][:1] == ["2030-03-17T19:00:00.000Z"][:count]


async def test_the_coming_fires_by_grpc(gateway: Client) -> None:
    job_id = await recurring(gateway, maxRuns=9)
    gateway.store.plan(job_id, FIRST, runs=4)
    answer = await JobServiceStub(gateway.channel).GetSchedule(api.GetScheduleRequest(job_id=job_id, next=2))
    assert [fire.ToMilliseconds() for fire in answer.next_fires] == [FIRST, FIRST + HOUR_MS]
    asked = gateway.behind.schedulers[0].previews[-1]
    assert (asked.job_id, asked.runs, asked.cursor, asked.spec.max_runs) == (job_id, 4, FIRST - HOUR_MS, 9)
    assert asked.anchor > 0


async def test_while_paused_only_what_is_to_come_is_told(gateway: Client) -> None:
    job_id = await recurring(gateway)
    gateway.store.jobs[job_id].schedule.decided_until.FromMilliseconds(HOUR_MS)
    await gateway.post(f"/jobs/{job_id}/pause")
    await gateway.get(f"/jobs/{job_id}/schedule")
    # It has missed all since 1970, which is not to come.
    assert gateway.behind.schedulers[0].previews[-1].cursor > 1_700_000_000_000


async def test_what_has_ended_fires_no_more(gateway: Client) -> None:
    job_id = await recurring(gateway)
    gateway.store.jobs[job_id].state = Job.STOPPED
    assert (await gateway.get(f"/jobs/{job_id}/schedule"))["nextFires"] == []


async def test_a_plain_job_has_no_schedule(gateway: Client) -> None:
    answer = await gateway.enqueue()
    await refused(gateway, "GET", f"{answer['jobUrl']}/schedule", "NOT_RECURRING")


@SOON_GIVES_UP
async def test_coming_fires_need_a_scheduler(gateway: Client) -> None:
    job_id = await recurring(gateway)
    await gateway.behind.stop("scheduler0")
    await refused(gateway, "GET", f"/jobs/{job_id}/schedule", "UNAVAILABLE", 503)
    assert (await gateway.get(f"/jobs/{job_id}/schedule?next=0"))["cron"] == "@hourly"


# ------------------------------------------------------------------------------------------------------------ steering


async def test_pause_and_resume(gateway: Client) -> None:
    job_id = await recurring(gateway)
    for _ in range(2):
        paused = (await gateway.post(f"/tasks/mail/jobs/{job_id}/pause"))["job"]
        assert (paused["state"], paused["waiting"]["reason"]) == ("PAUSED", "PAUSED")
        assert paused["waiting"]["since"] == paused["schedule"]["pausedAt"] is not None
    assert gateway.behind.schedulers[0].woken == 0
    for _ in range(2):
        assert (await gateway.post(f"/jobs/{job_id}/resume"))["job"]["state"] == "ACTIVE"
    await eventually(lambda: gateway.behind.schedulers[0].woken == 2)
    stub = JobServiceStub(gateway.channel)
    assert (await stub.PauseJob(api.PauseJobRequest(job_id=job_id))).job.state == Job.PAUSED
    assert (await stub.ResumeJob(api.ResumeJobRequest(job_id=job_id))).job.state == Job.ACTIVE


async def test_a_resume_needs_no_scheduler(gateway: Client) -> None:
    job_id = await recurring(gateway)
    await gateway.behind.stop("scheduler0")
    assert (await gateway.post(f"/jobs/{job_id}/resume"))["job"]["state"] == "ACTIVE"


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_only_recurring_jobs_that_live_are_paused(gateway: Client, verb: str) -> None:
    plain = await gateway.enqueue()
    await refused(gateway, "POST", f"{plain['jobUrl']}/{verb}", "NOT_RECURRING")
    job_id = await recurring(gateway)
    gateway.store.jobs[job_id].state = Job.EXPIRED
    await refused(gateway, "POST", f"/jobs/{job_id}/{verb}", "ILLEGAL_STATE")


async def test_trigger(gateway: Client) -> None:
    job_id = await recurring(gateway)
    answer = await gateway.post(f"/jobs/{job_id}/trigger")
    assert answer["executionUrl"] == f"/tasks/mail/jobs/{job_id}/executions/{answer['executionId']}"
    await eventually(lambda: gateway.behind.dispatchers[0].ready == [answer["executionId"]])
    # SKIP, and one of it is open.
    await refused(gateway, "POST", f"/jobs/{job_id}/trigger", "OVERLAP")
    other = await recurring(gateway)
    by_grpc = await JobServiceStub(gateway.channel).TriggerJob(api.TriggerJobRequest(job_id=other))
    assert (by_grpc.job_id, gateway.store.executions[by_grpc.execution_id].job_id) == (other, other)


async def test_a_trigger_that_replaces_waits_and_stops(gateway: Client) -> None:
    job_id = await recurring(gateway, overlap="REPLACE")
    gateway.store.fire(job_id, EXECUTION)
    await gateway.store.move(EXECUTION, Execution.RUNNING)
    answer = await gateway.post(f"/jobs/{job_id}/trigger")
    assert (answer["executionId"], answer["executionUrl"]) == ("", "")
    await eventually(lambda: gateway.behind.dispatchers[0].stops == [EXECUTION])


async def test_trigger_of_a_plain_job(gateway: Client) -> None:
    later = await gateway.enqueue(startIn="1h")
    answer = await gateway.post(f"{later['jobUrl']}/trigger")
    assert answer["executionId"] == later["executionId"]
    await eventually(lambda: gateway.behind.dispatchers[0].ready == [later["executionId"]])
    await refused(gateway, "POST", f"{later['jobUrl']}/trigger", "ILLEGAL_STATE")


# ------------------------------------------------------------------------------------------------------------- explain


async def test_explain_a_recurring_job(gateway: Client) -> None:
    job_id = await recurring(gateway, overlap="ALLOW")
    gateway.store.plan(job_id, FIRST)
    gateway.store.fire(job_id, EXECUTION)
    await gateway.store.move(EXECUTION, Execution.RUNNING)
    gateway.store.fire(job_id, OTHER)
    gateway.store.jobs[job_id].state = Job.ACTIVE
    ended = gateway.store.fire(job_id, "99cfabbb-1864-4073-afe7-0efe01014754")
    ended.state = Execution.SUCCEEDED
    words = Waiting(reason=Waiting.NO_FIT, message="No agent has so much memory.", subject="default", position=1)
    gateway.behind.dispatchers[0].waiting[OTHER] = words
    answer = await gateway.get(f"/tasks/mail/jobs/{job_id}/explain")
    assert (answer["state"], answer["waiting"]["reason"]) == ("ACTIVE", "NOT_DUE")
    told = {one["executionId"]: one["waiting"] and one["waiting"]["reason"] for one in answer["executions"]}
    assert told == {EXECUTION: None, OTHER: "NO_FIT"}
    assert list(told) == [EXECUTION, OTHER]
    by_grpc = await JobServiceStub(gateway.channel).ExplainJob(api.ExplainJobRequest(job_id=job_id))
    assert [one.waiting.subject for one in by_grpc.executions] == ["", "default"]
    assert by_grpc.waiting.next_look_at.ToMilliseconds() == FIRST


async def test_explain_what_waits_for_the_one_before_it(gateway: Client) -> None:
    job_id = await recurring(gateway, overlap="QUEUE")
    gateway.store.plan(job_id, FIRST)
    gateway.store.jobs[job_id].schedule.waiting_fire_at.FromMilliseconds(FIRST - HOUR_MS)
    assert (await gateway.get(f"/jobs/{job_id}/explain"))["waiting"]["reason"] == "OVERLAP"
    await gateway.post(f"/jobs/{job_id}/pause")
    assert (await gateway.get(f"/jobs/{job_id}/explain"))["waiting"]["reason"] == "PAUSED"


async def test_explain_plain_jobs(gateway: Client) -> None:
    later = await gateway.enqueue(startIn="1h")
    gateway.store.jobs[later["jobId"]].next_run_at.FromMilliseconds(FIRST)
    answer = await gateway.get(f"{later['jobUrl']}/explain")
    assert (answer["waiting"]["reason"], answer["waiting"]["nextLookAt"]) == ("NOT_DUE", "2030-03-17T18:00:00.000Z")
    assert answer["executions"][0]["waiting"]["reason"] == "NOT_DUE"
    queued = await gateway.enqueue()
    answer = await gateway.get(f"{queued['jobUrl']}/explain")
    assert (answer["waiting"], answer["executions"][0]["waiting"]["reason"]) == (None, "POSITION")
    await gateway.behind.stop("dispatcher0")
    answer = await gateway.get(f"{queued['jobUrl']}/explain")
    assert answer["executions"][0]["waiting"]["reason"] == "DISPATCHER_UNAVAILABLE"
    await gateway.store.move(queued["executionId"], Execution.SUCCEEDED)
    answer = await gateway.get(f"{queued['jobUrl']}/explain")
    assert (answer["state"], answer["waiting"], answer["executions"]) == ("SUCCEEDED", None, [])


async def test_what_runs_on_a_silent_host_is_told_of(gateway: Client) -> None:
    answer = await gateway.enqueue()
    execution_id, dispatcher = answer["executionId"], gateway.behind.dispatchers[0]
    await gateway.store.move(execution_id, Execution.RUNNING)
    dispatcher.waiting[execution_id] = Waiting(reason=Waiting.STARTING, message="Agent a starts it.")
    [told] = (await gateway.get(f"{answer['jobUrl']}/explain"))["executions"]
    assert told["waiting"] is None
    dispatcher.waiting[execution_id] = Waiting(reason=Waiting.HOST_SILENT, message="Is it up?", subject="a")
    [told] = (await gateway.get(f"{answer['jobUrl']}/explain"))["executions"]
    assert (told["waiting"]["reason"], told["waiting"]["subject"]) == ("HOST_SILENT", "a")


async def test_a_retry_tells_when_it_comes(gateway: Client) -> None:
    answer = await gateway.enqueue(retries=1)
    retry = gateway.store._attempt(gateway.store.jobs[answer["jobId"]], EXECUTION, Trigger.RETRY)
    retry.state = Execution.SCHEDULED
    retry.due_at.FromMilliseconds(FIRST)
    gateway.store.jobs[answer["jobId"]].state = Job.RETRYING
    shown = (await gateway.get(answer["jobUrl"]))["waiting"]
    assert (shown["reason"], shown["nextLookAt"]) == ("BACKOFF", "2030-03-17T18:00:00.000Z")
    assert "next attempt at 2030-03-17 18:00:00 UTC, number 2" in shown["message"]
