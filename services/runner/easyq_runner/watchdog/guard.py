"""Watches the lease, and kills what may run elsewhere when it is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from easyq_runner.adapters.clock import BootClock
from easyq_runner.adapters.lease_file import FileLeaseNotes
from easyq_runner.domain.lease import LeaseNote, newest, time_left
from easyq_runner.domain.watch import Ward, is_doomed, names_of
from easyq_runner.watchdog.engine import CONFLICT, NO_CONTENT, NOT_FOUND, Engine, NoAnswer
from easyq_runner.watchdog.say import Speaker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from easyq_runner.ports import AgentClock

# Seconds between two looks: a lease that was lost while this process was stopped is found within them.
_LOOK = 0.5


class Guard:
    """`run` goes on for ever, in a thread of its own: an engine that hangs does not keep signals from the agent."""

    def __init__(self, speaker: Speaker, clock: AgentClock | None = None) -> None:
        self._speaker = speaker
        self._clock: AgentClock = clock or BootClock()
        self._ward: Ward | None = None
        self._engine: Engine | None = None
        self._notes: FileLeaseNotes | None = None
        # The newest that came through the pipe.
        self._told: LeaseNote | None = None
        self._wake = threading.Event()
        self._lost = False
        self._problem = ""

    # What the agent tells -----------------------------------------------------------------------------------------
    def hear(self, message: Ward | LeaseNote) -> None:
        """Takes in a message of the agent. Called by another thread."""
        if isinstance(message, LeaseNote):
            self._told = newest(self._told, message)
        else:
            self._speaker.console = message.console
            self._take(message)
        self._wake.set()

    def _take(self, ward: Ward) -> None:
        try:
            engine = Engine(ward)
        except (OSError, ValueError) as error:
            self._speaker.say("error", "watchdog_without_engine", engine=ward.engine, error=str(error))
            return
        if self._ward is None or self._ward.agent_id != ward.agent_id:
            self._told = None  # another agent's
        self._engine, self._notes, self._ward = engine, FileLeaseNotes(Path(ward.lease)), ward

    @property
    def guarding(self) -> bool:
        """Whether there is a lease that may be lost."""
        return self._left() is not None

    # The look -----------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Looks again and again."""
        while True:
            self._wake.clear()
            try:
                wait = self.run_once()
            except Exception as error:  # noqa: BLE001 - whatever comes, the next look may do its work
                self._speaker.say("error", "watchdog_failed", error=repr(error))
                wait = _LOOK
            self._wake.wait(wait)

    def run_once(self) -> float:
        """One look; the seconds until the next."""
        left = self._left()
        if left is None or left > 0:
            if self._lost:
                agent = self._ward.agent_id if self._ward else ""
                self._speaker.say("info", "lease_is_back", agent=agent)
            self._lost = False
            return _LOOK if left is None else min(_LOOK, left)
        self._sweep(silence=-left)
        return _LOOK

    def _left(self) -> float | None:
        note = newest(self._told, self._of_this_boot())
        return time_left(note, boot_id=self._clock.boot_id, now=self._clock.boot())

    def _of_this_boot(self) -> LeaseNote | None:
        note = self._notes.read() if self._notes else None
        return note if note is not None and note.boot_id == self._clock.boot_id else None

    # The kill -----------------------------------------------------------------------------------------------------
    def _sweep(self, *, silence: float) -> None:
        """Kills once what is doomed. What starts later, or does not die, meets the next sweep."""
        ward, engine, notes = self._ward, self._engine, self._notes
        if ward is None or engine is None or notes is None:
            return
        first = not self._lost
        if first:
            self._lost = True
            self._speaker.say("warning", "lease_lost", agent=ward.agent_id, late=round(silence, 3))
        try:
            if first:
                self._forget_gone(engine, notes)
            doomed = {id_: names_of(labels, ward) for id_, labels in engine.list().items() if is_doomed(labels, ward)}
        except NoAnswer as error:
            self._tell_problem(str(error))
            return
        self._tell_problem("")
        left = self._left()
        if left is not None and left <= 0:  # it may be back: a hung engine answers late
            self._kill(engine, notes, doomed)

    def _kill(self, engine: Engine, notes: FileLeaseNotes, doomed: Mapping[str, Mapping[str, str]]) -> None:
        """Kills containers, each with what the log says of it."""
        for container, names in doomed.items():
            try:
                notes.mark_ended(container)
            except OSError as error:
                self._speaker.say("error", "end_not_noted", **names, container=container, error=str(error))
        for container, status in engine.kill(doomed).items():
            if status in {CONFLICT, NOT_FOUND}:  # it had ended by itself, or its agent was quicker
                notes.unmark_ended(container)
            elif status == NO_CONTENT:
                self._speaker.say("warning", "killed_by_watchdog", **doomed[container], container=container)
            else:
                self._speaker.say("error", "not_killed", **doomed[container], container=container, status=status)

    @staticmethod
    def _forget_gone(engine: Engine, notes: FileLeaseNotes) -> None:
        marked = notes.marked()
        if marked:
            for container in marked - set(engine.list(ended=True)):
                notes.unmark_ended(container)

    def _tell_problem(self, problem: str) -> None:
        """Tells of an engine that does not answer once, and of its return."""
        if problem and not self._problem:
            self._speaker.say("error", "engine_does_not_answer_watchdog", problem=problem)
        elif self._problem and not problem:
            self._speaker.say("info", "engine_answers_watchdog")
        self._problem = problem
