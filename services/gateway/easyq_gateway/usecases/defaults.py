"""Which defaults a task has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from easyq.v1 import spec_pb2
from easyq_gateway import convert
from easyq_gateway.domain.defaults import DefaultRule, Defaults, defaults_of

# Defaults are kept for this many task names; those not asked for longest are worked out anew.
_MOST_TASKS = 10_000
# What has more characters is no task's name, and refused as such: it is neither matched nor kept.
_LONGEST_TASK = 128


class TaskDefaults:
    """The defaults of the settings, and those by task, which may change at any time."""

    def __init__(self, base: Defaults) -> None:
        self.base = base
        self.set_rules(())

    def set_rules(self, rules: Sequence[DefaultRule]) -> None:
        """Replaces the rules by task; the first that matches a task holds for it."""
        kept = tuple(rules)
        self._of = lru_cache(maxsize=_MOST_TASKS)(lambda task_id: defaults_of(task_id, kept, self.base))
        # The defaults as a spec says them, by the identity of the defaults, which live as long as the rules.
        self._said: dict[int, spec_pb2.JobSpec] = {}

    def of(self, task_id: str) -> Defaults:
        """Returns the defaults of a task."""
        return self._of(task_id) if len(task_id) <= _LONGEST_TASK else self.base

    def resolve(self, task_id: str, spec: spec_pb2.JobSpec) -> None:
        """Sets every default of a checked spec, in place."""
        defaults = self.of(task_id)
        said = self._said.get(id(defaults))
        if said is None:
            said = self._said[id(defaults)] = convert.spec_of(defaults)
        convert.resolve(spec, said, defaults)
