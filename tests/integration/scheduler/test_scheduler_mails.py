"""E-mails from a job's end in the store to a real mail server."""

from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from easyq.v1.notification_service_pb2 import Delivery
from tests.integration.scheduler.conftest import Certificates, Sending, mails
from tests.support.receivers import mail_receiver

CANARY = "c4n4ry-55ee"


def setting(port: int, tls: str, **more: Any) -> dict[str, Any]:
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_tls": tls,
        "smtp_from": "EasyQ <easyq@jobs.test>",
        **more,
    }


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    text: str = body.get_content()
    return text


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
async def test_a_mail_arrives(sending: Sending, certificates: Certificates, tls: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pa ss\n")
    login = "" if tls == "none" else "easyq:pa ss"
    async with mail_receiver(tls=tls, context=certificates.server, login=login) as server:
        signing_in = {"smtp_user": "easyq", "smtp_password_file": str(password)} if login else {}
        await sending.scheduler(**setting(server.port, tls, smtp_ca=certificates.ca, **signing_in))
        job_id = await sending.end_job(3, stdout=b"working\n", stderr=b"it <broke>\n", **mails("ops@example.org"))
        told = await sending.becomes(job_id, Delivery.DELIVERED)
    assert (told.target, told.response_code, told.attempts) == ("ops@example.org", 250, 1)
    (mail,) = server.mails
    assert server.encrypted is (tls != "none")
    assert server.envelopes == [("easyq@jobs.test", ["ops@example.org"])]
    assert mail["Subject"] == "[easyq] mail: FAILED (exit code 3)"
    assert (mail["From"], mail["To"]) == ("EasyQ <easyq@jobs.test>", "ops@example.org")
    assert mail["Message-ID"] == f"<{told.delivery_id}@jobs.test>"
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = part(mail, "plain"), part(mail, "html")
    assert f"https://jobs.test/tasks/mail/jobs/{job_id}" in text
    assert f'href="https://jobs.test/tasks/mail/jobs/{job_id}"' in html
    assert "Last lines of stdout\n--------------------\nworking\n" in text.replace("\r\n", "\n")
    assert "it <broke>" in text
    assert "it &lt;broke&gt;" in html


async def test_secrets_of_the_job_do_not_get_into_mails(sending: Sending) -> None:
    async with mail_receiver(tls="none") as server:
        await sending.scheduler(**setting(server.port, "none"))
        envs = {"API_TOKEN": CANARY, "PLAIN": "shown"}
        output = f"using {CANARY} and https://u:{CANARY}x@h/ and shown\n".encode()
        job_id = await sending.end_job(1, stdout=output, stderr=output, envs=envs, **mails("ops@example.org"))
        await sending.becomes(job_id, Delivery.DELIVERED)
    (raw,) = server.raw
    assert CANARY.encode() not in raw
    text = part(server.mails[0], "plain")
    assert "using [redacted]" in text
    assert "and shown" in text


async def test_a_server_that_is_not_trusted_gets_nothing(sending: Sending, certificates: Certificates) -> None:
    async with mail_receiver(tls="starttls", context=certificates.server) as server:
        await sending.scheduler(**setting(server.port, "starttls"))
        told = await sending.failed_with(await sending.end_job(**mails("ops@example.org")), "can't be used")
        assert told.state == Delivery.PENDING
        assert server.mails == []


async def test_starttls_is_not_left_out_where_a_server_has_none(sending: Sending) -> None:
    async with mail_receiver(tls="none") as server:
        await sending.scheduler(**setting(server.port, "starttls"))
        await sending.failed_with(await sending.end_job(**mails("ops@example.org")), "the mail server")
        assert server.mails == []


async def test_a_wrong_password_is_tried_again(sending: Sending, certificates: Certificates) -> None:
    async with mail_receiver(tls="starttls", context=certificates.server, login="easyq:right") as server:
        wrong = setting(server.port, "starttls", smtp_ca=certificates.ca, smtp_user="easyq", smtp_password=CANARY)
        first = await sending.scheduler(**wrong)
        job_id = await sending.end_job(**mails("ops@example.org"))
        told = await sending.failed_with(job_id, "refused")
        assert (told.state, told.response_code) == (Delivery.PENDING, 535)
        assert CANARY not in told.error
        await first.stop()
        await sending.scheduler(**{**wrong, "smtp_password": "right"})
        await sending.becomes(job_id, Delivery.DELIVERED)


async def test_one_address_that_is_refused_is_given_up_and_the_other_gets_its_mail(sending: Sending) -> None:
    async with mail_receiver(tls="none") as server:
        await sending.scheduler(**setting(server.port, "none"))
        bad = await sending.end_job(**mails("nobody@example.org"))
        told = await sending.becomes(bad, Delivery.FAILED)
        assert (told.response_code, told.attempts) == (550, 1)
        assert "no such user here" in told.error
        good = await sending.end_job(**mails("ops@example.org"))
        await sending.becomes(good, Delivery.DELIVERED)


async def test_a_server_that_asks_for_patience_gets_it(sending: Sending) -> None:
    async with mail_receiver(tls="none") as server:
        server.refusals = ["451 later", "451 later"]
        await sending.scheduler(**setting(server.port, "none"))
        told = await sending.becomes(await sending.end_job(**mails("ops@example.org")), Delivery.DELIVERED)
        assert (told.attempts, len(server.mails)) == (3, 1)


async def test_without_a_server_it_is_told(sending: Sending) -> None:
    await sending.scheduler()
    told = await sending.failed_with(await sending.end_job(**mails("ops@example.org")), "no mail server is set")
    assert told.state == Delivery.PENDING
