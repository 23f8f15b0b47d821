"""Webhooks from a job's end in the store to a receiver on a real socket, whatever that one does."""

import asyncio
import base64
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from easyq.v1.notification_service_pb2 import Delivery
from easyq.v1.notify_pb2 import Webhook, Webhooks
from easyq_scheduler.adapters.names import Names
from tests.integration.scheduler.conftest import Certificates, Sending, fails
from tests.support.receivers import Call, HttpReceiver, http_receiver, raw_receiver
from tests.support.waiting import eventually

CANARY = "c4n4ry-99aa"


async def test_a_failure_is_told_and_signed(sending: Sending) -> None:
    await sending.scheduler()
    async with http_receiver() as hook:
        url = hook.url.replace("http://", f"http://bob:{CANARY}@")
        job_id = await sending.end_job(3, **fails(url, headers={"X-Api": CANARY}, secret="key"))
        told = await sending.becomes(job_id, Delivery.DELIVERED)
        (call,) = hook.calls
    assert (told.response_code, told.attempts, told.error, told.HasField("next_attempt_at")) == (204, 1, "", False)
    assert call.id == told.delivery_id == call.json["id"]
    assert call.signed_with("key")
    assert not call.signed_with("another")
    assert call.headers["X-Api"] == CANARY
    assert call.headers["Authorization"] == "Basic " + base64.b64encode(f"bob:{CANARY}".encode()).decode()
    assert call.headers["Content-Type"] == "application/json; charset=utf-8"
    assert call.headers["User-Agent"].startswith("EasyQ/")
    assert (call.json["outcome"], call.json["exitCode"], call.json["event"]) == ("FAILED", 3, "fails")
    assert call.json["error"] == {"reason": "NONZERO_EXIT", "message": "exit code 3"}
    assert call.json["link"] == f"https://jobs.test/tasks/mail/jobs/{job_id}"
    assert (call.json["jobId"], call.json["executionId"]) == (job_id, told.execution_id)


async def test_only_those_of_the_outcome_are_told(sending: Sending) -> None:
    await sending.scheduler()
    async with http_receiver() as hook:
        wish = Webhooks(
            succeeds=[Webhook(url=hook.url + "?good")],
            fails=[Webhook(url=hook.url + "?bad")],
            finishes=[Webhook(url=hook.url + "?any")],
        )
        await sending.end_job(0, webhooks=wish)
        await eventually(lambda: len(hook.calls) == 2)
        assert sorted(call.path for call in hook.calls) == ["/hook?any", "/hook?good"]
        assert {call.json["outcome"] for call in hook.calls} == {"SUCCEEDED"}
        assert all("EasyQ-Signature" not in call.headers for call in hook.calls)


async def test_it_is_tried_again_with_the_same_words_until_it_is_taken(sending: Sending) -> None:
    await sending.scheduler()
    async with http_receiver() as hook:
        hook.statuses = [500, 404, 200]
        job_id = await sending.end_job(**fails(hook.url))
        told = await sending.becomes(job_id, Delivery.DELIVERED)
    assert (told.attempts, told.response_code) == (3, 200)
    assert {call.id for call in hook.calls} == {told.delivery_id}
    assert len({call.body for call in hook.calls}) == 1
    assert [call.headers["EasyQ-Attempt"] for call in hook.calls] == ["1", "2", "3"]


async def test_it_is_given_up_by_age_and_sent_again_by_hand(sending: Sending) -> None:
    await sending.scheduler(notify_max_age=1.5)
    async with http_receiver() as hook:
        hook.statuses = [503]
        job_id = await sending.end_job(**fails(hook.url))
        told = await sending.becomes(job_id, Delivery.FAILED)
        assert (told.response_code, told.error) == (503, "it answered 503")
        before = len(hook.calls)
        assert told.attempts == before >= 2
        hook.statuses = [200]
        await sending.resend(told)
        again = await sending.becomes(job_id, Delivery.DELIVERED)
        assert (again.attempts, again.delivery_id) == (before + 1, told.delivery_id)


