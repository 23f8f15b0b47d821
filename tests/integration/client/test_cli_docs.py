"""What docs/cli.md shows is run, command by command, and gives what it says."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from easyq.cli.group import ALIASES, root
from easyq.v1.farm_service_pb2 import Agent, PoolStatus
from tests.fakes.public_farm import FakeFarm, fake_farm

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
JOB = "6a1b2c3d4e5f60718293a4b5"
# Each at least once on the page, in an example; these are shown elsewhere, since they run what is not here.
_ELSEWHERE = {"run", "up", "down", "gateway", "scheduler", "dispatcher", "store", "runner"}


def examples() -> list[tuple[str, str]]:
    """Each command after `$ `, with what is shown below it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown.strip()))
    return found


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        made.agents.append(Agent(agent_id="host-1", state=Agent.LIVE, healthy=True, slots=4, running=2))
        made.pools.append(PoolStatus(name="default", slots=4, agents=1, healthy_agents=1))
        yield made


def test_every_example(
    farm: FakeFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    [yaml_block] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "jobs.yaml").write_text(yaml_block, encoding="utf-8")
    for command, shown in examples():
        if "context" in command:
            monkeypatch.delenv("EASYQ_SERVER", raising=False)
        else:
            monkeypatch.setenv("EASYQ_SERVER", farm.address)
        code, out, err = run(command.replace(JOB, "real-id"), capfd)
        assert (code, err) == (0, "") or command.startswith(("printf", "easyq doctor")), (command, code, err)
        if command.startswith("easyq submit --task reports"):
            # What follows on the page is about this job.
            job = farm.jobs[-1]
            assert out.strip() == job.job_id
            job.message.job_id = "real-id"
            job.write(stdout=b"hello\n")
            job.end()
        elif shown:
            assert out.strip() == shown.replace(JOB, "real-id"), command
    assert [job.request.task_id for job in farm.jobs].count("many") == 3
    assert {job.job_id for job in farm.jobs} >= {"nightly", "weekly"}


def run(command: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """A command of the page, without a shell: what a pipe feeds it is made here, what goes to a file is dropped."""
    feed, _, rest = command.rpartition(" | ") if command.startswith("printf") else ("", "", command)
    words = shlex.split(rest)
    if ">" in words:
        words = words[: words.index(">")]
    assert words.pop(0) == "easyq"
    data = None
    if feed:
        _, text, *numbers = shlex.split(feed)
        data = "".join(text.replace("\\n", "\n") % int(number) for number in numbers)
    outcome = CliRunner().invoke(root, words, prog_name="easyq", input=data)
    captured = capfd.readouterr()
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome.exit_code, outcome.stdout + captured.out, outcome.stderr + captured.err


def test_every_command_has_an_example_or_is_shown_elsewhere() -> None:
    from click import Context

    shown = {word for command, _ in examples() for word in re.findall(r"easyq ([a-z]+)", command)}
    shown = {ALIASES.get(word, word) for word in shown}
    assert shown >= set(root.list_commands(Context(root))) - _ELSEWHERE


def test_the_table_of_exit_codes() -> None:
    from easyq.cli import exits

    for code, text in exits.TABLE:
        assert f"| {code} | {text.replace('|', chr(92) + '|')} |" in PAGE
