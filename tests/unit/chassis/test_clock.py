import time
from pathlib import Path

import pytest

from easyq_chassis.clock import ENVIRONMENT_VARIABLE, SystemClock


def test_it_is_the_machines_own() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= SystemClock().now_ms() <= time.time_ns() // 1_000_000


def test_a_test_makes_it_jump_both_ways_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "offset"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(file))
    clock = SystemClock()
    assert _ahead(clock) == 0
    for text, hours in (("7200000", 2), ("-3600000", -1), ("0", 0), ("", 0), ("nonsense", 0)):
        file.write_text(text, encoding="ascii")
        assert _ahead(clock) == hours


def _ahead(clock: SystemClock) -> int:
    """Whole hours by which it is ahead of the machine."""
    return round((clock.now_ms() - time.time() * 1000) / 3_600_000)
