"""Defaults by task, from a rules file that changes under a running gateway."""

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.rules_file.watch import RulesError
from easyq_gateway.app import App
from easyq_gateway.config import GatewaySettings
from tests.integration.gateway.conftest import SPEC, Client, Starter
from tests.support.waiting import eventually

RULES = """
[[pool]]
name = "of-another-service"
pattern = "x"

[[default]]
pattern = "mail-.*"
retries = 3
backoffMin = "10s"
timeout = "1h"
retryOn = ["75", "oom"]

[[default]]
pattern = ".*"
priority = 5
"""


async def shown(gateway: Client, task: str, **spec: Any) -> Any:
    answer = await gateway.post(f"/tasks/{task}?validateOnly=true", {**SPEC, **spec})
    return answer["spec"]


async def test_defaults_by_task(start_gateway: Starter, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    gateway = await start_gateway(rules=str(tmp_path / "rules.toml"), default_retries=1, default_timeout=7.5)
    spec = await shown(gateway, "mail-a")
    assert (spec["retries"], spec["backoff"]["min"], spec["timeout"], spec["retryOn"]) == (
        3,
        "10s",
        "3600s",
        ["75", "oom"],
    )
    assert spec["priority"] == 0
    spec = await shown(gateway, "mail-a", retries=0, backoff={"min": "5ms"}, timeout=1.5, retryOn=["1"])
    assert (spec["retries"], spec["backoff"]["min"], spec["timeout"], spec["retryOn"]) == (0, "0.005s", "1.500s", ["1"])
    spec = await shown(gateway, "amail-a")
    assert (spec["retries"], spec["priority"], spec["timeout"]) == (1, 5, "7.500s")
    # What a wrong field is measured by is the task's own default.
    answer = await gateway.call("POST", "/tasks/mail-a", {**SPEC, "backoff": {"max": "9s"}})
    assert answer.fields == {"spec.backoff.max": "is less than backoff.min (10s)"}
    assert (await gateway.call("POST", "/tasks/other", {**SPEC, "backoff": {"max": "9s"}})).status == 200


async def test_every_way_of_enqueueing_has_them(start_gateway: Starter, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    gateway = await start_gateway(rules=str(tmp_path / "rules.toml"))
    await gateway.enqueue("mail-a")
    await gateway.post("/batch", {"jobs": [{"taskId": "mail-b", "spec": SPEC}]})
    await gateway.call("PUT", "/tasks/mail-c/jobs/x", SPEC)
    assert [job.spec.retries for job in gateway.store.jobs.values()] == [3, 3, 3]


async def test_a_new_file_is_taken_and_a_wrong_one_refused(start_gateway: Starter, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    gateway = await start_gateway(rules=str(path))

    async def retries_are(count: int) -> bool:
        return bool((await shown(gateway, "mail-a"))["retries"] == count)

    path.write_text(RULES.replace("retries = 3", "retries = 4"))
    await eventually(lambda: retries_are(4))
    path.write_text(RULES.replace("retries = 3", "retries = 5000"))
    os.kill(os.getpid(), signal.SIGHUP)

    async def problem() -> Any:
        told = (await gateway.get("/status"))["problems"]
        return next((one["message"] for one in told if one["subject"] == "rules"), "")

    message = await eventually(problem)
    assert "default[0].retries" in message
    assert str(path) in message
    assert "The rules before it stay in force" in message
    assert await retries_are(4)
    path.write_text(RULES.replace("retries = 3", "retries = 6"))
    await eventually(lambda: retries_are(6))
    assert await problem() == ""


async def test_what_was_refused_before_it_came_to_the_file_is_a_problem(start_gateway: Starter, tmp_path: Path) -> None:
    """`easyq up` writes the file from a config file of its own."""
    path, note = tmp_path / "rules.toml", tmp_path / "rules.toml.refused"
    path.write_text(RULES)
    note.write_text("The config file was refused.\n")
    gateway = await start_gateway(rules=str(path))

    async def problems() -> Any:
        return [one for one in (await gateway.get("/status"))["problems"] if one["subject"] == "rules"]

    [told] = await problems()
    assert told["message"] == "The config file was refused."
    since = datetime.fromisoformat(told["since"])
    assert abs(since.timestamp() - note.stat().st_mtime) < 0.01
    # A dispatcher that says the same is not repeated.
    gateway.behind.dispatchers[0].matching.problems.add(subject="rules", message=told["message"])
    assert len(await problems()) == 1
    gateway.behind.dispatchers[0].matching.ClearField("problems")
    note.unlink()

    async def is_gone() -> bool:
        return not await problems()

    await eventually(is_gone)


async def test_a_gateway_does_not_start_with_a_wrong_file(start_gateway: Starter, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[default]]\npattern = '('\n")
    told: dict[str, Any] = {"rest_listen": "127.0.0.1:0", "grpc_listen": "127.0.0.1:0"}
    app = App(GatewaySettings(**told, rules=str(tmp_path / "rules.toml")))
    with pytest.raises(RulesError, match=r"line 2: default\[0\]\.pattern '\(' is no regex"):
        await app.start()
    await app.stop()
