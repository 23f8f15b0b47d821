"""hashicorp/nomad#26690: idempotency key races. One key is one job, however often and however fast it is posted."""

import datetime

import grpc
import pytest

from easyq.v1 import job_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.farm import SplitFarm, UpFarm, Witness, shell
from tests.support.hosts import EXAMPLE_IMAGE

POSTS = 1_000
AGAIN = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.timeout(180)
def test_a_thousand_posts_of_one_key_at_once_make_one_job(either: UpFarm | SplitFarm, task: str) -> None:
    rest, witness = either.rest, Witness(either.mounts / task)
    spec = spec_pb2.JobSpec(image=EXAMPLE_IMAGE, command=["sh", "-c", Witness.START])
    spec.mounts.add(source=str(witness.folder), target="/witness")
    request = job_service_pb2.CreateJobRequest(task_id=task, spec=spec, idempotency_key="one")
    answers = []
    with grpc.insecure_channel(either.grpc_address) as channel:
        stub = JobServiceStub(channel)
        left = POSTS
        while left:
            calls = [stub.CreateJob.future(request, timeout=60) for _ in range(left)]
            codes = [call.code() for call in calls]
            assert set(codes) <= {grpc.StatusCode.OK, *AGAIN}
            answers += [call.result() for call in calls if call.code() is grpc.StatusCode.OK]
            left = sum(code in AGAIN for code in codes)
    assert len(answers) == POSTS
    assert len({(answer.job_id, answer.execution_id) for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    assert rest.wait_job(job["jobId"])["executionCount"] == 1
    assert sum(witness.starts().values()) == 1
    assert int(rest.get(f"/tasks/{task}")["jobCount"]) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"retries": 4}, "spec.retries"),
        ({"startIn": "2h"}, "spec.startIn"),
        ({"envs": {"A": "2"}}, 'spec.envs["A"]'),
        ({"backoff": {"factor": 3}}, "spec.backoff.factor"),
    ],
)
def test_the_same_key_with_another_spec_names_the_field(
    either: UpFarm | SplitFarm, task: str, change: dict[str, object], field: str
) -> None:
    rest, headers = either.rest, {"Idempotency-Key": "one"}
    spec = shell("true", startIn="1h", envs={"A": "1"})
    first = rest.post(f"/tasks/{task}", spec, headers=headers)
    # Spelled otherwise it is the same.
    again = rest.post(f"/tasks/{task}", {**spec, "startIn": 3600, "retries": 0}, headers=headers)
    assert (again["jobId"], again["replayed"]) == (first["jobId"], True)
    refused = rest.call("POST", f"/tasks/{task}", {**spec, **change}, headers=headers)
    assert (refused.status, refused.error["reason"], list(refused.fields)) == (409, "IDEMPOTENCY_CONFLICT", [field])
    rest.stop(first["jobId"])


def test_a_repeat_after_the_end_of_its_window_is_the_same_job(either: UpFarm | SplitFarm, task: str) -> None:
    rest, headers = either.rest, {"Idempotency-Key": "one"}
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=6)
    spec = shell("true", cron="@every 2s", endAt=end.isoformat(timespec="milliseconds"))
    first = rest.post(f"/tasks/{task}", spec, headers=headers)
    put = rest.call("PUT", f"/tasks/{task}/jobs/{task}", spec).json()["job"]
    for job_id in (first["jobId"], task):
        assert rest.wait_job(job_id)["state"] == "EXPIRED"
    again = rest.post(f"/tasks/{task}", spec, headers=headers)
    assert (again["jobId"], again["replayed"]) == (first["jobId"], True)
    item = {"taskId": task, "spec": spec, "idempotencyKey": "one"}
    [result] = rest.post("/batch", {"jobs": [item]})["results"]
    assert (result["job"]["jobId"], result["job"]["replayed"]) == (first["jobId"], True)
    answer = rest.call("PUT", f"/tasks/{task}/jobs/{task}", spec)
    assert (answer.status, answer.json()["job"]["revision"]) == (200, put["revision"])
    refused = rest.call("POST", f"/tasks/{task}", spec, headers={"Idempotency-Key": "two"})
    assert (refused.status, list(refused.fields)) == (400, ["spec.endAt"])


def test_a_key_twice_in_one_batch_is_the_firsts(either: UpFarm | SplitFarm, task: str) -> None:
    item = {"taskId": task, "spec": shell("true"), "idempotencyKey": "one"}
    results = either.rest.post("/batch", {"jobs": [item, item]})["results"]
    assert [result["job"]["replayed"] for result in results] == [False, True]
    assert len({result["job"]["jobId"] for result in results}) == 1
