"""Enqueue: the answer, what is stored, who is told, and what a repeat does."""

import asyncio
import contextlib
import json
import re
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from easyq.v1 import job_service_pb2 as api
from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec, OnLost, Pull
from easyq_chassis.channel import open_channel
from easyq_chassis.status import from_rpc_error
from easyq_gateway import interceptor
from easyq_internal.store.v1.job_store_pb2 import SubmitResult
from easyq_internal.store.v1.records_pb2 import ItemError
from tests.fakes.gateway import DispatcherServicer
from tests.integration.gateway.conftest import SPEC, Client, Starter
from tests.support.waiting import eventually

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def jobs(gateway: Client) -> Any:
    return JobServiceStub(gateway.channel)


async def test_the_answer_to_the_letter(gateway: Client) -> None:
    body = (
        b'{"image": "my.docker.repo.com/my-send-email-image:latest",'
        b' "command": "python /app/sendmail.py", "envs": {"SMTP_SERVER": "my-smtp-server"}}'
    )
    answer = await gateway.call("POST", "/tasks/send-very-specific-email", body)
    assert answer.status == 200
    found = re.fullmatch(
        r'\{"taskId": "send-very-specific-email", "jobId": "(?P<job>[0-9a-f]{24})", '
        rf'"queueJobId": "(?P<execution>{UUID})", "executionId": "(?P=execution)", '
        r'"taskUrl": "/tasks/send-very-specific-email", '
        r'"jobUrl": "/tasks/send-very-specific-email/jobs/(?P=job)", '
        r'"executionUrl": "/tasks/send-very-specific-email/jobs/(?P=job)/executions/(?P=execution)", '
        r'"replayed": false, "spec": null, "nextFires": \[\]\}\n',
        answer.body.decode(),
    )
    assert found, answer.body
    [stored] = gateway.store.submits
    assert (stored.job_id, stored.execution_id) == (found["job"], found["execution"])
    assert list(stored.spec.command) == ["python", "/app/sendmail.py"]


async def test_defaults_are_stored(gateway: Client) -> None:
    await gateway.enqueue(image="r:5000/a", retries=3)
    [stored] = gateway.store.submits
    assert (stored.spec.pull, stored.spec.on_lost, stored.spec.infra_retries) == (Pull.ALWAYS, OnLost.RERUN, 5)
    assert (stored.spec.retries, stored.spec.backoff.max.seconds, stored.spec.log_limit) == (3, 300, 104857600)


async def test_defaults_are_settings(start_gateway: Starter) -> None:
    gateway = await start_gateway(default_retries=2, default_stop_grace=1.5, default_on_lost="FAIL")
    await gateway.enqueue()
    [stored] = gateway.store.submits
    assert (stored.spec.retries, stored.spec.stop_grace.ToMilliseconds()) == (2, 1500)
    assert stored.spec.on_lost == OnLost.FAIL


async def test_grpc_gives_the_same(gateway: Client) -> None:
    answer = await jobs(gateway).CreateJob(api.CreateJobRequest(task_id="mail", spec=JobSpec(image="a", command=["b"])))
    assert re.fullmatch("[0-9a-f]{24}", answer.job_id)
    assert answer.queue_job_id == answer.execution_id
    shown = await gateway.get(answer.job_url)
    assert shown["spec"]["pull"] == "ALWAYS"
    assert shown["executions"][0]["executionId"] == answer.execution_id