async def test_one_that_is_gone_is_not_asked_again(sending: Sending) -> None:
    await sending.scheduler()
    async with http_receiver() as hook:
        hook.statuses = [410]
        told = await sending.becomes(await sending.end_job(**fails(hook.url)), Delivery.FAILED)
        assert (told.attempts, len(hook.calls)) == (1, 1)


# ---------------------------------------------------------------------- receivers of every temper


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    transport: Any = writer.transport
    transport.abort()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-what\r\n" * 10)
    await writer.drain()


async def bad_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n")
    await writer.drain()


async def endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (hang, "it did not answer within 0.5 s"),
        (reset, ""),
        (close, "closed the connection without an answer"),
        (nonsense, "what it answered is no HTTP that can be read"),
        (endless_head, "what it answered is no HTTP that can be read"),
        (bad_header, "what it answered is no HTTP that can be read"),
    ],
)
async def test_a_bad_receiver_is_told_of_and_tried_again(sending: Sending, talk: Any, words: str) -> None:
    await sending.scheduler(notify_timeout=0.5)
    async with raw_receiver(talk) as url, http_receiver() as good:
        # Many for the bad one: others are told all the same.
        jobs = [await sending.end_job(**fails(url)) for _ in range(8)]
        await sending.becomes(await sending.end_job(**fails(good.url)), Delivery.DELIVERED)
        told = await sending.failed_with(jobs[0], words) if words else await sending.failed_with(jobs[0], " ")
        assert told.state == Delivery.PENDING
        assert not told.HasField("response_code")
        assert CANARY not in told.error

        async def again() -> bool:
            return (await sending.one(jobs[0])).attempts >= 2

        await eventually(again, 60)


async def test_a_body_without_an_end_is_not_read(sending: Sending) -> None:
    await sending.scheduler()
    async with raw_receiver(endless_body) as url:
        assert (await sending.becomes(await sending.end_job(**fails(url)), Delivery.DELIVERED)).attempts == 1


async def test_nobody_there(sending: Sending) -> None:
    await sending.scheduler()
    async with raw_receiver(hang) as url:
        pass
    told = await sending.failed_with(await sending.end_job(**fails(url)), "can't be connected to")
    assert told.state == Delivery.PENDING
    name = await sending.end_job(**fails("http://nobody.invalid/"))
    await sending.failed_with(name, "can't be resolved")


