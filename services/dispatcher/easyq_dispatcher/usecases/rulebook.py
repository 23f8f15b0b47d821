"""The rules that hold, and those that a changed file brings."""

from __future__ import annotations

from collections.abc import Callable

from easyq_chassis.clock import Clock
from easyq_chassis.logs import get_logger
from easyq_chassis.rules_file.watch import RulesFile
from easyq_dispatcher import rules_file
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.rules import Additions

log = get_logger()


class Rulebook:
    """`matching` is what holds; a file that changes brings the next, which holds once `turn_page` was called.

    `build` makes rules of those of the file at `path` (empty: there is none), and a warning, which is empty where
    nothing is to be said. `version` is the file's time of change, and grows with each change of these rules seen here:
    of two dispatchers with different rules the one with the higher version has the newer file. 0: there is no file.
    Raises RulesError where the file can't be used.
    """

    def __init__(self, *, build: Callable[[Additions], tuple[Matching, str]], path: str = "", clock: Clock) -> None:
        self._build = build
        self.file = RulesFile(path, rules_file.parse, self._take, clock=clock)
        self.matching, self.version = Matching(pools=(), limits=()), -1
        self._next: Matching | None = None
        self._warning = ""
        self.turned: Callable[[], None] = lambda: None
        self.file.load()
        self.turn_page()

    @property
    def problem(self) -> str:
        """What is wrong with the file, in words for people; empty where nothing is."""
        return self.file.problem or self._warning

    @property
    def problem_since_ms(self) -> int:
        """Since when."""
        return self.file.problem_since_ms if self.file.problem else self.file.changed_ms

    def turn_page(self) -> bool:
        """Lets the newest rules hold from now on; True if there were any."""
        if self._next is None:
            return False
        self.matching, self._next = self._next, None
        return True

    def _take(self, added: Additions) -> None:
        matching, self._warning = self._build(added)
        if self._warning:
            log.warning("rules_doubtful", problem=self._warning)
        # Where only others' tables changed, nothing has to be counted anew.
        if matching == (self._next or self.matching):
            return
        # A file that was put back may be older than the one before it.
        self._next, self.version = matching, max(self.file.changed_ms, self.version + 1)
        self.turned()
