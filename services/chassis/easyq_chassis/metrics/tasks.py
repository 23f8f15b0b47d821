"""The label `task`, bounded: which tasks have one of their own."""

from __future__ import annotations

from easyq_chassis.metrics.instruments import OTHER
from easyq_chassis.patterns import Pattern

# What was found of names is remembered, of so many.
_REMEMBERED = 10_000


class TaskLabels:
    """Tasks whose whole name matches `pattern` have their own label, the first `most` that come; all others `other`."""

    def __init__(self, pattern: Pattern, most: int) -> None:
        self._pattern = pattern
        self._most = most
        self._own: set[str] = set()
        self._known: dict[str, str] = {}

    def of(self, task_id: str) -> str:
        """The label of a task."""
        known = self._known.get(task_id)
        return self._find(task_id) if known is None else known

    def _find(self, task_id: str) -> str:
        if len(self._known) >= _REMEMBERED:
            self._known = {task: task for task in self._own}
        label = OTHER
        if task_id in self._own or (len(self._own) < self._most and self._pattern.matches(task_id)):
            self._own.add(task_id)
            label = task_id
        self._known[task_id] = label
        return label
