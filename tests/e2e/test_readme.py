"""What README.md says is true: its commands are run as they stand, but for the ports."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.farm import Rest, UpFarm
from tests.support.farm.up import EASYQ, clean_environment
from tests.support.missing import cache_bin, require_program

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Each command after a `$ `, over as many lines as its quotes are open, and what is shown below it."""
    found: list[tuple[str, str]] = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            count = 1
            while not _is_whole("\n".join(lines[:count])):
                count += 1
            found.append(("\n".join(lines[:count]), "\n".join(lines[count:]).strip()))
    return found


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def example(pattern: str) -> tuple[str, str]:
    [found] = [one for one in examples() if re.search(pattern, one[0])]
    return found


def run(farm: UpFarm, command: str) -> subprocess.CompletedProcess[str]:
    here = command.replace("127.0.0.1:10000", f"127.0.0.1:{farm.rest_port}").replace(
        "127.0.0.1:10001", farm.grpc_address
    )
    here = here.replace(".venv/bin/easyq", EASYQ)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), str(cache_bin())))
    environment = {**clean_environment(), "EASYQ_SERVER": farm.grpc_address, "PATH": path}
    return subprocess.run(["sh", "-c", here], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_curl_and_its_answer(farm: UpFarm, rest: Rest) -> None:
    command, shown = example(r"^curl -XPOST")
    answer, promised = json.loads(run(farm, command).stdout), json.loads(shown)
    assert list(answer) == list(promised)
    assert answer["taskId"] == promised["taskId"]
    assert len(answer["jobId"]) == len(promised["jobId"])
    job_id = answer["jobId"]
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"
    command, shown = example(r"^curl \S+/stdout$")
    assert run(farm, command.replace(promised["jobId"], job_id)).stdout.strip() == shown


def test_easyq_run(farm: UpFarm) -> None:
    command, shown = example(r"easyq run")
    done = run(farm, command)
    assert sorted((done.stdout + done.stderr).split()) == sorted(shown.split())
    _, status = example(r"^echo \$\?$")
    assert str(done.returncode) == status


def test_grpcurl(farm: UpFarm, rest: Rest) -> None:
    require_program("grpcurl", "install Go, then `make servers` builds it")
    command, shown = example(r"^grpcurl .* list$")
    assert run(farm, command).stdout.split() == shown.split()
    command, _ = example(r"^grpcurl .*CreateJob$")
    answer = json.loads(run(farm, command).stdout)
    assert rest.wait_job(answer.get("jobId") or answer["job_id"])["state"] == "SUCCEEDED"


def test_the_python_client(farm: UpFarm) -> None:
    [snippet] = blocks("python")
    environment = {**clean_environment(), "EASYQ_SERVER": farm.grpc_address}
    done = subprocess.run(
        [sys.executable, "-c", snippet], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    shown = re.findall(r"^.*#\s(.*)$", snippet, re.MULTILINE)
    assert done.stdout.splitlines() == shown, done.stderr


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (Path(__file__).parents[2] / link).exists()


def test_the_recurring_job(farm: UpFarm) -> None:
    command, _ = example(r"^curl -XPUT")
    job = json.loads(run(farm, command).stdout)["job"]
    assert (job["state"], job["spec"]["retries"]) == ("ACTIVE", 3)
    command, _ = example(r"schedule\?next=5")
    fires = json.loads(run(farm, command).stdout)["nextFires"]
    assert len(fires) == 5
    assert {fire[14:16] for fire in fires} == {"30"}
    assert job["nextRunAt"] == fires[0]
