"""What an error is about: the ids in the message that was being worked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Names of tags, and of the fields that hold their values.
_FIELDS = {
    "task": "task_id",
    "job": "job_id",
    "execution": "execution_id",
    "agent": "agent_id",
    "epoch": "epoch",
    "session": "session",
}
_KEPT = "_easyq_ids"


def ids_of(message: Any) -> dict[str, str]:
    """The ids that a message names; of a stream of messages nothing is known."""
    found = {name: getattr(message, field, None) for name, field in _FIELDS.items()}
    return {name: str(value) for name, value in found.items() if value and isinstance(value, str | int)}


@contextmanager
def concerning(message: Any) -> Iterator[None]:
    """Leaves the message's ids with whatever error comes out of here, for who reports it further up."""
    try:
        yield
    except Exception as error:
        setattr(error, _KEPT, ids_of(message))
        raise


def kept(error: BaseException) -> Mapping[str, str]:
    """The ids that were left with an error."""
    found: Mapping[str, str] = getattr(error, _KEPT, {})
    return found
