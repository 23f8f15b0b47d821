"""Which defaults a task has."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import spec_pb2
from easyq_gateway import convert
from easyq_gateway.domain.defaults import DefaultRule, Defaults, defaults_of


class TaskDefaults:
    """The defaults of the settings, and those by task, which may change at any time."""

    def __init__(self, base: Defaults) -> None:
        self.base = base
        self._rules: tuple[DefaultRule, ...] = ()
        # The defaults as a spec says them, by the identity of the defaults, which live as long as the rules.
        self._said: dict[int, spec_pb2.JobSpec] = {}

    def set_rules(self, rules: Sequence[DefaultRule]) -> None:
        """Replaces the rules by task; the first that matches a task holds for it."""
        self._rules = tuple(rules)
        self._said = {}

    def of(self, task_id: str) -> Defaults:
        """Returns the defaults of a task."""
        return defaults_of(task_id, self._rules, self.base)

    def resolve(self, task_id: str, spec: spec_pb2.JobSpec) -> None:
        """Sets every default of a checked spec, in place."""
        defaults = self.of(task_id)
        said = self._said.get(id(defaults))
        if said is None:
            said = self._said[id(defaults)] = convert.spec_of(defaults)
        convert.resolve(spec, said, defaults)
