"""What both clients do where the server can't be reached: how long they wait, and when they give up."""

from __future__ import annotations

import time

from easyq import _rpc
from easyq.cursor import Gap
from easyq.errors import EasyQError, Internal, ResourceExhausted, Unavailable

#: Waits between attempts of a call that may be repeated; the last attempt's error is raised.
PAUSES = (0.1, 0.3, 1.0)
_LONGEST_PAUSE = 5.0
_MOST_GAPS = 3
_OVERLOADED = "OVERLOADED"


def wait_before_repeat(error: EasyQError, pause: float) -> float | None:
    """The seconds to wait before a call is repeated, None where that makes no sense."""
    if not isinstance(error, Unavailable | ResourceExhausted):
        return None
    return max(pause, min(error.retry_after or 0.0, _LONGEST_PAUSE))


class Outage:
    """How long a stream has been broken, and how long to wait before the next attempt.

    What is borne for `patience` seconds are breaks of the connection, and a server that has too much to do, or has let
    a reader go that took nothing for long.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: float | None = None
        self._gaps = 0
        self._step = PAUSES[0]
        self.pause = PAUSES[0]
        self.problem = EasyQError("")

    def over(self) -> None:
        self._since = None
        self._step = PAUSES[0]

    def met(self, error: EasyQError | Gap) -> bool:
        """Takes in a break, and says whether it begins an outage; raises it where going on makes no sense."""
        self.problem = self._judge(error)
        now = time.monotonic()
        is_first = self._since is None
        if self._since is None:
            self._since = now
        elif now - self._since > self._patience:
            raise self.problem
        else:
            self._step = min(self._step * 1.5, 1.0)
        self.pause = max(self._step, min(self.problem.retry_after or 0.0, _LONGEST_PAUSE))
        return is_first

    def _judge(self, error: EasyQError | Gap) -> EasyQError:
        if isinstance(error, Gap):
            self._gaps += 1
            problem = Internal(f"the server left out output: {error}")
            if self._gaps >= _MOST_GAPS:
                raise problem from error
            return problem
        if not _rpc.is_break(error) and error.reason != _OVERLOADED:
            raise error
        return error
