"""What notifications say, how they are signed, when they are tried again, where they may go."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from easyq_chassis.redaction import MARKER, Redactor
from easyq_scheduler.domain.hook import headers_of, judged, signature
from easyq_scheduler.domain.mail import mail
from easyq_scheduler.domain.networks import Guard
from easyq_scheduler.domain.notice import Notice, body, moment
from easyq_scheduler.domain.output import MOST_LINES, last_lines
from easyq_scheduler.domain.tries import Tries

NOTICE = Notice(
    delivery_id="d-1",
    event="fails",
    outcome="FAILED",
    task_id="mail",
    job_id="job",
    execution_id="job-1",
    attempt=2,
    image="echo:1",
    exit_code=3,
    reason="NONZERO_EXIT",
    message="exit code 3",
    ended_ms=1_700_000_001_250,
    started_ms=1_700_000_000_000,
    link="https://jobs.test/tasks/mail/jobs/job",
)
BARE = Notice(
    delivery_id="d-2",
    event="finishes",
    outcome="STOPPED",
    task_id="mail",
    job_id="job",
    execution_id="job-1",
    attempt=1,
    image="echo:1",
    ended_ms=1_700_000_000_000,
)
REDACTOR = Redactor()


# -------------------------------------------------------------------------------------------------------------- JSON


def test_the_schema() -> None:
    assert json.loads(body(NOTICE)) == {
        "version": 1,
        "id": "d-1",
        "event": "fails",
        "time": "2023-11-14T22:13:21.250Z",
        "taskId": "mail",
        "jobId": "job",
        "executionId": "job-1",
        "attempt": 2,
        "outcome": "FAILED",
        "exitCode": 3,
        "error": {"reason": "NONZERO_EXIT", "message": "exit code 3"},
        "startedAt": "2023-11-14T22:13:20.000Z",
        "finishedAt": "2023-11-14T22:13:21.250Z",
        "runSeconds": 1.25,
        "fireAt": None,
        "image": "echo:1",
        "link": "https://jobs.test/tasks/mail/jobs/job",
    }


def test_what_there_is_not_is_null() -> None:
    told = json.loads(body(BARE))
    assert {name for name, value in told.items() if value is None} == {
        "exitCode",
        "error",
        "startedAt",
        "runSeconds",
        "fireAt",
        "link",
    }
    assert json.loads(body(replace(BARE, fire_ms=0)))["fireAt"] == moment(0) == "1970-01-01T00:00:00.000Z"
    # A host's clock may be behind.
    assert replace(NOTICE, started_ms=NOTICE.ended_ms + 5).ran_seconds == 0
    body(replace(NOTICE, message="\ud800")).decode()


def test_the_signature_is_over_time_and_body() -> None:
    wanted = hmac.new(b"key", b"17." + body(NOTICE), hashlib.sha256).hexdigest()
    assert signature("key", body(NOTICE), 17) == f"t=17,v1={wanted}"


def test_headers() -> None:
    assert headers_of(NOTICE, attempt=4, agent="EasyQ/1") == {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "EasyQ/1",
        "EasyQ-Delivery": "d-1",
        "EasyQ-Event": "fails",
        "EasyQ-Attempt": "4",
    }


@pytest.mark.parametrize(
    ("status", "retry_after", "delivered", "final", "wait"),
    [
        (200, "", True, False, 0),
        (204, "9", True, False, 0),
        (302, "", False, False, 0),
        (404, "9", False, False, 0),
        (410, "", False, True, 0),
        (429, "90", False, False, 90),
        (503, "99999999", False, False, 86_400),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", False, False, 0),
        (503, "²", False, False, 0),
        (500, "", False, False, 0),
    ],
)
def test_what_an_answer_means(status: int, retry_after: str, delivered: bool, final: bool, wait: float) -> None:
    answer = judged(status, retry_after)
    assert (answer.delivered, answer.final, answer.wait, answer.code) == (delivered, final, wait, status)
    assert bool(answer.error) is not delivered


# -------------------------------------------------------------------------------------------------------------- tries

TRIES = Tries(first=5, longest=100, age=1_000)


@pytest.mark.parametrize(
    ("tries", "share", "asked", "wait"),
    [
        (1, 0, 0, 5),
        (2, 0, 0, 10),
        (3, 0.5, 0, 15),
        (6, 0, 0, 100),
        (5_000, 0, 0, 100),
        (1, 0, 60, 60),
        (1, 0, 999, 100),
    ],
)
def test_waits_grow_and_are_spread(tries: int, share: float, asked: float, wait: float) -> None:
    assert TRIES.wait(tries, 0, share, asked) == wait


def test_what_is_too_old_is_given_up() -> None:
    assert TRIES.wait(1, 995, 0) == 5
    assert TRIES.wait(1, 995.1, 0) is None
    assert Tries(first=0, longest=0, age=1).wait(3, 0, 0) == 0


# ----------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        # Site-local: given up by RFC 3879, and routed still where somebody uses it.
        "fec0::1",
        "192.0.0.8",
        "nonsense",
    ],
)
def test_the_guard_keeps_to_public_addresses(address: str) -> None:
    assert not Guard.of(on=True, networks=()).allows(address)
    assert Guard.of(on=False, networks=()).allows(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert Guard.of(on=True, networks=()).allows(address)


def test_networks_may_be_allowed() -> None:
    guard = Guard.of(on=True, networks=("10.1.0.0/16", "fd00::/8"))
    assert guard.allows("10.1.200.3")
    assert guard.allows("::ffff:10.1.200.3")
    assert guard.allows("fd12::1")
    assert not guard.allows("10.2.0.1")
    assert not guard.allows("127.0.0.1")
    with pytest.raises(ValueError, match="nowhere"):
        Guard.of(on=True, networks=("nowhere",))


# ------------------------------------------------------------------------------------------------------------- output


def lines(data: bytes, *secrets: str, cut: bool = False) -> str:
    return last_lines(data, cut=cut, secrets=list(secrets), redactor=REDACTOR)


def test_the_last_lines() -> None:
    many = b"".join(b"line %d\n" % number for number in range(99))
    assert lines(many).splitlines() == [f"line {number}" for number in range(99 - MOST_LINES, 99)]
    assert lines(b"") == lines(b"\n\n") == ""
    assert lines(b"a\r\nb\rc") == "a\nb\nc"
    assert lines(b"x" * 600) == "x" * 500 + "…"
    assert lines(b"rest of a line\nwhole\n", cut=True) == "whole"
    assert lines(b"only a part", cut=True) == "only a part"
    assert lines(b"\xff\xfe") == "\ufffd\ufffd"


def test_nothing_in_it_acts_on_a_screen() -> None:
    assert lines(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1bMbell\x07\x00") == "red bell"
    assert lines("\u202eevil\u2066".encode()) == "evil"


def test_secrets_are_hidden() -> None:
    assert lines(b"token=hunter22 and hunter2\n", "hunter22", "hunter2") == f"token={MARKER} and {MARKER}"
    assert lines(b"redis://u:pw@host/0\n") == f"redis://u:{MARKER}@host/0"
    # One that was cut in two where the text begins.
    assert lines(b"ter22 came first", "hunter22", cut=True) == f"{MARKER} came first"
    assert lines(b"22 came first", "hunter22", cut=True) == "22 came first"


def test_which_values_are_secrets() -> None:
    envs = {"API_TOKEN": "abcdef", "KEY": "abc", "A": "plain", "MY_SECRET": "one\nlonger line\nx"}
    assert REDACTOR.secrets_in(envs) == ["one\nlonger line\nx", "longer line", "abcdef"]
    assert REDACTOR.hide("abcdef, plain", REDACTOR.secrets_in(envs)) == f"{MARKER}, plain"


# --------------------------------------------------------------------------------------------------------------- mail


def test_a_mail_says_task_and_outcome_first() -> None:
    made = mail(NOTICE, farm="prod", stdout="out", stderr="err <b>")
    assert made.subject == "[prod] mail: FAILED (exit code 3)"
    assert made.text.startswith("mail: FAILED (exit code 3)\n")
    assert "Error:     exit code 3 (NONZERO_EXIT)\n" in made.text
    assert "Ran for:   1.250 s\n" in made.text
    short = mail(replace(NOTICE, started_ms=NOTICE.ended_ms + 5), farm="easyq", stdout="", stderr="")
    assert "Ran for:   less than 1 ms\n" in short.text
    assert "Link:      https://jobs.test/tasks/mail/jobs/job\n" in made.text
    assert made.text.endswith("Last lines of stderr\n--------------------\nerr <b>\n")
    assert "err &lt;b&gt;" in made.html
    assert '<a href="https://jobs.test/tasks/mail/jobs/job">' in made.html
    assert "<b>" not in made.html


def test_a_mail_leaves_out_what_there_is_not() -> None:
    made = mail(BARE, farm="easyq", stdout="", stderr="")
    assert made.subject == "[easyq] mail: STOPPED"
    for word in ("Exit code", "Error", "Started", "Ran for", "Link", "Fire of", "Last lines"):
        assert word not in made.text + made.html
    fired = mail(replace(BARE, message="why", fire_ms=0), farm="easyq", stdout="", stderr="")
    assert "Error:     why\n" in fired.text
    assert "Fire of:   1970-01-01T00:00:00.000Z\n" in fired.text
    succeeded = mail(replace(BARE, outcome="SUCCEEDED", exit_code=0), farm="easyq", stdout="", stderr="")
    assert succeeded.subject == "[easyq] mail: SUCCEEDED"
    assert "Exit code: 0\n" in succeeded.text


def test_hostile_words_stay_words() -> None:
    hostile = replace(NOTICE, message='<script>alert("x")</script>', image='"><img src=x>')
    made = mail(hostile, farm="easyq", stdout="</pre><script>", stderr="")
    assert "<script>" not in made.html
    assert "<img" not in made.html
