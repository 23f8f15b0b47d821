"""Options whose values are names of the API's enums, in any case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _Type = click.ParamType[str]
else:
    # Older versions of click have it without a parameter.
    _Type = click.ParamType


class EnumName(_Type):
    """The names of an enum's values, from a module that is imported when it is needed."""

    name = "name"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = str(value).upper().replace("-", "_")
        if known not in self._names:
            self.fail(f"{value!r} is none of {', '.join(self._names)}", param, ctx)
        return known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG002
        from click.shell_completion import CompletionItem

        upper = incomplete.upper()
        return [CompletionItem(name) for name in self._names if name.startswith(upper)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:  # noqa: ARG002
        return "NAME"


# Spelled out so that `--help` and completion need no protobuf; a test compares them with the schema.
STATES = (
    "SCHEDULED",
    "QUEUED",
    "RUNNING",
    "RETRYING",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "STOPPED",
    "EXPIRED",
    "ACTIVE",
    "PAUSED",
)
REASONS = (
    "NONZERO_EXIT",
    "OOM_KILLED",
    "TIMEOUT",
    "STOP_REQUESTED",
    "START_DEADLINE",
    "IMAGE_NOT_FOUND",
    "PULL_FAILED",
    "INVALID_CONTAINER",
    "START_FAILED",
    "NOT_ALLOWED",
    "HOST_LOST",
    "DAEMON_LOST",
    "CONTAINER_VANISHED",
    "START_UNKNOWN",
    "HOST_FAILED",
    "REGISTRY_BUSY",
    "DRAINED",
)
REPORTS = ("NONE", "FINAL", "ALL")
