"""The agent's one lease: what silence means. Times are seconds of CLOCK_BOOTTIME, which counts suspended time too."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The lease as the last acknowledged beat left it."""

    # When that beat was sent; None: none was ever acknowledged.
    renewed_at: float | None = None
    # Silence after which nothing new is started.
    start_within: float = 15.0
    # Silence after which what may run elsewhere is killed.
    lost_after: float = 120.0

    def may_start(self, now: float) -> bool:
        """Whether a container may be started now."""
        return self.renewed_at is not None and now - self.renewed_at < self.start_within

    def is_lost(self, now: float) -> bool:
        """Whether the farm may run our executions elsewhere by now."""
        return self.renewed_at is not None and now - self.renewed_at >= self.lost_after

    def silence(self, now: float) -> float:
        """Seconds since the last acknowledged beat was sent; 0 if there was none."""
        return 0.0 if self.renewed_at is None else now - self.renewed_at


def renew(lease: Lease, sent_at: float) -> Lease:
    """A beat was acknowledged that was sent at this time. Answers may come out of order."""
    newest = sent_at if lease.renewed_at is None else max(lease.renewed_at, sent_at)
    return replace(lease, renewed_at=newest)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseNote:
    """The lease as it stands in the data folder, for a restarted agent and its watchdog."""

    # Tells one run of the machine's kernel from another: CLOCK_BOOTTIME starts anew with each.
    boot_id: str
    renewed_at: float
    lost_after: float
    # A clean stop: the lease stands still.
    parked: bool


def resume(note: LeaseNote | None, *, boot_id: str, now: float) -> Lease:
    """The lease of an agent that starts: it may be lost, and starts nothing before the farm has answered.

    After a park, silence counts from now; after a reboot nothing runs that could be lost.
    """
    if note is None or note.boot_id != boot_id:
        return Lease(start_within=0.0)
    return Lease(renewed_at=now if note.parked else note.renewed_at, start_within=0.0, lost_after=note.lost_after)


def newest(one: LeaseNote | None, other: LeaseNote | None) -> LeaseNote | None:
    """The later of two notes of one agent under one boot. A park comes after the renewal that it repeats."""
    notes = [note for note in (one, other) if note is not None]
    return max(notes, key=lambda note: (note.renewed_at, note.parked), default=None)


def time_left(note: LeaseNote | None, *, boot_id: str, now: float) -> float | None:
    """Seconds until the lease is lost (0 or less: it is). None: there is none, or it stands still."""
    if note is None or note.parked or note.boot_id != boot_id:
        return None
    return note.renewed_at + note.lost_after - now