async def test_all_dispatchers_are_told(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    answer = await gateway.enqueue()
    for dispatcher in gateway.behind.dispatchers:
        await eventually(partial(told, dispatcher, answer["executionId"]))


def told(dispatcher: DispatcherServicer, execution_id: str) -> bool:
    return dispatcher.ready == [execution_id]


@pytest.mark.parametrize("schedule", [{"startIn": "1h"}, {"startAt": "2030-01-01T00:00:00Z"}])
async def test_a_job_with_a_time_goes_to_a_scheduler(gateway: Client, schedule: dict[str, str]) -> None:
    answer = await gateway.enqueue(**schedule)
    await gateway.enqueue()
    assert gateway.behind.schedulers[0].admitted == [answer["jobId"]]
    assert (await gateway.get(answer["jobUrl"]))["state"] == "SCHEDULED"


async def test_validate_only_stores_nothing(gateway: Client) -> None:
    body = {**SPEC, "envs": {"TOKEN": "t"}, "startIn": "90s"}
    answer = await gateway.post("/tasks/mail?validateOnly=true", body)
    assert (answer["taskId"], answer["jobId"], answer["jobUrl"]) == ("mail", "", "")
    assert answer["spec"]["envs"] == {"TOKEN": "[redacted]"}
    assert (answer["spec"]["startIn"], answer["spec"]["stopGrace"]) == ("90s", "10s")
    assert gateway.store.submits == []


async def test_the_same_key_and_body_give_the_first_answer(gateway: Client) -> None:
    first = await gateway.post("/tasks/mail", SPEC, Idempotency_Key="k1")
    for path, headers in (("/tasks/mail", {"Idempotency_Key": "k1"}), ("/tasks/mail?idempotencyKey=k1", {})):
        again = await gateway.post(path, SPEC, **headers)
        assert again == {**first, "replayed": True}
    other_task = await gateway.post("/tasks/other", SPEC, Idempotency_Key="k1")
    assert other_task["jobId"] != first["jobId"]
    assert len(gateway.store.jobs) == 2


async def test_the_same_key_and_another_body_is_a_conflict(gateway: Client) -> None:
    await gateway.post("/tasks/mail", {**SPEC, "envs": {"A": "1", "TOKEN": "hunter2"}}, Idempotency_Key="k")
    other = {**SPEC, "image": "busybox:2", "envs": {"A": "2", "TOKEN": "hunter3"}, "backoff": {"factor": 3}}
    answer = await gateway.call("POST", "/tasks/mail", other, Idempotency_Key="k")
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (
        409,
        "ALREADY_EXISTS",
        "IDEMPOTENCY_CONFLICT",
    )
    assert set(answer.fields) == {"spec.image", 'spec.envs["A"]', 'spec.envs["TOKEN"]', "spec.backoff.factor"}
    assert b"hunter" not in answer.body
    assert len(gateway.store.jobs) == 1


async def test_two_keys_at_once(gateway: Client) -> None:
    answer = await gateway.call("POST", "/tasks/mail?idempotencyKey=a", SPEC, Idempotency_Key="b")
    assert (answer.status, list(answer.fields)) == (400, ["idempotencyKey"])
    assert (await gateway.call("POST", "/tasks/mail?idempotencyKey=a", SPEC, Idempotency_Key="a")).status == 200


async def test_an_answer_that_was_lost_is_asked_for_again(gateway: Client) -> None:
    """The batch was stored and its answer lost: the repeat has the same ids, so that there is one job."""
    gateway.store.lose_answers = 2
    answer = await gateway.post("/tasks/mail", SPEC, Idempotency_Key="k")
    assert answer["replayed"] is False
    assert list(gateway.store.jobs) == [answer["jobId"]]
    assert len(gateway.store.submits) == 3


async def test_secrets_are_never_shown(gateway: Client) -> None:
    secrets = {"DB_PASSWORD": "hunter2", "URL": "redis://:hunter2@h", "A": "shown"}
    answer = await gateway.enqueue(envs=secrets)
    [stored] = gateway.store.submits
    assert dict(stored.spec.envs) == secrets
    shown = {"DB_PASSWORD": "[redacted]", "URL": "redis://:[redacted]@h", "A": "shown"}
    job = await gateway.get(answer["jobUrl"])
    assert job["spec"]["envs"] == job["executions"][0]["envs"] == shown
    for path in (answer["executionUrl"], "/jobs", "/executions", answer["jobUrl"] + "/executions"):
        assert "hunter2" not in json.dumps(await gateway.get(path))
    stopped = await gateway.post(answer["executionUrl"] + "/stop")
    assert "hunter2" not in json.dumps(stopped)


async def test_which_names_are_secret_is_a_setting(start_gateway: Starter) -> None:
    gateway = await start_gateway(redact_names=("pin",))
    answer = await gateway.enqueue(envs={"CARD_PIN": "1234", "TOKEN": "t"})
    assert (await gateway.get(answer["jobUrl"]))["spec"]["envs"] == {"CARD_PIN": "[redacted]", "TOKEN": "t"}


async def test_a_marker_in_a_new_job_is_refused(gateway: Client) -> None:
    answer = await gateway.call("POST", "/tasks/mail", {**SPEC, "envs": {"TOKEN": "[redacted]"}})
    assert (answer.status, list(answer.fields)) == (400, ['spec.envs["TOKEN"]'])


async def test_many_clients_at_once_share_batches(gateway: Client) -> None:
    answers = await asyncio.gather(*(gateway.enqueue(f"t{i % 7}") for i in range(60)))
    assert len({answer["jobId"] for answer in answers}) == 60
    assert gateway.store.calls.count("Submit") < 60


async def test_what_the_store_refuses_of_a_batch_is_told(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ItemError(code=grpc.StatusCode.ALREADY_EXISTS.value[0], reason=ErrorReason.JOB_EXISTS, message="taken")
    monkeypatch.setattr(gateway.store, "submit", lambda _: SubmitResult(error=error))
    answer = await gateway.call("POST", "/tasks/mail", SPEC)
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (409, "ALREADY_EXISTS", "JOB_EXISTS")
    [result] = (await gateway.post("/batch", {"jobs": [{"taskId": "mail", "spec": SPEC}]}))["results"]
    assert (result["error"]["reason"], result["error"]["message"]) == ("JOB_EXISTS", "taken")


# ------------------------------------------------------------------------------------------------------------ batches


async def test_a_batch_takes_each_item_on_its_own(gateway: Client) -> None:
    items = [
        {"taskId": "a", "spec": SPEC},
        {"taskId": "b c", "spec": {"image": 5, "envs": {"A": None}}},
        {"taskId": "b", "spec": {**SPEC, "image": "busybox:2"}, "idempotencyKey": "k"},
        {"taskId": "b", "spec": SPEC, "idempotencyKey": "k"},
        {"taskId": "c"},
        {"taskId": "d", "spec": SPEC, "extra": 1},
        7,
    ]
    results = (await gateway.post("/batch", {"jobs": items}))["results"]
    assert [result["index"] for result in results] == list(range(7))
    assert [result["error"] is None for result in results] == [True, False, True, False, False, False, False]
    assert [result["job"] is None for result in results] == [False, True, False, True, True, True, True]
    wrong = {field["field"] for field in results[1]["error"]["fields"]}
    assert wrong == {"jobs[1].taskId", "jobs[1].spec.image", 'jobs[1].spec.envs["A"]'}
    assert results[3]["error"]["reason"] == "IDEMPOTENCY_CONFLICT"
    assert [field["field"] for field in results[4]["error"]["fields"]] == ["jobs[4].spec"]
    assert [field["field"] for field in results[5]["error"]["fields"]] == ["jobs[5].extra"]
    assert "jobs[6]" in {field["field"] for field in results[6]["error"]["fields"]}
    assert {job.task_id for job in gateway.store.jobs.values()} == {"a", "b"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "jobs"),
        ({"jobs": []}, "jobs"),
        ({"jobs": 5}, "jobs"),
        ({"job": []}, "job"),
        ({"jobs": [{}] * 10_001}, "jobs"),
    ],
)
async def test_a_batch_that_is_none(gateway: Client, body: Any, field: str) -> None:
    answer = await gateway.call("POST", "/batch", body)
    assert (answer.status, list(answer.fields)) == (400, [field])


