"""The mark on an execution that says that steps which follow its last change may be missing."""

from dataclasses import replace

from easyq_store.domain.records import Execution
from easyq_store.ports import Steps


async def settle_execution(steps: Steps, execution: Execution) -> Execution | None:
    """Takes the mark off an execution after whose change nothing is missing any more; returns it as it stands."""
    if execution.unsettled_since is None:
        return execution
    return await steps.change_execution(execution.execution_id, lambda old: _settled(old, execution))


def _settled(old: Execution, seen: Execution) -> Execution:
    # Whoever changed it since has marked it anew, and has what follows still before them.
    return replace(old, unsettled_since=None) if old.write_no == seen.write_no else old
