"""A collector that takes nothing is one line a minute, and one once it takes again."""

from __future__ import annotations

import time

from easyq_chassis.logs import get_logger

# Seconds between two lines about a collector that is away.
_TOLD_EVERY = 60.0


class Told:
    """The exports of `what` (spans, metrics) to `endpoint`, by one thread. The library itself would tell each try."""

    def __init__(self, what: str, endpoint: str) -> None:
        self._what = what
        self._endpoint = endpoint
        self._log = get_logger()
        self._failing_since: float | None = None
        self._told_at = 0.0

    def failed(self, why: str, **counts: int) -> None:
        """They were not taken."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._told_at < _TOLD_EVERY:
            return
        self._told_at = now
        self._log.warning(f"{self._what}_not_exported", endpoint=self._endpoint, error=why, **counts)

    def worked(self, **counts: int) -> None:
        """They were taken."""
        if self._failing_since is None:
            return
        seconds = round(time.monotonic() - self._failing_since)
        self._failing_since = None
        self._log.info(f"{self._what}_exported_again", endpoint=self._endpoint, seconds=seconds, **counts)
