"""How long a person waits for `easyq --help`."""

import subprocess
import sys
import time
from pathlib import Path

from bench.report import Figure, Goal

_EASYQ = Path(sys.executable).parent / "easyq"
_EACH = 20


def measure(runs: int) -> list[Figure]:
    """Whole processes, from their start to their end; the files are in memory after the first one."""
    subprocess.run([_EASYQ, "--help"], stdout=subprocess.DEVNULL, check=True)
    return [
        Figure(
            name=f"easyq --help, median of {_EACH}",
            unit="ms",
            runs=[_median() for _ in range(runs)],
            goal=Goal(at_most=200),
        )
    ]


def _median() -> float:
    times = []
    for _ in range(_EACH):
        began = time.perf_counter()
        subprocess.run([_EASYQ, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[_EACH // 2]
