"""The Dockerfile and docker-compose.yml fit each other and the services' settings."""

import inspect
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.settings import ServiceSettings
from tests.support.missing import find_program, missing

ROOT = Path(__file__).resolve().parents[2]
OURS = ("gateway", "scheduler-1", "scheduler-2", "dispatcher-1", "dispatcher-2", "store", "runner")


def compose() -> dict[str, Any]:
    """docker-compose.yml as Compose understands it; raises where it is not valid."""
    told = subprocess.run(checker(), cwd=ROOT, check=False, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    answer: dict[str, Any] = json.loads(told.stdout)
    return answer


def checker() -> list[str]:
    """Docker's compose plugin, or else the library that it checks with."""
    docker = find_program("docker")
    if docker and subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode == 0:
        return [docker, "compose", "-f", "docker-compose.yml", "config", "--format", "json"]
    program = find_program("compose_spec")
    if program is None:
        missing("docker compose", "install its plugin, or Go and then `make servers`")
    return [program, "-format", "json", "docker-compose.yml"]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def test_the_farm_is_whole(services: dict[str, Any]) -> None:
    assert set(services) == {*OURS, "mongo", "redis"}
    assert {services[name]["image"] for name in OURS} == {"easyq:local"}


def test_the_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert sorted(port["target"] for port in published) == [10000, 10001]


def test_only_the_runner_is_root_and_has_the_socket(services: dict[str, Any]) -> None:
    assert [name for name in OURS if "user" in services[name]] == ["runner"]
    mounting = [name for name in services if "docker.sock" in json.dumps(services[name].get("volumes", []))]
    assert mounting == ["runner"]
    assert "\nUSER easyq\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_a_setting_of_its_service(services: dict[str, Any], name: str) -> None:
    kind = name.partition("-")[0]
    module = pytest.importorskip(f"easyq_{kind}.config")
    prefix = f"EASYQ_{kind.upper()}_"
    known = {
        f"{prefix}{field.upper()}"
        for _, settings in inspect.getmembers(module, inspect.isclass)
        if issubclass(settings, ServiceSettings)
        for field in settings.model_fields
    }
    assert set(services[name]["environment"]) - known == set()


def test_no_compiler_is_left_in_the_image() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    last = stages[-1]
    assert len(stages) == 3
    assert "-slim" in last.splitlines()[0]
    assert "apt-get" not in last
    assert "COPY . " not in last
