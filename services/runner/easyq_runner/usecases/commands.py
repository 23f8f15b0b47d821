"""What is asked of one execution while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from easyq_runner.domain.records import Word
from easyq_runner.domain.starting import Wishes, obstacle, word_for
from easyq_runner.ports import AgentClock
from easyq_runner.usecases.waiting import Changes

# Suspended time moves a deadline closer than a timer knows.
_LONGEST_NAP = 5.0

T = TypeVar("T")


class NotStarted(Exception):
    """The execution ends before its container has run; `word` goes to the farm, None says nothing."""

    def __init__(self, word: Word | None) -> None:
        super().__init__(word)
        self.word = word


class Killed(Exception):
    """The execution is not this agent's any more: its container goes, and nothing is said."""


class Commands:
    """Collects wishes; `deadline` (CLOCK_BOOTTIME) is the last moment for a start."""

    def __init__(self, clock: AgentClock, *, deadline: float | None = None) -> None:
        self._clock = clock
        self._deadline = deadline
        self.wishes = Wishes()
        self.changes = Changes()

    def stop(self) -> None:
        """The job was asked to stop."""
        self._wish(replace(self.wishes, stop=True))

    def kill(self) -> None:
        """It is not this agent's any more."""
        self._wish(replace(self.wishes, kill=True))

    def lose(self) -> None:
        """The farm may run it elsewhere by now."""
        self._wish(replace(self.wishes, lost=True))

    def leave(self) -> None:
        """The agent is stopping, or drains: what has not begun goes back."""
        self._wish(replace(self.wishes, leave=True))

    def drain(self) -> None:
        """The drain's deadline has come: what runs is ended."""
        self._wish(replace(self.wishes, drain=True))

    def check(self) -> None:
        """Raises NotStarted if the start must not happen any more."""
        what = obstacle(self.wishes, now=self._clock.boot(), deadline=self._deadline)
        if what is not None:
            raise NotStarted(word_for(what))

    async def unless(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, before a start; where an obstacle comes up, cancels it and raises NotStarted."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                self.check()
                changed = asyncio.ensure_future(self.changes.wait())
                await asyncio.wait({task, changed}, timeout=self._nap(), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            return task.result()
        finally:
            task.cancel()

    async def unless_killed(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, after a start; where the execution is not ours any more, cancels it and raises Killed."""
        task, killed = asyncio.ensure_future(work), asyncio.ensure_future(self._until_killed())
        try:
            await asyncio.wait({task, killed}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Killed
        finally:
            task.cancel()
            killed.cancel()

    async def _until_killed(self) -> None:
        while not self.wishes.kill:
            await self.changes.wait()

    def _nap(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, min(_LONGEST_NAP, self._deadline - self._clock.boot()))

    def _wish(self, wishes: Wishes) -> None:
        if wishes != self.wishes:
            self.wishes = wishes
            self.changes.announce()
