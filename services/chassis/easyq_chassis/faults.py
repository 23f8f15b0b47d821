"""Named crash points, which only tests arm.

``EASYQ_TEST_FAULTS`` holds a comma-separated list of ``point=action[@pass]``: ``runner.before_create=kill@2`` ends
this process by SIGKILL at the second pass, ``store.after_finish=delay:1.5`` waits, ``x.y=error`` raises. An action with
a pass happens once, one without at every pass. Unset, which is the rule, a point costs one dictionary look-up.

A service that is restarted comes with the same environment, and would be killed again. Where ``EASYQ_TEST_FAULTS_ONCE``
names a folder, each point acts once over all processes: it leaves a file of its name there first. While that file is
there the point does nothing, and counts no pass: a test that puts it there arms the point by removing it.

``x.y=hold`` needs that folder: whoever comes there while it has a file ``x.y.hold`` leaves a file of the point's
name, and goes on when the test has removed the first. So a test decides, again and again, who is held for how long.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

ENVIRONMENT_VARIABLE = "EASYQ_TEST_FAULTS"
ONCE_VARIABLE = "EASYQ_TEST_FAULTS_ONCE"

# Seconds between two looks of who is held.
_LOOK = 0.02


class InjectedFault(Exception):
    """Raised by a point that was armed with ``error``."""


def _parse(text: str) -> dict[str, tuple[str, int | None]]:
    plan: dict[str, tuple[str, int | None]] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, _, action = part.partition("=")
        action, _, at = action.partition("@")
        plan[name] = (action, int(at) if at else None)
    return plan


def _has_acted(name: str) -> bool:
    folder = os.environ.get(ONCE_VARIABLE)
    return bool(folder) and Path(folder or "", name).exists()


def _first_time(name: str) -> bool:
    folder = os.environ.get(ONCE_VARIABLE)
    if not folder:
        return True
    try:
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


async def _hold(folder: Path, name: str) -> None:
    wanted = folder / f"{name}.hold"
    while wanted.exists():
        (folder / name).touch()
        await asyncio.sleep(_LOOK)


_plan = _parse(os.environ.get(ENVIRONMENT_VARIABLE, ""))
_passes: Counter[str] = Counter()


async def point(name: str) -> None:
    """Does here what a test has armed for this name; nothing otherwise."""
    if not _plan or name not in _plan:
        return
    action, at = _plan[name]
    if action == "hold":
        await _hold(Path(os.environ[ONCE_VARIABLE]), name)
        return
    if _has_acted(name):
        return
    _passes[name] += 1
    if (at is not None and _passes[name] != at) or not _first_time(name):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action.startswith("delay:"):
        await asyncio.sleep(float(action.removeprefix("delay:")))
    elif action == "error":
        raise InjectedFault(name)
