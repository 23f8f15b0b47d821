import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until

PROGRAM = """
import asyncio
from easyq_chassis import faults
async def main():
    for number in (1, 2, 3):
        try:
            await faults.point("a.b")
        except faults.InjectedFault:
            print("fault", number)
    print("end")
asyncio.run(main())
"""


def _run(plan: str, once: str = "", program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EASYQ_TEST_FAULTS": plan, "EASYQ_TEST_FAULTS_ONCE": once}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_a_point_that_is_not_armed_does_nothing() -> None:
    assert _run("").stdout == _run("other.point=kill").stdout == "end\n"


def test_an_error_at_one_pass_or_at_each() -> None:
    assert _run("a.b=error@2").stdout == "fault 2\nend\n"
    assert _run("x.y=kill, a.b=error").stdout == "fault 1\nfault 2\nfault 3\nend\n"


def test_kill_is_a_sigkill_of_this_process() -> None:
    result = _run("a.b=kill@1")
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "")


def test_a_restarted_process_is_spared_where_each_point_acts_once(tmp_path: Path) -> None:
    assert _run("a.b=kill@2", str(tmp_path)).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["a.b"]
    assert _run("a.b=kill@2", str(tmp_path)).stdout == "end\n"


def test_a_point_that_has_acted_counts_no_pass_until_it_is_armed_again(tmp_path: Path) -> None:
    (tmp_path / "a.b").touch()
    script = f"""
import asyncio
from pathlib import Path
from easyq_chassis import faults
async def main():
    for number in (1, 2, 3, 4, 5):
        if number == 4:
            Path({str(tmp_path)!r}, "a.b").unlink()
        try:
            await faults.point("a.b")
        except faults.InjectedFault:
            print("fault", number)
asyncio.run(main())
"""
    assert _run("a.b=error@2", str(tmp_path), script).stdout == "fault 5\n"
    assert (tmp_path / "a.b").exists()


def test_a_test_holds_who_comes_there_and_lets_go(tmp_path: Path) -> None:
    (tmp_path / "a.b.hold").touch()
    environment = {**os.environ, "EASYQ_TEST_FAULTS": "a.b=hold", "EASYQ_TEST_FAULTS_ONCE": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True) as held:
        wait_until((tmp_path / "a.b").exists, 30)
        assert held.poll() is None
        (tmp_path / "a.b.hold").unlink()
        assert held.communicate(timeout=30)[0] == "end\n"
    (tmp_path / "a.b").unlink()
    assert _run("a.b=hold", str(tmp_path)).stdout == "end\n"
    assert not (tmp_path / "a.b").exists()
