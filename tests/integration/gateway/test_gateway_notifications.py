"""Whom to tell of a job's end, and what was told, over REST and gRPC."""

from typing import Any

import grpc
import pytest

from easyq.v1 import notification_service_pb2 as api
from easyq.v1.job_service_pb2 import CreateJobRequest, GetJobRequest
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.notification_service_pb2_grpc import NotificationServiceStub
from easyq.v1.notify_pb2 import Notify, Webhook, Webhooks
from easyq.v1.spec_pb2 import JobSpec
from tests.integration.gateway.conftest import SOON_GIVES_UP, SPEC, Client

CANARY = "c4n4ry-7f3e"
HOOK: dict[str, Any] = {
    "url": f"https://bob:{CANARY}@hook.test/x?token={CANARY}&a=1",
    "headers": {"X-Api": CANARY},
    "secret": CANARY,
}
SHOWN: dict[str, Any] = {
    "url": "https://bob:[redacted]@hook.test/x?token=[redacted]&a=1",
    "headers": {"X-Api": "[redacted]"},
    "secret": "[redacted]",
    "secretName": "",
}
WISH: dict[str, Any] = {
    "webhooks": {"fails": [HOOK], "finishes": [{"url": "http://other.test/", "secretName": "ops"}]},
    "notify": {"fails": ["ops@example.org"]},
}


async def test_receivers_are_kept_and_shown_without_secrets(gateway: Client) -> None:
    made = await gateway.enqueue(**WISH)
    stored = gateway.store.jobs[made["jobId"]].spec
    assert (stored.webhooks.fails[0].url, stored.webhooks.fails[0].secret) == (HOOK["url"], CANARY)
    assert list(stored.notify.fails) == ["ops@example.org"]
    answer = await gateway.call("GET", f"/jobs/{made['jobId']}")
    assert CANARY not in answer.body.decode()
    shown = answer.json["spec"]
    assert shown["webhooks"]["fails"] == [SHOWN]
    assert shown["webhooks"]["finishes"][0]["secretName"] == "ops"
    assert shown["notify"] == {"succeeds": [], "fails": ["ops@example.org"], "finishes": []}
    for path in ("/jobs", "/tasks/mail/jobs", "/search?query=mail"):
        assert CANARY not in (await gateway.call("GET", path)).body.decode()
    dry = await gateway.call("POST", "/tasks/mail?validateOnly=true", {**SPEC, **WISH})
    assert (dry.status, dry.json["spec"]["webhooks"]["fails"]) == (200, [SHOWN])
    stub: Any = JobServiceStub(gateway.channel)
    assert CANARY not in str(await stub.GetJob(GetJobRequest(job_id=made["jobId"])))


async def test_a_job_without_receivers_shows_none(gateway: Client) -> None:
    made = await gateway.enqueue()
    spec = (await gateway.get(f"/jobs/{made['jobId']}"))["spec"]
    assert (spec["webhooks"], spec["notify"]) == (None, None)


@pytest.mark.parametrize(
    ("wish", "fields"),
    [
        ({"webhooks": {"fails": [{"url": "ftp://a/"}]}}, ["spec.webhooks.fails[0].url"]),
        ({"webhooks": {"fails": [{"url": "http://a b/"}]}}, ["spec.webhooks.fails[0].url"]),
        ({"webhooks": {"fails": [{}]}}, ["spec.webhooks.fails[0].url"]),
        ({"webhooks": {"fails": "http://a/"}}, ["spec.webhooks.fails"]),
        ({"webhooks": {"always": []}}, ["spec.webhooks.always"]),
        ({"webhooks": {"fails": [{"url": "http://a/"}] * 9}}, ["spec.webhooks.fails"]),
        (
            {"webhooks": {"succeeds": [{"url": "http://a/", "headers": {"Host": "x"}}]}},
            ['spec.webhooks.succeeds[0].headers["Host"]'],
        ),
        (
            {"webhooks": {"succeeds": [{"url": "http://a/", "headers": {"X-A": "a\r\nEvil: b"}}]}},
            ['spec.webhooks.succeeds[0].headers["X-A"]'],
        ),
        (
            {"webhooks": {"succeeds": [{"url": "http://a/", "secret": "[redacted]"}]}},
            ["spec.webhooks.succeeds[0].secret"],
        ),
        ({"notify": {"fails": ["nobody"]}}, ["spec.notify.fails[0]"]),
        ({"notify": {"fails": ["a@b.test\nBcc: c@d.test"]}}, ["spec.notify.fails[0]"]),
        ({"notify": {"fails": ["a@b.test"] * 17}}, ["spec.notify.fails"]),
    ],
)
async def test_wrong_receivers_are_refused_by_name(gateway: Client, wish: Any, fields: list[str]) -> None:
    answer = await gateway.call("POST", "/tasks/mail", {**SPEC, **wish})
    assert (answer.status, list(answer.fields)) == (400, fields)
    assert gateway.store.jobs == {}


