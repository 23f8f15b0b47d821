"""The rules that hold, and those that a changed file brings."""

from __future__ import annotations

from collections.abc import Callable

from easyq_chassis.clock import Clock
from easyq_chassis.logs import get_logger
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.ports import RulesSource

log = get_logger()

WATCH_INTERVAL = 0.5


class Rulebook:
    """`matching` is what holds; a file that changes brings the next, which holds once `turn_page` was called.

    `build` makes rules of a file's text and raises RuleError. What is wrong is refused, told once, and shown as
    `problem`; the rules that held go on. `version` is the file's time of change, and grows with
    each change seen here: of two dispatchers with different rules the one with the higher version has the newer file.
    0: there is no file.
    """

    def __init__(self, *, build: Callable[[str], Matching], source: RulesSource | None = None, clock: Clock) -> None:
        self._build = build
        self._source = source
        self._clock = clock
        self._text, self.version = "", 0
        self.problem, self.problem_since_ms = "", 0
        self._next: Matching | None = None
        self._seen: tuple[int, int, int] | None = None
        self._read: tuple[int, int, int] | None = None
        self.turned: Callable[[], None] = lambda: None
        if source is not None:
            self._seen = self._read = source.stamp()
            found = source.read()
            self._text, self.version = found.text, found.changed_ms
        self.matching = build(self._text)

    async def run_once(self) -> float | None:
        """Reads the file if it changed and has been the same since the last look: nobody writes it now."""
        if self._source is None:
            return None
        stamp = self._source.stamp()
        settled, self._seen = stamp == self._seen, stamp
        if settled and stamp != self._read:
            self.reload()
        return None

    def reload(self) -> None:
        """Reads the file now."""
        if self._source is None:
            log.warning("rules_unset", hint="this dispatcher has no file of rules: see --rules")
            return
        self._read = self._source.stamp()
        try:
            found = self._source.read()
            matching = self._build(found.text)
        except (OSError, ValueError) as error:
            self._refuse(error)
            return
        self.problem = ""
        if found.text == self._text:
            return
        # A file that was put back may be older than the one before it.
        self._text, self.version = found.text, max(found.changed_ms, self.version + 1)
        log.info("rules_read", file=str(self._source), version=self.version)
        self._next = matching
        self.turned()

    def turn_page(self) -> bool:
        """Lets the newest rules hold from now on; True if there were any."""
        if self._next is None:
            return False
        self.matching, self._next = self._next, None
        return True

    def _refuse(self, error: OSError | ValueError) -> None:
        problem = f"{self._source}: {error}"
        if problem != self.problem:
            self.problem, self.problem_since_ms = problem, self._clock.now_ms()
            log.error("rules_refused", problem=problem, hint="the rules that held before go on")
