"""The store's clock: the only one that decides due times and expiry. It never runs backwards."""

from easyq_chassis.clock import Clock


class StoreClock:
    """The machine's wall clock where that goes forward, and the pace of its monotonic clock where it doesn't.

    `mark` is the highest time that was ever told and kept: after a restart the clock goes on from there at least.
    """

    def __init__(self, machine: Clock, mark: int = 0) -> None:
        self._machine = machine
        # A time, and the monotonic time at which it was; one value, since several threads ask.
        self._anchor = (max(mark, machine.now_ms()), machine.monotonic())

    def now(self) -> int:
        """Milliseconds since the epoch, UTC; never less than it told before."""
        anchor, anchored_at = self._anchor
        # The wall clock first: whatever passes until the other is looked at must not put this one ahead for good.
        wall = self._machine.now_ms()
        steady = self._machine.monotonic()
        paced = anchor + int((steady - anchored_at) * 1000)
        if wall > paced:
            self._anchor = (wall, steady)
        return max(wall, paced)

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations."""
        return self._machine.monotonic()

    def raise_to(self, mark: int) -> None:
        """Goes on from `mark` at least: another process of the store has told it already."""
        now = self.now()
        if mark > now:
            self._anchor = (mark, self._machine.monotonic())

    def behind_ms(self) -> int:
        """How far the machine's wall clock is behind this one; 0 if it isn't."""
        return max(0, self.now() - self._machine.now_ms())
