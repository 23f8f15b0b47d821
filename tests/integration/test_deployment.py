"""The Dockerfile and docker-compose.yml fit each other and the services' settings."""

import inspect
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.rules_file import contract
from easyq_chassis.settings import ServiceSettings
from easyq_dispatcher.config import load
from easyq_dispatcher.rules_file import parse
from easyq_gateway.default_rules import parser as default_parser
from easyq_gateway.domain.defaults import Defaults
from easyq_store.domain.retention import Keep
from easyq_store.retention_rules import parser as retention_parser
from easyq_supervisor.domain.options import merge
from easyq_supervisor.domain.plan import rules_text
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


@pytest.mark.parametrize("name", OURS)
def test_whoever_reads_rules_has_them_mounted(services: dict[str, Any], name: str) -> None:
    kind = name.partition("-")[0]
    if f"EASYQ_{kind.upper()}_RULES" not in services[name]["environment"]:
        assert not [mount for mount in services[name].get("volumes", []) if mount["target"] == "/etc/easyq"]
        return
    assert services[name]["environment"][f"EASYQ_{kind.upper()}_RULES"] == "/etc/easyq/rules.toml"
    [mount] = services[name]["volumes"]
    assert (Path(mount["source"]).name, mount["target"], mount["read_only"]) == ("deploy", "/etc/easyq", True)


@pytest.mark.parametrize("uncommented", [False, True])
def test_the_rules_and_what_they_show_are_taken_by_every_service(uncommented: bool) -> None:
    text = (ROOT / "deploy/rules.toml").read_text(encoding="utf-8")
    if uncommented:
        text = re.sub(r"^#(?=[^ \n])", "", text, flags=re.MULTILINE)
    document = tomllib.loads(text)
    assert set(document) == ({"pool", "limit", "weight", "default", "retention"} if uncommented else set())
    options = merge({}, document, "rules.toml", contract.check)
    assert tomllib.loads(rules_text(options.rules)) == document
    matching, _ = load([]).matching(parse(document))
    defaults, retention = default_parser(Defaults())(document), retention_parser(Keep())(document)
    found = (matching.limits, matching.weights, defaults, retention.rules)
    assert [len(several) for several in found] == [int(uncommented)] * 4


def test_the_example_of_a_config_file_is_one() -> None:
    text = (ROOT / "examples/easyq.toml").read_text(encoding="utf-8")
    options = merge({}, tomllib.loads(text), "easyq.toml", contract.check)
    written = rules_text(options.rules)
    assert load([]).matching(parse(tomllib.loads(written)))[0].limits
    assert default_parser(Defaults())(tomllib.loads(written))
    assert retention_parser(Keep())(tomllib.loads(written)).rules
    assert [host.name for host in options.docker_hosts] == ["", "gpu-1"]


def test_no_compiler_is_left_in_the_image() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    last = stages[-1]
    assert len(stages) == 3
    assert "-slim" in last.splitlines()[0]
    assert "apt-get" not in last
    assert "COPY . " not in last
