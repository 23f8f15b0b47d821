"""Which breakers opened and closed, for the log."""

from __future__ import annotations

from collections.abc import Sequence

from easyq_chassis.logs import get_logger
from easyq_dispatcher.domain.breakers import Breaker

log = get_logger()


class BreakerNews:
    """Compares what the index shows with what it showed before. Dispatchers that share it all tell."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Breaker] = {}

    def hear(self, breakers: Sequence[Breaker]) -> None:
        """Takes in all breakers that count or are open, and tells what is new."""
        now = {(one.kind.value, one.subject): one for one in breakers if one.until_ms}
        for (kind, subject), one in now.items():
            if (kind, subject) not in self._open:
                log.warning("breaker_opened", kind=kind, subject=subject, problem=one.cause, failures=one.failures)
        for kind, subject in self._open.keys() - now.keys():
            log.info("breaker_closed", kind=kind, subject=subject)
        self._open = now
