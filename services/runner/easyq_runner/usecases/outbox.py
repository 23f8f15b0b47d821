"""Words for the farm, kept and repeated until it has answered them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from easyq_runner.domain.records import ExecutionKey, Report, ReportAnswer, Verdict
from easyq_runner.usecases.waiting import Changes

# Seconds until a report is repeated that the farm could not decide on.
_FIRST_RETRY = 0.2
_LONGEST_RETRY = 5.0


@dataclass(eq=False, kw_only=True, slots=True)
class _Letter:
    report: Report
    answer: asyncio.Future[ReportAnswer]
    retries: int = 0
    timer: asyncio.TimerHandle | None = None


class Outbox:
    """Holds what was said and not answered.

    An answer names the execution, not the word that it answers. So of each execution at most one word is under way at
    a time on a stream; the next waits for its answer.
    """

    def __init__(self) -> None:
        self._waiting: dict[ExecutionKey, _Letter] = {}
        self._under_way: dict[ExecutionKey, _Letter] = {}
        # Something may be there to be sent.
        self.changes = Changes()

    async def deliver(self, report: Report) -> ReportAnswer:
        """Returns the farm's answer (OK or STALE), however long that takes.

        A caller that is cancelled takes its word back, unless it is under way. There is one caller an execution.
        """
        letter = _Letter(report=report, answer=asyncio.get_running_loop().create_future())
        self._waiting[report.key] = letter
        self.changes.announce()
        try:
            return await letter.answer
        finally:
            if letter.timer is not None:
                letter.timer.cancel()
            if self._waiting.get(report.key) is letter:
                del self._waiting[report.key]

    def take(self) -> tuple[Report, ...]:
        """What is to be sent now; it is under way from then on."""
        ready = [letter for key, letter in self._waiting.items() if letter.timer is None and key not in self._under_way]
        for letter in ready:
            self._under_way[letter.report.key] = self._waiting.pop(letter.report.key)
        return tuple(letter.report for letter in ready)

    def answer(self, answer: ReportAnswer) -> None:
        """The farm has answered what is under way of that execution."""
        letter = self._under_way.pop(answer.key, None)
        if letter is not None and not letter.answer.done():
            if answer.verdict is Verdict.RETRY:
                self._wait_again(letter)
            else:
                letter.answer.set_result(answer)
        self.changes.announce()

    def lose(self) -> None:
        """The stream broke: what was under way is to be sent again."""
        lost, self._under_way = self._under_way, {}
        for key, letter in lost.items():
            if not letter.answer.done():
                self._waiting.setdefault(key, letter)
        self.changes.announce()

    @property
    def empty(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self._waiting and not self._under_way

    def _wait_again(self, letter: _Letter) -> None:
        delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0**letter.retries)
        letter.retries += 1
        letter.timer = asyncio.get_running_loop().call_later(delay, self._ripe, letter)
        self._waiting.setdefault(letter.report.key, letter)

    def _ripe(self, letter: _Letter) -> None:
        letter.timer = None
        self.changes.announce()