async def test_many_hosts_of_one_network_that_hang_leave_room_for_others(sending: Sending) -> None:
    """More of them than there are workers, each an HTTP server of its own, and due before the good one."""
    await sending.scheduler(notify_workers=8, notify_per_host=2, notify_timeout=60)
    at_once, closed = 0, asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once
        at_once += 1
        await closed.wait()
        writer.close()

    servers = [await asyncio.start_server(handle, f"127.7.7.{host}", 0) for host in range(1, 13)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    for host, port in enumerate(ports, 1):
        await sending.end_job(**fails(f"http://127.7.7.{host}:{port}/"))
    await eventually(lambda: at_once == 4)
    async with http_receiver() as good:
        await sending.becomes(await sending.end_job(**fails(good.url)), Delivery.DELIVERED)
    assert at_once == 4
    closed.set()
    for server in servers:
        server.close()


async def test_a_slow_receiver_takes_no_more_than_its_share(sending: Sending) -> None:
    await sending.scheduler(notify_per_host=2, notify_workers=8, notify_timeout=30)
    opened = asyncio.Event()
    at_once = most = 0

    async def slowly(_: HttpReceiver, __: Call) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await opened.wait()
        at_once -= 1
        return web.Response(status=204)

    async with http_receiver() as slow, http_receiver() as quick:
        slow.answer = slowly
        held = [await sending.end_job(**fails(slow.url)) for _ in range(6)]
        await eventually(lambda: at_once == 2)
        for _ in range(6):
            await sending.becomes(await sending.end_job(**fails(quick.url)), Delivery.DELIVERED)
        assert (at_once, most) == (2, 2)
        opened.set()
        for job_id in held:
            await sending.becomes(job_id, Delivery.DELIVERED)
        assert most == 2
        assert len({call.id for call in slow.calls}) == len(slow.calls) == 6


async def test_names_that_nobody_answers_for_hold_up_no_others(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sending.scheduler(notify_workers=64, notify_timeout=60)
    look_up, silent, asked = socket.getaddrinfo, threading.Event(), set[str]()

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        if str(host).startswith("silent-"):
            asked.add(host)
            silent.wait(120)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        # More than a loop has threads of its own, whatever the machine is.
        held = [await sending.end_job(**fails(f"http://silent-{n}.test/")) for n in range(40)]
        await eventually(lambda: len(asked) == 40)
        async with http_receiver() as quick:
            url = quick.url.replace("127.0.0.1", "localhost")
            await sending.becomes(await sending.end_job(**fails(url)), Delivery.DELIVERED)
    finally:
        silent.set()
    await sending.failed_with(held[0], "can't be resolved")


# ---------------------------------------------------------------------- redirects and guard


async def test_redirects_are_followed_only_where_that_is_set(sending: Sending) -> None:
    async with http_receiver() as first, http_receiver() as second:

        async def point(_: HttpReceiver, call: Call) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": "/next" if call.path == "/hook" else second.url})

        first.answer = point
        wish = fails(first.url, headers={"X-Api": CANARY}, secret="key")
        none = await sending.scheduler()
        job_id = await sending.end_job(**wish)
        told = await sending.failed_with(job_id, "redirects are not followed")
        assert (told.response_code, len(second.calls)) == (302, 0)
        await none.stop()
        one = await sending.scheduler(webhook_redirects=1)
        await sending.failed_with(job_id, "redirects more than 1 times")
        await one.stop()
        await sending.scheduler(webhook_redirects=2)
        await sending.becomes(job_id, Delivery.DELIVERED)
        (call,) = second.calls
        assert call.signed_with("key")
        assert call.id == told.delivery_id
        # Meant for the first server, which gets it at both of its paths.
        assert "X-Api" not in call.headers
        assert all(each.headers["X-Api"] == CANARY for each in first.calls)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_guard_looks_at_the_address_that_is_connected_to(sending: Sending, host: str) -> None:
    async with http_receiver() as hook:
        url = hook.url.replace("127.0.0.1", host)
        guarded = await sending.scheduler(webhook_guard=True)
        job_id = await sending.end_job(**fails(url))
        told = await sending.failed_with(job_id, "is not allowed")
        assert told.state == Delivery.PENDING
        assert hook.calls == []
        await guarded.stop()
        await sending.scheduler(webhook_guard=True, webhook_networks="127.0.0.0/8,10.0.0.0/8")
        await sending.becomes(job_id, Delivery.DELIVERED)
        assert len(hook.calls) == 1


async def test_a_name_that_changes_its_meaning_passes_no_guard(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name meant when it was looked up before helps nobody: here it means a public address but once."""

    asked: list[str] = []

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> list[dict[str, Any]]:
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 4}]

    monkeypatch.setattr(Names, "resolve", resolve)
    async with http_receiver() as hook:
        await sending.scheduler(webhook_guard=True)
        job_id = await sending.end_job(**fails(hook.url.replace("127.0.0.1", "rebound.example.org")))
        await sending.failed_with(job_id, "127.0.0.1 is not allowed")
        assert asked
        assert hook.calls == []


async def test_a_redirect_passes_no_guard_either(sending: Sending) -> None:
    async with http_receiver() as inner, http_receiver(host="127.0.0.2") as outer:

        async def point(_: HttpReceiver, __: Call) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": inner.url})

        outer.answer = point
        await sending.scheduler(webhook_guard=True, webhook_networks="127.0.0.2/32", webhook_redirects=3)
        await sending.failed_with(await sending.end_job(**fails(outer.url)), "127.0.0.1 is not allowed")
        assert outer.calls
        assert inner.calls == []


# ---------------------------------------------------------------------- keys, and TLS


async def test_keys_have_names(sending: Sending, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('ops = "of ops"\ndefault = "of all"\n')
    await sending.scheduler(webhook_secrets=str(secrets))
    async with http_receiver() as hook:
        for wish, key in (({"secret_name": "ops"}, "of ops"), ({}, "of all"), ({"secret": "own"}, "own")):
            await sending.becomes(await sending.end_job(**fails(hook.url, **wish)), Delivery.DELIVERED)
            assert hook.calls[-1].signed_with(key)
        job_id = await sending.end_job(**fails(hook.url, secret_name="later"))
        await sending.failed_with(job_id, "there is no secret later")
        secrets.write_text('later = "of later"\n')
        await sending.becomes(job_id, Delivery.DELIVERED)
        assert hook.calls[-1].signed_with("of later")
        # One that is broken changes nothing.
        secrets.write_text("later = 7\n")
        await sending.becomes(await sending.end_job(**fails(hook.url, secret_name="later")), Delivery.DELIVERED)
        assert hook.calls[-1].signed_with("of later")


async def test_https_is_checked(sending: Sending, certificates: Certificates) -> None:
    async with http_receiver(tls=certificates.server) as hook:
        trusting_none = await sending.scheduler()
        job_id = await sending.end_job(**fails(hook.url))
        # Why, and nothing of the place in Python's source.
        assert "(_ssl.c" not in (await sending.failed_with(job_id, "TLS failed: ")).error
        assert hook.calls == []
        async with http_receiver() as plain:
            job_id_of_plain = await sending.end_job(**fails(plain.url.replace("http:", "https:")))
            error = (await sending.failed_with(job_id_of_plain, "TLS failed: ")).error
            assert "_ssl.c" not in error
            assert "[" not in error
        await trusting_none.stop()
        await sending.scheduler(webhook_ca=certificates.ca)
        await sending.becomes(job_id, Delivery.DELIVERED)


# ---------------------------------------------------------------------- deaths of schedulers


@pytest.mark.timeout(300)
async def test_a_scheduler_that_dies_between_sending_and_recording_is_made_up_for(sending: Sending) -> None:
    async with http_receiver() as hook:
        ended = sending.scheduler_process("scheduler.after_send=kill@1", notify_timeout=1.0)
        job_id = await sending.end_job(**fails(hook.url))
        await eventually(lambda: ended() is not None, 120)
        assert len(hook.calls) == 1
        assert (await sending.one(job_id)).state == Delivery.PENDING
        await sending.scheduler()
        told = await sending.becomes(job_id, Delivery.DELIVERED)
        assert (told.attempts, len(hook.calls)) == (2, 2)
        assert hook.calls[0].id == hook.calls[1].id == told.delivery_id
        assert hook.calls[0].body == hook.calls[1].body


async def test_two_schedulers_send_each_once(sending: Sending) -> None:
    await sending.scheduler()
    await sending.scheduler()
    async with http_receiver() as hook:
        jobs = [await sending.end_job(**fails(hook.url)) for _ in range(20)]
        for job_id in jobs:
            await sending.becomes(job_id, Delivery.DELIVERED)
        assert len(hook.calls) == len({call.id for call in hook.calls}) == 20


async def test_what_is_due_outlives_schedulers(sending: Sending) -> None:
    async with http_receiver() as hook:
        hook.statuses = [500]
        first = await sending.scheduler()
        job_id = await sending.end_job(**fails(hook.url))
        await sending.failed_with(job_id, "it answered 500")
        await first.stop()
        hook.statuses = [200]
        await sending.scheduler()
        await sending.becomes(job_id, Delivery.DELIVERED)


async def test_hosts_get_no_receivers(sending: Sending) -> None:
    """Who runs a job has no use for whom to tell, and for the keys."""
    sending.session = (await sending.client.hello()).session
    made = await sending.client.enqueue(**fails("http://a/", secret=CANARY))
    assignment = await sending.client.run(made.execution_id, sending.session)
    assert CANARY not in str(assignment)
    assert assignment.spec.image == "echo:1"
    assert not assignment.spec.HasField("webhooks")
    assert CANARY in str(await sending.job(made.job_id))
