"""When a notification that was not taken is tried again. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """Seconds: the first wait, which doubles from try to try up to the longest; and the age at which it is given up."""

    first: float
    longest: float
    age: float

    def wait(self, tries: int, age: float, share: float, asked: float = 0.0) -> float | None:
        """Seconds until the next try after `tries` of them, at this age; None: it is given up.

        `share` in [0, 1) takes up to half of the wait off, so that many do not come at once. `asked` is what the
        receiver asked for, heeded up to the longest wait.
        """
        # By logarithms, since the tries may be many.
        growing = self.first > 0 and (tries - 1) * math.log(2) < math.log(max(1.0, self.longest / self.first))
        wait = self.first * 2 ** (tries - 1) if growing else self.longest
        wait = max(min(wait, self.longest) * (1 - share / 2), min(asked, self.longest))
        return None if age + wait > self.age else wait
