"""The agent's lease: renewed by acknowledged beats, noted for a restart, waited for before each start."""

from __future__ import annotations

from easyq_chassis.logs import get_logger
from easyq_runner.domain.lease import Lease, LeaseNote, renew, resume
from easyq_runner.ports import AgentClock, LeaseNotes
from easyq_runner.usecases.waiting import Changes


class LeaseKeeper:
    """Holds the lease of this agent."""

    def __init__(self, notes: LeaseNotes, clock: AgentClock) -> None:
        self._notes = notes
        self._clock = clock
        note = notes.read()
        self._parked = note is not None and note.parked
        self._lease = resume(note, boot_id=clock.boot_id, now=clock.boot())
        self._log = get_logger()
        # Renewals.
        self.changes = Changes()

    def may_start(self) -> bool:
        """Whether a container may be started now."""
        return self._lease.may_start(self._clock.boot())

    def is_lost(self) -> bool:
        """Whether the farm may run our executions elsewhere by now."""
        return self._lease.is_lost(self._clock.boot())

    def silence(self) -> float:
        """Seconds since the last acknowledged beat was sent."""
        return self._lease.silence(self._clock.boot())

    def was_ended(self, container_id: str) -> bool:
        """Whether the watchdog has ended this container because the lease was lost."""
        return self._notes.was_ended(container_id)

    def unpark(self, sent_at: float) -> None:
        """A hello is about to be sent: from its arrival on the farm counts silence, whether or not it answers."""
        if self._parked:
            self._parked = False
            self._renew(renew(self._lease, sent_at))

    def begin(self, *, sent_at: float, start_within: float, lost_after: float) -> None:
        """The farm has answered the hello that was sent at `sent_at` (CLOCK_BOOTTIME)."""
        terms = Lease(renewed_at=self._lease.renewed_at, start_within=start_within, lost_after=lost_after)
        self._renew(renew(terms, sent_at))

    def renew(self, sent_at: float) -> None:
        """The farm has committed the beat that was sent at `sent_at`."""
        self._renew(renew(self._lease, sent_at))

    def park(self) -> None:
        """The farm has parked the session: silence counts no more."""
        self._parked = True
        self._note(parked=True)

    def _renew(self, lease: Lease) -> None:
        self._lease = lease
        self._note(parked=False)
        self.changes.announce()

    def _note(self, *, parked: bool) -> None:
        note = LeaseNote(
            boot_id=self._clock.boot_id,
            renewed_at=self._lease.renewed_at or 0.0,
            lost_after=self._lease.lost_after,
            parked=parked,
        )
        try:
            self._notes.write(note)
        except OSError as error:
            # The lease itself holds; only a restarted agent would not know of it.
            self._log.warning("lease_not_noted", error=str(error))
