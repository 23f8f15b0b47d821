"""What operators' programs look at: where each process has its operations port, and that a refused file shows there."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.farm import UpFarm
from tests.support.waiting import wait_until

GOOD = '[[limit]]\npattern = "a"\nmax_running = 1\n'
SECRETS = 'default = "key-of-nobody"\n'


@pytest.fixture(scope="module")
def bare() -> Iterator[UpFarm]:
    """Without a Docker Engine."""
    farm = UpFarm()
    (config, secrets) = farm.folder / "easyq.toml", farm.folder / "secrets.toml"
    config.write_text(GOOD, encoding="ascii")
    secrets.write_text(SECRETS, encoding="ascii")
    farm.arguments = ("--config", str(config))
    farm.env["EASYQ_SCHEDULER_WEBHOOK_SECRETS"] = str(secrets)
    with farm:
        wait_until(lambda: _status(farm)["agents"], 60)
        yield farm


def test_status_and_doctor_show_each_operations_port(bare: UpFarm) -> None:
    # On a busy machine one may be asked that has no time to answer.
    wait_until(lambda: all(one["alive"] for one in _ports(bare).values()), 30)
    shown = _ports(bare)
    assert {name: f"http://{one['address']}" for name, one in shown.items()} == bare.metrics
    # As each says it itself.
    for name, one in shown.items():
        code, text = _readyz(bare, name)
        assert (code == 200) is one["ready"], (name, text)
        assert one["why"] in text
    assert {name for name, one in shown.items() if not one["ready"]} == {"runner"}
    assert "Docker Engine" in shown["runner"]["why"]
    assert shown["runner"]["instance"] == _status(bare)["agents"][0]["agentId"]

    status = bare.cli("status").stdout.decode()
    doctor = bare.cli("doctor").stdout.decode()
    for name, url in bare.metrics.items():
        address = url.removeprefix("http://")
        [row] = [line for line in status.splitlines() if address in line]
        assert row.split()[0] == name
        assert ("yes" in row, "no" in row) == (True, name == "runner"), row
        [line] = [line for line in doctor.splitlines() if "operations" in line and address in line]
        assert line.startswith("warn" if name == "runner" else "ok")
    assert "accepts jobs, but nothing would run them" in status


def test_one_that_hangs_is_not_alive(bare: UpFarm) -> None:
    [pid] = bare.pids("scheduler")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not _ports(bare)["scheduler"]["alive"], 30)
        found = _ports(bare)["scheduler"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not found["ready"]
    assert "no answer within" in found["why"]
    wait_until(lambda: _ports(bare)["scheduler"]["ready"], 30)


def test_a_refused_file_of_rules_degrades_until_it_is_mended(bare: UpFarm) -> None:
    config = bare.folder / "easyq.toml"
    config.write_text(GOOD.replace("= 1", "= -1"), encoding="ascii")
    try:
        for name in ("gateway", "store", "dispatcher"):
            assert "limit[0].max_running" in _degraded(bare, name)
        health = json.loads(_get(f"{bare.rest.url}/healthcheck")[1])
        assert health["status"] == "DEGRADED"
        # Though three services say so.
        assert sum("limit[0].max_running" in problem for problem in health["problems"]) == 1, health
        shown = _ports(bare)
        assert all(shown[name]["ready"] and "max_running" in shown[name]["why"] for name in ("gateway", "store"))
        assert not shown["scheduler"]["why"]
    finally:
        config.write_text(GOOD, encoding="ascii")
    for name in ("gateway", "store", "dispatcher"):
        _wait_well(bare, name)


def test_a_refused_file_of_keys_for_notifications_degrades_the_scheduler(bare: UpFarm) -> None:
    secrets = Path(bare.env["EASYQ_SCHEDULER_WEBHOOK_SECRETS"])
    secrets.write_text("default = key-of-nobody\n", encoding="ascii")
    try:
        text = _degraded(bare, "scheduler")
        assert (str(secrets) in text, "key-of-nobody" in text) == (True, False)
        wait_until(lambda: str(secrets) in _get(f"{bare.rest.url}/healthcheck")[1], 30)
    finally:
        secrets.write_text(SECRETS, encoding="ascii")
    _wait_well(bare, "scheduler")
    secrets.unlink()
    assert "No such file" in _degraded(bare, "scheduler")
    secrets.write_text(SECRETS, encoding="ascii")
    _wait_well(bare, "scheduler")


def _status(farm: UpFarm) -> dict[str, Any]:
    found: dict[str, Any] = farm.rest.get("/status")
    return found


def _ports(farm: UpFarm) -> dict[str, dict[str, Any]]:
    """By the name of the process; of this farm each service is there once."""
    return {one["service"]: one for one in _status(farm)["operations"]}


def _degraded(farm: UpFarm, name: str) -> str:
    """What it says, once it is degraded."""
    text: str = wait_until(lambda: _readyz(farm, name)[1].partition("degraded: ")[2], 30)
    assert _readyz(farm, name)[0] == 200
    return text


def _wait_well(farm: UpFarm, name: str) -> None:
    wait_until(lambda: _readyz(farm, name) == (200, "ready\n"), 30)


def _readyz(farm: UpFarm, name: str) -> tuple[int, str]:
    return _get(f"{farm.metrics[name]}/readyz")


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
