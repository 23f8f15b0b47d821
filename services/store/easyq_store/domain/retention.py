"""How long, and how many, ended jobs, their logs, and executions of recurring jobs are kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from easyq_chassis.patterns import Pattern
from easyq_store.domain.states import JobState

# Jobs by how they ended. Those that gave up are the error queue.
OUTCOMES: Mapping[str, tuple[JobState, ...]] = {
    "succeeded": (JobState.SUCCEEDED,),
    "failed": (JobState.FAILED, JobState.TIMED_OUT),
    "stopped": (JobState.STOPPED,),
    "expired": (JobState.EXPIRED,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """What a task keeps. What is not named is kept for ever."""

    # By outcome: milliseconds since the end, and how many.
    ages: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    # Milliseconds since the end of an execution.
    logs: int | None = None
    # Newest executions of a recurring job.
    executions: int | None = None

    @property
    def everything(self) -> bool:
        """Whether no job and no log ever goes."""
        return not self.ages and not self.counts and self.logs is None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionRule:
    """What the tasks keep whose whole name the pattern matches."""

    pattern: Pattern
    keep: Keep


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """The first rule that matches holds; `otherwise` for tasks without one."""

    rules: tuple[RetentionRule, ...] = ()
    otherwise: Keep = field(default_factory=Keep)

    def of(self, task_id: str) -> Keep:
        """What a task keeps."""
        return next((rule.keep for rule in self.rules if rule.pattern.matches(task_id)), self.otherwise)

    @property
    def everything(self) -> bool:
        """Whether nothing has to be looked for, whatever the task."""
        return self.otherwise.everything and all(rule.keep.everything for rule in self.rules)