async def test_wrong_receivers_are_refused_over_grpc(gateway: Client) -> None:
    stub: Any = JobServiceStub(gateway.channel)
    hook = Webhook(url="http://a/", headers={"EasyQ-Delivery": "x"})
    spec = JobSpec(image="a", webhooks=Webhooks(fails=[hook]), notify=Notify(fails=["x"]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateJob(CreateJobRequest(task_id="mail", spec=spec))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert gateway.store.jobs == {}


async def test_what_was_shown_can_be_put_and_only_to_the_same_receiver(gateway: Client) -> None:
    url = "/tasks/mail/jobs/nightly"
    first = await gateway.call("PUT", url, {**SPEC, **WISH})
    shown = first.json["job"]["spec"]
    again = await gateway.call("PUT", url, shown)
    assert (again.status, again.json["job"]["revision"]) == (200, 1)
    shown["webhooks"]["fails"][0]["headers"] = {"X-Api": "newer"}
    changed = await gateway.call("PUT", url, shown)
    assert changed.json["job"]["revision"] == 2
    stored = gateway.store.jobs["nightly"].spec.webhooks.fails[0]
    assert (stored.url, stored.secret, dict(stored.headers)) == (HOOK["url"], CANARY, {"X-Api": "newer"})
    shown["webhooks"]["fails"][0]["url"] = "https://evil.test/"
    stolen = await gateway.call("PUT", url, shown)
    assert (stolen.status, list(stolen.fields)) == (400, ["spec.webhooks.fails[0].secret"])


async def test_deliveries_are_listed_in_pages_without_secrets(gateway: Client) -> None:
    for number in range(3):
        gateway.store.deliveries.put(
            "job",
            f"d-{number}",
            task_id="mail",
            channel=api.Delivery.Channel.WEBHOOK,
            event=api.Delivery.Event.FAILS,
            target=HOOK["url"],
            state=api.Delivery.PENDING,
            attempts=number,
            response_code=500,
        )
    page = await gateway.get("/jobs/job/deliveries?pageSize=2")
    assert [item["deliveryId"] for item in page["items"]] == ["d-2", "d-1"]
    assert page["items"][0] == {
        "deliveryId": "d-2",
        "taskId": "mail",
        "jobId": "job",
        "executionId": "",
        "event": "FAILS",
        "channel": "WEBHOOK",
        "target": SHOWN["url"],
        "state": "PENDING",
        "outcome": None,
        "attempts": 2,
        "createdAt": None,
        "nextAttemptAt": None,
        "lastAttemptAt": None,
        "deliveredAt": None,
        "responseCode": 500,
        "error": "",
    }
    rest = await gateway.get(page["nextUrl"])
    assert [item["deliveryId"] for item in rest["items"]] == ["d-0"]
    assert (rest["nextPageToken"], rest["nextUrl"]) == ("", "")
    assert (await gateway.get("/tasks/mail/jobs/job/deliveries"))["items"] == page["items"] + rest["items"]
    stub: Any = NotificationServiceStub(gateway.channel)
    answer = await stub.ListDeliveries(api.ListDeliveriesRequest(job_id="job"))
    assert len(answer.items) == 3
    assert CANARY not in str(answer)


async def test_one_is_sent_again(gateway: Client) -> None:
    gateway.store.deliveries.put("job", "d-1", state=api.Delivery.FAILED, target="http://a/")
    answer = await gateway.post("/jobs/job/deliveries/d-1/resend")
    assert answer["delivery"]["state"] == "PENDING"
    await gateway.post("/tasks/mail/jobs/job/deliveries/d-1/resend")
    stub: Any = NotificationServiceStub(gateway.channel)
    again = await stub.ResendDelivery(api.ResendDeliveryRequest(job_id="job", delivery_id="d-1"))
    assert again.delivery.delivery_id == "d-1"


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/jobs/none/deliveries", "JOB_NOT_FOUND"),
        ("POST", "/jobs/none/deliveries/d/resend", "JOB_NOT_FOUND"),
        ("POST", "/jobs/job/deliveries/none/resend", "DELIVERY_NOT_FOUND"),
    ],
)
async def test_what_there_is_not(gateway: Client, method: str, path: str, reason: str) -> None:
    gateway.store.deliveries.put("job", "d-1")
    answer = await gateway.call(method, path)
    assert (answer.status, answer.error["reason"]) == (404, reason)


@SOON_GIVES_UP
async def test_while_the_store_is_away(gateway: Client) -> None:
    await gateway.behind.stop("store")
    answer = await gateway.call("GET", "/jobs/job/deliveries")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
