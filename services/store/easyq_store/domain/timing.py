"""When an execution is due, and until when it may start. Milliseconds, by the store's clock."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What a spec says about time."""

    start_at: int | None = None
    # Duration.
    start_in: int | None = None
    expiration: int | None = None
    # Duration, from the due time.
    start_deadline: int | None = None

    def due_at(self, now: int) -> int:
        """When a job accepted at `now` is due; never before `now`."""
        if self.start_in is not None:
            return now + self.start_in
        return max(now, self.start_at or now)

    def latest_start(self, due_at: int) -> int | None:
        """The last moment at which an execution due at `due_at` may start; None: no bound."""
        deadline = None if self.start_deadline is None else due_at + self.start_deadline
        if deadline is None or self.expiration is None:
            return deadline if self.expiration is None else self.expiration
        return min(deadline, self.expiration)


def has_expired(latest_start: int | None, now: int) -> bool:
    """Whether its last moment to start has passed."""
    return latest_start is not None and now > latest_start
