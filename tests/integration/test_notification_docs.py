"""What docs/notifications.md shows is so: the ways to check a signature, the JSON's fields, the names of settings."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.json_text import parse_json
from easyq_gateway.domain.problems import Problems
from easyq_scheduler.config import SchedulerSettings
from easyq_scheduler.domain.hook import signature
from easyq_scheduler.domain.notice import Notice, body
from tests.support.missing import require_program

PAGE = (Path(__file__).parents[2] / "docs/notifications.md").read_text(encoding="utf-8")
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
    ended_ms=1_700_000_001_250,
)
KEY = "a key"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def changed(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def cases(now: int) -> list[tuple[str, str, bytes, bool]]:
    """Key, header, body, and whether it is EasyQ's, of just now."""
    told = body(NOTICE)
    good = signature(KEY, told, now)
    return [
        (KEY, good, told, True),
        (KEY, good, told + b" ", False),
        (KEY, changed(good), told, False),
        ("another", good, told, False),
        (KEY, signature(KEY, told, now - 900), told, False),
        (KEY, "", told, False),
        (KEY, f"t={now}", told, False),
    ]


def test_a_signature_is_checked_in_python() -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(code, "notifications.md", "exec"), names)  # noqa: S102 - our own page
    for key, header, told, ours in cases(int(time.time())):
        assert names["is_ours"](key, header, told) is ours, header


def test_a_signature_is_checked_in_a_shell(tmp_path: Path) -> None:
    require_program("openssl", "apt-get install openssl")
    (code,) = [block for block in blocks("sh") if "is_ours()" in block]
    file = tmp_path / "body"
    for key, header, told, ours in cases(int(time.time())):
        file.write_bytes(told)
        script = f'{code}\nis_ours "$1" "$2" "$3"'
        done = subprocess.run(["sh", "-c", script, "sh", key, header, str(file)], check=False, capture_output=True)
        assert (done.returncode == 0) is ours, (header, done)


def test_the_json_has_the_fields_that_are_shown() -> None:
    _, shown = blocks("json")
    assert list(json.loads(shown)) == list(json.loads(body(NOTICE)))


def test_the_spec_is_one() -> None:
    text, _ = blocks("json")
    problems = Problems()
    spec = JobSpec()
    decode(parse_json(text.encode()), spec, "", problems)
    assert problems == []
    assert len(spec.webhooks.fails) == len(spec.notify.fails) == 1


@pytest.mark.parametrize("name", sorted(set(re.findall(r"EASYQ_SCHEDULER_([A-Z_]+)", PAGE))))
def test_settings_have_these_names(name: str) -> None:
    assert name.lower() in SchedulerSettings.model_fields


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:webhook|smtp|notify)_[a-z_]+)`", PAGE))))
def test_settings_that_the_text_names(name: str) -> None:
    assert name in SchedulerSettings.model_fields