async def test_a_batch_that_takes_too_long_tells_what_became_of_each_item(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of a slow store come in time for some: their ids are not lost with the others."""
    gateway = await start_gateway(request_timeout=2.0, stream_in_flight=4, store_patience=10.0)
    store, submit = gateway.store, gateway.store.submit

    def stuck_after_eight(new: Any) -> Any:
        result = submit(new)
        if len(store.jobs) > 8:
            store.answering.clear()
        return result

    monkeypatch.setattr(store, "submit", stuck_after_eight)
    body = {"jobs": [{"taskId": "mail", "idempotencyKey": f"k{n}", "spec": SPEC} for n in range(40)]}
    results = (await gateway.post("/batch", body))["results"]
    assert [result["index"] for result in results] == list(range(40))
    made = [result["job"]["jobId"] for result in results if result["job"]]
    assert 1 <= len(made) <= 8
    assert set(made) <= set(store.jobs)
    codes = [result["error"]["code"] for result in results if result["error"]]
    assert codes == ["DEADLINE_EXCEEDED"] * 4 + ["UNAVAILABLE"] * (len(codes) - 4)
    # Nothing was made of those that are told as not reached, and sending it all again completes it.
    unreached = {
        body["jobs"][r["index"]]["idempotencyKey"] for r in results if (r["error"] or {}).get("code") == "UNAVAILABLE"
    }
    assert not unreached & {job.idempotency_key for job in store.jobs.values()}
    monkeypatch.setattr(store, "submit", submit)
    store.answering.set()
    again = (await gateway.post("/batch", body))["results"]
    assert len({result["job"]["jobId"] for result in again}) == 40
    assert set(made) <= {result["job"]["jobId"] for result in again}


async def test_a_large_batch(start_gateway: Starter) -> None:
    """Beyond the bound of other bodies, and worked on beside the event loop."""
    gateway = await start_gateway(store_patience=20)
    items = [{"taskId": f"t{i % 10}", "spec": {**SPEC, "envs": {"FILL": "x" * 1000}}} for i in range(2000)]
    results = (await gateway.post("/batch", {"jobs": items}))["results"]
    assert all(result["job"] for result in results)
    assert len(gateway.store.jobs) == 2000


async def test_a_batch_by_grpc(gateway: Client) -> None:
    items = [api.BatchItem(task_id="a", spec=JobSpec(image="a")), api.BatchItem(task_id="", spec=JobSpec(image="a"))]
    answer = await jobs(gateway).BatchCreateJobs(api.BatchCreateJobsRequest(jobs=items))
    assert [result.WhichOneof("result") for result in answer.results] == ["job", "error"]
    assert answer.results[1].error.fields[0].field == "jobs[1].taskId"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await jobs(gateway).BatchCreateJobs(api.BatchCreateJobsRequest())
    assert [field.field for field in from_rpc_error(error.value).fields] == ["jobs"]


def item(task: str, **fields: Any) -> api.SubmitJobsRequest:
    return api.SubmitJobsRequest(item=api.BatchItem(task_id=task, spec=JobSpec(image="a", **fields)))


async def test_a_stream_answers_in_order(gateway: Client) -> None:
    call = jobs(gateway).SubmitJobs()
    for index in range(50):
        await call.write(item(f"t{index}" if index % 10 else ""))
    await call.done_writing()
    results = [response.result async for response in call]
    assert [result.index for result in results] == list(range(50))
    for result in results:
        if result.index % 10:
            assert result.job.task_id == f"t{result.index}"
        else:
            assert [field.field for field in result.error.fields] == ["item.taskId"]


async def test_a_stream_answers_each_before_the_next_is_sent(gateway: Client) -> None:
    call = jobs(gateway).SubmitJobs()
    for index in range(3):
        await call.write(item("t"))
        answer = await call.read()
        assert answer.result.index == index
        assert answer.result.job.job_id in gateway.store.jobs
    call.cancel()


async def test_a_stream_takes_in_only_so_many_at_once(start_gateway: Starter) -> None:
    gateway = await start_gateway(stream_in_flight=4)
    gateway.store.answering.clear()
    call = jobs(gateway).SubmitJobs()
    for _ in range(20):
        await call.write(item("t"))
    await eventually(lambda: len(gateway.store.submits) >= 1)
    # The first batch waits for its answer; what may be under way is bounded, whatever the client has sent.
    await asyncio.sleep(0.1)
    assert len(gateway.store.submits) <= 4
    gateway.store.answering.set()
    await call.done_writing()
    assert len([response async for response in call]) == 20


async def test_a_client_that_takes_no_answers_is_let_go(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptor, "_STALLED", 0.5)
    channel = open_channel(gateway.app.grpc_address, slow_readers=True)
    stub: Any = JobServiceStub(channel)
    call = stub.SubmitJobs()
    # Each of these answers has some KiB.
    wrong = item("t", envs={f"{number}=": "x" * 100 for number in range(16)})
    streams = gateway.app._rest._streams

    async def send() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await call.write(wrong)

    sending = asyncio.create_task(send())
    await eventually(lambda: streams._inside == 1)
    await eventually(lambda: streams._inside == 0, 30)
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    # INTERNAL is grpc.aio's own word where a write fails before the client has read the status.
    assert await call.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
    sending.cancel()
    await channel.close()


async def test_a_client_that_leaves_its_stream(gateway: Client) -> None:
    gateway.store.answering.clear()
    call = jobs(gateway).SubmitJobs()
    await call.write(item("t"))
    await eventually(lambda: len(gateway.store.submits) == 1)
    call.cancel()
    gateway.store.answering.set()
    assert (await gateway.enqueue())["jobId"]
