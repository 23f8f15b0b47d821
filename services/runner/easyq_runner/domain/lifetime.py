"""Whether the daemon that answers now is the one that answered before, or was restarted in between.

Docker tells no start time. What tells:
- the process behind the socket, where it can be seen (a unix socket, no socket activation, the same process namespace);
- Docker's memory of events, which ends with the process: an event that was seen before and is not remembered now,
  though the memory is not full, means a restart;
- the default bridge network, which is made anew at each start.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Docker remembers this many events.
MEMORY = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What was last known of a daemon."""

    # Process id, start time and machine boot of the daemon; empty where it can't be seen.
    process: str = ""
    # Id and birth of the bridge network; empty where there is none.
    bridge: str = ""
    # Time in nanoseconds, as Docker gave it, of the newest event seen; 0: none.
    newest_event: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What can be seen of the daemon now; `events` are the times of all events that it remembers."""

    process: str = ""
    bridge: str = ""
    events: tuple[int, ...] = ()


def is_same(before: Trace, now: Evidence) -> bool:
    """True only where it is certain that the daemon was not restarted."""
    if before.process and now.process:
        return before.process == now.process
    if before.newest_event and before.newest_event in now.events:
        return True
    if before.newest_event and len(now.events) < MEMORY:
        return False
    return bool(before.bridge) and before.bridge == now.bridge


def trace_of(now: Evidence) -> Trace:
    """What to remember of it."""
    return Trace(process=now.process, bridge=now.bridge, newest_event=max(now.events, default=0))
