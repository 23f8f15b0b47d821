"""What every use case needs: the database, the time, chance, the reading of specs, and who waits for news."""

from collections.abc import Callable
from dataclasses import dataclass, field

from easyq_store.domain.clock import StoreClock
from easyq_store.domain.notices import Target
from easyq_store.domain.policy import Policy
from easyq_store.domain.silence import SilenceWatch
from easyq_store.ports import Persistence
from easyq_store.usecases.news import News
from easyq_store.usecases.traces import NoTraces, Traces


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Built once, in app.py."""

    store: Persistence
    clock: StoreClock
    # Random shares in [0, 1).
    share: Callable[[], float]
    # Reads the policy out of a serialized spec.
    policy_of: Callable[[bytes], Policy]
    # Reads out of it whom to tell at the end.
    targets_of: Callable[[bytes], tuple[Target, ...]]
    # Whether two requests are the same, each by what was asked for (None: not told) and the spec that it came to.
    same_request: Callable[[tuple[bytes | None, bytes], tuple[bytes | None, bytes]], bool]
    news: News
    traces: Traces = field(default_factory=NoTraces)
    # Recurring jobs that may have more executions by now than are kept.
    overdue: set[str] = field(default_factory=set)
    # Which hosts are heard.
    silence: SilenceWatch = field(default_factory=SilenceWatch)
