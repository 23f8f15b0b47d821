"""Watches over what all executions of the host need: whether it is fit for work, and whose fault a failure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.metrics import REGISTRY
from easyq_runner.domain import starting
from easyq_runner.domain.host import Trouble, full_disk, troubled
from easyq_runner.domain.records import FailureReason, Finish, GiveBack
from easyq_runner.ports import AgentClock, Disks
from easyq_runner.usecases.waiting import Changes

_FREE = REGISTRY.gauge(
    "easyq.agent.disk.free",
    "Bytes free on the disks of the engine's data and the agent's own, where `min_free_disk` has them looked at.",
    unit="By",
    labels=("folder",),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostTimes:
    """Seconds."""

    # Between two looks at the disks.
    look_every: float = 5.0
    # Pauses after a fault that can't be looked at.
    first_pause: float = 5.0
    longest_pause: float = 300.0


class Host:
    """The host's own faults. `engine_root` gives the folder of the engine's data, empty while it isn't known.

    `least` are the bytes that have to be free on each disk (0: nobody looks).
    """

    def __init__(
        self, disks: Disks, clock: AgentClock, *, least: int, engine_root: Callable[[], str], times: HostTimes
    ) -> None:
        self._disks = disks
        self._clock = clock
        self._least = least
        self._engine_root = engine_root
        self._times = times
        self._full = ""
        self._trouble: Trouble | None = None
        self._told = ""
        self._log = get_logger()
        self._loop = Loop("host", self._look, times.look_every)
        self.changes = Changes()

    @property
    def problem(self) -> str:
        """Why the host takes no work now, in words; empty: it does."""
        if self._full:
            return self._full
        return self._trouble.cause if self._trouble and self._clock.boot() < self._trouble.until else ""

    def start(self) -> None:
        """Begins to look."""
        self._loop.start()

    def look(self) -> None:
        """Makes the next look happen now: there is something new to be seen."""
        self._loop.wake()

    async def stop(self) -> None:
        """Ends it."""
        await self._loop.stop()

    async def word_for(self, error: Exception) -> GiveBack | Finish:
        """The word on an execution that was never started because of `error`, the want of something of the host's.

        It goes back, and the host takes no more: others have what it lacks. Where the host has room on its disks all
        the same, it is the job that asks for too much of them: that counts among the infrastructure's failures, so
        that it does not go round for ever.
        """
        if await self.blame(error):
            return starting.give_back(FailureReason.HOST_FAILED, str(error))
        return starting.infra_failed(FailureReason.HOST_FAILED, str(error))

    async def blame(self, error: Exception) -> bool:
        """Something failed for want of what the host may lack; whether it does, and takes no work for now."""
        root = self._engine_root()
        folders = await self._look_at_disks(root)
        # What the system itself says is of the agent's own folder.
        seen = bool(folders) if isinstance(error, OSError) else root in folders
        if seen and not self._full and is_about_space(error):
            return False
        if not self._full:
            self._trouble = troubled(
                self._trouble,
                f"the host failed: {error}",
                now=self._clock.boot(),
                first=self._times.first_pause,
                longest=self._times.longest_pause,
            )
        self._tell()
        self.look()
        return True

    async def _look(self) -> float | None:
        if self._least:
            await self._look_at_disks(self._engine_root())
        self._tell()
        if self._trouble is None:
            return None
        left = self._trouble.until - self._clock.boot()
        return min(self._times.look_every, left) if left > 0 else None

    async def _look_at_disks(self, root: str) -> set[str]:
        """The folders whose disks could be seen."""
        disks = await self._disks.free(root)
        self._full = full_disk(disks, least=self._least)
        _FREE.replace({(disk.folder,): float(disk.free) for disk in disks})
        return {disk.folder for disk in disks}

    def _tell(self) -> None:
        problem = self.problem
        if problem == self._told:
            return
        self._told = problem
        if problem:
            self._log.warning("host_unfit", problem=problem)
        else:
            self._log.info("host_fit")
        self.changes.announce()


def is_about_space(error: Exception) -> bool:
    """Whether a disk is what it wants for, by the system's own words."""
    return any(phrase in str(error).lower() for phrase in ("no space left on device", "disk quota exceeded"))
