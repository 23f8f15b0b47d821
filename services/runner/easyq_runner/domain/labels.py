"""The labels by which an agent knows its containers again, and all that it needs to go on with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from easyq_runner.domain.records import ExecutionKey, OnLost, Terms

FARM = "easyq.farm"
AGENT = "easyq.agent"
EXECUTION = "easyq.execution"
EPOCH = "easyq.epoch"
TASK = "easyq.task"
JOB = "easyq.job"
ATTEMPT = "easyq.attempt"
# The rest of Terms as JSON.
TERMS = "easyq.terms"


def container_name(execution_id: str) -> str:
    """The name of an execution's container; Docker gives it out once."""
    return f"easyq-{execution_id}"


def labels_of(terms: Terms, *, farm: str, agent_id: str, users: Mapping[str, str]) -> dict[str, str]:
    """All labels of a container: the user's, then ours, which win."""
    rest: dict[str, Any] = {
        "fence": terms.fence,
        "timeout": terms.timeout,
        "stop_grace": terms.stop_grace,
        "log_limit": terms.log_limit,
        "on_lost": terms.on_lost.value,
        "memory_limited": terms.memory_limited,
    }
    if terms.trace:
        rest["trace"] = terms.trace
    return {
        **users,
        FARM: farm,
        AGENT: agent_id,
        EXECUTION: terms.key.execution_id,
        EPOCH: str(terms.key.epoch),
        TASK: terms.task_id,
        JOB: terms.job_id,
        ATTEMPT: str(terms.attempt),
        TERMS: json.dumps(rest, separators=(",", ":")),
    }


def is_own(labels: Mapping[str, str], *, farm: str, agent_id: str) -> bool:
    """Whether the container is this agent's; all others are none of its business."""
    return labels.get(FARM) == farm and labels.get(AGENT) == agent_id


def terms_of(labels: Mapping[str, str]) -> Terms | None:
    """What `labels_of` wrote. None where they are not whole: somebody else's container with labels like ours."""
    try:
        rest: dict[str, Any] = json.loads(labels[TERMS])
        return Terms(
            key=ExecutionKey(labels[EXECUTION], int(labels[EPOCH])),
            task_id=labels[TASK],
            job_id=labels[JOB],
            attempt=int(labels[ATTEMPT]),
            fence=rest["fence"],
            timeout=rest["timeout"],
            stop_grace=rest["stop_grace"],
            log_limit=rest["log_limit"],
            on_lost=OnLost(rest["on_lost"]),
            memory_limited=rest["memory_limited"],
            # Older agents wrote none.
            trace=rest.get("trace", ""),
        )
    except (KeyError, ValueError):
        return None
