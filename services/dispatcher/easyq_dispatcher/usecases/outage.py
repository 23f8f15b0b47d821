"""One line when a neighbour goes away and one when it is back, however often it is tried in between."""

from __future__ import annotations

from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger

log = get_logger()


class Outage:
    """The troubles of one loop."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._told: str | None = None

    def began(self, error: EasyQError) -> None:
        """It can't do its work, because of this."""
        if self._told is None:
            log.warning("outage_began", loop=self._loop, error=error.message, burst=1)
        self._told = error.message

    def ended(self) -> None:
        """It did its work."""
        if self._told is not None:
            log.info("outage_ended", loop=self._loop, last_error=self._told, burst=3)
        self._told = None
