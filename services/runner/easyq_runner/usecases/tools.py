"""What every execution on this host shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from easyq_chassis.logs import get_logger
from easyq_chassis.redaction import Redactor
from easyq_runner.domain.container import HostRules
from easyq_runner.domain.journal import Entry
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.ports import AgentClock, ContainerEngine, Journal, LogSink
from easyq_runner.usecases.daemon import Daemon
from easyq_runner.usecases.host import Host
from easyq_runner.usecases.images import Images
from easyq_runner.usecases.janitor import Janitor
from easyq_runner.usecases.lease import LeaseKeeper
from easyq_runner.usecases.outbox import Outbox
from easyq_runner.usecases.traces import Traces


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds."""

    # What runs for longer gets its start reported and its output read live.
    short: float = 0.1
    # For which a start whose answer was lost may still be under way.
    start_patience: float = 3.0
    # Until SIGKILL is sent once more, and until a signal is that failed.
    kill_again: float = 5.0
    signal_again: float = 1.0
    # Until a container is asked after again that could not be asked after.
    monitor: Backoff = field(default_factory=Backoff)
    # By which the end of a program's output and the end of its container may differ.
    end_patience: float = 2.0
    # By which the kernel's word on a lack of memory may come after the exit.
    oom_patience: float = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """The collaborators of an execution."""

    engine: ContainerEngine
    daemon: Daemon
    host: Host
    journal: Journal
    sink: LogSink
    images: Images
    lease: LeaseKeeper
    outbox: Outbox
    janitor: Janitor
    clock: AgentClock
    # What the agent allows; the default network depends on the engine at hand.
    rules: Callable[[], HostRules]
    # Resolves a path of the host; may block.
    realpath: Callable[[str], str]
    # Whether a program's output is taken from itself as well; else only from the engine's log.
    attach: bool = True
    # What of an error may be told.
    redactor: Redactor = field(default_factory=Redactor)
    traces: Traces = field(default_factory=Traces)
    times: Times = Times()

    async def note(self, entry: Entry) -> None:
        """Adds to the journal what is a pity to lose, and no more: a full disk must not keep a job from its end."""
        try:
            await self.journal.append(entry)
        except OSError as error:
            get_logger().error("journal_failed", error=str(error))
